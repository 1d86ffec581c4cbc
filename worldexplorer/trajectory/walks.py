"""One trajectory of one scaffold view: its frames, its anchors, its cameras.

Example:
    >>> walks = scene_walks(scaffold.c2w, published_trajectories(), ("in", "left", "right", "up"), frames=None)
    >>> walks[1].folder, len(walks[1].targets), len(walks[1].anchors)
    ('000_left', 135, 13)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from worldexplorer.trajectory.paths import (
    ANCHOR_COUNT,
    Parameters,
    Trajectory,
    anchor_parameters,
    folder_name,
    job_order,
    target_parameters,
    trajectory_poses,
)

if TYPE_CHECKING:
    from worldexplorer.engine import Poses


@dataclass(frozen=True)
class Walk:
    """A trajectory laid onto a scaffold view.

    Attributes:
        view: the scaffold view.
        trajectory: which one.
        base: [4, 4] OpenGL camera-to-world of the view.
        targets: [n] parameters of its frames.
        anchors: [A] parameters of its anchors.
    """

    view: int
    trajectory: Trajectory
    base: Poses
    targets: Parameters
    anchors: Parameters

    @property
    def folder(self) -> str:
        """The name of its folder in the scene."""
        return folder_name(self.view, self.trajectory.name)

    @property
    def shortened(self) -> bool:
        """Whether every frame is an anchor, the first anchor is the scaffold view, and nothing is left to fill in."""
        return bool(self.targets[0] > 0)

    @property
    def anchor_places(self) -> Parameters:
        """[A] where the anchors of a full-length trajectory lie among its frames: evenly spread, as second passes go.

        An anchor's camera is that of the frame nearest to its place.
        """
        return np.linspace(self.targets[0], self.targets[-1], len(self.anchors))

    @property
    def given_anchors(self) -> int:
        """How many of the anchors, the first ones, are not made because they are scaffold views."""
        return 1 if self.shortened else 0

    def poses(self, parameters: ArrayLike) -> Poses:
        """[n, 4, 4] OpenGL camera-to-world at parameters [n], scene frame, trajectory units."""
        return trajectory_poses(self.base, self.trajectory, parameters)


def scene_walks(
    scaffold_c2w: Poses,
    known: Mapping[str, Trajectory],
    order: Sequence[str],
    frames: int | None,
    anchors: int | None = None,
) -> list[Walk]:
    """Every trajectory of every scaffold view, in the order their first passes run.

    Args:
        scaffold_c2w: [8, 4, 4] the scaffold's views.
        known: trajectories by name.
        order: names of those to walk.
        frames: of each trajectory; None for its full length.
        anchors: of each trajectory of full length; None for the published number.
    """
    walks = []
    for view, name in job_order(order):
        targets = target_parameters(known[name], frames)
        chosen = anchor_parameters(targets, ANCHOR_COUNT if anchors is None else anchors)
        walks.append(Walk(view, known[name], scaffold_c2w[view], targets, chosen))
    return walks
