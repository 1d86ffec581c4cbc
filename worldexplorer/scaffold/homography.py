"""One picture seen by a camera that stands where it was taken and looks elsewhere.

Two cameras with one centre see the same rays, so what one shows the other by is a homography: K R K^-1, whatever the
scene's depth is (Hartley and Zisserman, Multiple View Geometry, 2nd edition, section 8.4). Pixels are sampled
bilinearly about their centres at +0.5; half a pixel along the picture's border repeats its outermost pixels.

Example:
    >>> values, covered = turned_view(picture, ring[2], ring[1], normalised_intrinsics(), 576)
    >>> round(float(covered.mean()), 3)
    0.262
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from worldexplorer.errors import DefectError
from worldexplorer.geometry.cameras import opengl_to_opencv

if TYPE_CHECKING:
    from worldexplorer.engine import Picture, Poses

_SAME_CENTRE = 1e-9
"""Trajectory units by which two centres may differ through rounding."""


def turn_homography(source: Poses, target: Poses, intrinsics: Poses) -> Poses:
    """Where the points of one camera's picture lie in another's.

    Args:
        source: [4, 4] OpenGL camera-to-world of the camera whose picture is there.
        target: [4, 4] of the camera that looks elsewhere, from the same centre.
        intrinsics: [3, 3] normalised, of both.

    Returns:
        [3, 3]: takes normalised target points (x, y, 1) to homogeneous normalised source points, whose third entry is
        positive in front of the source camera.

    Raises:
        DefectError: the centres differ, so that depth would matter.
    """
    distance = float(np.linalg.norm(source[:3, 3] - target[:3, 3]))
    if distance > _SAME_CENTRE:
        raise DefectError(f"two views with centres {distance:g} apart are not related by a homography")
    rotation = opengl_to_opencv(source)[:3, :3].T @ opengl_to_opencv(target)[:3, :3]
    return np.asarray(intrinsics @ rotation @ np.linalg.inv(intrinsics), dtype=np.float64)


def turned_view(
    picture: Picture, source: Poses, target: Poses, intrinsics: Poses, size: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """What the target camera sees of the source camera's picture.

    Args:
        picture: [S, S, 3] uint8.
        source: see :func:`turn_homography`.
        target: see :func:`turn_homography`.
        intrinsics: see :func:`turn_homography`.
        size: width and height of the result, pixels.

    Returns:
        Values [size, size, 3] float64 on the scale of the picture, 0 where it shows nothing, and `covered`
        [size, size] bool: pixels whose centre lies in the picture.
    """
    centres = (np.arange(size) + 0.5) / size
    across, down = np.meshgrid(centres, centres)
    points = np.stack([across, down, np.ones_like(across)], axis=-1) @ turn_homography(source, target, intrinsics).T
    in_front = points[..., 2] > 0.0
    places = points[..., :2] / np.where(in_front, points[..., 2], 1.0)[..., None]
    covered = in_front & (places >= 0.0).all(axis=-1) & (places <= 1.0).all(axis=-1)
    values = np.zeros((size, size, 3))
    values[covered] = _bilinear(picture, places[covered])
    return values, covered


def _bilinear(picture: Picture, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values [N, 3] at normalised places [N, 2] (x, y)."""
    height, width = picture.shape[:2]
    extent = np.array([width, height])
    position = np.clip(places * extent - 0.5, 0.0, extent - 1.0)
    low = np.minimum(position.astype(np.int64), np.maximum(extent - 2, 0))
    high = np.minimum(low + 1, extent - 1)
    (right, lower) = (position - low).T[..., None]
    pixels = picture.astype(np.float64)
    upper_row = pixels[low[:, 1], low[:, 0]] * (1.0 - right) + pixels[low[:, 1], high[:, 0]] * right
    lower_row = pixels[high[:, 1], low[:, 0]] * (1.0 - right) + pixels[high[:, 1], high[:, 0]] * right
    return np.asarray(upper_row * (1.0 - lower) + lower_row * lower, dtype=np.float64)
