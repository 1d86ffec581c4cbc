"""What lies in a bucket's folder, found out with few requests.

A listing answers a thousand objects a request, one request after the other; single objects are asked for many at a
time. So a few files are asked for one by one, and of more the folders are listed, of very many folders those above
them. What lies beside them is not looked at: results may lie in the same bucket, and be hundreds of thousands.

Example:
    >>> listing = Listing(storage)
    >>> listing.expect(["photos/a.png", "photos/b.png"], ["scaffolds/scene_0005"])
    >>> listing.has_file("photos/a.png"), listing.names("scaffolds/scene_0005")
    (True, {'000.png', '001.png'})
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from worldexplorer.storage import Storage

SINGLE_FILES = 256
"""The most files that are asked for one by one."""
FOLDERS_LISTED = 64
"""The most folders that are listed on their own."""

_LONGEST_NAME = 1024
"""Bytes of an object's whole name; the service takes a longer one for a mistake of the program's."""

Folder = str
"""A key without its last part; empty for the root."""


class Listing:
    """Remembers the answers; keys are those of the storage."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._longest_key = _LONGEST_NAME - len(storage.uri.removeprefix("gs://").partition("/")[2].encode()) - 1
        self._single: dict[str, bool] = {}
        self._listed: set[Folder] = set()
        self._names: defaultdict[Folder, set[str]] = defaultdict(set)
        self._folders: set[Folder] = set()

    def expect(self, files: Collection[str], folders: Collection[Folder]) -> None:
        """Find out about these files, and about all that lies in these folders."""
        self._list(folder for folder in folders if self._is_possible(folder))
        unknown = [key for key in dict.fromkeys(files) if key and self._is_possible(key) and not self._is_known(key)]
        if len(unknown) > SINGLE_FILES:
            self._list({_parent(key) for key in unknown})
        else:
            found = self._storage.map(self._storage.stat, unknown)
            self._single.update((key, info is not None) for key, info in zip(unknown, found, strict=True))

    def has_file(self, key: str) -> bool:
        """Whether there is an object with this key, which was expected."""
        if key in self._single:
            return self._single[key]
        folder, _, name = key.rpartition("/")
        return name in self.names(folder)

    def has_folder(self, folder: Folder) -> bool:
        """Whether anything lies in this folder, which was expected."""
        return folder in self._folders

    def names(self, folder: Folder) -> Collection[str]:
        """Names of the objects directly in this folder, which was expected."""
        return self._names.get(folder, ())

    def _is_possible(self, key: str) -> bool:
        return len(key.encode()) <= self._longest_key

    def _is_known(self, key: str) -> bool:
        return key in self._single or self._is_listed(_parent(key))

    def _is_listed(self, folder: Folder) -> bool:
        return folder in self._listed or not self._listed.isdisjoint(ancestors(folder))

    def _list(self, folders: Iterable[Folder]) -> None:
        new = merged({folder for folder in folders if not self._is_listed(folder)})
        for folder, keys in zip(new, self._storage.map(self._keys, new), strict=True):
            self._listed.add(folder)
            for key in keys:
                self._add(key)

    def _keys(self, folder: Folder) -> list[str]:
        return [info.key for info in self._storage.list(folder)]

    def _add(self, key: str) -> None:
        folder, _, name = key.rpartition("/")
        self._names[folder].add(name)
        if folder not in self._folders:
            self._folders.update([folder, *ancestors(folder)])


def merged(folders: set[Folder]) -> list[Folder]:
    """At most 64 folders, none inside another, in which all of `folders` lie; the deepest give way to their parents."""
    while len(folders) > FOLDERS_LISTED:
        deepest = max(_depth(folder) for folder in folders)
        folders = {_parent(folder) if _depth(folder) == deepest else folder for folder in folders}
    return sorted(folder for folder in folders if folders.isdisjoint(ancestors(folder)))


def _depth(folder: Folder) -> int:
    return folder.count("/") + 1 if folder else 0


def _parent(key: str) -> Folder:
    return key.rpartition("/")[0]


def ancestors(key: str) -> Iterator[Folder]:
    """The folders that a key, or a folder, lies in, up to the root."""
    while key:
        key = _parent(key)
        yield key
