"""Attempts: private folders that a stage works in until its result is committed.

An attempt is a folder `<job>/.attempts/<stage>-<fingerprint>-<random>/` with

    STAGE/    the files to commit, laid out as the job's folder will be
    work/     what a resumed stage goes on from (done marks, checkpoints); never published
    lock      held by the living owner

A process that dies gives up its lock with its life, so the next one takes its attempt over and goes on where it was.
Two living processes never share an attempt. Where the storage is remote, attempts live in a local scratch folder, and
what is finished of them is kept in the storage as well (:mod:`worldexplorer.remote_attempts`).

Example:
    >>> with claim_attempt(storage, job, "splat", fingerprint) as attempt:
    ...     (attempt.out / "splat").mkdir()
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from worldexplorer import layout
from worldexplorer.context import nothing_to_keep
from worldexplorer.layout import JobId
from worldexplorer.remote_attempts import (
    WORK,
    announce_attempt,
    discard_kept_attempt,
    discard_superseded_attempts,
    keeper,
    seed_attempt,
)
from worldexplorer.scratch import scratch_root
from worldexplorer.storage import Storage
from worldexplorer.storage.folders import make_folder

_logger = logging.getLogger(__name__)
_LOCK = "lock"
_UNNAMED = "new-"
_FINGERPRINT_CHARACTERS = 12


@dataclass(frozen=True)
class Attempt:
    """A claimed attempt.

    Attributes:
        name: unique within the job.
        out: the folder of the files to commit.
        work: the folder of what a resumed stage goes on from.
        resumed: whether a dead process, or another machine, left work here.
        keep: keeps what is finished for other machines, where that makes sense; see StageContext.
    """

    name: str
    out: Path
    work: Path
    resumed: bool
    keep: Callable[[], None] = nothing_to_keep


@contextmanager
def claim_attempt(
    storage: Storage, job: JobId, stage: str, fingerprint: str, *, committed: str = ""
) -> Iterator[Attempt]:
    """A dead process's attempt at the same result, or a new one; this process's alone until the block ends.

    Args:
        storage: the `output_base`.
        job: whose stage.
        stage: which one.
        fingerprint: of the result and of what it is made from.
        committed: the attempt that the stage's record names, which is nobody's to go on with.
    """
    folder = _local_attempts(storage, job)
    prefix = f"{stage}-{fingerprint[:_FINGERPRINT_CHARACTERS]}-"
    claimed = _take_over(folder, prefix, committed)
    resumed = claimed is not None
    name, lock = claimed or _begin(folder, prefix)
    try:
        keep = nothing_to_keep
        if storage.local_root() is None:
            announce_attempt(storage, job, name)
            if not (folder / name / WORK).is_dir():  # new, or its owner died before it had anything
                resumed = seed_attempt(storage, job, stage, prefix, committed=committed, folder=folder / name)
            keep = keeper(storage, job, name, folder / name / stage, folder / name / WORK)
        yield _prepared(folder / name, stage, resumed=resumed, keep=keep)
    finally:
        os.close(lock)


def discard_attempt(storage: Storage, job: JobId, name: str) -> None:
    """Remove an attempt of this process, locally and in the storage."""
    local = _local_attempts(storage, job) / name
    # Without its lock nobody takes it over any more: what a crash leaves of it from here on is only rubbish.
    (local / _LOCK).unlink(missing_ok=True)
    if storage.local_root() is not None:
        storage.delete_tree(layout.attempt_folder(job, name))
        return
    while local.exists():
        with suppress(FileNotFoundError):  # another run takes the same away
            shutil.rmtree(local)
    discard_kept_attempt(storage, job, name)


def discard_dead_attempts(storage: Storage, job: JobId, stage: str, *, committed: str) -> None:
    """Remove every attempt at a stage whose owner is gone.

    Args:
        storage: the `output_base`.
        job: whose stage.
        stage: which one.
        committed: the attempt that the stage's record names.
    """
    folder = _local_attempts(storage, job)
    for candidate in _attempts(folder, f"{stage}-", f"{_UNNAMED}{stage}-"):
        lock = _try_lock(candidate)
        if lock is not None:
            try:
                discard_attempt(storage, job, candidate.name)
            finally:
                os.close(lock)
        elif not (candidate / _LOCK).exists():
            _remove_rubbish(storage, job, candidate)
    if storage.local_root() is None:
        discard_superseded_attempts(storage, job, stage, committed)


def _attempts(folder: Path, *prefixes: str) -> list[Path]:
    """The attempts whose names begin so, in order; none where another run has just removed the empty folder."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 (Path.iterdir and Path.glob may fail halfway for that reason)
    except FileNotFoundError:
        return []
    return [folder / name for name in sorted(names) if name.startswith(prefixes)]


def _take_over(folder: Path, prefix: str, committed: str) -> tuple[str, int] | None:
    """Name and lock of a dead process's attempt."""
    for candidate in _attempts(folder, prefix):
        lock = _try_lock(candidate) if candidate.name != committed else None
        if lock is not None:
            _logger.info("going on with what an interrupted run left in %s", candidate.name)
            return candidate.name, lock
    return None


def _begin(folder: Path, prefix: str) -> tuple[str, int]:
    """Name and lock of a new attempt.

    The folder gets its name after its lock, so that a folder of that name without one is the rest of a removed one.
    Other runs tidy up in the same place: what they took for dead and removed in between is begun again.
    """
    while True:
        name = f"{prefix}{secrets.token_hex(4)}"
        unnamed = folder / f"{_UNNAMED}{name}"
        lock = None
        make_folder(unnamed)
        try:
            lock = _try_lock(unnamed, create=True)
            if lock is not None:
                unnamed.rename(folder / name)
                return name, lock
        except FileNotFoundError:
            if lock is not None:
                os.close(lock)


def _remove_rubbish(storage: Storage, job: JobId, folder: Path) -> None:
    """Remove what has no lock: the rest of a removed attempt, or one that is just being made and still empty."""
    if folder.name.startswith(_UNNAMED):
        with suppress(OSError):  # its owner has put the lock into it meanwhile
            folder.rmdir()
    else:
        discard_attempt(storage, job, folder.name)


def _local_attempts(storage: Storage, job: JobId) -> Path:
    root = storage.local_root()
    if root is None:
        name = hashlib.sha256(storage.uri.encode()).hexdigest()[:_FINGERPRINT_CHARACTERS]
        root = scratch_root() / f"worldexplorer-{name}"
    return root / layout.attempts_folder(job)


def _prepared(folder: Path, stage: str, *, resumed: bool, keep: Callable[[], None]) -> Attempt:
    attempt = Attempt(name=folder.name, out=folder / stage, work=folder / WORK, resumed=resumed, keep=keep)
    attempt.out.mkdir(exist_ok=True)
    attempt.work.mkdir(exist_ok=True)
    return attempt


def _try_lock(folder: Path, *, create: bool = False) -> int | None:
    """The handle of the attempt's lock, or None where its owner lives or the attempt is gone."""
    path = folder / _LOCK
    try:
        handle = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0))
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The owner may have removed the folder between the open and the lock.
        still_there = os.fstat(handle).st_nlink > 0
    except BlockingIOError:
        still_there = False
    if not still_there:
        os.close(handle)
        return None
    return handle
