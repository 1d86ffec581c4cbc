"""Run a batch on this machine: plan, run, summarise.

Example:
    >>> outcome = run_batch(RunConfig(BatchConfig(dataset_dir="data", engine="preview")), listener)
    >>> outcome.exit_code, outcome.summary["failed_indices"]
    (0, '')
"""

from __future__ import annotations

import gc
import signal
import time
from collections.abc import Callable, Collection, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from worldexplorer import layout
from worldexplorer.config import SCAFFOLD_GEN, RunConfig
from worldexplorer.dataset import Dataset, Job, load_dataset, require_jobs, resolve_jobs
from worldexplorer.engine import Engine
from worldexplorer.engines import load_engine
from worldexplorer.errors import UsageError, UserError
from worldexplorer.events import BatchFinished, BatchStarted, Event, JobFinished, JobStarted, LogLine, StageFinished
from worldexplorer.extras import write_extras
from worldexplorer.plan import BatchPlan, JobPlan, NotRun, make_plan, new_run_id
from worldexplorer.publish import clear_failure
from worldexplorer.selection import IndexSelection
from worldexplorer.splat.formats import missing_for_formats, require_formats
from worldexplorer.stage import DEFINITIONS
from worldexplorer.storage import Storage, open_storage
from worldexplorer.summary import write_summary
from worldexplorer.trajectory.own_paths import load_trajectories, trajectories_folder
from worldexplorer.worker import EngineLoader, run_jobs

EXIT_SUCCESS = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_WAITING = 3
_SPLAT_STAGE = 3


class Interrupted(Exception):  # noqa: N818 (an outcome a caller turns into an exit code, not a mistake)
    """The run was stopped by a signal; its summary is written."""

    def __init__(self, summary: dict[str, Any], signal_number: int) -> None:
        self.summary = summary
        self.signal_number = signal_number
        super().__init__("interrupted")


@dataclass(frozen=True)
class BatchOutcome:
    """How a batch ended."""

    summary: dict[str, Any]
    exit_code: int


@dataclass(frozen=True)
class PreparedBatch:
    """A batch that is planned and has not begun."""

    run: RunConfig
    dataset: Dataset
    engine: Engine
    storage: Storage
    plan: BatchPlan
    load: EngineLoader


def prepare_batch(run: RunConfig, load: EngineLoader = load_engine, run_id: str | None = None) -> PreparedBatch:
    """Read the data set, load the engine and plan; UsageError for everything that is wrong with the command.

    Every worker process loads an engine of its own with `load`, which is picklable. A run that something else has named
    already keeps that `run_id`.
    """
    with _collector_paused():
        return _prepare(run, load, run_id or new_run_id())


@contextmanager
def _collector_paused() -> Iterator[None]:
    """No garbage collection while a plan is made.

    Its objects only add up, and going through them again and again costs a quarter of the time of 10,000 samples.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _prepare(run: RunConfig, load: EngineLoader, run_id: str) -> PreparedBatch:
    dataset = load_dataset(
        run.batch.dataset_dir,
        confine_paths=run.batch.confine_paths,
        trajectory_names=_own_trajectories(run.trajectory.root_dir),
    )
    selection = IndexSelection.parse(run.batch.indices) if run.batch.indices else None
    jobs = resolve_jobs(dataset, selection, from_text=run.scaffold.scaffold_method == SCAFFOLD_GEN)
    require_jobs(jobs, dataset)
    engine = load(run)
    storage = open_storage(run.batch.output_base)
    root = storage.local_root()
    if root is not None and root.exists() and not root.is_dir():
        raise UsageError("output_base is a file", where=str(root), remedy="give a folder with --output_base")
    for job in jobs.jobs:
        for definition in DEFINITIONS:
            if definition.number in run.batch.only_stages:
                definition.settings(job, run, engine)  # refuses settings that cannot be, before anything is written
    jobs = replace(jobs, jobs=tuple(dataset.fetch(jobs.jobs)), warnings=(*dataset.warnings, *jobs.warnings))
    plan = make_plan(storage, run, jobs, engine, run_id, DEFINITIONS)
    return PreparedBatch(run, dataset, engine, storage, plan, load)


def _own_trajectories(root_dir: str | None) -> Collection[str] | None:
    """Names of the trajectories of `--root_dir`; None for the built-in ones."""
    if root_dir is None:
        return None
    try:
        return load_trajectories(trajectories_folder(root_dir))
    except UserError as error:  # no single job's fault: the command names the folder for all of them
        raise UsageError(error.what, where=f"--root_dir: {error.where}", remedy=error.remedy) from None


def missing_here(run: RunConfig, engine: Engine) -> list[str]:
    """What keeps the selected stages from running on this machine, one sentence each."""
    scaffold = run.scaffold
    missing = engine.check(run.batch.only_stages, scaffold.scaffold_method, scaffold.traj_prior)
    return missing + missing_for_formats(_formats(run))


def require_engine(prepared: PreparedBatch) -> None:
    """Refuse a batch that cannot run here; UsageError saying what is missing and what to do."""
    run, engine = prepared.run, prepared.engine
    missing = missing_here(run, engine)
    if len(missing) == len(missing_for_formats(_formats(run))):  # another engine would not help
        require_formats(_formats(run))
        return
    raise UsageError(
        f"the {engine.name} engine cannot run this here: " + "; ".join(missing),
        where=f"--engine {engine.name}",
        remedy=engine.remedy,
    )


def _formats(run: RunConfig) -> Collection[str]:
    """What the run writes worlds as; nothing where it trains none."""
    return run.splat.export_formats if _SPLAT_STAGE in run.batch.only_stages else ()


def run_batch(prepared: PreparedBatch, listener: Callable[[Event], None]) -> BatchOutcome:
    """Run what is planned and write the summary, whatever happens on the way; Interrupted after a signal."""
    started = time.perf_counter()
    run, storage, plan = prepared.run, prepared.storage, prepared.plan
    require_engine(prepared)
    storage.create(layout.plan(plan.run_id), plan.file.to_json())
    finished = [one for one in plan.jobs if one.is_finished and not one.problem]
    pending = [one for one in plan.jobs if not one.is_finished or one.problem]
    ended: dict[layout.JobId, bool] = {}

    def listen(event: Event) -> None:
        if isinstance(event, JobFinished):
            ended[event.job] = event.failure is None
        listener(event)

    def conclude(reason: str, *, interrupted: bool) -> dict[str, Any]:
        not_run = [one.job for one in pending if one.job.id not in ended]
        if not_run:
            _note_not_run(storage, plan, not_run, reason)
        elapsed = time.perf_counter() - started
        return write_summary(storage, plan.run_id, elapsed_seconds=elapsed, interrupted=interrupted)

    stopped_by: int | None = None
    try:
        _announce(prepared, finished, listener)
        run_jobs(
            run,
            plan.run_id,
            [one.job for one in pending],
            listen,
            stop_on_failure=not run.batch.continue_on_error,
            load=prepared.load,
        )
        summary = conclude("an earlier job failed, and --continue_on_error was not given", interrupted=False)
    except KeyboardInterrupt as interrupt:
        stopped_by = int(interrupt.args[0]) if interrupt.args else int(signal.SIGINT)
        summary = conclude("the run was interrupted", interrupted=True)
    except Exception as error:
        conclude(f"the run itself ended with an error: {error}", interrupted=True)
        raise
    listener(BatchFinished(summary))
    if stopped_by is not None:
        raise Interrupted(summary, stopped_by)
    # The summary tells of a job what the newest run over it found; a failure here stays one where that run did better.
    failed = not all(ended.values())
    return BatchOutcome(summary, EXIT_FAILED if failed else exit_code(summary, {one.job.id for one in plan.jobs}))


def exit_code(summary: dict[str, Any], jobs: Container[layout.JobId]) -> int:
    """Of these jobs: 0 all good; 1 something failed or did not run; 3 nothing failed but something waits for a person.

    Jobs of other runs over the same output are in the summary too, and are theirs to answer for.
    """
    statuses = {
        entry["status"] for entry in summary["results"] if layout.JobId(entry["index"], entry["variant"]) in jobs
    }
    if statuses & {"failed", "skipped"}:
        return EXIT_FAILED
    return EXIT_WAITING if "waiting" in statuses else EXIT_SUCCESS


def _announce(prepared: PreparedBatch, finished: Sequence[JobPlan], listener: Callable[[Event], None]) -> None:
    """Tell how the run begins, what is odd about the data set, and which jobs have nothing left to do."""
    plan = prepared.plan
    listener(BatchStarted(plan.run_id, len(plan.jobs), len(finished), prepared.engine.label))
    for warning in plan.file.warnings:
        listener(LogLine("WARNING", warning))
    for one in finished:
        _report_finished(prepared.storage, prepared.run, one, listener)


def _report_finished(storage: Storage, run: RunConfig, one: JobPlan, listener: Callable[[Event], None]) -> None:
    """Tell of a job whose results are all there, and make its extras if they are not."""
    listener(JobStarted(one.job.id, one.stages))
    for decision in one.decisions:
        record = decision.existing.record
        assert record is not None, "a finished job has its records"
        clear_failure(storage, one.job.id, decision.stage)
        listener(StageFinished(one.job.id, decision.stage, True, record.seconds, record.metrics))
    write_extras(storage, one.job, all_frames=run.scaffold.output_all_seva_frames)
    listener(JobFinished(one.job.id, None))


def _note_not_run(storage: Storage, plan: BatchPlan, jobs: list[Job], reason: str) -> None:
    not_run = tuple(NotRun(index=job.index, variant=job.variant, reason=reason) for job in jobs)
    storage.write(layout.plan(plan.run_id), plan.file.model_copy(update={"not_run": not_run}).to_json())
