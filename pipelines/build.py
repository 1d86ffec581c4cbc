"""The graph of the cluster pipeline.

    ExitHandler(batch_summary)
        plan -> run_jobs(jobs) -> ParallelFor(jobs) -> process_job: [importer ->] scaffold -> trajectory -> splat

`process_job` is a pipeline of its own because settings such as the number of GPUs reach a task in a loop only through
the inputs of the pipeline it stands in; and because the importer finds its URI only there. `run_jobs` is one because a
loop over another task's output has to be a loop over a parameter. The summary hangs on the exit handler, which runs
whatever happens to the jobs.

Example:
    >>> pipeline = build_pipeline((1, 2, 3))
"""

from collections.abc import Callable, Sequence
from typing import Any

from kfp import dsl, kubernetes

from components.artifacts import Scaffold, Scene
from components.batch_summary.component import batch_summary
from components.plan.component import plan
from components.scaffold.component import scaffold
from components.signature import generated
from components.splat.component import splat
from components.trajectory.component import trajectory
from pipelines.parameters import RUN_PARAMETERS
from pipelines.settings import BuildSettings
from worldexplorer.errors import UsageError
from worldexplorer.pod.parameters import flag_parameters

NAME = "worldexplorer"
SUMMARY = "Turn the photos of a curated data set into explorable Gaussian-splat worlds, one world a sample and variant."
STAGE_SETS: tuple[tuple[int, ...], ...] = ((1, 2, 3), (1, 2), (2, 3), (1,), (2,), (3,))
"""The stages a pipeline may have: any without a gap."""
USER_ID = 10001
"""The user of the project's images."""
SCRATCH = "/scratch"
SHARED_MEMORY = "/dev/shm"  # noqa: S108 (the place where processes share memory)
_SMALL_CPU, _SMALL_MEMORY = "1", "4Gi"


def build_pipeline(stages: Sequence[int], settings: BuildSettings | None = None) -> Any:
    """The pipeline of the given stages; UsageError where there is a gap between them."""
    chosen = tuple(sorted(set(stages)))
    if chosen not in STAGE_SETS:
        raise UsageError(
            f"there is no pipeline of stages {' '.join(map(str, stages))}",
            where="stages",
            remedy="take stages without a gap: 1 2 3, 1 2, 2 3, 1, 2 or 3",
        )
    settings = settings or BuildSettings()
    run_jobs = _run_jobs(chosen, settings)

    def body(values: dict[str, Any]) -> None:
        ending = batch_summary(output_base=values["output_base"], run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER)
        _small(ending, values["image_cpu"], settings)
        with dsl.ExitHandler(ending, name="batch"):
            planning = plan(
                **{one.name: values[one.name] for one in flag_parameters()},
                only_stages=" ".join(map(str, chosen)),
                run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
            )
            _small(planning, values["image_cpu"], settings)
            run_jobs(
                jobs=planning.outputs["jobs"],
                pending=planning.outputs["pending"],
                run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
                **{name: values[name] for name in _FOR_JOBS},
            ).set_caching_options(False)

    return dsl.pipeline(generated(NAME, SUMMARY, list(RUN_PARAMETERS.values()), body), name=NAME, description=SUMMARY)


_FOR_JOBS = (
    "output_base",
    "gpu_type",
    "gpu_count",
    "cpu",
    "memory",
    "node_selector",
    "tolerations",
    "hf_secret",
    "image_scaffold",
    "image_trajectory",
    "image_splat",
)
"""The run parameters that the stages' pods depend on."""


def _run_jobs(stages: tuple[int, ...], settings: BuildSettings) -> Callable[..., Any]:
    process_job = _process_job(stages, settings)

    @dsl.pipeline(name="run-jobs")
    def run_jobs(
        jobs: list,
        pending: str,
        run_id: str,
        output_base: str,
        gpu_type: str,
        gpu_count: str,
        cpu: str,
        memory: str,
        node_selector: dict,
        tolerations: list,
        hf_secret: str,
        image_scaffold: str,
        image_trajectory: str,
        image_splat: str,
    ):
        with dsl.If(pending == "yes", name="anything-to-run"):  # noqa: SIM117 (each is a level of the graph)
            with dsl.ParallelFor(jobs, name="jobs", parallelism=settings.parallelism) as job:
                process_job(
                    job_id=job.job_id,
                    upstream_uri=job.upstream_uri,
                    run_id=run_id,
                    output_base=output_base,
                    gpu_type=gpu_type,
                    gpu_count=gpu_count,
                    cpu=cpu,
                    memory=memory,
                    node_selector=node_selector,
                    tolerations=tolerations,
                    hf_secret=hf_secret,
                    image_scaffold=image_scaffold,
                    image_trajectory=image_trajectory,
                    image_splat=image_splat,
                ).set_caching_options(False)

    return run_jobs


def _process_job(stages: tuple[int, ...], settings: BuildSettings) -> Callable[..., Any]:
    @dsl.pipeline(name="process-job")
    def process_job(
        job_id: str,
        upstream_uri: str,
        run_id: str,
        output_base: str,
        gpu_type: str,
        gpu_count: str,
        cpu: str,
        memory: str,
        node_selector: dict,
        tolerations: list,
        hf_secret: str,
        image_scaffold: str,
        image_trajectory: str,
        image_splat: str,
    ):
        common = {"output_base": output_base, "run_id": run_id, "job_id": job_id}

        def on_a_gpu(task: dsl.PipelineTask, image: Any, timeout: int) -> None:
            _pod(task, image, timeout, settings)
            task.set_cpu_request(cpu).set_cpu_limit(cpu)
            task.set_memory_request(memory).set_memory_limit(memory)
            task.set_accelerator_type(gpu_type).set_accelerator_limit(gpu_count)
            kubernetes.add_node_selector_json(task, node_selector)
            kubernetes.add_toleration_json(task, tolerations)
            kubernetes.use_secret_as_env(task, hf_secret, {"HF_TOKEN": "HF_TOKEN"}, optional=True)
            kubernetes.empty_dir_mount(task, "shm", SHARED_MEMORY, medium="Memory", size_limit=settings.shared_memory)

        before = None
        if stages[0] > 1:
            kind = Scaffold if stages[0] == 2 else Scene
            before = dsl.importer(artifact_uri=upstream_uri, artifact_class=kind, reimport=True)
            before.set_caching_options(False)
            before = before.output
        if 1 in stages:
            task = scaffold(**common)
            on_a_gpu(task, image_scaffold, settings.scaffold_timeout)
            before = task.outputs["scaffold"]
        if 2 in stages:
            task = trajectory(**common, scaffold=before)
            on_a_gpu(task, image_trajectory, settings.trajectory_timeout)
            before = task.outputs["scene"]
        if 3 in stages:
            task = splat(**common, scene=before)
            on_a_gpu(task, image_splat, settings.splat_timeout)

    return process_job


def _small(task: dsl.PipelineTask, image: Any, settings: BuildSettings) -> None:
    """A pod that needs no GPU and little else."""
    _pod(task, image, settings.plan_timeout, settings)
    task.set_cpu_request(_SMALL_CPU).set_cpu_limit(_SMALL_CPU)
    task.set_memory_request(_SMALL_MEMORY).set_memory_limit(_SMALL_MEMORY)


def _pod(task: dsl.PipelineTask, image: Any, timeout: int, settings: BuildSettings) -> None:
    """What all pods have in common."""
    task.set_container_image(image)
    task.set_caching_options(False)
    if settings.retries:
        task.set_retry(settings.retries, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration="300s")
    kubernetes.set_timeout(task, timeout)
    kubernetes.set_security_context(task, run_as_user=USER_ID, run_as_group=USER_ID, run_as_non_root=True)
    kubernetes.empty_dir_mount(task, "scratch", SCRATCH, size_limit=settings.scratch)
