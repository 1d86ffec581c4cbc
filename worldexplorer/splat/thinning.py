"""Fewer Gaussians: the floaters taken out, and of the rest those kept that show most.

Both are options of stage 3, off by default. What shows most is what the trainer's own renderer blends into the
training views (:meth:`worldexplorer.engine.SplatTrainer.contributions`); M. Niemeyer et al., "RadSplat" (2024), do the
same with the largest weight instead of the sum.

Example:
    >>> clean = chosen(gaussians, ~floaters(gaussians, train.c2w, cloud.points))
    >>> small = chosen(clean, most_seen(trainer.contributions(clean, c2w, intrinsics, 576, silent), count=100_000))
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from worldexplorer.geometry.gaussians import Gaussians

if TYPE_CHECKING:
    from worldexplorer.engine import Poses

NEAR_SHARE = 0.5
"""Of the distance from the cameras at which the point cloud begins: nothing solid is nearer."""
CLOUD_PERCENTILE = 1.0
"""Of the points' distances to their nearest camera: where the point cloud begins, a few wrong points aside."""

NEIGHBOURS = 8
LEAST_TOUCHING = 2
"""Of its nearest neighbours that a Gaussian of a surface touches at least."""
REACH = 3.0
"""Standard deviations along a Gaussian's longest axis up to which it touches another."""


def chosen(gaussians: Gaussians, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Gaussians:
    """The Gaussians that `rows` names, by a mask or by ascending numbers."""
    arrays: dict[str, Any] = {field.name: getattr(gaussians, field.name)[rows] for field in fields(gaussians)}
    return Gaussians(**arrays)


def most_seen(contributions: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Ascending numbers of the `count` Gaussians with the largest contributions [N], of equal ones the first."""
    ranked = np.argsort(-contributions, kind="stable")
    return np.sort(ranked[:count])


def floaters(gaussians: Gaussians, c2w: Poses, points: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which Gaussians hang in the air, by either of two signs.

    * It is nearer to a training camera than half the distance at which the point cloud begins: that is where the scene
      has no surface and trained Gaussians hide errors of single views.
    * It touches fewer than two of its eight nearest neighbours: Gaussians of a surface overlap. Two touch where the
      distance of their centres is at most three times the sum of their longest standard deviations.

    Args:
        gaussians: N of them.
        c2w: [M, 4, 4] camera-to-world of the training views.
        points: [P, 3] the scene's point cloud.

    Returns:
        [N].
    """
    cameras = cKDTree(np.asarray(c2w, np.float64)[:, :3, 3])
    to_camera, _ = cameras.query(gaussians.means)
    hanging = np.zeros(gaussians.count, dtype=np.bool_)
    if len(points):
        begins = np.percentile(cameras.query(points)[0], CLOUD_PERCENTILE)
        hanging |= to_camera < NEAR_SHARE * begins
    neighbours = min(NEIGHBOURS, gaussians.count - 1)
    if neighbours >= LEAST_TOUCHING:
        longest = np.exp(gaussians.log_scales.max(axis=1).astype(np.float64))
        distances, who = map(np.asarray, cKDTree(gaussians.means).query(gaussians.means, k=neighbours + 1))
        touching = distances[:, 1:] <= REACH * (longest[:, None] + longest[who[:, 1:]])
        hanging |= touching.sum(axis=1) < LEAST_TOUCHING
    return hanging
