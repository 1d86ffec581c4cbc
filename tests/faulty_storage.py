"""A storage in front of another one that sees every operation and may fail, die or do something at any of them.

storage = WatchedStorage(LocalStorage(folder), crash_at(17, "before"))
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from worldexplorer.storage import ObjectInfo, Storage

CHANGING = frozenset({"create", "replace", "write", "delete", "move", "delete_tree", "upload"})
"""Operations after which the storage may be another one."""
_LOOKS = frozenset({"stat", "local_copies"})


class Crash(BaseException):
    """The process dies here. No handler of errors may catch it."""


@dataclass(frozen=True)
class Moment:
    """Before or after the operation with this number (from 0)."""

    number: int
    side: str
    operation: str
    key: str


class WatchedStorage:
    """Passes every call on, and tells `watch` before and after."""

    def __init__(self, inner: Storage, watch: Callable[[Moment], None]) -> None:
        self._inner = inner
        self._watch = watch
        self._count = 0
        self.uri = inner.uri

    def _pass(self, operation: str, *arguments: Any) -> Any:
        number, key = self._count, str(arguments[0])
        self._count += 1
        self._watch(Moment(number, "before", operation, key))
        result = getattr(self._inner, operation)(*arguments)
        if operation == "list":
            result = iter(list(result))
        self._watch(Moment(number, "after", operation, key))
        return result

    def read(self, key: str) -> bytes:
        return self._pass("read", key)

    def read_versioned(self, key: str) -> tuple[bytes, str]:
        return self._pass("read_versioned", key)

    def create(self, key: str, data: bytes) -> None:
        self._pass("create", key, data)

    def replace(self, key: str, data: bytes, version: str) -> None:
        self._pass("replace", key, data, version)

    def write(self, key: str, data: bytes) -> None:
        self._pass("write", key, data)

    def delete(self, key: str) -> None:
        self._pass("delete", key)

    def stat(self, key: str) -> ObjectInfo | None:
        return self._pass("stat", key)

    def exists(self, prefix: str) -> bool:
        return self._pass("exists", prefix)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return self._pass("list", prefix)

    def sha256(self, key: str) -> str:
        return self._pass("sha256", key)

    def move(self, source: str, target: str) -> None:
        self._pass("move", source, target)

    def delete_tree(self, prefix: str) -> None:
        self._pass("delete_tree", prefix)

    def upload(self, folder: Path, prefix: str) -> None:
        self._pass("upload", folder, prefix)

    def local_copies(self, keys: Sequence[str], scratch: Path) -> builtins.list[Path]:
        return self._pass("local_copies", keys, scratch)

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> builtins.list[Any]:
        """One after the other whatever the storage does, so that equal runs have equal moments."""
        return [function(item) for item in items]

    def local_root(self) -> Path | None:
        return self._inner.local_root()


def note(moments: list[Moment]) -> Callable[[Moment], None]:
    """Only write down what happens."""
    return moments.append


def crash_at(moment: Moment) -> Callable[[Moment], None]:
    """Die at a moment seen in an earlier, equal run."""

    def watch(now: Moment) -> None:
        if (now.number, now.side) == (moment.number, moment.side):
            raise Crash(f"{moment}")

    return watch


def crash_moments(moments: list[Moment]) -> list[Moment]:
    """Where to die: before every operation, and after each that changes something.

    Between two looks at files nothing happens, so of a row of such looks the first stands for all; nor does anything
    between two moves, so before the second is after the first.
    """
    chosen: list[Moment] = []
    previous = ""
    for moment in moments:
        if moment.side == "after":
            if moment.operation in CHANGING:
                chosen.append(moment)
            continue
        if not {moment.operation, previous} <= _LOOKS and not moment.operation == previous == "move":
            chosen.append(moment)
        previous = moment.operation
    return chosen


def thinned(moments: list[Moment]) -> list[Moment]:
    """Of a row of moments of one changing operation the first and the last; of looks none."""
    changes = [moment for moment in moments if moment.operation in CHANGING]
    rows = [list(row) for _, row in groupby(changes, key=lambda moment: moment.operation)]
    return [moment for row in rows for moment in (row[:1] if len(row) == 1 else (row[0], row[-1]))]
