"""Cameras: intrinsics, axis conventions, turns, rays and poses.

Frames. A pose is a camera-to-world matrix `c2w` [4, 4]. OpenGL axes: x right, y up, z backward. OpenCV axes: x right,
y down, z forward. Both describe one camera by c2w_cv = c2w_gl @ diag(1, -1, -1, 1). Intrinsics are normalised: their
first row is divided by the image's width, the second by its height. The centre of the pixel in column u, row v lies
at (u + 0.5, v + 0.5). Functions take any number of leading dimensions unless a shape says otherwise; all results are
float64.

Example:
    >>> left = pose(yaw_matrix(90.0), [0.0, 0.0, 0.0])                       # looks along -x of the scene
    >>> rays = camera_rays(normalised_intrinsics(), 576, 576) @ left[:3, :3].T
    >>> round(horizontal_fov(normalised_intrinsics()), 2)
    60.08
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldexplorer.errors import DefectError

Floats = NDArray[np.float64]

FOCAL_NORMALISED = 0.8645833134651184
"""Focal length of every view of the pipeline over its width: 498 of 576 pixels, as float32 has it."""

_FLIP = np.array([1.0, -1.0, -1.0, 1.0])


def normalised_intrinsics(focal: float = FOCAL_NORMALISED) -> Floats:
    """Normalised intrinsics [3, 3] of a square image with its principal point in the middle.

    Args:
        focal: focal length over the image's width.

    Raises:
        DefectError: the focal length is not a positive number.
    """
    if not (np.isfinite(focal) and focal > 0.0):
        raise DefectError(f"a focal length must be a positive number; it is {focal}")
    return np.array([[focal, 0.0, 0.5], [0.0, focal, 0.5], [0.0, 0.0, 1.0]])


def pixel_intrinsics(normalised: ArrayLike, width: int, height: int) -> Floats:
    """Intrinsics in pixels of an image of the given size.

    Args:
        normalised: [..., 3, 3] normalised intrinsics.
        width: of the image, pixels.
        height: of the image, pixels.

    Returns:
        [..., 3, 3].

    Raises:
        DefectError: a shape or a size is wrong.
    """
    _require_size(width, height)
    K = _trailing(normalised, (3, 3), "intrinsics")
    return np.asarray(K * np.array([[float(width)], [float(height)], [1.0]]), dtype=np.float64)


def horizontal_fov(intrinsics: ArrayLike) -> float:
    """The angle between the rays through the middles of the left and the right border, in degrees.

    Args:
        intrinsics: [3, 3] normalised, without skew.

    Raises:
        DefectError: the intrinsics are not one matrix with positive focal lengths.
    """
    K = _one_camera(intrinsics)
    return float(np.degrees(np.arctan2(K[0, 2], K[0, 0]) + np.arctan2(1.0 - K[0, 2], K[0, 0])))


def focal_of_horizontal_fov(degrees: float) -> float:
    """The focal length over the image's width whose horizontal field of view is `degrees`.

    Raises:
        DefectError: the angle is not between 0 and 180.
    """
    if not 0.0 < degrees < 180.0:
        raise DefectError(f"a horizontal field of view must lie between 0 and 180 degrees; it is {degrees}")
    return float(0.5 / np.tan(np.radians(degrees) / 2.0))


def opengl_to_opencv(c2w: ArrayLike) -> Floats:
    """The same cameras with OpenCV axes; the scene frame stays.

    Args:
        c2w: [..., 4, 4] camera-to-world, OpenGL axes.
    """
    return _flipped(c2w)


def opencv_to_opengl(c2w: ArrayLike) -> Floats:
    """The same cameras with OpenGL axes; the scene frame stays.

    Args:
        c2w: [..., 4, 4] camera-to-world, OpenCV axes.
    """
    return _flipped(c2w)


def yaw_matrix(degrees_left: ArrayLike) -> Floats:
    """Turn about the up axis, positive to the left (OpenGL axes).

    Args:
        degrees_left: [...] angles.

    Returns:
        [..., 3, 3].
    """
    return _axis_turn(degrees_left, 2, 0)


def pitch_matrix(degrees_up: ArrayLike) -> Floats:
    """Turn about the right axis, positive upwards (OpenGL axes).

    Args:
        degrees_up: [...] angles.

    Returns:
        [..., 3, 3].
    """
    return _axis_turn(degrees_up, 1, 2)


def yaw_degrees(rotations: ArrayLike) -> Floats:
    """How far to the left cameras look; the inverse of :func:`yaw_matrix`, whatever their pitch and roll are.

    Args:
        rotations: [..., 3, 3] camera-to-world rotations, OpenGL axes.

    Returns:
        [...] degrees from -180 to 180; without meaning for a camera that looks straight up or down.
    """
    R = _trailing(rotations, (3, 3), "rotations")
    return np.asarray(np.degrees(np.arctan2(R[..., 0, 2], R[..., 2, 2])), dtype=np.float64)


def pose(rotation: ArrayLike, position: ArrayLike) -> Floats:
    """Camera-to-world matrices.

    Args:
        rotation: [..., 3, 3] camera-to-world.
        position: [..., 3] camera centres; the leading dimensions of both broadcast.

    Returns:
        [..., 4, 4].

    Raises:
        DefectError: a shape is wrong.
    """
    R = _trailing(rotation, (3, 3), "rotation")
    t = _trailing(position, (3,), "position")
    leading = np.broadcast_shapes(R.shape[:-2], t.shape[:-1])
    c2w = np.zeros((*leading, 4, 4))
    c2w[..., :3, :3] = R
    c2w[..., :3, 3] = t
    c2w[..., 3, 3] = 1.0
    return c2w


def look_at(position: ArrayLike, target: ArrayLike, up: ArrayLike = (0.0, 1.0, 0.0)) -> Floats:
    """Poses of cameras that look at a point.

    Args:
        position: [..., 3] camera centres.
        target: [..., 3] points that come to lie in the middle of the image.
        up: [..., 3] the direction that is to appear upwards.

    Returns:
        [..., 4, 4] camera-to-world, OpenGL axes.

    Raises:
        DefectError: a camera stands on its target, or looks along `up`.
    """
    centre = _trailing(position, (3,), "position")
    backward = centre - _trailing(target, (3,), "target")
    upward = _trailing(up, (3,), "up")
    right = np.cross(upward, backward)
    distance, across = np.linalg.norm(backward, axis=-1), np.linalg.norm(right, axis=-1)
    if not (distance > 0.0).all():
        raise DefectError("a camera stands on the point that it is to look at")
    if not (across > 1e-9 * distance * np.linalg.norm(upward, axis=-1)).all():
        raise DefectError("a camera looks along its up direction, so its roll is not stated")
    z = backward / distance[..., None]
    x = right / across[..., None]
    return pose(np.stack([x, np.cross(z, x), z], axis=-1), centre)


def camera_rays(intrinsics: ArrayLike, width: int, height: int) -> Floats:
    """The viewing direction of every pixel's centre.

    Args:
        intrinsics: [3, 3] normalised.
        width: of the image, pixels.
        height: of the image, pixels.

    Returns:
        [height, width, 3] unit vectors in the camera's OpenGL axes; multiply a ray by range, or divide it by its -z
        and multiply it by z-depth, to get a point.

    Raises:
        DefectError: a size is not positive, or the intrinsics are not one matrix with positive focal lengths.
    """
    _require_size(width, height)
    K = _one_camera(intrinsics)
    across, down = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    rays = np.stack([across, down, np.ones_like(across)], axis=-1) @ np.linalg.inv(K).T * _FLIP[:3]
    return np.asarray(rays / np.linalg.norm(rays, axis=-1, keepdims=True), dtype=np.float64)


def _flipped(c2w: ArrayLike) -> Floats:
    # + 0.0: no negative zeros in files of poses
    return np.asarray(_trailing(c2w, (4, 4), "c2w") * _FLIP + 0.0, dtype=np.float64)


def _axis_turn(degrees: ArrayLike, first: int, second: int) -> Floats:
    """Turns that carry axis `first` towards axis `second`."""
    angles = np.radians(np.asarray(degrees, dtype=np.float64))
    turn = np.zeros((*angles.shape, 3, 3))
    turn[..., range(3), range(3)] = 1.0
    turn[..., first, first] = turn[..., second, second] = np.cos(angles)
    turn[..., second, first] = np.sin(angles)
    turn[..., first, second] = -np.sin(angles)
    return turn


def _one_camera(intrinsics: ArrayLike) -> Floats:
    K = _trailing(intrinsics, (3, 3), "intrinsics")
    if K.ndim != 2 or not np.isfinite(K).all() or (np.diagonal(K) <= 0.0).any() or (K[2] != (0.0, 0.0, 1.0)).any():
        raise DefectError(f"intrinsics must be one matrix [3, 3] with positive focal lengths; got {K.tolist()}")
    return K


def _trailing(values: ArrayLike, shape: tuple[int, ...], name: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.shape[-len(shape) :] != shape:
        raise DefectError(f"{name} must end in the dimensions {list(shape)}; the shape is {list(array.shape)}")
    return array


def _require_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise DefectError(f"an image must have at least one pixel; the size is {width} x {height}")
