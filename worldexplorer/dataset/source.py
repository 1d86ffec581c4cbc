"""Where a data set lies, a folder of this machine or a prefix of a bucket, behind the same questions.

May a path be used, is something there, what is its place on this machine: all of that is known without bringing
anything. :meth:`Source.fetch` then brings what jobs start from; in a folder it is there already.

Example:
    >>> source = open_source("gs://bucket/curated_set", confine_paths=True)
    >>> source.refusal("../private/key.png")
    'leads out of the data set'
    >>> source.find_file("photos/a.png")
    ('/tmp/worldexplorer-data-k3x/bucket/curated_set/photos/a.png', None)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from worldexplorer.dataset.bucket import BucketSource
from worldexplorer.dataset.folder import FolderSource
from worldexplorer.dataset.remote import is_remote, open_remote

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from worldexplorer.dataset.job import Job


class Source(Protocol):
    """The files of one data set. Paths are as `metadata.json` writes them."""

    uri: str
    """The folder as it was given, or the prefix."""

    def where(self, path: str) -> str:
        """A path for messages."""

    def why_not_there(self) -> str | None:
        """Why there is no such data set, or None."""

    def size(self, path: str) -> tuple[int, str | None]:
        """Bytes of a file; or why it is none."""

    def read(self, path: str) -> bytes:
        """The bytes of a file."""

    def refusal(self, path: str) -> str | None:
        """Why a confined data set may not use `path`, or None where it may."""

    def refusal_of_links(self, folder: str) -> str | None:
        """Why a confined data set may not use what lies directly in its `folder`; None for a folder not there."""

    def expect(self, files: Iterable[str], folders: Iterable[str]) -> None:
        """These will be looked for: what takes a request is asked for now, together."""

    def place(self, path: str) -> str:
        """Where a path lies, or will lie, on this machine; not a refused path."""

    def find_file(self, path: str) -> tuple[str, str | None]:
        """The place of a file on this machine, and why there is no such file or None; not a refused path."""

    def find_folder(self, path: str) -> tuple[str, str | None]:
        """The place of a folder on this machine, and why there is no such folder or None; not a refused path."""

    def names(self, folder: str) -> Iterable[str]:
        """Names of the files that lie directly in a folder; none where there is no such folder."""

    def relative(self, place: Path) -> str:
        """The path of a place inside the data set, or the place itself where it lies elsewhere."""

    def fetch(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Bring what these jobs start from to its place on this machine; the jobs, with what could not be brought."""


def open_source(dataset_dir: Path | str, *, confine_paths: bool) -> Source:
    """The source that `--dataset_dir` names; UsageError where it cannot be one."""
    if isinstance(dataset_dir, str) and is_remote(dataset_dir):
        return BucketSource(open_remote(dataset_dir, "Dataset directory not found"))
    return FolderSource(Path(dataset_dir), confined=confine_paths)
