"""Gaussians to ellipses on the image: the perspective EWA projection of 3D Gaussian splatting.

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
    >>> camera = camera_of(c2w, intrinsics, width=256, height=256, near=0.02)
    >>> projection = project(rows, camera, ALONE)
    >>> seen = projection.indices[projection.depths > 0]
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldexplorer.geometry.cameras import opengl_to_opencv, pixel_intrinsics
from worldexplorer.preview import threads as _threads  # noqa: F401  before numba, which reads its settings on import
from worldexplorer.preview.parameters import C0, COLOUR, LOG_SCALE, MEAN, OPACITY, QUATERNION
from worldexplorer.preview.workers import Workers

from numba import njit  # isort: skip

X, Y, XX, XY, YY, LOG_OPACITY, RED, GREEN, BLUE, HALF_HEIGHT, HALF_WIDTH, SLANT = range(12)
SPLAT = 12
"""Columns of a splat."""

BLUR = 0.3
"""Square pixels added to the covariance on the image, so that every splat covers about a pixel."""

LEAST_OPACITY = 1.0 / 255.0
"""Under this a splat leaves a pixel as it is."""

MARGIN = 0.3
"""How far beyond the edge, in half widths of the view, the Jacobian is still taken at the centre itself."""

FLAGS = {"contract", "arcp", "nsz"}
"""What the compiler may do: round a product and a sum once, and multiply by a reciprocal that it has."""

_LOG2_E = math.log2(math.e)
_LONGEST_REACH = 2.0 * math.log(1.0 / LEAST_OPACITY)


class Camera(NamedTuple):
    """A pinhole camera.

    Attributes:
        rotation: world to camera (OpenCV axes), nine numbers by rows.
        translation: world to camera.
        focal: across and down, pixels.
        centre: the principal point, across and down, pixels.
        least_ratio: x / z and y / z of a point MARGIN half widths beyond the left and the upper edge.
        most_ratio: the same beyond the right and the lower edge.
        width: of the image, pixels.
        height: of the image, pixels.
        near: Gaussians whose centre is not further in front of the camera than this are left out.
    """

    rotation: tuple[float, ...]
    translation: tuple[float, ...]
    focal: tuple[float, float]
    centre: tuple[float, float]
    least_ratio: tuple[float, float]
    most_ratio: tuple[float, float]
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
    rotation = pose[:3, :3].T
    translation = -rotation @ pose[:3, 3]
    (fx, _, cx), (_, fy, cy), _ = pixel_intrinsics(intrinsics, width, height).tolist()
    beyond_x, beyond_y = MARGIN * 0.5 * width / fx, MARGIN * 0.5 * height / fy
    return Camera(
        rotation=tuple(rotation.ravel().tolist()),
        translation=tuple(translation.tolist()),
        focal=(fx, fy),
        centre=(cx, cy),
        least_ratio=(-cx / fx - beyond_x, -cy / fy - beyond_y),
        most_ratio=((width - cx) / fx + beyond_x, (height - cy) / fy + beyond_y),
        width=width,
        height=height,
        near=float(near),
    )


def project(rows: NDArray[np.float32], camera: Camera, workers: Workers) -> Projection:
    """The splats of those Gaussians that may show.

    Args:
        rows: [N, 14] Gaussians.
        camera: who looks.
        workers: who work at it.
    """
    near_view = np.empty(len(rows), np.bool_)
    workers(_select, rows, camera, near_view)
    indices = np.flatnonzero(near_view).astype(np.int32)
    splats = np.empty((len(indices), SPLAT), np.float32)
    depths = np.empty(len(indices), np.float32)
    spans = np.empty((len(indices), 2), np.int32)
    workers(_project, rows, indices, camera, splats, depths, spans)
    return Projection(indices, splats, depths, spans)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FLAGS)
def _select(part, parts, rows, camera, near_view):  # type: ignore[no-untyped-def]
    """Which Gaussians lie in front of the camera and may reach into the image: most do not, and this is quick to see.

    On the image no axis is longer than the longest one in space times a bound of the Jacobian's norm.
    """
    steepest_x = max(camera.most_ratio[0], -camera.least_ratio[0])
    steepest_y = max(camera.most_ratio[1], -camera.least_ratio[1])
    norm = max(camera.focal[0], camera.focal[1]) * math.sqrt(1.0 + steepest_x**2 + steepest_y**2)
    for i in range(len(rows) * part // parts, len(rows) * (part + 1) // parts):
        x, y, z = in_camera(
            np.float64(rows[i, MEAN]), np.float64(rows[i, MEAN + 1]), np.float64(rows[i, MEAN + 2]), camera
        )
        near_view[i] = False
        if z > camera.near:
            u = camera.focal[0] * x / z + camera.centre[0]
            v = camera.focal[1] * y / z + camera.centre[1]
            beyond = max(max(-u, u - camera.width), max(-v, v - camera.height))
            if beyond < 0.0:
                near_view[i] = True
            else:
                log_scale = max(max(rows[i, LOG_SCALE], rows[i, LOG_SCALE + 1]), rows[i, LOG_SCALE + 2])
                length = norm / z * math.exp(np.float64(log_scale))
                near_view[i] = beyond * beyond < _LONGEST_REACH * (length * length + BLUR)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FLAGS)
def _project(part, parts, rows, indices, camera, splats, depths, spans):  # type: ignore[no-untyped-def]
    """Fill `splats`, `depths` and `spans` for the Gaussians `indices`."""
    for i in range(len(indices) * part // parts, len(indices) * (part + 1) // parts):
        row = read_row(rows, indices[i])
        depths[i] = 0.0
        opacity = 1.0 / (1.0 + math.exp(-row[OPACITY]))
        if not opacity > LEAST_OPACITY:
            continue
        x, y, z = in_camera(row[MEAN], row[MEAN + 1], row[MEAN + 2], camera)
        lens = lens_at(x, y, z, camera)
        quaternion, _ = unit_quaternion(row)
        xx, xy, yy = covariance(axes_of(quaternion), scales_of(row), camera, lens)
        determinant = xx * yy - xy * xy
        centre_x = camera.focal[0] * x / z + camera.centre[0]
        centre_y = camera.focal[1] * y / z + camera.centre[1]
        reach = 2.0 * math.log(opacity / LEAST_OPACITY)  # square of the Mahalanobis distance where it stops counting
        half_height, half_breadth = math.sqrt(reach * yy), math.sqrt(reach * xx)
        top = max(math.ceil(centre_y - half_height - 0.5), 0.0)
        bottom = min(math.floor(centre_y + half_height - 0.5), camera.height - 1.0)
        left = max(math.ceil(centre_x - half_breadth - 0.5), 0.0)
        right = min(math.floor(centre_x + half_breadth - 0.5), camera.width - 1.0)
        if not (top <= bottom and left <= right):
            continue
        depths[i] = z
        spans[i, 0] = int(top)
        spans[i, 1] = int(bottom)
        splats[i, X] = centre_x
        splats[i, Y] = centre_y
        splats[i, XX] = -0.5 * _LOG2_E * yy / determinant
        splats[i, XY] = _LOG2_E * xy / determinant
        splats[i, YY] = -0.5 * _LOG2_E * xx / determinant
        splats[i, LOG_OPACITY] = math.log2(opacity)
        splats[i, RED] = max(0.5 + C0 * row[COLOUR], 0.0)
        splats[i, GREEN] = max(0.5 + C0 * row[COLOUR + 1], 0.0)
        splats[i, BLUE] = max(0.5 + C0 * row[COLOUR + 2], 0.0)
        splats[i, HALF_HEIGHT] = half_height
        splats[i, HALF_WIDTH] = math.sqrt(reach * determinant / yy)
        splats[i, SLANT] = xy / yy


@njit(cache=True)
def read_row(rows, i):  # type: ignore[no-untyped-def]
    """The fourteen numbers of a Gaussian in float64."""
    return (
        np.float64(rows[i, 0]),
        np.float64(rows[i, 1]),
        np.float64(rows[i, 2]),
        np.float64(rows[i, 3]),
        np.float64(rows[i, 4]),
        np.float64(rows[i, 5]),
        np.float64(rows[i, 6]),
        np.float64(rows[i, 7]),
        np.float64(rows[i, 8]),
        np.float64(rows[i, 9]),
        np.float64(rows[i, 10]),
        np.float64(rows[i, 11]),
        np.float64(rows[i, 12]),
        np.float64(rows[i, 13]),
    )


@njit(cache=True, error_model="numpy", fastmath=FLAGS)
def in_camera(x, y, z, camera):  # type: ignore[no-untyped-def]
    """A point of the world in the camera's frame."""
    R, t = camera.rotation, camera.translation
    return (
        R[0] * x + R[1] * y + R[2] * z + t[0],
        R[3] * x + R[4] * y + R[5] * z + t[1],
        R[6] * x + R[7] * y + R[8] * z + t[2],
    )


@njit(cache=True, error_model="numpy", fastmath=FLAGS)
def lens_at(x, y, z, camera):  # type: ignore[no-untyped-def]
    """What the Jacobian at a point takes: focal lengths over depth, and x / z and y / z held near the image."""
    return (
        camera.focal[0] / z,
        camera.focal[1] / z,
        min(max(x / z, camera.least_ratio[0]), camera.most_ratio[0]),
        min(max(y / z, camera.least_ratio[1]), camera.most_ratio[1]),
    )


@njit(cache=True, error_model="numpy", fastmath=FLAGS)
def unit_quaternion(row):  # type: ignore[no-untyped-def]
    """The quaternion w, x, y, z of a Gaussian, and the length that was taken out of it."""
    w, x, y, z = row[QUATERNION], row[QUATERNION + 1], row[QUATERNION + 2], row[QUATERNION + 3]
    length = math.sqrt(w * w + x * x + y * y + z * z)
    return (w / length, x / length, y / length, z / length), length


@njit(cache=True, error_model="numpy", fastmath=FLAGS)
def axes_of(quaternion):  # type: ignore[no-untyped-def]
    """The three axes, in the world, of a Gaussian with a unit quaternion."""
    w, x, y, z = quaternion
    return (
        (1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y)),
        (2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x)),
        (2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y)),
    )


@njit(cache=True, error_model="numpy", fastmath=FLAGS)
def scales_of(row):  # type: ignore[no-untyped-def]
    """The standard deviations of a Gaussian along its axes."""
    return math.exp(row[LOG_SCALE]), math.exp(row[LOG_SCALE + 1]), math.exp(row[LOG_SCALE + 2])


@njit(cache=True, error_model="numpy", fastmath=FLAGS)
def turned(axis, scale, camera):  # type: ignore[no-untyped-def]
    """One axis of a Gaussian, of the length of its standard deviation, in the camera's frame."""
    x, y, z = axis[0] * scale, axis[1] * scale, axis[2] * scale
    R = camera.rotation
    return R[0] * x + R[1] * y + R[2] * z, R[3] * x + R[4] * y + R[5] * z, R[6] * x + R[7] * y + R[8] * z


@njit(cache=True, error_model="numpy", fastmath=FLAGS)
def covariance(axes, scales, camera, lens):  # type: ignore[no-untyped-def]
    """The covariance on the image, square pixels: xx, xy, yy.

    Args:
        axes: of the Gaussian, in the world.
        scales: standard deviations along them.
        camera: who looks.
        lens: at the centre.
    """
    scale_x, scale_y, ratio_x, ratio_y = lens
    a = turned(axes[0], scales[0], camera)
    b = turned(axes[1], scales[1], camera)
    c = turned(axes[2], scales[2], camera)
    ax, ay = scale_x * (a[0] - ratio_x * a[2]), scale_y * (a[1] - ratio_y * a[2])
    bx, by = scale_x * (b[0] - ratio_x * b[2]), scale_y * (b[1] - ratio_y * b[2])
    cx, cy = scale_x * (c[0] - ratio_x * c[2]), scale_y * (c[1] - ratio_y * c[2])
    return (
        ax * ax + bx * bx + cx * cx + BLUR,
        ax * ay + bx * by + cx * cy,
        ay * ay + by * by + cy * cy + BLUR,
    )
