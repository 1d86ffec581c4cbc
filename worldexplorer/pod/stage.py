"""The pod that brings one stage of one job to its commit, through the same :mod:`worldexplorer.stage` as a local batch.

What it takes from the stage before, it takes from `output_base`; the input artifact says which result that was when the
pipeline went on, and the pod refuses to go on from another one. What it gives on is a folder with its own record.

A failure is in the job's records before the pod ends; unless the run continues on errors, it also stops the rest.
"""

from __future__ import annotations

import logging
from typing import Any

from worldexplorer import layout
from worldexplorer.cli.estimate import TimeLeft
from worldexplorer.cli.logs import listen_to_log
from worldexplorer.cli.output import exclusive_stdout
from worldexplorer.cli.reporter import JsonReporter
from worldexplorer.config import STAGE_NAMES
from worldexplorer.dataset import Job
from worldexplorer.engine import Engine
from worldexplorer.engines import load_engine
from worldexplorer.errors import DamagedInputError, DefectError, UsageError, UserError
from worldexplorer.events import JobFinished, JobStarted, LogLine, StageFinished, StageProgress
from worldexplorer.extras import write_extras
from worldexplorer.failures import failure_record, write_failure
from worldexplorer.log import current_work
from worldexplorer.pod.abort import aborted, raise_abort
from worldexplorer.pod.executor import Executor
from worldexplorer.pod.pages import stage_page
from worldexplorer.pod.plan import RECORD_NAME
from worldexplorer.pod.run_file import RunFile
from worldexplorer.records import StageRecord
from worldexplorer.stage import StageFailedError, StageRunner
from worldexplorer.storage import NotFoundError, Storage, open_storage
from worldexplorer.worker import EngineLoader

ARTIFACTS = {"scaffold": "scaffold", "trajectory": "scene", "splat": "splat"}
"""The artifact that each stage makes."""
_logger = logging.getLogger(__name__)


def run_stage(executor: Executor, stage: str, load: EngineLoader = load_engine) -> int:
    """Run one stage of one job; the pod's exit code."""
    storage = open_storage(executor.text("output_base"))
    run_id, name = executor.text("run_id"), executor.text("job_id")
    job = read_job_id(name)
    reason = aborted(storage, run_id)
    if reason:
        raise UsageError(f"{name} is skipped: {reason}", where=layout.abort_marker(run_id))
    try:
        run_file = RunFile.load(storage, run_id)
        run_file.job_id(name)  # only to see that the run has it
    except DefectError as error:  # the images of the run do not fit together
        _record_early(storage, job, stage, error, run_id=run_id, seed=0)
        raise
    stop_others = not run_file.config.batch.continue_on_error
    try:
        engine = load(run_file.config)
    except Exception as error:
        _record_early(storage, job, stage, error, run_id=run_id, seed=run_file.config.batch.seed)
        if stop_others:
            raise_abort(storage, run_id, _why_stopped(name, stage))
        raise
    runner = StageRunner(storage, run_file.config, engine, run_id)
    time_left = TimeLeft({job: (stage,)}, weights=engine.stage_weights, workers=1)
    with (
        exclusive_stdout() as stream,
        JsonReporter(time_left, stream) as reporter,
        listen_to_log(lambda level, text: reporter(LogLine(level, text, current_work()))),
    ):
        reporter(JobStarted(job, (stage,)))
        try:
            record = _Stage(executor, storage, run_file, runner, engine, stage).run(name, reporter)
        except StageFailedError as error:
            failure = error.record
        except Exception as error:  # noqa: BLE001 (what kept the stage from beginning is its failure)
            failure = runner.record_failure(job, stage, error)
        else:
            reporter(StageFinished(job, stage, record.run_id != run_id, record.seconds, record.metrics))
            reporter(JobFinished(job, None))
            return 0
        reporter(JobFinished(job, failure))
    if stop_others:
        raise_abort(storage, run_id, _why_stopped(name, stage))
    return 1


def read_job_id(name: str) -> layout.JobId:
    """The job that a folder's name stands for; UsageError where it is none."""
    variant, _, sample = name.partition("/")
    number = sample.removeprefix("index_")
    if variant in layout.VARIANTS and number.isascii() and number.isdigit():
        job = layout.JobId(int(number), variant)
        if layout.job_folder(job) == name:
            return job
    raise UsageError(
        f"the parameter job_id is {name!r}", where="job_id", remedy="give a job's folder: photorealistic/index_0007"
    )


def _record_early(storage: Storage, job: layout.JobId, stage: str, error: Exception, *, run_id: str, seed: int) -> None:
    """Record what went wrong before an engine was there to be named."""
    write_failure(storage, failure_record(job, stage, error, run_id=run_id, engine="", engine_label="", seed=seed))


def _why_stopped(name: str, stage: str) -> str:
    return f"{name} failed in {stage}, and continue_on_error is not set"


class _Stage:
    """One stage of one job, with everything it needs at hand."""

    def __init__(
        self, executor: Executor, storage: Storage, run_file: RunFile, runner: StageRunner, engine: Engine, stage: str
    ) -> None:
        self._executor = executor
        self._storage = storage
        self._run_file = run_file
        self._run = run_file.config
        self._runner = runner
        self._engine = engine
        self._stage = stage

    def run(self, name: str, reporter: JsonReporter) -> StageRecord:
        """Commit the stage, and write what the pod gives on."""
        job = self._run_file.job(name)
        self._require_engine()
        self._require_same_input(job)

        def progress(done: int, total: int, what: str) -> None:
            reporter(StageProgress(job.id, self._stage, done, total, what))

        record = self._runner.run(job, self._stage, progress)
        write_extras(self._storage, job, all_frames=self._run.scaffold.output_all_seva_frames)
        self._give_on(job, record)
        return record

    def _require_engine(self) -> None:
        number = next(number for number, name in STAGE_NAMES.items() if name == self._stage)
        scaffold = self._run.scaffold
        missing = self._engine.check((number,), scaffold.scaffold_method, scaffold.traj_prior)
        if missing:
            raise UserError(
                f"the {self._engine.name} engine cannot run {self._stage} in this pod: {'; '.join(missing)}",
                where="engine",
                remedy=self._engine.remedy,
            )

    def _require_same_input(self, job: Job) -> None:
        """The stage before has to be what it was when the pipeline went on."""
        stages = list(ARTIFACTS)
        number = stages.index(self._stage)
        if number == 0:
            return
        upstream = stages[number - 1]
        artifact = ARTIFACTS[upstream]
        path = self._executor.input(artifact).path / RECORD_NAME
        try:
            given = StageRecord.from_json(path.read_bytes(), where=str(path))
        except OSError as error:
            raise DefectError(
                f"the artifact {artifact} has no record ({error.strerror})",
                where=self._executor.input(artifact).uri,
                remedy="start the run again: the pipeline's own storage has lost it",
            ) from None
        key = layout.record(job.id, upstream)
        try:
            now = StageRecord.from_json(self._storage.read(key), where=key)
        except NotFoundError:
            raise DamagedInputError(
                f"the record of {upstream} is gone",
                where=key,
                remedy=f"start a run that makes the {upstream} again",
            ) from None
        if (now.fingerprint, now.content) != (given.fingerprint, given.content):
            raise DamagedInputError(
                f"another run replaced the {upstream} since this one went on from it",
                where=key,
                remedy="start the run again",
            )

    def _give_on(self, job: Job, record: StageRecord) -> None:
        name = ARTIFACTS[self._stage]
        executor = self._executor
        folder = executor.output(name).path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECORD_NAME).write_bytes(record.to_json())
        data_uri = f"{self._storage.uri}/{layout.job_folder(job.id)}"
        executor.describe(name, {"data_uri": data_uri, **record_facts(record)})
        executor.describe("metrics", {key: value for key, value in record.metrics.items() if _is_number(value)})
        executor.describe("metrics", {"seconds": record.seconds, "peak_memory_mib": record.peak_memory_mib})
        executor.write_text("metrics", "")
        executor.write_text("preview", stage_page(self._storage, job.id, record))
        executor.finish()


def record_facts(record: StageRecord) -> dict[str, str | float]:
    """What the pipeline's pages show of a result."""
    return {
        "job": layout.job_folder(layout.JobId(record.index, record.variant)),
        "stage": record.stage,
        "engine": record.engine,
        "engine_label": record.engine_label,
        "quality": record.quality,
        "attempt": record.attempt,
        "fingerprint": record.fingerprint,
        "files": len(record.files),
        "bytes": sum(entry.size for entry in record.files),
    }


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and value == value
        and abs(value) != float("inf")
    )
