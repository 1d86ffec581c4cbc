"""Where a camera goes to show a world: once around on the spot, or for a walk.

A walk goes out from the starting place along one trajectory after the other and back, turning to the left in between.
Along a scene's own trajectories it passes only where stage 2 found room.

Example:
    >>> walk(scene_outings(transforms)).shape           # 24 of these are a second
    (304, 4, 4)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from worldexplorer.engine import Poses
from worldexplorer.errors import DefectError
from worldexplorer.geometry.cameras import pose, yaw_matrix
from worldexplorer.scaffold.poses import scaffold_poses
from worldexplorer.trajectory.paths import published_trajectories, trajectory_poses
from worldexplorer.trajectory.scene import INPUT_FOLDER

if TYPE_CHECKING:
    from worldexplorer.geometry.transforms import Transforms

FRAME_RATE = 24
"""Frames a second that paths are made for."""
TURNTABLE_FRAMES = 72
WALKED_TRAJECTORY = "in"
"""What a walk goes along where a view has it; else the first that it has."""
OUTING_STEP = 2
"""Every other view is gone out from; the walk turns past the others."""

_UNITS_A_FRAME = 0.05
_DEGREES_A_FRAME = 4.5
_PUBLISHED_KEYS = 12


def turn(frames: int = TURNTABLE_FRAMES) -> Poses:
    """A full turn to the left at the origin: [frames, 4, 4]."""
    return pose(yaw_matrix(360.0 * np.arange(frames) / frames), np.zeros((frames, 3)))


def published_outings() -> list[Poses]:
    """For each of the eight views, key poses from it out along the built-in `in`; of every other view itself alone."""
    way = published_trajectories()[WALKED_TRAJECTORY]
    keys = np.linspace(0.0, way.count - 1, _PUBLISHED_KEYS)
    return [
        trajectory_poses(base, way, keys) if view % OUTING_STEP == 0 else base[None]
        for view, base in enumerate(scaffold_poses())
    ]


def scene_outings(transforms: Transforms) -> list[Poses]:
    """As :func:`published_outings`, along the frames that a scene's trajectories kept."""
    found: dict[str, list[int]] = {}
    for number, path in enumerate(transforms.file_paths):
        found.setdefault(PurePosixPath(path).parts[0], []).append(number)
    outings = []
    for view, base in enumerate(found.get(INPUT_FOLDER, ())):
        prefix = f"{view:03d}_"
        ways = {folder.removeprefix(prefix): rows for folder, rows in found.items() if folder.startswith(prefix)}
        rows = ways.get(WALKED_TRAJECTORY, next(iter(ways.values()), []))
        outings.append(transforms.c2w[[base, *rows]] if view % OUTING_STEP == 0 else transforms.c2w[[base]])
    if not outings:
        raise DefectError("the scene lists no view to walk from")
    return outings


def walk(outings: Sequence[Poses]) -> Poses:
    """Out along each outing and back, and on to the next; in the end back at the first.

    Args:
        outings: [K, 4, 4] key poses each, K >= 1, the first being the place to start from.

    Returns:
        [N, 4, 4], N >= 1; speeds rise and fall smoothly over each leg.
    """
    legs: list[Poses] = []
    for outing, following in zip(outings, [*outings[1:], outings[0]], strict=True):
        legs += [_leg(outing), _leg(outing[::-1]), _leg(np.stack([outing[0], following[0]]))]
    frames = np.concatenate(legs)
    return frames if len(frames) else np.asarray(outings[0][:1])


def _leg(keys: Poses) -> Poses:
    """Poses from the first key to the last, the last itself left out: [n, 4, 4], none where nothing moves."""
    lengths = np.linalg.norm(np.diff(keys[:, :3, 3], axis=0), axis=1) / _UNITS_A_FRAME
    turns = Rotation.from_matrix(keys[:, :3, :3])
    angles = np.degrees((turns[:-1].inv() * turns[1:]).magnitude()) / _DEGREES_A_FRAME if len(keys) > 1 else lengths
    efforts = np.maximum(lengths, angles)
    moving = np.concatenate([[True], efforts > 1e-9])
    reached = np.concatenate([[0.0], np.cumsum(efforts)])[moving]
    if len(reached) < 2:
        return np.empty((0, 4, 4))
    count = math.ceil(reached[-1])
    share = np.arange(count) / count
    at = reached[-1] * share * share * (3.0 - 2.0 * share)
    positions = np.stack([np.interp(at, reached, keys[moving, axis, 3]) for axis in range(3)], axis=1)
    return pose(Slerp(reached, turns[moving])(at).as_matrix(), positions)
