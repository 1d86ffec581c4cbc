"""Run all stages of one job, and make what a person looks at.

Example:
    >>> failure = run_job(runner, storage, run, job, listener)      # None if nothing failed
"""

from __future__ import annotations

from collections.abc import Callable

from worldexplorer.config import RunConfig
from worldexplorer.dataset import Job
from worldexplorer.events import Event, JobFinished, JobStarted, StageFinished, StageProgress
from worldexplorer.extras import write_extras
from worldexplorer.progress import Progress
from worldexplorer.records import StageRecord
from worldexplorer.stage import StageFailedError, StageRunner, StageWaitingError
from worldexplorer.storage import Storage


def run_job(
    runner: StageRunner, storage: Storage, run: RunConfig, job: Job, listener: Callable[[Event], None]
) -> StageRecord | None:
    """Bring a job through its stages; the record of the failure that ended it, or None.

    A job that waits for a person has not failed; the last event tells of it.
    """
    stages = runner.stages_of(job)
    listener(JobStarted(job.id, stages))
    failure: StageRecord | None = None
    waiting: StageRecord | None = None
    try:
        for stage in stages:
            record = runner.run(job, stage, _progress(job, stage, listener))
            reused = record.run_id != runner.run_id
            listener(StageFinished(job.id, stage, reused, record.seconds, record.metrics))
    except StageFailedError as error:
        failure = error.record
    except StageWaitingError as question:
        waiting = question.record
    write_extras(storage, job, all_frames=run.scaffold.output_all_seva_frames)
    listener(JobFinished(job.id, failure, waiting))
    return failure


def _progress(job: Job, stage: str, listener: Callable[[Event], None]) -> Progress:
    def report(done: int, total: int, what: str) -> None:
        listener(StageProgress(job.id, stage, done, total, what))

    return report
