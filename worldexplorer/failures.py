"""The record of a failure, and where it is put.

Example:
    >>> failure = failure_record(job, "splat", error, run_id=run_id, engine="full", engine_label="full engine", seed=0)
    >>> write_failure(storage, failure)
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from worldexplorer import __version__, layout
from worldexplorer.errors import WorldExplorerError, classify, describe_error
from worldexplorer.log import LogTail, redact
from worldexplorer.measure import Measurement
from worldexplorer.records import ErrorEntry, Retry, StageRecord
from worldexplorer.storage import Storage
from worldexplorer.versions import library_versions

_logger = logging.getLogger(__name__)


def failure_record(
    job: layout.JobId,
    stage: str,
    error: Exception,
    *,
    run_id: str,
    engine: str,
    engine_label: str,
    seed: int,
    cost: Measurement | None = None,
    retries: Sequence[Retry] = (),
    tail: LogTail | None = None,
) -> StageRecord:
    """What went wrong, without secrets.

    Args:
        job: whose stage.
        stage: which one.
        error: what ended it.
        run_id: of the run that met it.
        engine: the engine's name; empty where the failure came before it was known.
        engine_label: what the engine calls itself; likewise.
        seed: the run's.
        cost: what the stage took until then.
        retries: what had gone wrong before and was tried again.
        tail: the last lines of its log.
    """
    now = datetime.now(UTC)
    what, where, remedy = describe_error(error)
    trace = None if isinstance(error, WorldExplorerError) else error
    return StageRecord(
        stage=stage,
        index=job.index,
        variant=job.variant,
        status="failed",
        run_id=run_id,
        attempt="",
        fingerprint="",
        basis={},
        engine=engine,
        engine_label=engine_label,
        code_version=__version__,
        versions=library_versions(),
        seed=seed,
        started_at=(cost.started_at if cost is not None else now).isoformat(),
        finished_at=now.isoformat(),
        seconds=round(cost.seconds, 3) if cost is not None else 0.0,
        retries=list(retries),
        error=ErrorEntry(
            error_class=classify(error),
            message=redact(what),
            where=redact(where),
            remedy=redact(remedy),
            log_tail=tail.lines(trace) if tail is not None else [],
        ),
    )


def write_failure(storage: Storage, failure: StageRecord) -> None:
    """Put a failure's record over an earlier one; where that cannot be written either, say so and go on."""
    job = layout.JobId(failure.index, failure.variant)
    try:
        storage.write(layout.failed_record(job, failure.stage), failure.to_json())
    # The same full disk or silent bucket, as a rule: the failure is still reported to the caller.
    except (OSError, WorldExplorerError) as problem:
        _logger.error("the failure of %s in %s could not be recorded: %s", failure.stage, job, problem)
