"""Pictures that a resumed stage need not make again.

A picture counts once its mark is there, which names its checksum and what it was made from. A process that is killed
between two pictures loses none, and one that is killed within one loses that one.

Example:
    >>> kept = KeptPictures(context.work / "pictures", context.work / "marks", context.keep)
    >>> kept.add("001/g7_s0", picture, made_from=corner.digest)
    >>> kept.has("001/g7_s0", made_from=corner.digest)
    True
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from worldexplorer.checksum import file_sha256
from worldexplorer.context import nothing_to_keep
from worldexplorer.pictures import read_picture, read_pictures, write_picture

if TYPE_CHECKING:
    from worldexplorer.engine import Images, Picture


class KeptPictures:
    """A folder of pictures and one of marks.

    Args:
        folder: of the pictures, NAME.png each; names may have folders.
        marks: NAME.json each.
        keep: called after every picture.
    """

    def __init__(self, folder: Path, marks: Path, keep: Callable[[], None] = nothing_to_keep) -> None:
        self.folder = folder
        self._marks = marks
        self._keep = keep

    def path(self, name: str) -> Path:
        """The file of a picture."""
        return self.folder / f"{name}.png"

    def has(self, name: str, *, made_from: str) -> bool:
        """Whether a picture is there, whole, and made from that."""
        try:
            mark = json.loads(self._mark(name).read_bytes())
            return bool(mark["made_from"] == made_from and mark["sha256"] == file_sha256(self.path(name)))
        except (FileNotFoundError, ValueError):  # ValueError: the power failed while the mark was written
            return False

    def add(self, name: str, picture: Picture, *, made_from: str) -> None:
        """Keep a picture ([H, W, 3] uint8)."""
        path, mark = self.path(name), self._mark(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        mark.parent.mkdir(parents=True, exist_ok=True)
        write_picture(path, picture)
        temporary = mark.with_suffix(".part")
        temporary.write_text(json.dumps({"made_from": made_from, "sha256": file_sha256(path)}))
        temporary.replace(mark)
        self._keep()

    def read(self, name: str) -> Picture:
        """A picture that is there: [H, W, 3] uint8."""
        return read_picture(self.path(name))

    def read_all(self, names: Sequence[str]) -> Images:
        """Pictures of one size that are there: [N, H, W, 3] uint8."""
        return read_pictures(self.path(name) for name in names)

    def _mark(self, name: str) -> Path:
        return self._marks / f"{name}.json"
