"""A data set in a bucket, with a mirror on this machine.

Its paths are keys below the prefix, and nothing else: there are no links, and what leads out is refused. What exists
is found out by listing; bytes come with :meth:`BucketSource.fetch`, and only those that jobs start from.

Example:
    >>> source = BucketSource(open_storage("gs://bucket/curated_set"))
    >>> source.expect(["photos/a.png"], [])
    >>> source.find_file("photos/a.png")
    ('/tmp/worldexplorer-data-k3x/bucket/curated_set/photos/a.png', None)
"""

from __future__ import annotations

import posixpath
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from worldexplorer.dataset.listing import Listing, ancestors
from worldexplorer.dataset.paths import IMAGE_SUFFIXES, NOT_A_FILE_OF_THE_SET, OUTSIDE, is_url
from worldexplorer.dataset.remote import mirror_folder
from worldexplorer.errors import UsageError, UserError
from worldexplorer.storage import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from worldexplorer.dataset.job import Job
    from worldexplorer.storage import Storage

_MISSING = "it does not exist"
_FETCHED_AT_ONCE = 256
_LONGEST_NAME = 255
"""Bytes of a file's name on Linux and macOS; parts of keys may be longer."""
_SCAFFOLD_JSON = "scaffold.json"


class BucketSource:
    """See :class:`~worldexplorer.dataset.source.Source`; always confined.

    Args:
        storage: whose root is the data set.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._listing = Listing(storage)
        self._mirror = mirror_folder(storage.uri)
        self._fetched: set[str] = set()
        self.uri = storage.uri

    def where(self, path: str) -> str:
        """See Source."""
        return f"{self.uri}/{path}"

    def why_not_there(self) -> str | None:
        """See Source."""
        with _the_whole_sets_fault():
            return None if self._storage.exists("") else _MISSING

    def size(self, path: str) -> tuple[int, str | None]:
        """See Source."""
        with _the_whole_sets_fault():
            info = self._storage.stat(_key(path))
        return (0, _MISSING) if info is None else (info.size, None)

    def read(self, path: str) -> bytes:
        """See Source."""
        with _the_whole_sets_fault():
            return self._storage.read(_key(path))

    def refusal(self, path: str) -> str | None:
        """See Source."""
        if is_url(path):
            return NOT_A_FILE_OF_THE_SET
        normal = posixpath.normpath(path)
        return OUTSIDE if normal.startswith("/") or normal.split("/")[0] == ".." else None

    def refusal_of_links(self, _folder: str) -> str | None:
        """See Source; a bucket has no links."""
        return None

    def expect(self, files: Iterable[str], folders: Iterable[str]) -> None:
        """See Source."""
        with _the_whole_sets_fault():
            self._listing.expect([_key(path) for path in files], [_key(path) for path in folders])

    def place(self, path: str) -> str:
        """See Source."""
        return self._place(_key(path))

    def find_file(self, path: str) -> tuple[str, str | None]:
        """See Source."""
        key = _key(path)
        if not self._listing.has_file(key):
            return self._place(key), _MISSING
        too_long = any(len(part.encode()) > _LONGEST_NAME for part in key.split("/"))
        return self._place(key), "its name is too long for a file" if too_long else None

    def find_folder(self, path: str) -> tuple[str, str | None]:
        """See Source."""
        key = _key(path)
        return self._place(key), None if self._listing.has_folder(key) else _MISSING

    def names(self, folder: str) -> Iterable[str]:
        """See Source."""
        return self._listing.names(_key(folder))

    def relative(self, place: Path) -> str:
        """See Source."""
        return place.relative_to(self._mirror).as_posix()

    def fetch(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """See Source: in parallel, each file once."""
        self._expect_scaffolds([self.relative(job.scaffold_path) for job in jobs if job.scaffold_path is not None])
        needs = [self._keys_of(job) for job in jobs]
        keys = dict.fromkeys(key for need in needs for key in need)
        errors = self._errors_of_names(keys)
        errors |= self._download([key for key in keys if key not in errors])
        if not errors:
            return jobs
        problems = [next((errors[key] for key in need if key in errors), None) for need in needs]
        return [replace(job, unfetched=problem) for job, problem in zip(jobs, problems, strict=True)]

    def _place(self, key: str) -> str:
        return f"{self._mirror}/{key}" if key else str(self._mirror)

    def _expect_scaffolds(self, folders: list[str]) -> None:
        # A scaffold of our own names its description one folder up.
        descriptions = [posixpath.join(posixpath.dirname(_key(path)), _SCAFFOLD_JSON) for path in folders if _key(path)]
        self.expect(descriptions, folders)

    def _keys_of(self, job: Job) -> list[str]:
        """Keys of all that a job starts from; makes the folders of its scaffold."""
        keys = [self.relative(job.image)] if job.image is not None else []
        if job.scaffold_path is not None:
            keys += self._keys_of_scaffold(_key(self.relative(job.scaffold_path)))
        return keys

    def _keys_of_scaffold(self, folder: str) -> list[str]:
        """The numbered pictures in the folder, or in `final` where it has one, and what may describe them."""
        final = posixpath.join(folder, "final")
        home = final if self._listing.has_folder(final) else folder
        Path(self._place(home)).mkdir(parents=True, exist_ok=True)
        keys = [posixpath.join(home, name) for name in self._listing.names(home) if _is_numbered_picture(name)]
        places = {folder, home} | ({posixpath.dirname(home)} if home else set())
        descriptions = (posixpath.join(place, _SCAFFOLD_JSON) for place in places)
        return sorted(keys) + sorted(key for key in descriptions if self._listing.has_file(key))

    def _errors_of_names(self, keys: Iterable[str]) -> dict[str, UserError]:
        """Objects named like a folder that has to be in the mirror as well."""
        folders = {parent for key in keys for parent in ancestors(key)}
        return {
            key: UserError(
                "the data set has a file and a folder of this name, and a disk can hold only one of them",
                where=self.where(key),
                remedy="rename the file in the bucket and in metadata.json",
            )
            for key in keys
            if key in folders
        }

    def _download(self, keys: list[str]) -> dict[str, UserError]:
        """Bring objects to the mirror; the errors of those that cannot be had."""
        new = [key for key in keys if key not in self._fetched]
        errors: dict[str, UserError] = {}
        for start in range(0, len(new), _FETCHED_AT_ONCE):
            some = new[start : start + _FETCHED_AT_ONCE]
            try:
                self._storage.local_copies(some, self._mirror)
            except (NotFoundError, UserError):  # at least one of them: which, shows one by one
                outcomes = self._storage.map(self._download_one, some)
                errors |= {key: error for key, error in zip(some, outcomes, strict=True) if error is not None}
        self._fetched.update(key for key in new if key not in errors)
        return errors

    def _download_one(self, key: str) -> UserError | None:
        try:
            self._storage.local_copies([key], self._mirror)
        except NotFoundError:
            return UserError(
                "the file is not in the data set any more",
                where=self.where(key),
                remedy="put it back, or name another in metadata.json",
            )
        except UserError as error:
            return UserError(f"the file cannot be read: {error.what}", where=self.where(key), remedy=error.remedy)
        return None


def _key(path: str) -> str:
    """The key of a path that is not refused; empty for the data set's folder itself."""
    normal = posixpath.normpath(path)
    return "" if normal == "." else normal


def _is_numbered_picture(name: str) -> bool:
    stem, suffix = posixpath.splitext(name)
    return stem.isdigit() and suffix.lower() in IMAGE_SUFFIXES


@contextmanager
def _the_whole_sets_fault() -> Iterator[None]:
    """What is refused here is no single job's: nothing runs."""
    try:
        yield
    except UsageError:
        raise
    except UserError as error:
        raise UsageError(error.what, where=error.where, remedy=error.remedy) from None
