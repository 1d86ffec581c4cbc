"""Between pinhole pictures and equirectangular panoramas that share a centre.

Panoramas follow :class:`worldexplorer.preview.world.World`: row 0 is straight up, the centre column looks forward (-z),
columns run to the right. Azimuth is 0 forward and grows to the right, elevation is 0 at the horizon and grows upward;
both in radians.

Example:
    >>> colours, known = project_photo(photo, hfov_deg=75.0, pitch_deg=0.0, height=1080)   # [1080, 2160, ...]
    >>> view = view_of_panorama(colours, np.eye(3), focal=0.8645833, size=256)             # the photo's square crop
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Images = NDArray[np.uint8]

_OVERSAMPLING = 1.25
"""Photo pixels a panorama pixel at the photo's centre, at most; finer photos are reduced first."""


def azimuths(width: int) -> NDArray[np.float64]:
    """[width] azimuths of the column centres, from just above -pi to just below pi."""
    return ((np.arange(width) + 0.5) / width - 0.5) * (2 * np.pi)


def elevations(height: int) -> NDArray[np.float64]:
    """[height] elevations of the row centres, from just below pi / 2 down to just above -pi / 2."""
    return (0.5 - (np.arange(height) + 0.5) / height) * np.pi


def column_of(azimuth: NDArray[np.floating] | float, width: int) -> Any:
    """Column coordinate (pixel centres at whole numbers, as OpenCV counts) of an azimuth."""
    return (np.asarray(azimuth) / (2 * np.pi) + 0.5) * width - 0.5


def row_of(elevation: NDArray[np.floating] | float, height: int) -> Any:
    """Row coordinate (pixel centres at whole numbers, as OpenCV counts) of an elevation."""
    return (0.5 - np.asarray(elevation) / np.pi) * height - 0.5


def directions(height: int) -> Floats:
    """[height, 2 height, 3] unit vectors in OpenGL axes through the pixel centres of a panorama."""
    across, up = np.meshgrid(azimuths(2 * height), elevations(height))
    return np.stack([np.cos(up) * np.sin(across), np.sin(up), -np.cos(up) * np.cos(across)], axis=-1).astype(np.float32)


def pitch_rotation(pitch_deg: float) -> NDArray[np.float64]:
    """[3, 3] camera-to-level rotation (OpenGL axes) of a camera that looks `pitch_deg` above the horizon."""
    c, s = math.cos(math.radians(pitch_deg)), math.sin(math.radians(pitch_deg))
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def project_pinhole(
    image: Images, rotation: NDArray[np.floating], focal: tuple[float, float], height: int
) -> tuple[Images, NDArray[np.bool_], Floats]:
    """Put a pinhole picture on a panorama that shares its centre.

    Args:
        image: [h, w, 3] uint8.
        rotation: [3, 3] camera-to-world, OpenGL axes.
        focal: focal lengths in units of the picture's width and height; the principal point is the centre.
        height: rows of the panorama, which has twice as many columns.

    Returns:
        Colours [height, 2 height, 3] uint8 (black outside the picture), the bool mask of pixels the picture covers, and
        how far inside the picture each pixel lies (float32, 0 at the border and outside, 1 at the centre).
    """
    image = _reduced(image, focal, height)
    rows, columns = image.shape[:2]
    rays = directions(height) @ rotation.astype(np.float32)  # transpose of the rotation, applied from the left
    depth = -rays[..., 2]
    ahead = depth > 1e-3
    depth[~ahead] = 1.0
    x = focal[0] * rays[..., 0] / depth  # -0.5 to 0.5 inside the picture
    y = -focal[1] * rays[..., 1] / depth
    inside = np.where(ahead, np.minimum(0.5 - np.abs(x), 0.5 - np.abs(y)), -1.0)
    known = inside >= 0
    colours = np.zeros((height, 2 * height, 3), dtype=np.uint8)
    box = (_extent(np.asarray(known.any(axis=1))), _extent(np.asarray(known.any(axis=0))))
    stretch = (focal[0] * columns * math.pi / height / np.maximum(depth[box], 1e-2) ** 2).astype(np.float32)
    colours[box] = _sample((x[box] + 0.5) * columns - 0.5, (y[box] + 0.5) * rows - 0.5, image, stretch)
    colours[~known] = 0
    return colours, known, np.clip(2 * inside, 0, 1).astype(np.float32)


def project_photo(photo: Images, hfov_deg: float, pitch_deg: float, height: int) -> tuple[Images, NDArray[np.bool_]]:
    """Put a photo of square pixels where it was taken: colours [height, 2 height, 3] and the mask of known pixels."""
    focal = 0.5 / math.tan(math.radians(hfov_deg) / 2)
    colours, known, _ = project_pinhole(
        photo, pitch_rotation(pitch_deg), (focal, focal * photo.shape[1] / photo.shape[0]), height
    )
    return colours, known


def view_of_panorama(
    panorama: Images, rotation: NDArray[np.floating], focal: float, size: int, samples: int = 2
) -> Images:
    """The square picture that a pinhole camera at the panorama's centre takes of it.

    Args:
        panorama: [h, 2 h, 3] uint8.
        rotation: [3, 3] camera-to-world, OpenGL axes.
        focal: focal length in units of the picture's side.
        size: pixels a side.
        samples: bilinear samples a pixel and axis, averaged.

    Returns:
        [size, size, 3] uint8.
    """
    height, width = panorama.shape[:2]
    fine = size * samples
    offsets = ((np.arange(fine) + 0.5) / fine - 0.5) / focal
    x, y = np.meshgrid(offsets, -offsets)
    rays = np.stack([x, y, -np.ones_like(x)], axis=-1) @ np.asarray(rotation, dtype=np.float64).T
    across = np.arctan2(rays[..., 0], -rays[..., 2])
    up = np.arctan2(rays[..., 1], np.hypot(rays[..., 0], rays[..., 2]))
    padded = np.concatenate([panorama[:, -1:], panorama, panorama[:, :1]], axis=1)
    picture = cv2.remap(
        padded,
        (column_of(across, width) + 1).astype(np.float32),
        row_of(up, height).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _extent(used: NDArray[np.bool_]) -> slice:
    """The span from the first to the last True."""
    where = np.flatnonzero(used)
    return slice(int(where[0]), int(where[-1]) + 1) if len(where) else slice(0, 0)


def _reduced(image: Images, focal: tuple[float, float], height: int) -> Images:
    """The picture with no more pixels than the panorama can show at its centre."""
    rows, columns = image.shape[:2]
    wanted = _OVERSAMPLING * height / math.pi  # pixels a radian
    size = (min(columns, max(2, round(wanted / focal[0]))), min(rows, max(2, round(wanted / focal[1]))))
    if size == (columns, rows):
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _sample(x: Floats, y: Floats, image: Images, stretch: Floats) -> Images:
    """Colours of the picture at (x, y), from as reduced a copy as asked for, so that stretched borders do not alias.

    `stretch` is in picture pixels a panorama pixel, along the direction in which a pinhole picture is stretched most.
    """
    x, y = x.astype(np.float32), y.astype(np.float32)
    result = cv2.remap(image, x, y, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT_101)
    inside = (x > -1) & (x < image.shape[1]) & (y > -1) & (y < image.shape[0])
    level = 0
    reduced = image
    factor = 1.0
    while min(reduced.shape[:2]) > 8:
        wanted = np.log2(np.maximum(stretch, 1e-6)) - level - 0.6  # detail that Lanczos keeps without aliasing
        wanted[~inside] = 0
        if float(wanted.max()) <= 0:
            break
        reduced = np.asarray(cv2.pyrDown(reduced), dtype=np.uint8)
        level += 1
        factor /= 2
        coarse = cv2.remap(
            reduced,
            (x + 0.5) * factor - 0.5,
            (y + 0.5) * factor - 0.5,
            cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        share = np.clip(wanted, 0, 1)[..., None]
        result = np.rint(result + share * (coarse.astype(np.float32) - result)).astype(np.uint8)
    return np.asarray(result, dtype=np.uint8)
