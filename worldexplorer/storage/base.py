"""The storage interface.

Keys are plain POSIX paths relative to the storage's root: neither empty nor absolute, without `.`, `..`, `//` or NUL;
anything else is a DefectError. Folders exist only as far as objects lie in them. Small objects (records, plans, the
summary) are created, read and compared-and-swapped one by one; trees of files move in bulk. An implementation
guarantees that

* `create` succeeds for exactly one of several callers, and readers see the whole object or none;
* `replace` succeeds only if the object still has the version that the caller read;
* `move` of an object that is gone but has arrived is no error, so that two runs may finish the same publish.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from worldexplorer.errors import InfrastructureError

Item = TypeVar("Item")
Result = TypeVar("Result")


BUCKET_SCHEME = "gs://"
"""How the URI of a bucket's folder begins."""


class NotFoundError(InfrastructureError):
    """No object has this key."""


class AlreadyExistsError(InfrastructureError):
    """`create` came second."""


class ChangedError(InfrastructureError):
    """`replace` found another version than the caller's."""


@dataclass(frozen=True)
class ObjectInfo:
    """What a listing says of an object.

    Attributes:
        key: relative to the storage's root.
        size: bytes.
        modified: seconds since the epoch; of a file that was uploaded the file's own, which moves keep.
    """

    key: str
    size: int
    modified: float


class Storage(Protocol):
    """A root folder with objects in it, local or remote."""

    uri: str

    def read(self, key: str) -> bytes:
        """The object's bytes; NotFoundError."""

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        """The object's bytes and the version `replace` asks for; NotFoundError."""

    def create(self, key: str, data: bytes) -> None:
        """Write a new small object, whole or not at all; AlreadyExistsError."""

    def replace(self, key: str, data: bytes, version: str) -> None:
        """Write over the version read before; ChangedError, NotFoundError."""

    def write(self, key: str, data: bytes) -> None:
        """Write an object whether or not it exists, whole or not at all."""

    def delete(self, key: str) -> None:
        """Remove an object; none there is no error."""

    def stat(self, key: str) -> ObjectInfo | None:
        """Size and time of an object, None where there is none."""

    def exists(self, prefix: str) -> bool:
        """Whether anything lies below the folder `prefix`."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object below the folder `prefix`, in order of keys."""

    def sha256(self, key: str) -> str:
        """The checksum of an object's bytes, in hex; NotFoundError."""

    def move(self, source: str, target: str) -> None:
        """Rename an object over `target`; fine if it has been moved there already, NotFoundError if neither exists."""

    def delete_tree(self, prefix: str) -> None:
        """Remove a folder and everything below it; none there is no error."""

    def upload(self, folder: Path, prefix: str) -> None:
        """Bring a local folder's files below `prefix`, but for those that are there with the same bytes.

        Nothing to do where `folder` is that place itself.
        """

    def local_copies(self, keys: Sequence[str], scratch: Path) -> builtins.list[Path]:
        """Local files with the objects' bytes, in order; not to be written to; NotFoundError.

        They are the files themselves, or were fetched together to `scratch`/KEY.
        """

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> builtins.list[Result]:
        """`function` of every item, in order; several calls at once where calls wait for a network."""

    def local_root(self) -> Path | None:
        """The folder this storage is, or None where it is remote."""
