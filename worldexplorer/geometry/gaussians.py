"""A set of 3D Gaussians in the parametrisation of the INRIA viewer files.

Example:
    >>> world.rotated(np.diag([1.0, -1.0, -1.0])).count == world.count
    True
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldexplorer.geometry.rotations import matrix_to_quaternion, multiply_quaternions
from worldexplorer.geometry.spherical_harmonics import rotate_coefficients

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Gaussians:
    """N Gaussians; every array float32 and C-contiguous.

    Attributes:
        means: [N, 3] centres.
        log_scales: [N, 3] natural logarithm of the standard deviations along the Gaussian's own axes.
        quaternions: [N, 4] w, x, y, z from the Gaussian's axes to the world, unit length.
        opacity_logits: [N] opacity before the sigmoid.
        sh: [N, K, 3] spherical-harmonics colour, K = 1, 4, 9 or 16; colour = 0.5 + sum_k sh[k] * basis_k(direction).
    """

    means: Floats
    log_scales: Floats
    quaternions: Floats
    opacity_logits: Floats
    sh: Floats

    @property
    def count(self) -> int:
        """How many Gaussians there are."""
        return int(self.means.shape[0])

    def rotated(self, rotation: NDArray[np.floating]) -> Gaussians:
        """The same world turned by `rotation` ([3, 3], proper): positions, orientations and colours by direction."""
        turn = np.asarray(rotation, dtype=np.float64)
        return Gaussians(
            means=np.ascontiguousarray(self.means.astype(np.float64) @ turn.T, dtype=np.float32),
            log_scales=self.log_scales,
            quaternions=multiply_quaternions(matrix_to_quaternion(turn), self.quaternions).astype(np.float32),
            opacity_logits=self.opacity_logits,
            sh=rotate_coefficients(self.sh, turn),
        )
