"""The Gaussians that training starts from: a thin disc on the surface at every point of the point cloud.

Example:
    >>> rows, spacing = initial_rows(scene, limit=80_000, seed=0)
    >>> rows.shape, spacing.shape
    ((80000, 14), (80000,))
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from worldexplorer.engine import SplatScene
from worldexplorer.errors import DefectError
from worldexplorer.preview.parameters import C0, COLOUR, LOG_SCALE, MEAN, OPACITY, PARAMETERS, QUATERNION

NEIGHBOURS = 3
"""How many of a point's neighbours its spacing is the mean distance of."""

RADIUS = 0.75
"""Standard deviation of a disc across, in spacings."""

THICKNESS = 0.2
"""Standard deviation of a disc along its normal, in those across."""

START_OPACITY = 0.8

_LEAST_SPACING = 1e-3
"""Of the median spacing: points that coincide still make discs of some size."""


def initial_rows(scene: SplatScene, limit: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Discs at the points of a scene.

    Args:
        scene: of P points with normals and colours.
        limit: of the number of discs; where there are more points, some are chosen.
        seed: of the choice.

    Returns:
        rows: [N, 14] Gaussians, N = min(P, limit), in the order of the points.
        spacing: [N] the distance to the next points.

    Raises:
        DefectError: there are fewer than two points or they all coincide, shapes differ, or numbers are not finite.
    """
    _check(scene)
    points, normals, colours = scene.points, scene.normals, scene.colours
    if len(points) > limit:
        chosen = np.sort(np.random.default_rng(seed).choice(len(points), limit, replace=False))
        points, normals, colours = points[chosen], normals[chosen], colours[chosen]
    spacing = _spacing(points)
    rows = np.empty((len(points), PARAMETERS), np.float32)
    rows[:, MEAN:LOG_SCALE] = points
    rows[:, LOG_SCALE:QUATERNION] = np.log(RADIUS * spacing)[:, None]
    rows[:, QUATERNION - 1] += np.float32(np.log(THICKNESS))
    rows[:, QUATERNION:OPACITY] = _facing(normals)
    rows[:, OPACITY] = np.log(START_OPACITY / (1.0 - START_OPACITY))
    rows[:, COLOUR:] = (colours / 255.0 - 0.5) / C0
    return rows, spacing.astype(np.float32)


def _spacing(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """[N] mean distance of the nearest neighbours."""
    positions = points.astype(np.float64)
    count = min(NEIGHBOURS, len(points) - 1)
    nearest, _ = cKDTree(positions).query(positions, k=list(range(2, count + 2)))  # the first is the point itself
    spacing: NDArray[np.float64] = np.asarray(nearest, dtype=np.float64).mean(axis=1)
    median = float(np.median(spacing))
    if median <= 0.0:
        raise DefectError("half of the points of the point cloud or more coincide")
    return np.maximum(spacing, _LEAST_SPACING * median)


def _facing(normals: NDArray[np.float32]) -> NDArray[np.float64]:
    """[N, 4] unit quaternions of the shortest turn from the third axis to each normal."""
    x, y, z = (normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float64).T
    quaternions = np.stack([1.0 + z, -y, x, np.zeros_like(x)], axis=1)
    quaternions[z < -1.0 + 1e-9] = 0.0, 1.0, 0.0, 0.0
    return np.asarray(quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True), dtype=np.float64)


def _check(scene: SplatScene) -> None:
    count = len(scene.points)
    shapes = scene.points.shape, scene.normals.shape, scene.colours.shape
    if count < 2 or shapes != ((count, 3),) * 3:
        raise DefectError(f"at least two points with a normal and a colour each are needed; the shapes are {shapes}")
    if not (np.isfinite(scene.points).all() and np.isfinite(scene.normals).all()):
        raise DefectError("points or normals of the point cloud are not finite")
    if not (np.linalg.norm(scene.normals, axis=1) > 0.0).all():
        raise DefectError("normals of the point cloud are zero")
