"""The pictures of anchors, by trajectory and number: where they lie, and the latest ones themselves.

A picture that was just made is at hand before it is written; one that was made long ago is read again. So as many as
there are trajectories cost no more memory than a few.

Example:
    >>> anchors = AnchorPictures(most_in_memory=64)
    >>> anchors.add("003_left", {0: path}, {0: picture}, written=future)
    >>> anchors.get("003_left", 0)                       # [S, S, 3] uint8
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from worldexplorer.pictures import read_picture

if TYPE_CHECKING:
    from worldexplorer.engine import Picture

_MOST_IN_MEMORY = 128
"""Of 1 MB each at full size: the anchors of the latest ten trajectories, from which most of the votes go."""


class AnchorPictures:
    """An index of pictures on disk.

    Args:
        most_in_memory: pictures that are kept as they are.
    """

    def __init__(self, most_in_memory: int = _MOST_IN_MEMORY) -> None:
        self._most = most_in_memory
        self._paths: dict[tuple[str, int], Path] = {}
        self._written: dict[str, Future[None]] = {}
        self._at_hand: OrderedDict[tuple[str, int], Picture] = OrderedDict()

    def add(
        self,
        folder: str,
        paths: Mapping[int, Path],
        pictures: Mapping[int, Picture] | None = None,
        written: Future[None] | None = None,
    ) -> None:
        """Anchors of one trajectory by number: their files and, where they were just made, the pictures.

        `written` tells when the files are there; they are there already unless it is given.
        """
        self._paths |= {(folder, anchor): path for anchor, path in paths.items()}
        if written is not None:
            self._written[folder] = written
        for anchor, picture in (pictures or {}).items():
            self._hold((folder, anchor), picture)

    def get(self, folder: str, anchor: int) -> Picture:
        """A picture [S, S, 3] uint8."""
        key = folder, anchor
        picture = self._at_hand.get(key)
        if picture is None:
            if folder in self._written:
                self._written[folder].result()
            picture = read_picture(self._paths[key])
        self._hold(key, picture)
        return picture

    def _hold(self, key: tuple[str, int], picture: Picture) -> None:
        self._at_hand[key] = picture
        self._at_hand.move_to_end(key)
        while len(self._at_hand) > self._most:
            self._at_hand.popitem(last=False)
