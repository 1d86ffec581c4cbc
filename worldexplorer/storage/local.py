"""A local folder as storage (Linux and macOS).

Whole-or-nothing writes are a temporary file and a link or rename. `replace`, and `create` where the file system has no
hard links, hold an advisory lock on the object's folder while they compare and swap. Records are synced to the disk;
the bulk files they name are covered by their checksums. A process that is killed in between leaves its temporary file,
which nobody lists; whoever writes into the same folder an hour later removes it.

Example:
    >>> storage = LocalStorage(Path("output/batch"))
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from worldexplorer.storage.base import AlreadyExistsError, ChangedError, Item, NotFoundError, ObjectInfo, Result
from worldexplorer.storage.folders import make_folder
from worldexplorer.storage.keys import require_plain

_TEMPORARY = ".part-"
_STALE_SECONDS = 3600.0
"""A temporary file lives for milliseconds: the owner of one this old was killed, on whatever machine it ran."""
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""What file systems without hard links (exFAT, some network drives) say when they are asked for one."""


class LocalStorage:
    """Objects are files below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root.expanduser().absolute()
        self._prefix = os.path.join(self._root, "")  # noqa: PTH118 (the empty part adds the slash)
        self.uri = str(root)
        self._tidied: set[Path] = set()

    def read(self, key: str) -> bytes:
        """See Storage."""
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            raise NotFoundError("no such file", where=str(self._path(key))) from None

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        """See Storage."""
        data = self.read(key)
        return data, _version(data)

    def create(self, key: str, data: bytes) -> None:
        """See Storage."""
        path = self._path(key)
        with self._temporary(path, data) as temporary:
            try:
                _put_new(temporary, path)
            except FileExistsError:
                raise AlreadyExistsError("exists already", where=str(path)) from None
        _sync_folder(path.parent)

    def replace(self, key: str, data: bytes, version: str) -> None:
        """See Storage."""
        path = self._path(key)
        with _locked(path):
            if _version(self.read(key)) != version:
                raise ChangedError("was changed meanwhile", where=str(path))
            self.write(key, data)

    def write(self, key: str, data: bytes) -> None:
        """See Storage."""
        path = self._path(key)
        with self._temporary(path, data) as temporary:
            temporary.replace(path)
        _sync_folder(path.parent)

    def delete(self, key: str) -> None:
        """See Storage."""
        self._path(key).unlink(missing_ok=True)
        self._remove_empty_folders(PurePosixPath(key).parent)

    def stat(self, key: str) -> ObjectInfo | None:
        """See Storage."""
        try:
            facts = os.stat(self._text(key))  # noqa: PTH116 (called some hundred times a job: a Path costs most of it)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return ObjectInfo(key, facts.st_size, facts.st_mtime) if stat.S_ISREG(facts.st_mode) else None

    def exists(self, prefix: str) -> bool:
        """See Storage."""
        return next(self._keys(prefix), None) is not None

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See Storage."""
        for key in sorted(self._keys(prefix)):
            info = self.stat(key)
            if info is not None:  # else another run moved it on since
                yield info

    def sha256(self, key: str) -> str:
        """See Storage."""
        try:
            with self._path(key).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            raise NotFoundError("no such file", where=str(self._path(key))) from None

    def move(self, source: str, target: str) -> None:
        """See Storage."""
        origin, path = self._path(source), self._path(target)
        while True:
            make_folder(path.parent)
            try:
                origin.replace(path)
            except FileNotFoundError:
                if path.exists():
                    return
                if not origin.exists():
                    raise NotFoundError("no such file", where=str(origin)) from None
                continue  # another run removed the empty target folder in between
            return

    def delete_tree(self, prefix: str) -> None:
        """See Storage."""
        folder = self._path(prefix)
        while folder.exists():
            # Another run may be removing the same folder: what it took first is no error, what stays is tried again.
            with suppress(FileNotFoundError):
                shutil.rmtree(folder)
        self._remove_empty_folders(PurePosixPath(prefix).parent)

    def upload(self, folder: Path, prefix: str) -> None:
        """See Storage."""
        target = self._path(prefix)
        if folder.absolute() != target:
            shutil.copytree(folder, target, dirs_exist_ok=True)

    def local_copies(self, keys: Sequence[str], scratch: Path) -> builtins.list[Path]:
        """See Storage."""
        paths = [self._path(key) for key in keys]
        for path in paths:
            if not path.is_file():
                raise NotFoundError("no such file", where=str(path))
        return paths

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> builtins.list[Result]:
        """See Storage."""
        return [function(item) for item in items]

    def local_root(self) -> Path:
        """See Storage."""
        return self._root

    def _path(self, key: str) -> Path:
        return Path(self._text(key))

    def _text(self, key: str) -> str:
        require_plain(key)
        return self._prefix + key

    def _keys(self, prefix: str) -> Iterator[str]:
        """The keys below a folder, in no order; the empty prefix is the root."""
        folder = self._path(prefix) if prefix else self._root
        start = len(self._prefix)
        for place, _, names in os.walk(folder, onerror=_raise_unless_gone):
            for name in names:
                if not name.startswith(_TEMPORARY):
                    yield os.path.join(place, name)[start:]  # noqa: PTH118 (a Path for each of many files is slow)

    @contextmanager
    def _temporary(self, path: Path, data: bytes) -> Iterator[Path]:
        handle, name = _open_temporary(path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            self._tidy(path.parent, temporary.stat().st_mtime)
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def _tidy(self, folder: Path, now: float) -> None:
        """Remove what killed processes left in a folder, once; `now` is by the clock of the disk it lies on."""
        if folder in self._tidied:
            return
        self._tidied.add(folder)
        with os.scandir(folder) as entries:
            left = [entry for entry in entries if entry.name.startswith(_TEMPORARY)]
        for entry in left:
            with suppress(FileNotFoundError):  # its owner, or another run that tidies up, was faster
                if now - entry.stat().st_mtime > _STALE_SECONDS:
                    Path(entry.path).unlink()

    def _remove_empty_folders(self, folder: PurePosixPath) -> None:
        """Remove `folder` and its parents as far as they are empty, as a bucket would not show them either."""
        while folder.parts:
            try:
                self._path(str(folder)).rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                return
            folder = folder.parent


def _raise_unless_gone(error: OSError) -> None:
    """A folder that another run removes while this one lists it has nothing in it any more."""
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error


def _put_new(temporary: Path, path: Path) -> None:
    """Give a finished file its name; FileExistsError where that is taken."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with _locked(path):
            if path.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
            temporary.replace(path)


def _open_temporary(folder: Path) -> tuple[int, str]:
    while True:
        make_folder(folder)
        try:
            return tempfile.mkstemp(prefix=_TEMPORARY, dir=folder)
        except FileNotFoundError:
            continue  # another run removed the empty folder in between


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sync_folder(folder: Path) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return  # another run removed the object, and with it the folder
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of the folder that `path` lies in."""
    try:
        handle = os.open(path.parent, os.O_RDONLY)
    except FileNotFoundError:
        raise NotFoundError("no such file", where=str(path)) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
