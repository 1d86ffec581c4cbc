"""The second half of a commit: from the attempt's folder to the guide's paths.

A record that is not published yet still counts: its files are read where they are. Any run may finish the move, and
several may at once.

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
from worldexplorer.storage import ChangedError, Storage


def publish(storage: Storage, job: JobId, record: StageRecord) -> StageRecord:
    """Move the files of a committed record to their places, mark the record, and clear what is left behind."""
    if not record.published:
        folder = layout.job_folder(job)
        attempt = layout.attempt_output(job, record.attempt, record.stage)
        for entry in record.files:
            storage.move(f"{attempt}/{entry.path}", f"{folder}/{entry.path}")
        for path in record.supersedes:
            storage.delete(f"{folder}/{path}")
        record = _mark_published(storage, job, record)
    discard_attempt(storage, job, record.attempt)
    discard_dead_attempts(storage, job, record.stage)
    storage.delete(layout.failed_record(job, record.stage))
    storage.delete(layout.damaged_marker(job, record.stage))
    return record


def _mark_published(storage: Storage, job: JobId, record: StageRecord) -> StageRecord:
    key = layout.record(job, record.stage)
    while True:
        data, version = storage.read_versioned(key)
        current = StageRecord.from_json(data, where=key)
        if current.published or current.attempt != record.attempt:
            return current  # another run published it, or has replaced it since
        marked = current.model_copy(update={"published": True})
        try:
            storage.replace(key, marked.to_json(), version)
        except ChangedError:
            continue
        return marked
