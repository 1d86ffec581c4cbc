"""Where the paths of a data set lead, and whether they may.

A path is relative to the data set's folder unless it is absolute. A data set on the machine of its owner may use
absolute paths, `..` and symbolic links; a *confined* one must stay inside its folder, and what counts is where a path
ends after every symbolic link is followed.

Example:
    >>> rules = PathRules(Path("data/curated_set"), confined=True)
    >>> rules.refusal("../private/key.png")
    'leads out of the data set'
"""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
"""Endings of images that are looked for by their names, in any case; in order of precedence."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|(?:file|data):")
OUTSIDE = "leads out of the data set"
NOT_A_FILE_OF_THE_SET = "is a URL, and only files of the data set may be named"


class PathRules:
    """Locates the paths of one data set.

    Args:
        folder: the data set's folder.
        confined: whether paths must stay inside it.
    """

    def __init__(self, folder: Path, *, confined: bool) -> None:
        self._folder = os.fspath(folder)
        self._confined = confined
        self._root = os.path.realpath(folder) if confined else ""
        self._real_parents: dict[str, str] = {}

    def locate(self, path: str) -> str:
        """The file system path of a data set's path; with every link followed where the data set is confined."""
        joined = os.path.join(self._folder, path)  # noqa: PTH118  (a Path for each of 10,000 samples is slow)
        return self._real(joined) if self._confined else joined

    def refusal(self, path: str) -> str | None:
        """Why a confined data set may not use `path`, or None where it may."""
        if not self._confined:
            return None
        if is_url(path):
            return NOT_A_FILE_OF_THE_SET
        return None if self._is_inside(self.locate(path)) else OUTSIDE

    def refusal_of_links(self, folder: str) -> str | None:
        """Why a confined data set may not use what lies directly in its `folder`; None for a folder not there."""
        if not self._confined:
            return None
        try:
            with os.scandir(self.locate(folder)) as entries:
                links = sorted(entry.name for entry in entries if entry.is_symlink())
        except OSError:
            return None  # whoever uses the folder says what is wrong with it
        outside = (name for name in links if not self._is_inside(self.locate(f"{folder}/{name}")))
        return next((f"holds the link {name}, which {OUTSIDE}" for name in outside), None)

    def _is_inside(self, real: str) -> bool:
        return real == self._root or real.startswith(self._root.rstrip("/") + "/")

    def _real(self, path: str) -> str:
        """`os.path.realpath`, with the parents' answers remembered."""
        parent, name = os.path.split(path)
        if name in {"", ".", ".."}:
            return os.path.realpath(path)
        if parent not in self._real_parents:
            self._real_parents[parent] = os.path.realpath(parent)
        candidate = os.path.join(self._real_parents[parent], name)  # noqa: PTH118
        return os.path.realpath(candidate) if os.path.islink(candidate) else candidate  # noqa: PTH114


def is_url(path: str) -> bool:
    """Whether `path` is written as a URL."""
    return _URL.match(path) is not None


def why_not_file(path: str) -> str | None:
    """Why `path` is no file to read, or None where it is one."""
    return _why_not(path, stat.S_ISREG, "it is not a file")


def why_not_folder(path: str) -> str | None:
    """Why `path` is no folder to read, or None where it is one."""
    return _why_not(path, stat.S_ISDIR, "it is not a folder")


def _why_not(path: str, is_kind: Callable[[int], bool], otherwise: str) -> str | None:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except OSError as error:
        # A missing parent, a file in the place of a folder, a name too long: there is nothing there.
        missing = error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}
        return "it does not exist" if missing else f"it cannot be read ({error.strerror})"
    return None if is_kind(mode) else otherwise
