"""Rotation matrices and quaternions: conversions, angles, means, checks.

Matrices are [..., 3, 3] and act on column vectors. Quaternions are [..., 4] in the order w, x, y, z. All functions
take any number of leading dimensions and compute in float64.

Example:
    >>> quarter = quaternion_to_matrix([np.sqrt(0.5), 0.0, np.sqrt(0.5), 0.0])      # 90 degrees about y
    >>> round(float(rotation_angle_deg(np.eye(3), quarter)), 9)
    90.0
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldexplorer.errors import DefectError

Floats = NDArray[np.float64]

ROTATION_TOLERANCE = 1e-5
"""Largest entry of |R Rᵀ - I| that still counts as rounding: float32 matrices and their products stay well below."""

_AMBIGUITY = 1e-9
"""Relative size below which two singular values cannot say which rotation is nearest."""


def is_rotation(matrices: ArrayLike, tolerance: float = ROTATION_TOLERANCE) -> NDArray[np.bool_]:
    """Whether each matrix is orthogonal with determinant +1.

    Args:
        matrices: [..., 3, 3].
        tolerance: largest entry of |R Rᵀ - I| to accept.

    Returns:
        [...] bool; False for matrices that hold a value that is not finite.

    Raises:
        DefectError: the shape is not [..., 3, 3].
    """
    R = _matrices(matrices, "rotation")
    finite = np.asarray(np.isfinite(R).all(axis=(-2, -1)), dtype=np.bool_)
    R = np.where(finite[..., None, None], R, 0.0)
    error = np.abs(R @ np.swapaxes(R, -1, -2) - np.eye(3)).max(axis=(-2, -1))
    return np.asarray(finite & (error <= tolerance) & (np.linalg.det(R) > 0.0), dtype=np.bool_)


def require_rotation(matrices: ArrayLike, name: str = "rotation", tolerance: float = ROTATION_TOLERANCE) -> Floats:
    """The matrices as float64, if every one of them is a proper rotation.

    Args:
        matrices: [..., 3, 3].
        name: what the error calls them.
        tolerance: as in :func:`is_rotation`.

    Returns:
        [..., 3, 3] float64.

    Raises:
        DefectError: a matrix is mirrored, scaled, sheared or not finite; the text holds the first such matrix.
    """
    R = _matrices(matrices, name)
    good = is_rotation(R, tolerance)
    if not good.all():
        index = tuple(int(i) for i in np.argwhere(~good)[0])
        place = f" at index {', '.join(map(str, index))}" if index else ""
        raise DefectError(f"{name}{place} is not a proper rotation: {R[index].tolist()}")
    return R


def matrix_to_quaternion(matrices: ArrayLike) -> Floats:
    """Unit quaternions of rotation matrices.

    Source: the entries of R are linear in the products q_i q_j, so 4 q qᵀ can be written down from R; its row with the
    largest diagonal entry is q times the component that is farthest from zero (S. W. Shepperd, "Quaternion from
    rotation matrix", Journal of Guidance and Control 1(3), 1978). Accurate for every angle, 180 degrees included.

    Args:
        matrices: [..., 3, 3] proper rotations.

    Returns:
        [..., 4] w, x, y, z; of the two signs the one whose first component that is not zero is positive.

    Raises:
        DefectError: a matrix is not a proper rotation.
    """
    R = require_rotation(matrices)
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = np.moveaxis(R, (-2, -1), (0, 1))
    products = np.stack(
        [
            np.stack([1.0 + xx + yy + zz, zy - yz, xz - zx, yx - xy], axis=-1),
            np.stack([zy - yz, 1.0 + xx - yy - zz, xy + yx, xz + zx], axis=-1),
            np.stack([xz - zx, xy + yx, 1.0 - xx + yy - zz, yz + zy], axis=-1),
            np.stack([yx - xy, xz + zx, yz + zy, 1.0 - xx - yy + zz], axis=-1),
        ],
        axis=-2,
    )
    largest = np.argmax(np.diagonal(products, axis1=-2, axis2=-1), axis=-1)
    row = np.take_along_axis(products, largest[..., None, None], axis=-2)[..., 0, :]
    quaternions = row / np.linalg.norm(row, axis=-1, keepdims=True)
    first = np.take_along_axis(quaternions, np.argmax(quaternions != 0.0, axis=-1)[..., None], axis=-1)
    return np.asarray(np.where(first < 0.0, -quaternions, quaternions), dtype=np.float64)


def quaternion_to_matrix(quaternions: ArrayLike) -> Floats:
    """Rotation matrices of quaternions, which need not have unit length.

    Args:
        quaternions: [..., 4] w, x, y, z.

    Returns:
        [..., 3, 3].

    Raises:
        DefectError: the shape is not [..., 4], or a quaternion has length zero or is not finite.
    """
    q = _quaternions(quaternions)
    # Divided by the largest entry first: neither tiny nor huge quaternions lose their length to under- or overflow.
    largest = np.abs(q).max(axis=-1, keepdims=True)
    if not (np.isfinite(largest).all() and (largest > 0.0).all()):
        raise DefectError("a quaternion has length zero or is not finite, so it states no rotation")
    q = q / largest
    w, x, y, z = np.moveaxis(q / np.linalg.norm(q, axis=-1, keepdims=True), -1, 0)
    return np.stack(
        [
            np.stack([1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)], axis=-1),
            np.stack([2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)], axis=-1),
            np.stack([2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)], axis=-1),
        ],
        axis=-2,
    )


def multiply_quaternions(left: ArrayLike, right: ArrayLike) -> Floats:
    """Hamilton product: the rotation `right` followed by the rotation `left`.

    Args:
        left: [..., 4] w, x, y, z.
        right: [..., 4] w, x, y, z; the leading dimensions of both broadcast.

    Returns:
        [..., 4] float64; unit length where both factors have unit length.

    Raises:
        DefectError: a shape is not [..., 4].
    """
    aw, ax, ay, az = np.moveaxis(_quaternions(left), -1, 0)
    bw, bx, by, bz = np.moveaxis(_quaternions(right), -1, 0)
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )


def rotation_angle_deg(first: ArrayLike, second: ArrayLike) -> Floats:
    """The angle of the turn from one rotation to the other, in degrees.

    Taken from sine and cosine together: the arc cosine of the trace alone loses half of the digits near 0 and 180.

    Args:
        first: [..., 3, 3] rotations.
        second: [..., 3, 3] rotations; the leading dimensions of both broadcast.

    Returns:
        [...] between 0 and 180.

    Raises:
        DefectError: a shape is not [..., 3, 3].
    """
    D = np.swapaxes(_matrices(first, "first rotation"), -1, -2) @ _matrices(second, "second rotation")
    axis = np.stack([D[..., 2, 1] - D[..., 1, 2], D[..., 0, 2] - D[..., 2, 0], D[..., 1, 0] - D[..., 0, 1]], axis=-1)
    cosine = 0.5 * (np.trace(D, axis1=-2, axis2=-1) - 1.0)
    return np.asarray(np.degrees(np.arctan2(0.5 * np.linalg.norm(axis, axis=-1), cosine)), dtype=np.float64)


def nearest_rotation(matrices: ArrayLike) -> Floats:
    """The proper rotations nearest to matrices in the Frobenius norm.

    Source: W. Kabsch, "A discussion of the solution for the best rotation to relate two sets of vectors", Acta
    Crystallographica A34, 1978: with M = U S Vᵀ it is U diag(1, 1, det(U Vᵀ)) Vᵀ.

    Args:
        matrices: [..., 3, 3].

    Returns:
        [..., 3, 3] proper rotations.

    Raises:
        DefectError: a matrix is not finite, or several rotations are equally near.
    """
    M = _matrices(matrices, "matrix")
    if not np.isfinite(M).all():
        raise DefectError("a matrix whose nearest rotation is asked for is not finite")
    U, S, Vt = np.linalg.svd(M)
    sign = np.where(np.linalg.det(U @ Vt) < 0.0, -1.0, 1.0)
    if (S[..., 1] + sign * S[..., 2] <= _AMBIGUITY * S[..., 0]).any():
        raise DefectError("several rotations are equally near to a matrix")
    U[..., :, 2] *= sign[..., None]
    return np.asarray(U @ Vt, dtype=np.float64)


def chordal_mean(rotations: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """The rotation whose weighted sum of squared Frobenius distances to the given ones is least.

    Source: R. Hartley, J. Trumpf, Y. Dai, H. Li, "Rotation averaging", International Journal of Computer Vision 103,
    2013, section 5: the rotation nearest to the weighted sum of the matrices.

    Args:
        rotations: [N, 3, 3], N >= 1.
        weights: [N] not negative, not all zero; None for equal weights.

    Returns:
        [3, 3].

    Raises:
        DefectError: shapes or weights are wrong, or the rotations have no single mean (opposite turns, for example).
    """
    R = _matrices(rotations, "rotation")
    if R.ndim != 3 or len(R) == 0:
        raise DefectError(f"rotations to average must be [N, 3, 3] with N >= 1; the shape is {list(R.shape)}")
    w = np.ones(len(R)) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != (len(R),) or not np.isfinite(w).all() or (w < 0.0).any() or not (w > 0.0).any():
        raise DefectError(f"weights of {len(R)} rotations must be as many numbers, not negative and not all zero")
    try:
        return nearest_rotation(np.einsum("n,nij->ij", w / w.sum(), R))
    except DefectError as error:
        raise DefectError(f"the rotations have no single mean: {error.what}") from error


def _matrices(values: ArrayLike, name: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.shape[-2:] != (3, 3):
        raise DefectError(f"{name} must have the shape [..., 3, 3]; it is {list(array.shape)}")
    return array


def _quaternions(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.shape[-1:] != (4,):
        raise DefectError(f"quaternions must have the shape [..., 4]; it is {list(array.shape)}")
    return array
