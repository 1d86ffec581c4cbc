"""Marks of finished pictures, which a resumed stage need not make again.

A mark names pictures by file name with their checksums, and says what else is to be known of them. It is written after
the pictures, in one step, so what it names is there; where a picture is gone or changed all the same, the mark does not
count.

Example:
    >>> marks = Marks(context.work / "marks")
    >>> marks.write("003_left", write_pictures(folder, frames), {"verdict": verdict.to_json()})
    >>> marks.read("003_left", folder).paths
    [PosixPath('.../000.png'), ...]
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldexplorer.checksum import file_sha256


@dataclass(frozen=True)
class Kept:
    """Finished pictures.

    Attributes:
        paths: of the pictures, in the order they were written.
        facts: what is to be known of them, JSON values.
    """

    paths: list[Path]
    facts: Mapping[str, Any]


class Marks:
    """The marks of one kind of pictures.

    Args:
        folder: of the marks, NAME.json each; it is made.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def read(self, name: str, pictures: Path) -> Kept | None:
        """What a mark names, if all of it is whole in the folder `pictures`; None for any other."""
        try:
            mark: dict[str, Any] = json.loads(self._path(name).read_bytes())
        except (FileNotFoundError, ValueError):  # ValueError: the power failed while it was written
            return None
        whole = all(
            (pictures / file).is_file() and file_sha256(pictures / file) == checksum
            for file, checksum in mark["frames"].items()
        )
        return Kept([pictures / file for file in mark["frames"]], mark["facts"]) if whole else None

    def write(self, name: str, paths: Sequence[Path], facts: Mapping[str, Any]) -> None:
        """Mark pictures of one folder as finished."""
        path = self._path(name)
        temporary = path.with_suffix(".part")
        temporary.write_text(json.dumps({"frames": {one.name: file_sha256(one) for one in paths}, "facts": facts}))
        temporary.replace(path)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"
