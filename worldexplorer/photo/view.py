"""View 000 out of a photo: which field of view the photo has, and its middle at the scaffold camera's.

A photo rarely says how wide it sees. By convention its square centre crop *is* view 000, so the whole photo's
horizontal field of view follows from its shape. Where the person states the true angle, the photo is scaled about its
centre to the scaffold camera's focal length instead, and what it does not cover is left to be generated. The optical
axis goes through the centre of the photo in both cases.

Example:
    >>> round(photo_hfov(640, 427), 1)
    81.8
    >>> image, covered = view_zero(photo, 45.0, 576)
    >>> bool(covered.all())
    False
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from worldexplorer.errors import UserError
from worldexplorer.geometry.cameras import FOCAL_NORMALISED, focal_of_horizontal_fov

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROUNDING = 1e-9
"""View pixels by which an edge of the photo may seem to be missed."""


def photo_focal(width: int, height: int, hfov_deg: float | None = None) -> float:
    """The photo's focal length in its own pixels.

    Args:
        width: of the whole photo, pixels.
        height: of the whole photo, pixels.
        hfov_deg: its true horizontal field of view in degrees, or None for the convention.
    """
    if hfov_deg is None:
        return FOCAL_NORMALISED * min(width, height)
    return focal_of_horizontal_fov(hfov_deg) * width


def photo_hfov(width: int, height: int, hfov_deg: float | None = None) -> float:
    """The whole photo's horizontal field of view in degrees; arguments as for :func:`photo_focal`."""
    return math.degrees(2.0 * math.atan2(width / 2.0, photo_focal(width, height, hfov_deg)))


def square_crop(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle square in whole pixels.

    Where the sides differ by an odd number, its centre lies half a pixel left of or above the photo's; use
    :func:`view_zero` for anything that is measured.

    Args:
        photo: [H, W, 3].

    Returns:
        [s, s, 3], a view of `photo`, where s is the shorter side.
    """
    height, width = photo.shape[:2]
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return photo[top : top + side, left : left + side]


def view_zero(
    photo: NDArray[np.uint8], hfov_deg: float | None, size: int, focal: float = FOCAL_NORMALISED
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """What the scaffold camera 000 sees of the photo.

    Scaling about the centre is the whole homography, for the two cameras share centre and axes. Filtered with an
    antialiasing Lanczos kernel; only pixels of the photo enter.

    Args:
        photo: [H, W, 3] uint8.
        hfov_deg: the whole photo's true horizontal field of view, or None for the convention, under which the photo's
            square middle fills the view of the scaffold camera.
        size: width and height of the view, pixels.
        focal: of the view, in its widths; the scaffold camera's unless given.

    Returns:
        The view [size, size, 3] uint8, black where it is not covered, and `covered` [size, size] bool: pixels that lie
        in the photo with their whole area.

    Raises:
        UserError: the photo covers no pixel of the view.
    """
    height, width = photo.shape[:2]
    side = photo_focal(width, height, hfov_deg) / focal
    columns, left, right = _covered(width, side, size)
    rows, top, bottom = _covered(height, side, size)
    view = np.zeros((size, size, 3), np.uint8)
    covered = np.zeros((size, size), np.bool_)
    if columns.start >= columns.stop or rows.start >= rows.stop:
        raise UserError(
            f"at {hfov_deg:g} degrees across the photo of {width}x{height} pixels covers nothing of view 000"
            if hfov_deg is not None
            else f"the photo of {width}x{height} pixels covers nothing of view 000",
            where="--hfov",
            remedy="state the whole photo's true horizontal field of view, or leave --hfov out",
        )
    shape = (columns.stop - columns.start, rows.stop - rows.start)
    resized = Image.fromarray(photo).resize(shape, Image.Resampling.LANCZOS, box=(left, top, right, bottom))
    view[rows, columns] = np.asarray(resized)
    covered[rows, columns] = True
    return view, covered


def _covered(extent: int, side: float, size: int) -> tuple[slice, float, float]:
    """The view's pixels that lie wholly in the photo along one axis, and where these begin and end in the photo.

    Args:
        extent: of the photo, its pixels.
        side: of the view, in the photo's pixels, about the photo's centre.
        size: of the view, its pixels.
    """
    margin = max(0, math.ceil(size / 2.0 * (1.0 - extent / side) - _ROUNDING * size))
    half = side * (0.5 - margin / size)
    return slice(margin, size - margin), max(0.0, extent / 2.0 - half), min(float(extent), extent / 2.0 + half)
