"""The second half of a commit: from the attempt's folder to the guide's paths.

A record that is not published yet still counts: its files are read where they are. Any run may finish the move, and
several may at once. The record is marked last, so that a published one has left nothing behind.

Example:
    >>> record = publish(storage, job, record)
    >>> record.published
    True
"""

from __future__ import annotations

from worldexplorer import layout
from worldexplorer.attempts import discard_attempt, discard_dead_attempts
from worldexplorer.layout import JobId
from worldexplorer.records import StageRecord
from worldexplorer.storage import ChangedError, NotFoundError, Storage


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
    storage.delete(layout.damaged_marker(job, record.stage))
    return _mark_published(storage, job, record)


def clear_failure(storage: Storage, job: JobId, stage: str) -> None:
    """Forget an earlier failure of a stage that is committed now."""
    storage.delete(layout.failed_record(job, stage))


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
