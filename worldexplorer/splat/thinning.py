"""Fewer Gaussians: the floaters taken out, and of the rest those kept that show most.

Both are options of stage 3, off by default, and of `worldexplorer convert`. What shows most is what the trainer's own
renderer blends into the training views (:meth:`worldexplorer.engine.SplatTrainer.contributions`); M. Niemeyer et al.,
"RadSplat" (2024), do the same with the largest weight instead of the sum.

Example:
    >>> rows, counts = kept(gaussians, Thinning(filter_floaters=True), c2w, cloud.points, seen)
    >>> chosen(gaussians, rows).count, counts
    (219996, {'floaters_removed': 4, 'gaussians': 219996})
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from worldexplorer.errors import UserError
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


@dataclass(frozen=True)
class Thinning:
    """What is to be taken out.

    Attributes:
        filter_floaters: whether floaters go.
        max_gaussians: the most Gaussians to keep; None for all.
    """

    filter_floaters: bool = False
    max_gaussians: int | None = None

    def __bool__(self) -> bool:
        """Whether anything is."""
        return self.filter_floaters or self.max_gaussians is not None


def kept(
    gaussians: Gaussians,
    thinning: Thinning,
    c2w: Poses,
    points: NDArray[np.float32],
    seen: Callable[[Gaussians], NDArray[np.float64]],
) -> tuple[NDArray[np.intp], dict[str, int]]:
    """What is left after floaters and then the least seen have been taken out.

    Args:
        gaussians: N of them, scene frame.
        thinning: what goes.
        c2w: [M, 4, 4] camera-to-world of the training views.
        points: [P, 3] the scene's point cloud; used for floaters alone.
        seen: how much each of some Gaussians adds to the training views; asked only where there are too many.

    Returns:
        The ascending numbers of those kept, and what to say of it: `floaters_removed` and `least_seen_removed`, each
        where it was asked for, and `gaussians`, how many are left.

    Raises:
        UserError: every Gaussian is a floater.
    """
    rows = np.arange(gaussians.count)
    counts: dict[str, int] = {}
    if thinning.filter_floaters:
        rows = np.flatnonzero(~floaters(gaussians, c2w, points))
        counts["floaters_removed"] = gaussians.count - rows.size
        if not rows.size:
            raise UserError("every Gaussian was taken for a floater", remedy="leave --filter_floaters out")
    if thinning.max_gaussians is not None:
        counts["least_seen_removed"] = max(rows.size - thinning.max_gaussians, 0)
        if counts["least_seen_removed"]:
            rest = gaussians if rows.size == gaussians.count else chosen(gaussians, rows)
            rows = rows[most_seen(seen(rest), thinning.max_gaussians)]
    return rows, counts | {"gaussians": int(rows.size)}


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
