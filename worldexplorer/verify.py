"""Whether the files a record names are still what it says.

A quick look compares sizes, and hashes only files that are younger than their record; a full one hashes everything.
What is found changed is remembered in a marker, so that the next run heals it.

Example:
    >>> changed_files(storage, JobId(0, "default"), record)
    []
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime

from worldexplorer import layout
from worldexplorer.errors import DefectError
from worldexplorer.layout import JobId
from worldexplorer.records import FileEntry, StageRecord
from worldexplorer.storage import NotFoundError, ObjectInfo, Storage


def changed_files(storage: Storage, job: JobId, record: StageRecord, *, full: bool = False) -> list[str]:
    """The files of a record that are missing or differ, relative to the job's folder."""
    marked = _marked(storage, job, record)
    committed = datetime.fromisoformat(record.finished_at).timestamp()
    return [
        entry.path
        for entry in record.files
        if entry.path in marked or not _intact(storage, job, record, entry, committed, full=full)
    ]


def find_file(storage: Storage, job: JobId, record: StageRecord, entry: FileEntry) -> ObjectInfo | None:
    """A record's file where it lies now: still in its attempt, or published; None where it is neither."""
    # In this order: a publish that moves it meanwhile only ever moves it from the first place to the second.
    keys = [f"{layout.job_folder(job)}/{entry.path}"]
    if not record.published:
        keys.insert(0, f"{layout.attempt_output(job, record.attempt, record.stage)}/{entry.path}")
    return next((found for key in keys if (found := storage.stat(key)) is not None), None)


def mark_damaged(storage: Storage, job: JobId, record: StageRecord, paths: list[str]) -> None:
    """Remember that files of a record were found changed."""
    marker = {"attempt": record.attempt, "paths": sorted(paths)}
    storage.write(layout.damaged_marker(job, record.stage), json.dumps(marker).encode())


def verify_all(storage: Storage) -> Iterator[tuple[str, list[str]]]:
    """Hash every file of every record; yields each record's key with what was found changed, and marks that.

    A record that cannot be read counts as changed itself.
    """
    for info in storage.list(""):
        parts = info.key.split("/")
        if len(parts) != 4 or parts[2] != "records" or parts[0] not in layout.VARIANTS or parts[3].count(".") != 1:
            continue
        try:
            record = StageRecord.from_json(storage.read(info.key), where=info.key)
        except DefectError:
            yield info.key, [info.key]
            continue
        job = JobId(record.index, record.variant)
        changed = changed_files(storage, job, record, full=True)
        if changed:
            mark_damaged(storage, job, record, changed)
        yield info.key, [f"{layout.job_folder(job)}/{path}" for path in changed]


def _intact(
    storage: Storage, job: JobId, record: StageRecord, entry: FileEntry, committed: float, *, full: bool
) -> bool:
    found = find_file(storage, job, record, entry)
    if found is None or found.size != entry.size:
        return False
    if not full and found.modified <= committed:
        return True
    try:
        return storage.sha256(found.key) == entry.sha256
    except NotFoundError:  # moved since it was found, by a publish
        return _intact(storage, job, record, entry, committed, full=full)


def _marked(storage: Storage, job: JobId, record: StageRecord) -> set[str]:
    try:
        marker = json.loads(storage.read(layout.damaged_marker(job, record.stage)))
    except NotFoundError:
        return set()
    return set(marker["paths"]) if marker["attempt"] == record.attempt else set()
