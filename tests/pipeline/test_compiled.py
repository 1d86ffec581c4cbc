"""What the committed packages are to a cluster: valid, without known traps, and with every setting where it belongs."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from components.batch_summary.component import batch_summary
from components.plan.component import plan
from components.scaffold.component import scaffold
from components.splat.component import splat
from components.trajectory.component import trajectory
from pipelines.build import STAGE_SETS
from pipelines.compile import COMPILED, compiled_path
from pipelines.lint import lint_package
from pipelines.package import SAFE_LOADER, read_package
from pipelines.parameters import CLUSTER_PARAMETERS, RUN_PARAMETERS
from pipelines.settings import BuildSettings
from worldexplorer.config import STAGE_NAMES
from worldexplorer.pod.__main__ import TASKS
from worldexplorer.pod.parameters import flag_parameters, read_run
from worldexplorer.pod.stage import ARTIFACTS

FILES = sorted(COMPILED.glob("*.yaml"))
JOB = "exit-handler-1/run-jobs/condition-1/for-loop-2/process-job"
LOCK = COMPILED.parent.parent / "images" / "images.lock.json"

COMPONENTS = {
    "plan": plan,
    "scaffold": scaffold,
    "trajectory": trajectory,
    "splat": splat,
    "batch_summary": batch_summary,
}
STAGE_INPUTS = {"output_base", "run_id", "job_id"}
"""What a stage's pod reads from its parameters; everything else lies in the run's file."""


read_once = functools.cache(read_package)


def stages_of(path: Path) -> tuple[str, ...]:
    """The names of the stages that a package runs, by its file's name."""
    return tuple(STAGE_NAMES[number] for number in numbers_of(path))


def numbers_of(path: Path) -> tuple[int, ...]:
    """The stages that a package runs, by its file's name."""
    return tuple(int(digit) for digit in path.stem.rpartition("_")[2])


def numbers_as_floats(content):
    """JSON as a protocol buffer gives it back: one kind of number."""
    if isinstance(content, dict):
        return {key: numbers_as_floats(value) for key, value in content.items()}
    if isinstance(content, list):
        return [numbers_as_floats(value) for value in content]
    return float(content) if isinstance(content, int) and not isinstance(content, bool) else content


@pytest.fixture(params=FILES, ids=[path.stem for path in FILES])
def path(request):
    return request.param


@pytest.fixture
def package(path):
    return read_once(path)


@pytest.fixture
def tasks(package):
    return {task.path: task for task in package.tasks()}


@pytest.fixture
def stage_tasks(path, tasks):
    return {name: tasks[f"{JOB}/{name}"] for name in stages_of(path)}


def test_every_set_of_stages_without_a_gap_has_its_package():
    assert sorted(compiled_path(stages) for stages in STAGE_SETS) == FILES
    assert len(FILES) == 6


def test_package_is_two_documents_that_survive_their_protocol_buffers(path):
    documents = list(yaml.load_all(path.read_text(encoding="utf-8"), Loader=SAFE_LOADER))
    messages = (pipeline_spec_pb2.PipelineSpec(), pipeline_spec_pb2.PlatformSpec())
    assert len(documents) == len(messages)
    for document, message in zip(documents, messages, strict=True):
        json_format.ParseDict(document, message)
        assert numbers_as_floats(json_format.MessageToDict(message)) == numbers_as_floats(document)


def test_kubernetes_settings_are_known_ones(package):
    assert set(package.platform["platforms"]) == {"kubernetes"}
    platform = package.platform["platforms"]["kubernetes"]
    json_format.ParseDict(platform, pipeline_spec_pb2.SinglePlatformSpec())
    for label, settings in package.pods.items():
        assert label in package.executors
        json_format.ParseDict(settings, kubernetes_executor_config_pb2.KubernetesExecutorConfig())


def test_lint_finds_nothing_but_images_that_are_not_released_yet(path):
    released = all(entry["digest"] for name, entry in json.loads(LOCK.read_text()).items() if name != "registry")
    findings = lint_package(path)
    assert [str(finding) for finding in findings if finding.rule != "W1"] == []
    assert not (released and findings)


def test_compiled_by_the_version_that_the_project_pins(package):
    assert package.specification["sdkVersion"] == "kfp-2.17.0"
    assert package.specification["pipelineInfo"]["name"] == "worldexplorer"


def test_graph_is_the_documented_one(path, tasks):
    before = {f"{JOB}/importer"} if numbers_of(path)[0] > 1 else set()
    assert set(tasks) == {
        "batch-summary",
        "exit-handler-1",
        "exit-handler-1/plan",
        "exit-handler-1/run-jobs",
        "exit-handler-1/run-jobs/condition-1",
        "exit-handler-1/run-jobs/condition-1/for-loop-2",
        JOB,
        *before,
        *(f"{JOB}/{name}" for name in stages_of(path)),
    }


def test_exit_handler_is_around_everything(package, tasks):
    assert set(package.root.tasks()) == {"batch-summary", "exit-handler-1"}
    ending = tasks["batch-summary"]
    assert ending.is_exit_task
    assert ending.upstream == ["exit-handler-1"]
    assert not ending.artifacts
    assert all("taskOutputParameter" not in given for given in ending.parameters.values())
    assert [task.path for task in tasks.values() if task.is_exit_task] == ["batch-summary"]


def test_one_loop_runs_over_the_planned_jobs(tasks):
    (loop,) = (task for task in tasks.values() if task.is_loop)
    assert loop.specification["parameterIterator"]["items"] == {"inputParameter": "pipelinechannel--jobs"}
    assert loop.specification["iteratorPolicy"] == {"parallelismLimit": BuildSettings().parallelism}
    assert tasks["exit-handler-1/run-jobs"].parameters["jobs"]["taskOutputParameter"] == {
        "producerTask": "plan",
        "outputParameterKey": "jobs",
    }
    condition = tasks["exit-handler-1/run-jobs/condition-1"].specification["triggerPolicy"]["condition"]
    assert condition == "inputs.parameter_values['pipelinechannel--pending'] == 'yes'"


def test_stages_follow_each_other_by_their_artifacts(path, tasks, stage_tasks):
    """Each takes what the one before has made; the first of a later set takes what was imported."""
    before, output = "importer", "artifact"
    if numbers_of(path)[0] > 1:
        importer = tasks[f"{JOB}/importer"]
        assert importer.parameters == {"uri": {"componentInputParameter": "upstream_uri"}}
        assert tasks[JOB].parameters["upstream_uri"]["parameterExpressionSelector"] == (
            'parseJson(string_value)["upstream_uri"]'
        )
    for name, task in stage_tasks.items():
        taken = {given["taskOutputArtifact"]["producerTask"]: given for given in task.artifacts.values()}
        if name == STAGE_NAMES[1]:
            assert not taken
        else:
            assert list(taken) == [before]
            assert taken[before]["taskOutputArtifact"]["outputArtifactKey"] == output
        before, output = name, ARTIFACTS[name]


def test_stages_alone_ask_for_a_gpu_and_its_node(tasks, stage_tasks):
    for task in tasks.values():
        accelerator = task.container.get("resources", {}).get("accelerator")
        settings = {key: task.kubernetes.get(key) for key in ("nodeSelector", "tolerations", "secretAsEnv")}
        if task not in stage_tasks.values():
            assert accelerator is None
            assert settings == {"nodeSelector": None, "tolerations": None, "secretAsEnv": None}
            continue
        assert accelerator == {
            "resourceType": "{{$.inputs.parameters['pipelinechannel--gpu_type']}}",
            "resourceCount": "{{$.inputs.parameters['pipelinechannel--gpu_count']}}",
        }
        assert settings == {
            "nodeSelector": {"nodeSelectorJson": {"componentInputParameter": "node_selector"}},
            "tolerations": [{"tolerationJson": {"componentInputParameter": "tolerations"}}],
            "secretAsEnv": [
                {
                    "secretNameParameter": {"componentInputParameter": "hf_secret"},
                    "keyToEnv": [{"secretKey": "HF_TOKEN", "envVar": "HF_TOKEN"}],
                    "optional": True,
                }
            ],
        }


def test_secret_is_nowhere_but_in_the_stages_environment(path):
    """Neither a value nor a variable of that name is written into the package; its name is a run parameter."""
    specification = read_once(path).specification
    assert "HF_TOKEN" not in json.dumps({**specification, "root": None, "components": None})
    assert all("HF_TOKEN" not in json.dumps(one) for one in specification["components"].values())


def test_stages_take_processors_memory_and_image_from_the_run(package, stage_tasks):
    root = package.root.parameters
    for name, task in stage_tasks.items():
        resources = task.container["resources"]
        for key, parameter in (("Cpu", "cpu"), ("Memory", "memory")):
            placeholder = f"{{{{$.inputs.parameters['pipelinechannel--{parameter}']}}}}"
            assert resources[f"resource{key}Limit"] == resources[f"resource{key}Request"] == placeholder
        assert task.container["image"] == f"{{{{$.inputs.parameters['pipelinechannel--image_{name}']}}}}"
        for parameter in ("cpu", "memory", "gpu_type", "gpu_count", f"image_{name}"):
            origin = task.dag.origin_of(task.parameters[f"pipelinechannel--{parameter}"])
            assert origin.value == root[parameter]["defaultValue"]


def test_every_value_reaches_the_stages_from_the_run_parameter_of_its_name(package, stage_tasks):
    """A parameter that is crossed with another on its way through the graphs would show its neighbour's default."""
    for task in stage_tasks.values():
        for parameter in ("node_selector", "tolerations", "hf_secret"):
            assert task.dag.origin(parameter).value == package.root.parameters[parameter]["defaultValue"]


def test_no_pod_is_root_or_goes_on_for_ever(tasks):
    for task in (task for task in tasks.values() if task.container):
        context = task.kubernetes["securityContext"]
        assert context == {"runAsUser": "10001", "runAsGroup": "10001", "runAsNonRoot": True}
        assert int(task.kubernetes["activeDeadlineSeconds"]) > 0
        mounts = {mount["mountPath"] for mount in task.kubernetes["emptyDirMounts"]}
        assert mounts == {"/scratch", "/dev/shm"} if task.path.startswith(JOB) else {"/scratch"}


def test_caching_is_off_everywhere(tasks):
    for task in tasks.values():
        assert not task.specification.get("cachingOptions", {}).get("enableCache"), task.path


def test_run_parameters_are_those_of_the_settings(package):
    """Names, types, defaults and help of the form that starts a run."""
    kinds = {
        "string": "STRING",
        "int": "NUMBER_INTEGER",
        "bool": "BOOLEAN",
        "object": "STRUCT",
        "list": "LIST",
    }
    declared = package.root.parameters
    assert set(declared) == set(RUN_PARAMETERS)
    for name, parameter in RUN_PARAMETERS.items():
        assert declared[name]["parameterType"] == kinds[parameter.kind], name
        assert declared[name].get("defaultValue") == parameter.default, name
        assert declared[name].get("description"), name
        assert "".join(declared[name]["description"].split()) == "".join(parameter.help.split()), name


def test_plan_is_given_every_setting_of_the_command(path, package, tasks):
    task = tasks["exit-handler-1/plan"]
    settings = {one.name for one in flag_parameters()}
    made_by_the_sdk = {"base_image", "pipelinechannel--image_cpu"}
    assert set(task.parameters) - made_by_the_sdk == {*settings, "only_stages", "run_id"}
    for name in settings:
        assert task.parameters[name] == {"componentInputParameter": f"pipelinechannel--{name}"}
        assert task.dag.origin(f"pipelinechannel--{name}").value == package.root.parameters[name].get("defaultValue")
    stages = " ".join(str(number) for number in numbers_of(path))
    assert task.parameters["only_stages"] == {"runtimeValue": {"constant": stages}}
    assert not {one.name for one in CLUSTER_PARAMETERS} & set(task.component["inputDefinitions"]["parameters"])


def test_defaults_of_the_package_are_a_run_that_the_pod_accepts(path, package):
    """What `plan` makes of a form on which nothing but the two required fields is filled in."""
    declared = package.root.parameters
    values = {one.name: declared[one.name].get("defaultValue") for one in flag_parameters()}
    values |= {"dataset_dir": "gs://sets/one", "output_base": "gs://worlds/one"}
    config = read_run(values, numbers_of(path))
    assert config.batch.dataset_dir == "gs://sets/one"
    assert config.batch.seed == declared["seed"]["defaultValue"]


def test_run_is_named_by_the_cluster_everywhere(tasks, stage_tasks):
    placeholder = {"runtimeValue": {"constant": "{{$.pipeline_job_uuid}}"}}
    for path in ("batch-summary", "exit-handler-1/plan", "exit-handler-1/run-jobs"):
        assert tasks[path].parameters["run_id"] == placeholder
    for task in stage_tasks.values():
        assert task.dag.origin("run_id").value == placeholder["runtimeValue"]["constant"]


def test_every_task_of_the_pod_has_its_component_and_none_is_left_over():
    assert set(COMPONENTS) == set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_container_starts_the_pod_with_its_task(name):
    (executor,) = json_format.MessageToDict(COMPONENTS[name].pipeline_spec)["deploymentSpec"]["executors"].values()
    assert executor["container"]["command"] == ["python", "-m", "worldexplorer.pod", name]
    assert executor["container"]["args"] == ["--executor_input", "{{$}}"]


@pytest.mark.parametrize("name", TASKS)
def test_component_has_the_inputs_that_the_pod_reads(name):
    specification = COMPONENTS[name].component_spec
    settings = {one.name for one in flag_parameters()}
    expected = {
        "plan": settings | {"only_stages", "run_id"},
        "batch_summary": {"output_base", "run_id"},
    }.get(name, STAGE_INPUTS)
    artifacts = {"trajectory": {"scaffold"}, "splat": {"scene"}}.get(name, set())
    assert set(specification.inputs) == expected | artifacts
    assert all(not one.optional for one in specification.inputs.values())


@pytest.mark.parametrize("name", [name for name in TASKS if name in ARTIFACTS])
def test_stage_has_the_outputs_that_the_pod_writes(name):
    assert set(COMPONENTS[name].component_spec.outputs) == {ARTIFACTS[name], "preview", "metrics"}


@pytest.mark.parametrize("name", TASKS)
def test_every_input_of_a_component_is_described(name):
    """The SDK keeps no descriptions of a container's outputs."""
    specification = COMPONENTS[name].component_spec
    assert specification.description
    assert [key for key, one in specification.inputs.items() if not one.description] == []
