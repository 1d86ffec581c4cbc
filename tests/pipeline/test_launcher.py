"""The emulated backend around one task: what a program is given, what is taken from it, what it is refused."""

import json
from typing import Optional

import pytest
from kfp import dsl
from launcher import BackendError, ContainerTask, Launcher

# No `from __future__ import annotations`: kfp reads the annotations as objects.

PROGRAM = """
import json, os, sys
from pathlib import Path
everything = json.loads(sys.argv[sys.argv.index("--executor_input") + 1])
instructions = json.loads(everything["inputs"]["parameterValues"]["instructions"])

def path_of(artifact):
    if "customPath" in artifact:
        return Path(artifact["customPath"])
    return Path(os.environ["MOUNT"]) / artifact["uri"].removeprefix("gs://")

outputs = everything["outputs"]
print(json.dumps({"words": sys.argv[1:], "everything": everything}))
for name, files in instructions.get("write", {}).items():
    folder = path_of(outputs["artifacts"][name]["artifacts"][0])
    folder.mkdir()
    for relative, text in files.items():
        (folder / relative).parent.mkdir(parents=True, exist_ok=True)
        (folder / relative).write_text(text)
for name, text in instructions.get("parameters", {}).items():
    Path(outputs["parameters"][name]["outputFile"]).write_text(text)
for name in instructions.get("read", []):
    folder = path_of(everything["inputs"]["artifacts"][name]["artifacts"][0])
    print(json.dumps({str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}))
if "link" in instructions:
    folder = path_of(outputs["artifacts"]["made"]["artifacts"][0])
    (folder / "link").symlink_to(folder.parent)
if "output" in instructions:
    file = Path(outputs["outputFile"])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(instructions["output"])
sys.exit(instructions.get("exit", 0))
"""


@dsl.container_component
def stage(
    instructions: str,
    made: dsl.Output[dsl.Artifact],
    count: dsl.OutputPath(int),
    labels: dict,
    speed: int = 3,
    note: Optional[str] = None,  # noqa: UP045 kfp does not read the newer spelling
):
    return dsl.ContainerSpec(
        image="tiny",
        command=["python", "-c", PROGRAM],
        args=[
            "--executor_input",
            "{{$}}",
            made.uri,
            made.path,
            count,
            labels,
            dsl.IfPresentPlaceholder("note", ["--note", note], ["--no-note"]),
            dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        ],
    )


@dsl.container_component
def after(instructions: str, made: dsl.Input[dsl.Artifact]):
    return dsl.ContainerSpec(
        image="tiny",
        command=["python", "-c", PROGRAM],
        args=["--executor_input", "{{$}}", made.uri, made.path, made.metadata["size"]],
    )


@dsl.container_component
def uses_a_default(speed: str = "slow"):
    return dsl.ContainerSpec(image="tiny", command=["true"], args=[speed])


STAGE, AFTER = ContainerTask.of_component(stage), ContainerTask.of_component(after)
WRITES = {"write": {"made": {"commit.json": "{}", "deep/er.txt": "text"}}, "parameters": {"count": "7"}}


@pytest.fixture(params=["MOUNT", None], ids=["told by a variable", "told by customPath"])
def launcher(request, tmp_path):
    return Launcher(tmp_path, mount_variable=request.param)


def run(launcher, instructions, **parameters):
    return launcher.run(STAGE, {"instructions": json.dumps(instructions), "labels": {}, **parameters})


def said(done):
    return json.loads(done.log.splitlines()[0])


def with_metadata(metadata, **artifact):
    return json.dumps({"artifacts": {"made": {"artifacts": [{"metadata": metadata, **artifact}]}}})


def test_output_travels_through_the_bucket_to_the_next_task(launcher):
    done = run(launcher, {**WRITES, "output": with_metadata({"size": 3, "ready": True, "names": ["a"]})})
    assert done.failure == ""
    assert done.parameters == {"count": 7}
    assert set(done.artifacts) == {"made"}
    made = done.artifacts["made"]
    assert made["uri"].startswith("gs://runs/pipeline_root/stage/")
    assert (launcher.object_path(made["uri"]) / "deep/er.txt").read_text() == "text"
    reading = launcher.run(AFTER, {"instructions": json.dumps({"read": ["made"]})}, {"made": made})
    assert reading.failure == ""
    assert json.loads(reading.log.splitlines()[1]) == {"commit.json": "{}", "deep/er.txt": "text"}
    given = reading.executor_input["inputs"]["artifacts"]["made"]["artifacts"][0]
    assert given["name"] == "1"
    assert given["type"] == {"instanceSchema": ""}
    assert {key: given["metadata"][key] for key in ("size", "ready", "names", "display_name")} == {
        "size": 3,
        "ready": 1,
        "names": {"list": ["a"]},
        "display_name": "made",
    }


def test_placeholders_are_filled_as_the_backend_fills_them(launcher):
    done = run(launcher, WRITES, labels={"b": 1, "a": "<x>"}, note="hello")
    uri, path, count, labels, *rest = said(done)["words"][2:]
    assert uri == done.artifacts["made"]["uri"]
    assert path.endswith(uri.removeprefix("gs://"))
    assert count.endswith("/tmp/kfp/outputs/count")
    assert labels == '{"a":"\\u003cx\\u003e","b":1}'
    assert rest == ["--note", "hello", "{{$.pipeline_job_uuid}}"]
    assert said(run(launcher, WRITES))["words"][6:] == ["--no-note", "{{$.pipeline_job_uuid}}"]


def test_metadata_placeholder_stays_literal(launcher):
    made = launcher.import_artifact("gs://elsewhere/scene", {"size": 3})
    assert said(launcher.run(AFTER, {"instructions": "{}"}, {"made": made}))["words"][-1] == (
        "{{$.inputs.artifacts['made'].metadata['size']}}"
    )


def test_program_is_given_defaults_and_an_artifact_for_logs(launcher):
    everything = said(run(launcher, WRITES))["everything"]
    assert everything["inputs"]["parameterValues"]["speed"] == 3
    assert "note" not in everything["inputs"]["parameterValues"]
    assert set(everything["outputs"]["artifacts"]) == {"made", "executor-logs"}


@pytest.mark.parametrize("apart", [True, False])
def test_output_file_lies_where_the_backend_says(tmp_path, apart):
    launcher = Launcher(tmp_path, mount_variable="MOUNT", output_file_apart=apart, publish_logs=False)
    done = run(launcher, {**WRITES, "output": with_metadata({"size": 1})})
    outputs = done.executor_input["outputs"]
    beside = outputs["artifacts"]["made"]["artifacts"][0]["uri"].rpartition("/")[0].removeprefix("gs://")
    assert (beside in outputs["outputFile"]) is not apart
    assert done.artifacts["made"]["metadata"]["size"] == 1


def test_nothing_is_published_after_a_failure(launcher):
    done = run(launcher, {**WRITES, "output": with_metadata({"size": 1}), "exit": 3})
    assert done.failure == "exit code 3"
    assert done.exit_code == 3
    assert (done.parameters, done.artifacts) == ({}, {})
    assert not (launcher.folder / "bucket").exists()


@pytest.mark.parametrize(
    ("instructions", "failure"),
    [
        ({**WRITES, "output": with_metadata({"size": None})}, "the metadata value 'size' is null"),
        ({**WRITES, "output": '{"nonsense": 1}'}, "the output file is no ExecutorOutput"),
        ({**WRITES, "output": "{"}, "the output file is no ExecutorOutput"),
        ({**WRITES, "output": with_metadata({}, uri="gs://other/place")}, "is not below the pipeline root"),
        ({**WRITES, "parameters": {}}, "the output parameter 'count' was not written"),
        ({**WRITES, "parameters": {"count": "many"}}, "the output parameter 'count' is no NUMBER_INTEGER"),
        ({**WRITES, "write": {}}, "the output artifact 'made' was not written"),
        ({**WRITES, "link": True}, "holds a link to a folder"),
    ],
)
def test_outputs_that_the_backend_refuses(tmp_path, instructions, failure):
    done = run(Launcher(tmp_path, mount_variable="MOUNT"), instructions)
    assert failure in done.failure
    assert done.exit_code == 0
    assert (done.parameters, done.artifacts) == ({}, {})


def test_output_file_wins_over_the_parameters_own_file(launcher):
    done = run(launcher, {**WRITES, "output": json.dumps({"parameterValues": {"count": 9}})})
    assert done.parameters == {"count": 9}


@pytest.mark.parametrize(
    ("parameters", "failure"),
    [
        ({"instructions": "{}"}, "neither value nor default for the parameter 'labels'"),
        ({"instructions": "{}", "labels": "{}"}, "the parameter 'labels' is a str and is declared STRUCT"),
        ({"instructions": "{}", "labels": {}, "speed": True}, "the parameter 'speed' is a bool"),
    ],
)
def test_parameters_that_the_driver_refuses(tmp_path, parameters, failure):
    done = Launcher(tmp_path).run(STAGE, parameters)
    assert failure in done.failure
    assert done.exit_code is None


def test_default_that_is_used_in_the_command_must_be_passed(tmp_path):
    """Rule E8 of the lint."""
    task = ContainerTask.of_component(uses_a_default)
    assert "'speed' is used in the command" in Launcher(tmp_path).run(task, {}).failure
    assert Launcher(tmp_path).run(task, {"speed": "fast"}).failure == ""


def test_missing_input_artifact_is_refused(tmp_path):
    assert "no artifact for the input 'made'" in Launcher(tmp_path).run(AFTER, {"instructions": "{}"}).failure


def test_number_becomes_text_where_text_is_declared(launcher):
    done = run(launcher, WRITES, note=7.0)
    assert done.executor_input["inputs"]["parameterValues"]["note"] == "7"


def test_bucket_knows_its_scheme_only(tmp_path):
    with pytest.raises(BackendError, match="is not in a bucket"):
        Launcher(tmp_path).object_path("/gcs/bucket")


def test_artifact_of_another_place_without_bytes_is_no_folder(launcher):
    """An importer publishes what is not there as well; the program has to say so."""
    made = launcher.import_artifact("gs://elsewhere/nothing")
    done = launcher.run(AFTER, {"instructions": json.dumps({"read": ["made"]})}, {"made": made})
    assert done.failure == ""
    assert json.loads(done.log.splitlines()[1]) == {}
