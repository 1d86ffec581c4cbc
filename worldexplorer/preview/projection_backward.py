"""Gradients back through the projection: from splats to the fourteen parameters of their Gaussians.

The chain rule through :mod:`worldexplorer.preview.projection`, whose frames and names are used here.

Example:
    >>> gradients = project_backward(rows, camera, seen, splat_gradients, ALONE)
    >>> gradients.shape == (len(seen), 14)
    True
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from worldexplorer.preview import threads as _threads  # noqa: F401  before numba, which reads its settings on import
from worldexplorer.preview.parameters import C0, COLOUR, LOG_SCALE, MEAN, OPACITY, PARAMETERS, QUATERNION
from worldexplorer.preview.projection import (
    FLAGS,
    Camera,
    axes_of,
    covariance,
    in_camera,
    lens_at,
    read_row,
    scales_of,
    turned,
    unit_quaternion,
)
from worldexplorer.preview.workers import Workers

from numba import njit  # isort: skip

GRADIENTS = 9
"""What blending says about a splat: sums over its pixels, weighted by q = dL / d ln opacity there, of
1, dx, dy, dx², dx dy, dy²; then dL / d colour (red, green, blue)."""


def project_backward(
    rows: NDArray[np.float32],
    camera: Camera,
    seen: NDArray[np.int32],
    splat_gradients: NDArray[np.float32],
    workers: Workers,
) -> NDArray[np.float32]:
    """The gradient of a loss by the Gaussians' parameters from its gradient by their splats.

    Args:
        rows: [N, 14] Gaussians.
        camera: the one they were projected with.
        seen: [V] which Gaussians the gradients belong to.
        splat_gradients: [V, 9], as GRADIENTS says.
        workers: who work at it.

    Returns:
        [V, 14] float32, in the columns of `rows`.
    """
    gradients = np.empty((len(seen), PARAMETERS), np.float32)
    workers(_project_backward, rows, camera, seen, splat_gradients, gradients)
    return gradients


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FLAGS)
def _project_backward(part, parts, rows, camera, seen, sums, gradients):  # type: ignore[no-untyped-def]
    R = camera.rotation
    for i in range(len(seen) * part // parts, len(seen) * (part + 1) // parts):
        row = read_row(rows, seen[i])
        opacity = 1.0 / (1.0 + math.exp(-row[OPACITY]))
        gradients[i, OPACITY] = sums[i, 0] * (1.0 - opacity)
        for channel in range(3):
            shows = 0.5 + C0 * rows[seen[i], COLOUR + channel] > 0.0
            gradients[i, COLOUR + channel] = C0 * sums[i, 6 + channel] if shows else 0.0

        x, y, z = in_camera(row[MEAN], row[MEAN + 1], row[MEAN + 2], camera)
        lens = lens_at(x, y, z, camera)
        quaternion, length = unit_quaternion(row)
        axes, scales = axes_of(quaternion), scales_of(row)
        xx, xy, yy = covariance(axes, scales, camera, lens)
        determinant = xx * yy - xy * xy
        conic_xx, conic_xy, conic_yy = yy / determinant, -xy / determinant, xx / determinant

        # By the covariance, twice: the conic times the sum of q offset offsetᵀ times the conic, a symmetric matrix.
        sum_xx, sum_xy, sum_yy = np.float64(sums[i, 3]), np.float64(sums[i, 4]), np.float64(sums[i, 5])
        left_xx = conic_xx * sum_xx + conic_xy * sum_xy
        left_xy = conic_xx * sum_xy + conic_xy * sum_yy
        left_yx = conic_xy * sum_xx + conic_yy * sum_xy
        left_yy = conic_xy * sum_xy + conic_yy * sum_yy
        by_xx = left_xx * conic_xx + left_xy * conic_xy
        by_xy = left_xx * conic_xy + left_xy * conic_yy
        by_yy = left_yx * conic_xy + left_yy * conic_yy

        # Through the three axes: an axis (u, v) on the image adds u², u v, v² to the covariance.
        by_covariance = (by_xx, by_xy, by_yy)
        a_log_scale, a_ratio_x, a_ratio_y, a = _axis_backward(scales[0], axes[0], camera, lens, by_covariance)
        b_log_scale, b_ratio_x, b_ratio_y, b = _axis_backward(scales[1], axes[1], camera, lens, by_covariance)
        c_log_scale, c_ratio_x, c_ratio_y, c = _axis_backward(scales[2], axes[2], camera, lens, by_covariance)
        gradients[i, LOG_SCALE] = a_log_scale
        gradients[i, LOG_SCALE + 1] = b_log_scale
        gradients[i, LOG_SCALE + 2] = c_log_scale

        w, qx, qy, qz = quaternion
        by_w = qz * (a[1] - b[0]) + qy * (c[0] - a[2]) + qx * (b[2] - c[1])
        by_qx = qy * (a[1] + b[0]) + qz * (a[2] + c[0]) + w * (b[2] - c[1]) - 2.0 * qx * (b[1] + c[2])
        by_qy = qx * (a[1] + b[0]) + qz * (b[2] + c[1]) + w * (c[0] - a[2]) - 2.0 * qy * (a[0] + c[2])
        by_qz = qx * (a[2] + c[0]) + qy * (b[2] + c[1]) + w * (a[1] - b[0]) - 2.0 * qz * (a[0] + b[1])
        along = by_w * w + by_qx * qx + by_qy * qy + by_qz * qz  # the length of the quaternion changes nothing
        gradients[i, QUATERNION] = 2.0 * (by_w - along * w) / length
        gradients[i, QUATERNION + 1] = 2.0 * (by_qx - along * qx) / length
        gradients[i, QUATERNION + 2] = 2.0 * (by_qy - along * qy) / length
        gradients[i, QUATERNION + 3] = 2.0 * (by_qz - along * qz) / length

        # By the centre on the image: the sum of q times the conic times the offset.
        sum_x, sum_y = np.float64(sums[i, 1]), np.float64(sums[i, 2])
        by_x = (conic_xx * sum_x + conic_xy * sum_y) * lens[0]
        by_y = (conic_xy * sum_x + conic_yy * sum_y) * lens[1]

        # By the centre in space. The axes on the image go with 1 / z, hence their part is that of the log scales.
        by_z = -(by_x * x + by_y * y + a_log_scale + b_log_scale + c_log_scale) / z
        if lens[2] == x / z:
            by_ratio_x = a_ratio_x + b_ratio_x + c_ratio_x
            by_x += by_ratio_x / z
            by_z -= by_ratio_x * lens[2] / z
        if lens[3] == y / z:
            by_ratio_y = a_ratio_y + b_ratio_y + c_ratio_y
            by_y += by_ratio_y / z
            by_z -= by_ratio_y * lens[3] / z
        gradients[i, MEAN] = R[0] * by_x + R[3] * by_y + R[6] * by_z
        gradients[i, MEAN + 1] = R[1] * by_x + R[4] * by_y + R[7] * by_z
        gradients[i, MEAN + 2] = R[2] * by_x + R[5] * by_y + R[8] * by_z


@njit(cache=True, error_model="numpy", fastmath=FLAGS)
def _axis_backward(scale, axis, camera, lens, by_covariance):  # type: ignore[no-untyped-def]
    """The gradient by one axis of a Gaussian.

    Args:
        scale: standard deviation along the axis.
        axis: its direction in the world.
        camera: who looks.
        lens: at the centre.
        by_covariance: twice the gradient by xx, xy (as one of the two equal entries) and yy of the covariance.

    Returns:
        The gradients by the log scale, by the two ratios, and (a vector, in the world) by `axis`.
    """
    R = camera.rotation
    x, y, z = turned(axis, scale, camera)
    u, v = lens[0] * (x - lens[2] * z), lens[1] * (y - lens[3] * z)
    by_u = by_covariance[0] * u + by_covariance[1] * v
    by_v = by_covariance[1] * u + by_covariance[2] * v
    by_x, by_y = by_u * lens[0], by_v * lens[1]
    by_z = -(by_x * lens[2] + by_y * lens[3])
    by_axis = (
        scale * (R[0] * by_x + R[3] * by_y + R[6] * by_z),
        scale * (R[1] * by_x + R[4] * by_y + R[7] * by_z),
        scale * (R[2] * by_x + R[5] * by_y + R[8] * by_z),
    )
    return by_u * u + by_v * v, -by_x * z, -by_y * z, by_axis
