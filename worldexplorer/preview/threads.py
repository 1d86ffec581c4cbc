"""Sets numba up: how many threads, and where compiled code is kept.

Every module of the preview engine that uses numba imports this one. What the environment says wins
(`NUMBA_NUM_THREADS`, `NUMBA_CACHE_DIR`), and is not changed, since child processes inherit it; otherwise

* there are as many threads as the processors this process may use, a container's quota included;
* compiled code is kept beside the sources, or, where they are read-only, in the user's cache folder, or else in a
  folder of the temporary directory that only this user can write (the files hold machine code). numba itself notices
  changes only in the file of the function that is called, not in those of the functions this one calls, so the folder
  is named after all compiled sources together.

Threads are Python's, at work in functions that give up the interpreter's lock (`nogil=True`). numba's own parallel
loops are not used: their threads spin while they wait, or else serve one caller at a time, and they compile slowly.

Example:
    >>> from worldexplorer.preview.threads import for_each
    >>> for_each(lambda frame: kernel(images[frame]), len(images), None, silent, "views")
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba

from worldexplorer.errors import InfrastructureError
from worldexplorer.processors import usable_processors

if TYPE_CHECKING:
    from collections.abc import Callable

    from worldexplorer.progress import Progress

_settings: Any = numba.config  # its attributes are made at run time, out of the type checker's sight


def thread_count() -> int:
    """Threads to use where nothing else is said."""
    return int(_settings.NUMBA_NUM_THREADS)


def cache_folder(sources: Path) -> Path:
    """The folder, which exists, that compiled code of the modules in the folder `sources` is kept in.

    Raises:
        InfrastructureError: no folder can be written, or the one in the temporary directory belongs to someone else.
    """
    name = f"numba-{_compiled_sources_digest(sources)}"
    home = os.environ.get("HOME")
    users = os.environ.get("XDG_CACHE_HOME") or (f"{home}/.cache" if home else None)
    for place in (sources / "__pycache__", Path(users) / "worldexplorer" if users else None):
        if place is not None and _is_writable(place / name):
            return place / name
    private = Path(tempfile.gettempdir()) / f"worldexplorer-{name}-{os.getuid()}"
    try:
        private.mkdir(mode=0o700, exist_ok=True)
        status = private.lstat()
    except OSError as error:
        raise InfrastructureError(
            f"there is no folder to keep compiled code in: {error.strerror}",
            where=str(private),
            remedy="set NUMBA_CACHE_DIR to a folder that can be written",
        ) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise InfrastructureError(
            "the folder for compiled code can be written by others",
            where=str(private),
            remedy="remove it, or set NUMBA_CACHE_DIR to a folder of your own",
        )
    return private


def _compiled_sources_digest(sources: Path) -> str:
    """Changes whenever a module in `sources` that uses numba does."""
    digest = hashlib.sha256()
    for path in sorted(sources.glob("*.py")):
        text = path.read_bytes()
        if b"import numba" in text or b"from numba" in text:
            digest.update(path.name.encode() + b"\0" + text + b"\0")
    return digest.hexdigest()[:16]


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def for_each(work: Callable[[int], None], count: int, threads: int | None, progress: Progress, what: str) -> None:
    """Call `work` with 0 to `count` - 1, several at a time; what it raises, and what `progress` raises, ends the rest.

    Args:
        work: computes one item; gives up the interpreter's lock while it does.
        count: of items.
        threads: items at a time; None for :func:`thread_count`.
        progress: told the items done, from the calling thread.
        what: the word it is told.
    """
    pool = ThreadPoolExecutor(threads or thread_count())
    try:
        for done, _ in enumerate(pool.map(work, range(count)), start=1):
            progress(done, count, what)
    finally:
        pool.shutdown(cancel_futures=True)


def _configure() -> None:
    if not os.environ.get("NUMBA_NUM_THREADS"):
        _settings.NUMBA_NUM_THREADS = usable_processors()
    if not os.environ.get("NUMBA_CACHE_DIR"):
        _settings.CACHE_DIR = str(cache_folder(Path(__file__).parent))


_configure()
