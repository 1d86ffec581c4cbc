"""The second half of a commit: from the attempt's folder to the guide's paths.

A record that is not published yet still counts: its files are read where they are. Any run may finish the move, and
several may at once. The record is marked last, so that a published one has left nothing behind.

Example:
    >>> record = publish(storage, job, record)
    >>> record.published
    True
"""

from __future__ import annotations

import logging

from worldexplorer import layout
from worldexplorer.attempts import discard_attempt, discard_dead_attempts
from worldexplorer.errors import DefectError
from worldexplorer.layout import JobId
from worldexplorer.records import StageRecord
from worldexplorer.storage import ChangedError, NotFoundError, Storage

_logger = logging.getLogger(__name__)


def publish(storage: Storage, job: JobId, record: StageRecord) -> StageRecord:
    """Move the files of a committed record to their places, clear what is left behind, and mark the record.

    Returns:
        The record as it is now; another one where a run with `--force` has replaced it meanwhile.

    Raises:
        NotFoundError: a file of the record is neither in its attempt nor in its place.
    """
    if record.published:
        return record
    folder = layout.job_folder(job)
    attempt = layout.attempt_output(job, record.attempt, record.stage)
    try:
        storage.map(lambda entry: storage.move(f"{attempt}/{entry.path}", f"{folder}/{entry.path}"), record.files)
    except NotFoundError:
        current = _current(storage, job, record.stage)[0]
        if current.attempt == record.attempt and not current.published:
            raise
        return current
    current = _current(storage, job, record.stage)[0]
    if current.attempt != record.attempt:
        return current  # what this record supersedes, the new one may have brought back
    storage.map(lambda path: storage.delete(f"{folder}/{path}"), record.supersedes)
    discard_attempt(storage, job, record.attempt)
    discard_dead_attempts(storage, job, record.stage, committed=record.attempt)
    clear_failure(storage, job, record.stage)
    clear_question(storage, job, record.stage)
    storage.delete(layout.damaged_marker(job, record.stage))
    return _mark_published(storage, job, record)


def clear_failure(storage: Storage, job: JobId, stage: str) -> None:
    """Forget an earlier failure of a stage that is committed now."""
    storage.delete(layout.failed_record(job, stage))


def clear_question(storage: Storage, job: JobId, stage: str) -> None:
    """Take away what a person was shown for a stage, and the record of it last: a crash in between is made up for."""
    key = layout.waiting_record(job, stage)
    try:
        waiting = StageRecord.from_json(storage.read(key), where=key)
    except NotFoundError:
        return
    except DefectError as error:  # where its files lie cannot be told any more
        _logger.warning("what a person was shown for %s of %s stays where it is: %s", stage, job, error)
    else:
        answer = waiting.outputs["answer"]
        storage.delete_tree(f"{layout.job_folder(job)}/{answer.rpartition('/')[0]}")
    storage.delete(key)


def _mark_published(storage: Storage, job: JobId, record: StageRecord) -> StageRecord:
    while True:
        current, version = _current(storage, job, record.stage)
        if current.published or current.attempt != record.attempt:
            return current  # another run published it, or has replaced it since
        marked = current.model_copy(update={"published": True})
        try:
            storage.replace(layout.record(job, record.stage), marked.to_json(), version)
        except ChangedError:
            continue
        return marked


def _current(storage: Storage, job: JobId, stage: str) -> tuple[StageRecord, str]:
    key = layout.record(job, stage)
    data, version = storage.read_versioned(key)
    return StageRecord.from_json(data, where=key), version
