"""Gaussians to ellipses on the image, and gradients back: the perspective EWA projection of 3D Gaussian splatting.

Source: Kerbl, Kopanas, Leimkühler, Drettakis, "3D Gaussian Splatting for Real-Time Radiance Field Rendering" (2023),
after Zwicker, Pfister, van Baar, Gross, "EWA Splatting" (2002): the covariance goes through the Jacobian of the
projection at the Gaussian's centre, a centre beyond the image's edge counting as no more than 0.3 half widths beyond
it, and 0.3 square pixels are added to it.

Frames: rows (:mod:`worldexplorer.preview.parameters`) are in the world frame; cameras look along +z with x to the right
and y down (OpenCV axes); positions on the image are in pixels, the pixel in row i, column j having its centre at
(j + 0.5, i + 0.5).

A Gaussian on the image is a *splat*: twelve float32 in the columns named below. Its opacity at the offset (dx, dy) from
its centre is 2 ** (LOG_OPACITY + XX dx² + XY dx dy + YY dy²). It does not count where that is under 1/255, hence inside
an ellipse only: its rows lie within HALF_HEIGHT of the centre, and on the row at dy its columns lie within
HALF_WIDTH sqrt(1 - (dy / HALF_HEIGHT)²) of the centre plus SLANT dy.

Example:
    >>> camera = camera_of(c2w, intrinsics, width=256, height=256)
    >>> projection = project(rows, camera, ALONE)
    >>> seen = projection.indices[projection.depths > 0]
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldexplorer.geometry.cameras import opengl_to_opencv, pixel_intrinsics
from worldexplorer.preview import threads as _threads  # noqa: F401  before numba, which reads its settings on import
from worldexplorer.preview.parameters import C0, COLOUR, LOG_SCALE, MEAN, OPACITY, PARAMETERS, QUATERNION
from worldexplorer.preview.workers import Workers

from numba import njit  # isort: skip

X, Y, XX, XY, YY, LOG_OPACITY, RED, GREEN, BLUE, HALF_HEIGHT, HALF_WIDTH, SLANT = range(12)
SPLAT = 12
"""Columns of a splat."""

GRADIENTS = 9
"""What blending says about a splat: sums over its pixels, weighted by q = dL / d ln opacity there, of
1, dx, dy, dx², dx dy, dy²; then dL / d colour (red, green, blue)."""

BLUR = 0.3
"""Square pixels added to the covariance on the image, so that every splat covers about a pixel."""

LEAST_OPACITY = 1.0 / 255.0
"""Under this a splat leaves a pixel as it is."""

MARGIN = 0.3
"""How far beyond the edge, in half widths of the view, the Jacobian is still taken at the centre itself."""

_FLAGS = {"contract", "arcp", "nsz"}
"""What the compiler may do: round a product and a sum once, and multiply by a reciprocal that it has."""
_LOG2_E = math.log2(math.e)
_LONGEST_REACH = 2.0 * math.log(1.0 / LEAST_OPACITY)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Attributes:
        matrix: [16] float64: world to camera, OpenCV axes (rotation by rows, then translation), then the focal lengths
            and the principal point in pixels (x, y; x, y).
        width: of the image, pixels.
        height: of the image, pixels.
        near: Gaussians whose centre is not further in front of the camera than this are left out.
    """

    matrix: NDArray[np.float64]
    width: int
    height: int
    near: float


@dataclass(frozen=True)
class Projection:
    """Splats of C Gaussians.

    Attributes:
        indices: [C] int32 which Gaussians, in ascending order.
        splats: [C, 12] float32; undefined where the Gaussian does not show.
        depths: [C] float32 depth of the centre; 0 where the Gaussian does not show in any pixel.
        spans: [C, 2] int32 first and last row of pixels that the splat can show in.
    """

    indices: NDArray[np.int32]
    splats: NDArray[np.float32]
    depths: NDArray[np.float32]
    spans: NDArray[np.int32]


def camera_of(c2w: ArrayLike, intrinsics: ArrayLike, width: int, height: int, near: float) -> Camera:
    """The camera of one view.

    Args:
        c2w: [4, 4] OpenGL camera-to-world.
        intrinsics: [3, 3] normalised.
        width: of the image, pixels.
        height: of the image, pixels.
        near: least depth of a Gaussian's centre, in the units of `c2w`.
    """
    pose = opengl_to_opencv(c2w)
    K = pixel_intrinsics(intrinsics, width, height)
    rotation = pose[:3, :3].T
    translation = -rotation @ pose[:3, 3]
    lens = (K[0, 0], K[1, 1], K[0, 2], K[1, 2])
    return Camera(np.concatenate([rotation.ravel(), translation, lens]), width, height, near)


def project(rows: NDArray[np.float32], camera: Camera, workers: Workers) -> Projection:
    """The splats of those Gaussians that may show.

    Args:
        rows: [N, 14] Gaussians.
        camera: who looks.
        workers: who work at it.
    """
    near_view = np.empty(len(rows), np.bool_)
    workers(_select, rows, camera.matrix, camera.width, camera.height, camera.near, near_view)
    indices = np.flatnonzero(near_view).astype(np.int32)
    splats = np.empty((len(indices), SPLAT), np.float32)
    depths = np.empty(len(indices), np.float32)
    spans = np.empty((len(indices), 2), np.int32)
    workers(_project, rows, indices, camera.matrix, camera.width, camera.height, splats, depths, spans)
    return Projection(indices, splats, depths, spans)


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
    workers(_project_backward, rows, camera.matrix, camera.width, camera.height, seen, splat_gradients, gradients)
    return gradients


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FLAGS)
def _select(part, parts, rows, camera, width, height, near, near_view):  # type: ignore[no-untyped-def]
    """Which Gaussians lie in front of the camera and may reach into the image: most do not, and this is quick to see.

    On the image no axis is longer than the longest one in space times a bound of the Jacobian's norm.
    """
    scale = max(camera[12], camera[13])
    ratio_x, ratio_y = _held_ratios(np.inf, np.inf, camera, width, height)
    other_x, other_y = _held_ratios(-np.inf, -np.inf, camera, width, height)
    norm = scale * math.sqrt(1.0 + max(ratio_x, -other_x) ** 2 + max(ratio_y, -other_y) ** 2)
    for i in range(len(rows) * part // parts, len(rows) * (part + 1) // parts):
        x, y, z = np.float64(rows[i, MEAN]), np.float64(rows[i, MEAN + 1]), np.float64(rows[i, MEAN + 2])
        depth = camera[6] * x + camera[7] * y + camera[8] * z + camera[11]
        near_view[i] = False
        if depth > near:
            u = camera[12] * (camera[0] * x + camera[1] * y + camera[2] * z + camera[9]) / depth + camera[14]
            v = camera[13] * (camera[3] * x + camera[4] * y + camera[5] * z + camera[10]) / depth + camera[15]
            beyond = max(max(-u, u - width), max(-v, v - height))
            if beyond < 0.0:
                near_view[i] = True
            else:
                log_scale = max(max(rows[i, LOG_SCALE], rows[i, LOG_SCALE + 1]), rows[i, LOG_SCALE + 2])
                length = norm / depth * math.exp(np.float64(log_scale))
                near_view[i] = beyond * beyond < _LONGEST_REACH * (length * length + BLUR)


@njit(cache=True, nogil=True, fastmath=_FLAGS)
def _project(part, parts, rows, indices, camera, width, height, splats, depths, spans):  # type: ignore[no-untyped-def]
    for i in range(len(indices) * part // parts, len(indices) * (part + 1) // parts):
        depths[i] = _project_one(rows[indices[i]], camera, width, height, splats[i], spans[i])


@njit(cache=True, error_model="numpy", fastmath=_FLAGS)
def _project_one(row, camera, width, height, splat, span):  # type: ignore[no-untyped-def]
    """Fill `splat` and `span`; the depth, or 0 if the Gaussian does not show."""
    opacity = 1.0 / (1.0 + math.exp(-np.float64(row[OPACITY])))
    if not opacity > LEAST_OPACITY:
        return 0.0
    x, y, z = _in_camera(row, camera)
    centre_x = camera[12] * x / z + camera[14]
    centre_y = camera[13] * y / z + camera[15]
    ratio_x, ratio_y = _held_ratios(x / z, y / z, camera, width, height)
    w, qx, qy, qz, _ = _unit_quaternion(row)
    lens = (camera[12] / z, camera[13] / z, ratio_x, ratio_y)
    xx, xy, yy = _covariance(_rotation(w, qx, qy, qz), _scales(row), camera, lens)
    reach = 2.0 * math.log(opacity / LEAST_OPACITY)  # square of the Mahalanobis distance at which it stops counting
    half_height = math.sqrt(reach * yy)
    half_breadth = math.sqrt(reach * xx)
    top, bottom = (
        max(math.ceil(centre_y - half_height - 0.5), 0.0),
        min(math.floor(centre_y + half_height - 0.5), height - 1.0),
    )
    left, right = (
        max(math.ceil(centre_x - half_breadth - 0.5), 0.0),
        min(math.floor(centre_x + half_breadth - 0.5), width - 1.0),
    )
    if not (top <= bottom and left <= right):
        return 0.0
    determinant = xx * yy - xy * xy
    splat[X] = centre_x
    splat[Y] = centre_y
    splat[XX] = -0.5 * _LOG2_E * yy / determinant
    splat[XY] = _LOG2_E * xy / determinant
    splat[YY] = -0.5 * _LOG2_E * xx / determinant
    splat[LOG_OPACITY] = math.log2(opacity)
    for channel in range(3):
        splat[RED + channel] = max(0.5 + C0 * row[COLOUR + channel], 0.0)
    splat[HALF_HEIGHT] = half_height
    splat[HALF_WIDTH] = math.sqrt(reach * determinant / yy)
    splat[SLANT] = xy / yy
    span[0] = int(top)
    span[1] = int(bottom)
    return z


@njit(cache=True, error_model="numpy", fastmath=_FLAGS)
def _in_camera(row, camera):  # type: ignore[no-untyped-def]
    """The centre of a Gaussian in the camera's frame."""
    x, y, z = np.float64(row[MEAN]), np.float64(row[MEAN + 1]), np.float64(row[MEAN + 2])
    return (
        camera[0] * x + camera[1] * y + camera[2] * z + camera[9],
        camera[3] * x + camera[4] * y + camera[5] * z + camera[10],
        camera[6] * x + camera[7] * y + camera[8] * z + camera[11],
    )


@njit(cache=True, error_model="numpy", fastmath=_FLAGS)
def _held_ratios(x, y, camera, width, height):  # type: ignore[no-untyped-def]
    """The ratios x / z and y / z, held within MARGIN half widths of the image's edges."""
    beyond_x = MARGIN * 0.5 * width / camera[12]
    beyond_y = MARGIN * 0.5 * height / camera[13]
    return (
        min(max(x, -camera[14] / camera[12] - beyond_x), (width - camera[14]) / camera[12] + beyond_x),
        min(max(y, -camera[15] / camera[13] - beyond_y), (height - camera[15]) / camera[13] + beyond_y),
    )


@njit(cache=True, error_model="numpy", fastmath=_FLAGS)
def _rotation(w, x, y, z):  # type: ignore[no-untyped-def]
    """The rotation that a unit quaternion stands for, by columns."""
    return (
        (1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y)),
        (2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x)),
        (2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y)),
    )


@njit(cache=True, error_model="numpy", fastmath=_FLAGS)
def _scales(row):  # type: ignore[no-untyped-def]
    """The standard deviations of a Gaussian along its axes."""
    return (
        math.exp(np.float64(row[LOG_SCALE])),
        math.exp(np.float64(row[LOG_SCALE + 1])),
        math.exp(np.float64(row[LOG_SCALE + 2])),
    )


@njit(cache=True, error_model="numpy", fastmath=_FLAGS)
def _unit_quaternion(row):  # type: ignore[no-untyped-def]
    """w, x, y, z and the length that was taken out of them."""
    w, x, y, z = (
        np.float64(row[QUATERNION]),
        np.float64(row[QUATERNION + 1]),
        np.float64(row[QUATERNION + 2]),
        np.float64(row[QUATERNION + 3]),
    )
    length = math.sqrt(w * w + x * x + y * y + z * z)
    return w / length, x / length, y / length, z / length, length


@njit(cache=True, error_model="numpy", fastmath=_FLAGS)
def _turned(axis, scale, camera):  # type: ignore[no-untyped-def]
    """One axis of a Gaussian, of the length of its standard deviation, in the camera's frame."""
    x, y, z = axis[0] * scale, axis[1] * scale, axis[2] * scale
    return (
        camera[0] * x + camera[1] * y + camera[2] * z,
        camera[3] * x + camera[4] * y + camera[5] * z,
        camera[6] * x + camera[7] * y + camera[8] * z,
    )


@njit(cache=True, error_model="numpy", fastmath=_FLAGS)
def _covariance(axes, scales, camera, lens):  # type: ignore[no-untyped-def]
    """The covariance on the image, square pixels: xx, xy, yy.

    Args:
        axes: of the Gaussian, in the world.
        scales: standard deviations along them.
        camera: matrix of the camera.
        lens: focal lengths over depth, and the held x / z and y / z.
    """
    first, second, third = axes
    scale_x, scale_y, ratio_x, ratio_y = lens
    a = _turned(first, scales[0], camera)
    b = _turned(second, scales[1], camera)
    c = _turned(third, scales[2], camera)
    ax, ay = scale_x * (a[0] - ratio_x * a[2]), scale_y * (a[1] - ratio_y * a[2])
    bx, by = scale_x * (b[0] - ratio_x * b[2]), scale_y * (b[1] - ratio_y * b[2])
    cx, cy = scale_x * (c[0] - ratio_x * c[2]), scale_y * (c[1] - ratio_y * c[2])
    return (
        ax * ax + bx * bx + cx * cx + BLUR,
        ax * ay + bx * by + cx * cy,
        ay * ay + by * by + cy * cy + BLUR,
    )


@njit(cache=True, nogil=True, fastmath=_FLAGS)
def _project_backward(part, parts, rows, camera, width, height, seen, sums, gradients):  # type: ignore[no-untyped-def]
    for i in range(len(seen) * part // parts, len(seen) * (part + 1) // parts):
        _project_one_backward(rows[seen[i]], camera, width, height, sums[i], gradients[i])


@njit(cache=True, error_model="numpy", fastmath=_FLAGS)
def _project_one_backward(row, camera, width, height, splat_gradient, gradient):  # type: ignore[no-untyped-def]
    """Fill `gradient`: the chain rule through `_project_one`, backwards."""
    opacity = 1.0 / (1.0 + math.exp(-np.float64(row[OPACITY])))
    gradient[OPACITY] = splat_gradient[0] * (1.0 - opacity)
    for channel in range(3):
        shows = 0.5 + C0 * row[COLOUR + channel] > 0.0
        gradient[COLOUR + channel] = C0 * splat_gradient[6 + channel] if shows else 0.0

    x, y, z = _in_camera(row, camera)
    ratio_x, ratio_y = _held_ratios(x / z, y / z, camera, width, height)
    w, qx, qy, qz, length = _unit_quaternion(row)
    axes, scales = _rotation(w, qx, qy, qz), _scales(row)
    lens = (camera[12] / z, camera[13] / z, ratio_x, ratio_y)
    xx, xy, yy = _covariance(axes, scales, camera, lens)
    determinant = xx * yy - xy * xy
    conic_xx, conic_xy, conic_yy = yy / determinant, -xy / determinant, xx / determinant

    # By the centre: sum of q times the conic times the offset.
    sum_x, sum_y = np.float64(splat_gradient[1]), np.float64(splat_gradient[2])
    by_centre_x = conic_xx * sum_x + conic_xy * sum_y
    by_centre_y = conic_xy * sum_x + conic_yy * sum_y

    # By the covariance, twice: the conic times the sum of q offset offsetᵀ times the conic, a symmetric matrix.
    sum_xx, sum_xy, sum_yy = np.float64(splat_gradient[3]), np.float64(splat_gradient[4]), np.float64(splat_gradient[5])
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
    gradient[LOG_SCALE] = a_log_scale
    gradient[LOG_SCALE + 1] = b_log_scale
    gradient[LOG_SCALE + 2] = c_log_scale

    by_w = qz * (a[1] - b[0]) + qy * (c[0] - a[2]) + qx * (b[2] - c[1])
    by_qx = qy * (a[1] + b[0]) + qz * (a[2] + c[0]) + w * (b[2] - c[1]) - 2.0 * qx * (b[1] + c[2])
    by_qy = qx * (a[1] + b[0]) + qz * (b[2] + c[1]) + w * (c[0] - a[2]) - 2.0 * qy * (a[0] + c[2])
    by_qz = qx * (a[2] + c[0]) + qy * (b[2] + c[1]) + w * (a[1] - b[0]) - 2.0 * qz * (a[0] + b[1])
    along = by_w * w + by_qx * qx + by_qy * qy + by_qz * qz  # the length of the quaternion changes nothing
    gradient[QUATERNION] = 2.0 * (by_w - along * w) / length
    gradient[QUATERNION + 1] = 2.0 * (by_qx - along * qx) / length
    gradient[QUATERNION + 2] = 2.0 * (by_qy - along * qy) / length
    gradient[QUATERNION + 3] = 2.0 * (by_qz - along * qz) / length

    # By the centre in the camera's frame. The axes on the image are as 1 / z, so their part is their gradient by log
    # scale.
    by_x = by_centre_x * camera[12] / z
    by_y = by_centre_y * camera[13] / z
    by_z = -(by_x * x + by_y * y + a_log_scale + b_log_scale + c_log_scale) / z
    if ratio_x == x / z:
        by_ratio_x = a_ratio_x + b_ratio_x + c_ratio_x
        by_x += by_ratio_x / z
        by_z -= by_ratio_x * ratio_x / z
    if ratio_y == y / z:
        by_ratio_y = a_ratio_y + b_ratio_y + c_ratio_y
        by_y += by_ratio_y / z
        by_z -= by_ratio_y * ratio_y / z
    for column in range(3):
        gradient[MEAN + column] = camera[column] * by_x + camera[3 + column] * by_y + camera[6 + column] * by_z


@njit(cache=True, error_model="numpy", fastmath=_FLAGS)
def _axis_backward(scale, axis, camera, lens, by_covariance):  # type: ignore[no-untyped-def]
    """The gradient by one axis of a Gaussian.

    Args:
        scale: standard deviation along the axis.
        axis: its direction in the world.
        camera: matrix of the camera.
        lens: focal lengths over depth, and the held x / z and y / z.
        by_covariance: twice the gradient by xx, xy (as one of the two equal entries) and yy of the covariance.

    Returns:
        The gradients by the log scale, by the two ratios, and (a vector, in the world) by `axis`.
    """
    x, y, z = _turned(axis, scale, camera)
    u, v = lens[0] * (x - lens[2] * z), lens[1] * (y - lens[3] * z)
    by_u = by_covariance[0] * u + by_covariance[1] * v
    by_v = by_covariance[1] * u + by_covariance[2] * v
    by_x, by_y = by_u * lens[0], by_v * lens[1]
    by_z = -(by_x * lens[2] + by_y * lens[3])
    by_axis = (
        scale * (camera[0] * by_x + camera[3] * by_y + camera[6] * by_z),
        scale * (camera[1] * by_x + camera[4] * by_y + camera[7] * by_z),
        scale * (camera[2] * by_x + camera[5] * by_y + camera[8] * by_z),
    )
    return by_u * u + by_v * v, -by_x * z, -by_y * z, by_axis
