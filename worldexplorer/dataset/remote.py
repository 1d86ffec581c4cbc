"""Opening a bucket's folder for reading, and the folder of this machine that its files are brought to.

A bucket's folder has one such mirror a process. It lies below WORLDEXPLORER_SCRATCH, or the folder for temporary
files, ends with the names of bucket and folder, so that messages about its files say where they come from, and goes
when the process ends. What a killed process left is removed by the next one.

Example:
    >>> mirror_folder("gs://bucket/curated_set")
    PosixPath('/tmp/worldexplorer-data-k3x/bucket/curated_set')
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from worldexplorer.errors import UsageError
from worldexplorer.scratch import scratch_root
from worldexplorer.storage import BUCKET_SCHEME, open_storage

if TYPE_CHECKING:
    from worldexplorer.storage import Storage

_NAME = "worldexplorer-data-"
_LOCK = ".lock"
"""Held as long as the process lives that the mirror belongs to."""

_mirrors: dict[tuple[int, str], Path] = {}
_opening = threading.Lock()


def is_remote(place: str) -> bool:
    """Whether a place is written as a URI."""
    return "://" in place


def open_remote(uri: str, problem: str) -> Storage:
    """Open `gs://BUCKET/FOLDER`.

    Args:
        uri: as the command gives it.
        problem: begins the message where that fails, such as "Dataset directory not found".

    Raises:
        UsageError: not a bucket, or one that this account cannot use.
    """
    if not uri.startswith(BUCKET_SCHEME):
        raise UsageError(
            f"{problem}: it is neither a folder nor in a bucket of Google Cloud Storage",
            where=uri,
            remedy=f"give a folder, or {BUCKET_SCHEME}BUCKET/FOLDER",
        )
    try:
        return open_storage(uri)
    except UsageError as error:
        raise UsageError(f"{problem}: {error.what}", where=uri, remedy=error.remedy) from None


def mirror_folder(uri: str) -> Path:
    """The place on this machine for the files of a bucket's folder; the same for every call of a process."""
    with _opening:
        key = os.getpid(), uri
        if key not in _mirrors:
            scratch = scratch_root()
            _remove_abandoned(scratch)
            root = _locked_folder(scratch)
            atexit.register(_remove, root, os.getpid())
            _mirrors[key] = root / uri.removeprefix(BUCKET_SCHEME)
        return _mirrors[key]


def _locked_folder(scratch: Path) -> Path:
    while True:
        root = Path(tempfile.mkdtemp(prefix=_NAME, dir=scratch))
        if _lock(root, os.O_CREAT) is not None:
            return root
        # Another process took it for abandoned before its lock was held.


def _remove_abandoned(scratch: Path) -> None:
    for root in scratch.glob(f"{_NAME}*"):
        handle = _lock(root)
        if handle is not None:
            shutil.rmtree(root, ignore_errors=True)  # what another user owns stays
            os.close(handle)


def _lock(root: Path, flags: int = 0) -> int | None:
    """The handle of a mirror's lock; None where its process lives, or it is gone, or it is somebody else's."""
    try:
        handle = os.open(root / _LOCK, os.O_RDWR | flags, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle).st_nlink > 0:
            return handle
    except BlockingIOError:
        pass
    os.close(handle)
    return None


def _remove(root: Path, owner: int) -> None:
    """At exit; a process that was forked off leaves its parent's mirror alone."""
    if os.getpid() == owner:
        shutil.rmtree(root, ignore_errors=True)
