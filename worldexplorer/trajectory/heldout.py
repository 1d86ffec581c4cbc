"""Poses that no training view has: where to measure a world.

Example:
    >>> heldout_poses(scaffold_c2w[:2], [left_c2w, right_c2w], 24, seed=1).shape
    (24, 4, 4)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worldexplorer.engine import Poses
from worldexplorer.errors import DefectError
from worldexplorer.geometry.cameras import pitch_matrix, pose, yaw_matrix

MOST_PITCH_DEG = 25.0


def heldout_poses(origins: Poses, paths: Sequence[Poses], count: int, seed: int) -> Poses:
    """Random cameras within the reach of the trajectories.

    Each stands at a random point of a random trajectory (between its scaffold view and its last frame, all lengths
    equally likely) and looks in a random direction: any yaw, at most 25 degrees up or down.

    Args:
        origins: [P, 4, 4] where each path starts.
        paths: P arrays [n, 4, 4] of trajectory poses in order, OpenGL camera-to-world; empty ones are left out.
        count: how many.
        seed: the same seed gives the same poses.

    Raises:
        DefectError: every path is empty.
    """
    kept = [
        np.concatenate([origin[None, :3, 3], path[:, :3, 3]])
        for origin, path in zip(origins, paths, strict=True)
        if len(path)
    ]
    if not kept:
        raise DefectError("held-out views were asked for in a scene without trajectories")
    generator = np.random.Generator(np.random.PCG64(seed))
    places = np.stack([_point_along(kept[generator.integers(len(kept))], generator.random()) for _ in range(count)])
    yaws = generator.uniform(0.0, 360.0, count)
    pitches = generator.uniform(-MOST_PITCH_DEG, MOST_PITCH_DEG, count)
    return pose(yaw_matrix(yaws) @ pitch_matrix(pitches), places)


def _point_along(centres: Poses, fraction: float) -> Poses:
    """The point at a fraction of the length of a polyline [n, 3]."""
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    reached = np.concatenate([[0.0], np.cumsum(steps)])
    target = fraction * reached[-1]
    return np.array([np.interp(target, reached, centres[:, axis]) for axis in range(3)])
