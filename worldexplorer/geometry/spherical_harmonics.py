"""Real spherical harmonics of degree 0 to 3, and how their coefficients change when the world turns.

Order and signs are those of the INRIA viewer files: band l takes the places l² to (l+1)² - 1, m runs from -l to l,
and odd m carry a minus sign (Condon-Shortley). A colour is 0.5 + sum_k sh[k] * basis_k(direction), where the direction
points from the camera to the Gaussian.

Example:
    >>> turned = rotate_coefficients(sh, turn)                      # [N, 16, 3] -> [N, 16, 3]
    >>> before = basis(directions, 3) @ sh[0]
    >>> after = basis(directions @ turn.T, 3) @ turned[0]           # equal: each direction keeps its colour
"""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING

import numpy as np

from worldexplorer.errors import DefectError
from worldexplorer.geometry.rotations import require_rotation

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

MAXIMUM_DEGREE = 3

_ROWS_AT_A_TIME = 65_536
"""Coefficients turned at once: bounds the float64 copies to 25 MB."""


def coefficient_count(degree: int) -> int:
    """How many coefficients a colour channel has at `degree`.

    Raises:
        DefectError: the degree is not 0, 1, 2 or 3.
    """
    if degree not in range(MAXIMUM_DEGREE + 1):
        raise DefectError(f"the degree of spherical harmonics must be 0, 1, 2 or 3; it is {degree}")
    return int((degree + 1) ** 2)


def degree_of(count: int) -> int:
    """The degree that `count` coefficients a channel belong to.

    Raises:
        DefectError: the count is not 1, 4, 9 or 16.
    """
    degree = isqrt(max(count, 0)) - 1
    if not 0 <= degree <= MAXIMUM_DEGREE or coefficient_count(degree) != count:
        raise DefectError(f"a colour channel must have 1, 4, 9 or 16 spherical-harmonics coefficients; it has {count}")
    return degree


def basis(directions: ArrayLike, degree: int) -> NDArray[np.float64]:
    """The basis functions up to `degree` in the given directions.

    Source: the table of real harmonics in Cartesian form (P.-P. Sloan, "Stupid Spherical Harmonics Tricks", 2008),
    orthonormal over the unit sphere.

    Args:
        directions: [N, 3] unit vectors.
        degree: 0, 1, 2 or 3.

    Returns:
        [N, (degree + 1)²].

    Raises:
        DefectError: the degree is not 0 to 3 or the shape is not [N, 3].
    """
    count = coefficient_count(degree)
    vectors = np.asarray(directions, dtype=np.float64)
    if vectors.ndim != 2 or vectors.shape[1] != 3:
        raise DefectError(f"directions must have the shape [N, 3]; it is {list(vectors.shape)}")
    x, y, z = vectors.T
    xx, yy, zz = x * x, y * y, z * z
    pi = np.pi
    values = np.empty((len(vectors), count))
    values[:, 0] = np.sqrt(1.0 / pi) / 2.0
    if degree >= 1:
        values[:, 1] = -np.sqrt(3.0 / (4.0 * pi)) * y
        values[:, 2] = np.sqrt(3.0 / (4.0 * pi)) * z
        values[:, 3] = -np.sqrt(3.0 / (4.0 * pi)) * x
    if degree >= 2:
        values[:, 4] = np.sqrt(15.0 / pi) / 2.0 * x * y
        values[:, 5] = -np.sqrt(15.0 / pi) / 2.0 * y * z
        values[:, 6] = np.sqrt(5.0 / pi) / 4.0 * (2.0 * zz - xx - yy)
        values[:, 7] = -np.sqrt(15.0 / pi) / 2.0 * x * z
        values[:, 8] = np.sqrt(15.0 / pi) / 4.0 * (xx - yy)
    if degree >= 3:
        values[:, 9] = -np.sqrt(35.0 / (2.0 * pi)) / 4.0 * y * (3.0 * xx - yy)
        values[:, 10] = np.sqrt(105.0 / pi) / 2.0 * x * y * z
        values[:, 11] = -np.sqrt(21.0 / (2.0 * pi)) / 4.0 * y * (4.0 * zz - xx - yy)
        values[:, 12] = np.sqrt(7.0 / pi) / 4.0 * z * (2.0 * zz - 3.0 * xx - 3.0 * yy)
        values[:, 13] = -np.sqrt(21.0 / (2.0 * pi)) / 4.0 * x * (4.0 * zz - xx - yy)
        values[:, 14] = np.sqrt(105.0 / pi) / 4.0 * z * (xx - yy)
        values[:, 15] = -np.sqrt(35.0 / (2.0 * pi)) / 4.0 * x * (xx - 3.0 * yy)
    return values


def rotation_matrices(rotation: ArrayLike) -> tuple[NDArray[np.float64], ...]:
    """The matrices that turn the coefficients of each band with the world.

    With d' = R d the turned colour must satisfy B(d') D c = B(d) c for every direction, so D is the projection of the
    turned basis on the basis, D[i, j] = ∫ B_i(d) B_j(Rᵀ d) dd. The integrand is a polynomial of degree 2l <= 6, for
    which the quadrature below has no error but rounding, so D needs neither a recursion nor a linear system.

    Args:
        rotation: [3, 3] proper rotation.

    Returns:
        For l = 0, 1, 2, 3 the orthogonal matrix [2l + 1, 2l + 1], float64.

    Raises:
        DefectError: `rotation` is not one proper rotation.
    """
    R = require_rotation(rotation)
    if R.ndim != 2:
        raise DefectError(f"one rotation [3, 3] is needed; the shape is {list(R.shape)}")
    directions, weights = _quadrature()
    here = basis(directions, MAXIMUM_DEGREE) * weights[:, None]
    turned = basis(directions @ R, MAXIMUM_DEGREE)
    bands = [slice(degree * degree, (degree + 1) ** 2) for degree in range(1, MAXIMUM_DEGREE + 1)]
    return (np.ones((1, 1)), *(here[:, band].T @ turned[:, band] for band in bands))


def rotate_coefficients(sh: NDArray[np.floating], rotation: ArrayLike) -> NDArray[np.float32]:
    """The coefficients of the same colours in a world turned by `rotation`.

    Args:
        sh: [N, K, 3] coefficients, K = 1, 4, 9 or 16.
        rotation: [3, 3] proper rotation.

    Returns:
        [N, K, 3] float32, C-contiguous; band 0 as it was.

    Raises:
        DefectError: `sh` has another shape, or `rotation` is not a proper rotation.
    """
    if sh.ndim != 3 or sh.shape[2] != 3:
        raise DefectError(f"spherical-harmonics coefficients must have the shape [N, K, 3]; it is {list(sh.shape)}")
    count = sh.shape[1]
    degree = degree_of(count)
    turn = np.zeros((count, count))
    for band, matrix in enumerate(rotation_matrices(rotation)[: degree + 1]):
        span = slice(band * band, (band + 1) ** 2)
        turn[span, span] = matrix
    turned = np.empty(sh.shape, dtype=np.float32)
    for start in range(0, len(sh), _ROWS_AT_A_TIME):
        rows = slice(start, start + _ROWS_AT_A_TIME)
        # One large matrix product: channels as rows, coefficients as columns.
        channels = sh[rows].transpose(0, 2, 1).reshape(-1, count).astype(np.float64)
        turned[rows] = (channels @ turn.T).reshape(-1, 3, count).transpose(0, 2, 1)
    return turned


def _quadrature() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Directions [28, 3] and weights [28] that integrate polynomials up to degree 6 over the sphere exactly.

    Four Gauss-Legendre heights are exact to degree 7, seven equal turns for every frequency below 7.
    """
    heights, height_weights = np.polynomial.legendre.leggauss(MAXIMUM_DEGREE + 1)
    turns = 2.0 * np.pi * np.arange(2 * MAXIMUM_DEGREE + 1) / (2 * MAXIMUM_DEGREE + 1)
    z, azimuth = (grid.ravel() for grid in np.meshgrid(heights, turns, indexing="ij"))
    radius = np.sqrt(1.0 - z * z)
    directions = np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), z], axis=-1)
    return directions, np.repeat(height_weights * 2.0 * np.pi / len(turns), len(turns))
