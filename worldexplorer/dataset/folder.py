"""A data set in a folder of this machine.

Example:
    >>> source = FolderSource(Path("data/curated_set"), confined=False)
    >>> source.find_file("photos/a.png")
    ('data/curated_set/photos/a.png', None)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from worldexplorer.dataset.paths import PathRules, why_not_file, why_not_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from worldexplorer.dataset.job import Job


class FolderSource:
    """See :class:`~worldexplorer.dataset.source.Source`; there is nothing to ask for in advance and nothing to fetch.

    Args:
        folder: the data set's folder.
        confined: whether its paths must stay inside it.
    """

    def __init__(self, folder: Path, *, confined: bool) -> None:
        self._folder = folder
        self._rules = PathRules(folder, confined=confined)
        self.uri = str(folder)
        self.refusal = self._rules.refusal
        self.refusal_of_links = self._rules.refusal_of_links

    def where(self, path: str) -> str:
        """See Source."""
        return str(self._folder / path)

    def why_not_there(self) -> str | None:
        """See Source."""
        return why_not_folder(self.uri)

    def size(self, path: str) -> tuple[int, str | None]:
        """See Source."""
        place = self._rules.locate(path)
        reason = why_not_file(place)
        return (0, reason) if reason is not None else (Path(place).stat().st_size, None)

    def read(self, path: str) -> bytes:
        """See Source."""
        return Path(self._rules.locate(path)).read_bytes()

    def expect(self, files: Iterable[str], folders: Iterable[str]) -> None:
        """See Source."""

    def place(self, path: str) -> str:
        """See Source."""
        return self._rules.locate(path)

    def find_file(self, path: str) -> tuple[str, str | None]:
        """See Source."""
        place = self._rules.locate(path)
        return place, why_not_file(place)

    def find_folder(self, path: str) -> tuple[str, str | None]:
        """See Source."""
        place = self._rules.locate(path)
        return place, why_not_folder(place)

    def names(self, folder: str) -> Iterable[str]:
        """See Source."""
        place = self._rules.locate(folder)
        if why_not_folder(place) is not None:
            return []
        with os.scandir(place) as entries:
            return [entry.name for entry in entries if entry.is_file()]

    def relative(self, place: Path) -> str:
        """See Source."""
        # A confined data set's places are real paths, and its folder may be a link.
        for folder in (self._folder, self._folder.resolve()):
            if place.is_relative_to(folder):
                return place.relative_to(folder).as_posix()
        return str(place)

    def fetch(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """See Source."""
        return jobs
