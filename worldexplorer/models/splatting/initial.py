"""The Gaussians that training starts from: one on each point.

Example:
    >>> values = initial_values(points, colours, recipe, cap=1_000_000, seed=0)
    >>> values["means"].shape, values["sh"].shape
    ((100000, 3), (100000, 16, 3))
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from worldexplorer.errors import DefectError
from worldexplorer.models.splatting.recipe import Recipe

NEIGHBOURS = 3
"""Whose mean distance is a Gaussian's first scale."""
_LEAST_SCALE = 1e-7
"""Where points lie on each other. The logarithm of 0 would never train."""
SH_ZERO = 0.28209479177387814
"""The first spherical harmonic: 1 / (2 sqrt(pi))."""


def initial_values(
    points: NDArray[np.float32], colours: NDArray[np.uint8], recipe: Recipe, cap: int, seed: int
) -> dict[str, NDArray[np.float32]]:
    """A round Gaussian on each point, in its colour, turned at random.

    Args:
        points: [P, 3] training frame.
        colours: [P, 3].
        recipe: how to train.
        cap: most Gaussians; of more points so many are drawn by the seed.
        seed: of the draw and of the turns.

    Returns:
        means [N, 3], log_scales [N, 3], quaternions [N, 4], opacity_logits [N] and sh [N, K, 3].

    Raises:
        DefectError: there are too few points to measure distances between, or they are not finite.
    """
    if len(points) <= NEIGHBOURS or not np.isfinite(points).all():
        raise DefectError(
            f"training cannot start from {len(points)} points"
            if len(points) <= NEIGHBOURS
            else "the points that training starts from are not finite",
            remedy="make the scene again with stage 2",
        )
    generator = np.random.default_rng([seed, 0])
    if len(points) > cap:
        chosen = np.sort(generator.choice(len(points), cap, replace=False))
        points, colours = points[chosen], colours[chosen]
    count = len(points)
    sh = np.zeros((count, (recipe.sh_degree + 1) ** 2, 3), np.float32)
    sh[:, 0] = (colours.astype(np.float32) / 255.0 - 0.5) / SH_ZERO
    quaternions = generator.standard_normal((count, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    logit = np.log(recipe.initial_opacity / (1.0 - recipe.initial_opacity))
    return {
        "means": np.ascontiguousarray(points, np.float32),
        "log_scales": np.repeat(np.log(_mean_distances(points))[:, None], 3, axis=1).astype(np.float32),
        "quaternions": quaternions.astype(np.float32),
        "opacity_logits": np.full(count, logit, np.float32),
        "sh": sh,
    }


def _mean_distances(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """[N] the mean distance of each point to its nearest neighbours."""
    from scipy.spatial import cKDTree  # takes a while to load, and planning imports this package

    wanted = min(NEIGHBOURS + 1, len(points))
    distances, _ = cKDTree(points).query(points, k=wanted, workers=-1)
    return np.maximum(np.asarray(distances)[:, 1:].mean(axis=1), _LEAST_SCALE)
