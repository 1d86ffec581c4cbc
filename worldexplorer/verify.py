"""Whether the files a record names are still what it says.

A quick look compares sizes, and hashes only files that are younger than their record; a full one hashes everything.
What is found changed is remembered in a marker, so that the next run heals it.

Example:
    >>> changed_files(storage, JobId(0, "default"), record)
    []
"""

from __future__ import annotations

import json
import math
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
    # A file as old as its record is taken for unchanged.
    trusted_until = -math.inf if full else datetime.fromisoformat(record.finished_at).timestamp()
    places = _places(job, record)
    found = _find_all(storage, places, record)
    whole = {entry.path for entry in record.files if entry.path in found and found[entry.path].size == entry.size}
    doubted = [entry for entry in record.files if entry.path in whole and found[entry.path].modified > trusted_until]
    same = storage.map(lambda entry: _is_same(storage, places, entry, found[entry.path]), doubted)
    whole -= marked | {entry.path for entry, is_same in zip(doubted, same, strict=True) if not is_same}
    return [entry.path for entry in record.files if entry.path not in whole]


def find_file(storage: Storage, job: JobId, record: StageRecord, entry: FileEntry) -> ObjectInfo | None:
    """A record's file where it lies now: still in its attempt, or published; None where it is neither."""
    return _find(storage, _places(job, record), entry)


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


def _places(job: JobId, record: StageRecord) -> tuple[str, ...]:
    """Where the files of a record may lie, in the order in which a publish that goes on meanwhile moves them."""
    published = f"{layout.job_folder(job)}/"
    if record.published:
        return (published,)
    return f"{layout.attempt_output(job, record.attempt, record.stage)}/", published


def _find(storage: Storage, places: tuple[str, ...], entry: FileEntry) -> ObjectInfo | None:
    for place in places:
        found = storage.stat(place + entry.path)
        if found is not None:
            return found
    return None


def _find_all(storage: Storage, places: tuple[str, ...], record: StageRecord) -> dict[str, ObjectInfo]:
    """The files of a record that are there, by path: a few listings instead of a question for each.

    The places are listed in order, so that a file that a publish moves on meanwhile is in one of the listings.
    """
    folders = sorted({entry.path.split("/")[0] for entry in record.files if "/" in entry.path})
    found: dict[str, ObjectInfo] = {}
    for place in places:
        for folder in folders:
            for info in storage.list(place + folder):
                found.setdefault(info.key[len(place) :], info)
    for entry in record.files:
        alone = _find(storage, places, entry) if "/" not in entry.path else None
        if alone is not None:
            found[entry.path] = alone
    return found


def _is_same(storage: Storage, places: tuple[str, ...], entry: FileEntry, found: ObjectInfo) -> bool:
    """Whether a file has the bytes that the record names."""
    try:
        return storage.sha256(found.key) == entry.sha256
    except NotFoundError:  # moved since it was found, by a publish
        again = _find(storage, places, entry)
        return again is not None and _is_same(storage, places, entry, again)


def _marked(storage: Storage, job: JobId, record: StageRecord) -> set[str]:
    try:
        marker = json.loads(storage.read(layout.damaged_marker(job, record.stage)))
        return set(marker["paths"]) if marker["attempt"] == record.attempt else set()
    except NotFoundError:
        return set()
    except (ValueError, TypeError, KeyError):  # damaged itself: something was wrong, and nobody knows what
        return {entry.path for entry in record.files}
