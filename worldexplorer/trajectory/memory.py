"""What the trajectories of a scene remember of each other: an index of anchors, in the order they were made.

An anchor is remembered as the trajectory it belongs to and its number there, with its rotation; its picture stays on
disk until a sampling is given it. The first two anchors of a trajectory are not remembered: they show what the scaffold
views show.

Example:
    >>> memory = Memory()
    >>> memory.remember(walk, kept_anchors=13)
    >>> [frame.anchor for frame in memory.frames]
    [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from worldexplorer.engine import Poses
    from worldexplorer.trajectory.walks import Walk

FIRST_REMEMBERED = 2


@dataclass(frozen=True)
class Remembered:
    """An anchor of an earlier trajectory.

    Attributes:
        folder: the trajectory's.
        anchor: its number among the trajectory's anchors.
        view: the scaffold view that the trajectory started at.
    """

    folder: str
    anchor: int
    view: int


class Memory:
    """The anchors that later first passes may be given."""

    def __init__(self) -> None:
        self.frames: list[Remembered] = []
        self._poses: dict[Remembered, Poses] = {}

    def __len__(self) -> int:
        return len(self.frames)

    def remember(self, walk: Walk, kept_anchors: int) -> None:
        """Add what a collision has left of a trajectory's anchors."""
        c2w = walk.poses(walk.anchors[:kept_anchors])
        for anchor in range(FIRST_REMEMBERED, kept_anchors):
            frame = Remembered(walk.folder, anchor, walk.view)
            self.frames.append(frame)
            self._poses[frame] = c2w[anchor]

    def rotations(self) -> Poses:
        """[M, 3, 3] camera-to-world, in the order of `frames`."""
        return self.c2w(self.frames)[:, :3, :3]

    def c2w(self, frames: list[Remembered] | tuple[Remembered, ...]) -> Poses:
        """[N, 4, 4] OpenGL camera-to-world of remembered frames, scene frame, trajectory units."""
        return np.stack([self._poses[frame] for frame in frames]) if frames else np.empty((0, 4, 4))
