"""Gaussians as one row of fourteen numbers each: what the rasteriser reads and the optimiser changes.

A row holds the mean (3), the log scales (3), the quaternion (4: w, x, y, z, of any length but zero), the opacity before
the sigmoid (1) and the constant colour coefficient (3; colour = 0.5 + C0 * coefficient). One row is one cache line, so
that a step on the Gaussians of one view touches nothing else.

Example:
    >>> rows = pack(gaussians)                  # [N, 14] float32
    >>> unpack(rows).count == gaussians.count
    True
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.geometry.spherical_harmonics import basis, degree_of

MEAN = 0
LOG_SCALE = 3
QUATERNION = 6
OPACITY = 10
COLOUR = 11
PARAMETERS = 14

C0 = 0.28209479177387814
"""The constant spherical harmonic, 1 / (2 sqrt(pi))."""


def pack(gaussians: Gaussians, seen_from: NDArray[np.floating] | None = None) -> NDArray[np.float32]:
    """The rows of Gaussians.

    Args:
        gaussians: of N Gaussians.
        seen_from: [3] where the camera stands, in the Gaussians' frame; the colour coefficient is then the one that
            gives the colour seen from there. Without it, colour that depends on the direction is left out.

    Returns:
        [N, 14] float32.
    """
    rows = np.empty((gaussians.count, PARAMETERS), np.float32)
    rows[:, MEAN:LOG_SCALE] = gaussians.means
    rows[:, LOG_SCALE:QUATERNION] = gaussians.log_scales
    rows[:, QUATERNION:OPACITY] = gaussians.quaternions
    rows[:, OPACITY] = gaussians.opacity_logits
    rows[:, COLOUR:] = gaussians.sh[:, 0]
    if seen_from is not None and gaussians.sh.shape[1] > 1:
        directions = gaussians.means.astype(np.float64) - np.asarray(seen_from, np.float64)
        directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)
        offsets = np.einsum("nk,nkc->nc", basis(directions, degree_of(gaussians.sh.shape[1])), gaussians.sh)
        rows[:, COLOUR:] = offsets / C0
    return rows


def unpack(rows: NDArray[np.float32]) -> Gaussians:
    """The Gaussians of [N, 14] rows: quaternions of unit length, colour without direction (K = 1)."""
    quaternions = rows[:, QUATERNION:OPACITY].astype(np.float64)
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    return Gaussians(
        means=np.ascontiguousarray(rows[:, MEAN:LOG_SCALE]),
        log_scales=np.ascontiguousarray(rows[:, LOG_SCALE:QUATERNION]),
        quaternions=np.ascontiguousarray(quaternions, dtype=np.float32),
        opacity_logits=np.ascontiguousarray(rows[:, OPACITY]),
        sh=np.ascontiguousarray(rows[:, COLOUR:]).reshape(-1, 1, 3),
    )
