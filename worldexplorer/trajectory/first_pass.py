"""Which frames of a trajectory's first pass are made together, and from which.

The first pass makes the anchors of a trajectory. A sampling holds the eight scaffold views, frames that the scene has
already, and as many new anchors as there is room for. The frames it is given besides the views are voted for: each of
the next new anchors names those five that look most nearly where it looks, wherever they stand, and the names that are
heard most often win. Who may be named are the anchors of this trajectory that are made, and those of earlier
trajectories that are remembered (the *memory*), but for the ones that started at a view on the opposite side of the
ring. From the second sampling on the anchor made last is given in any case, so that the trajectory goes on smoothly.

These are the rules of the WorldExplorer system; a plan follows from rotations and the order alone, never from
pictures.

Example:
    >>> [chunk.size for chunk in plan_first_pass(walk, memory, limit=21)]
    [21, 18]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from worldexplorer.errors import DefectError
from worldexplorer.geometry.rotations import rotation_angle_deg
from worldexplorer.scaffold.poses import VIEW_COUNT
from worldexplorer.trajectory.memory import Memory, Remembered

if TYPE_CHECKING:
    from worldexplorer.trajectory.walks import Walk

VOTED = 5
"""Frames a sampling is given besides the scaffold views, where so many can be had.

Published are five where at least five are remembered, and else a third of the thirteen places beside the views, rounded
up, which is five again. So five are asked for whatever is remembered; what is not found are places for new anchors.
"""
NEAREST = 5
"""Frames that each new anchor names."""
OPPOSITE = (3, 4, 5)
"""Frames that started at a view so many places further around the ring look the other way."""
_ANGLE_DECIMALS = 2
"""Degrees are rounded so that angles which are equal but for the arithmetic tie."""


@dataclass(frozen=True)
class FirstPassChunk:
    """One sampling of a first pass; the eight views come first, then what is given, then what is made.

    Attributes:
        memory: frames of earlier trajectories that are given.
        anchors: numbers of this trajectory's anchors that are given.
        new: numbers of those that are made.
    """

    memory: tuple[Remembered, ...]
    anchors: tuple[int, ...]
    new: tuple[int, ...]

    @property
    def size(self) -> int:
        """Frames of the sampling."""
        return VIEW_COUNT + len(self.memory) + len(self.anchors) + len(self.new)

    def words(self) -> list[str]:
        """The frames in their order, for people."""
        return [
            *(f"view:{view}" for view in range(VIEW_COUNT)),
            *(f"memory:{one.folder}#{one.anchor}" for one in self.memory),
            *(f"anchor:{anchor}" for anchor in self.anchors),
            *(f"new:{anchor}" for anchor in self.new),
        ]


def is_opposite(view: int, source: int) -> bool:
    """Whether a trajectory of one view must not be given frames that started at another."""
    return (source - view) % VIEW_COUNT in OPPOSITE


def plan_first_pass(walk: Walk, memory: Memory, limit: int | None) -> list[FirstPassChunk]:
    """Plan the samplings that make the anchors of one trajectory.

    Args:
        walk: whose.
        memory: what earlier trajectories have left.
        limit: most frames of a sampling, the views included. None where there is none: then everything is made in one
            go and from the views alone, since such an engine has a world to look at and needs no frames to know it by.

    Returns:
        Samplings that make every anchor once, in order.

    Raises:
        DefectError: the limit leaves no room beside the views for a new anchor and the one before it.
    """
    first, count = walk.given_anchors, len(walk.anchors)
    if limit is None:
        return [FirstPassChunk((), (), tuple(range(first, count)))]
    room = limit - VIEW_COUNT
    if room < 2:
        raise DefectError(f"a sampling of {limit} frames has no room beside the {VIEW_COUNT} scaffold views")
    anchors = walk.poses(walk.anchors[first:])[:, :3, :3]
    angles = rotation_angle_deg(anchors[:, None], np.concatenate([memory.rotations(), anchors]))
    angles = angles.round(_ANGLE_DECIMALS)
    chunks: list[FirstPassChunk] = []
    made = 0
    while made < len(anchors):
        given, new = _next_chunk(walk.view, angles, memory, made, room)
        remembered = [memory.frames[number] for number in given if number < len(memory)]
        own = [first + number - len(memory) for number in given if number >= len(memory)]
        chunks.append(FirstPassChunk(tuple(remembered), tuple(own), tuple(range(first + made, first + made + new))))
        made += new
    return chunks


def plan_without_collisions(walks: Sequence[Walk], limit: int | None) -> list[list[FirstPassChunk]]:
    """What the first passes of a scene would be if no trajectory met anything, in order."""
    memory = Memory()
    plans = []
    for walk in walks:
        plans.append(plan_first_pass(walk, memory, limit))
        memory.remember(walk, len(walk.anchors))
    return plans


def _next_chunk(view: int, angles: NDArray[np.float64], memory: Memory, made: int, room: int) -> tuple[list[int], int]:
    """Candidates that are given, the memory's first and then the anchors that are made; and how many new ones fit."""
    candidates, left = len(memory) + made, len(angles) - made
    if not candidates:
        return [], min(left, room)
    last = {candidates - 1} if made else set()
    refused = {number for number, frame in enumerate(memory.frames) if is_opposite(view, frame.view)} | last
    wanted = min(VOTED, room - 1)
    if left == room - wanted + 1 and wanted > 1:
        wanted -= 1  # saves a sampling for a single anchor; never with the published thirteen
    # Where fewer frames are found than wanted, more new anchors fit, which may vote for others.
    while True:
        new = min(left, room - wanted)
        voters = angles[made : made + new, :candidates]
        given = [*_voted(voters, refused, wanted - len(last)), *last]
        if len(given) == wanted:
            return given, new
        wanted = len(given)


def _voted(angles: NDArray[np.float64], refused: Container[int], count: int) -> list[int]:
    """The `count` candidates with most votes (fewer where fewer have any), increasing; of equals who was named first.

    Args:
        angles: [voters, candidates].
        refused: candidates that get no votes; they are named all the same, in place of others.
        count: how many.
    """
    nearest = np.argsort(angles, axis=1, kind="stable")[:, :NEAREST]
    votes = Counter(named for named in nearest.ravel().tolist() if named not in refused)
    return sorted(named for named, _ in votes.most_common(count))
