"""How far each direction of a panorama is, in closed form: a floor, vertical walls, and a sky dome or a flat ceiling.

Every direction has one range. The floor is the plane 1.5 m below the camera, each column has a wall at one horizontal
distance, the sky is a dome 25 m away and a ceiling is one plane. The layout is a prior (see
:mod:`worldexplorer.preview.layout_prior`), so these are plausible distances, not measured ones.

Example:
    >>> range_m = range_map(layout, height=1080)
    >>> backdrop, backdrop_range_m = backdrop_layer(panorama, range_m, layout)
    >>> bool((backdrop_range_m >= range_m).all())
    True
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from worldexplorer.preview.equirectangular import elevations
from worldexplorer.preview.layout_prior import Layout

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Images = NDArray[np.uint8]
Mask = NDArray[np.bool_]

CAMERA_HEIGHT = 1.5
"""Metres from the floor to the camera."""
SKY_RANGE = 25.0
"""Metres to the sky."""
NEAREST_WALL, FARTHEST_WALL = 1.4, 10.0
"""Metres between which walls stand."""

_SMOOTHING_DEGREES = 2.0
_SILHOUETTE_DEGREES = 0.7
_CUT_OFF_DEGREES = 4.0
_CEILING_LOWEST, _CEILING_HIGHEST = 0.8, 6.0
_BEHIND_DEGREES = 30.0
_HORIZON_DEGREES = math.degrees(math.atan2(CAMERA_HEIGHT, FARTHEST_WALL))
_SKYLINE_DEGREES = 3.0
_SKYLINE_BLEND_DEGREES = 4.0


def range_map(layout: Layout, height: int) -> Floats:
    """[height, 2 height] float32 metres along each pixel's ray."""
    return _ranges(layout, wall_distances(layout), height)


def wall_distances(layout: Layout) -> Doubles:
    """[W] horizontal distance (metres) of the wall of each column, smooth along the ring."""
    distance = np.clip(CAMERA_HEIGHT / np.tan(np.maximum(-layout.foot, 1e-3)), NEAREST_WALL, FARTHEST_WALL)
    degree = len(distance) / 360
    steady = scipy.ndimage.median_filter(np.log(distance), size=2 * round(1.5 * degree) + 1, mode="wrap")
    return np.asarray(np.exp(scipy.ndimage.gaussian_filter1d(steady, _SMOOTHING_DEGREES * degree, mode="wrap")))


def backdrop_layer(panorama: Images, range_m: Floats, layout: Layout) -> tuple[Images, Floats]:
    """What is behind the near surfaces: [H, W, 3] uint8 colours and [H, W] float32 metres.

    Outdoors it is the same place without its walls: floor to the horizon below the sky, where it has the colours of
    the walls' tops. Indoors each wall stands as far
    away as the farthest within thirty degrees. Where a surface of this layer can be seen from the camera it has the
    panorama's colour, and elsewhere that of such places around, blended over growing distances.
    """
    height = range_m.shape[0]
    degree = height / 180
    if layout.is_outdoor:
        behind = _floor_and_sky(height)
    else:
        size = 2 * round(_BEHIND_DEGREES * degree) + 1
        farthest = scipy.ndimage.maximum_filter1d(wall_distances(layout), size, mode="wrap")
        farthest = scipy.ndimage.gaussian_filter1d(farthest, _SMOOTHING_DEGREES * 2 * degree, mode="wrap")
        behind = _ranges(layout, farthest, height)
    behind = np.maximum(behind, range_m)
    visible = behind <= range_m * 1.02
    middle = height // 2
    colours = panorama.astype(np.float32)
    if layout.is_outdoor:
        # The ground grows towards the horizon into what the walls end in, not into what lies before the camera.
        band = slice(middle, middle + max(1, round(_HORIZON_DEGREES * degree)))
        hidden = ~visible[band]
        colours[band][hidden] = np.broadcast_to(_skyline(colours, layout), colours[band].shape)[hidden]
        visible[band] = True
    for half in (slice(0, middle), slice(middle, height)):  # what is below the horizon says nothing about the sky
        if visible[half].any():
            colours[half] = _extended(colours[half], visible[half])
    return np.clip(np.rint(colours), 0, 255).astype(np.uint8), behind.astype(np.float32)


def _skyline(colours: Floats, layout: Layout) -> Floats:
    """[W, 3] mean colour of each column just below the top of its wall, blended with its neighbours'."""
    height = len(colours)
    degree = height / 180
    up = elevations(height)[:, None]
    near = (up < layout.top[None, :]) & (up > layout.top[None, :] - math.radians(_SKYLINE_DEGREES))
    count = np.maximum(near.sum(axis=0), 1)[:, None]
    mean = (colours * near[..., None]).sum(axis=0) / count
    return np.asarray(scipy.ndimage.gaussian_filter1d(mean, _SKYLINE_BLEND_DEGREES * degree, axis=0, mode="wrap"))


def _floor_and_sky(height: int) -> Floats:
    """[height, 2 height] ranges of an empty place outdoors."""
    down = np.maximum(-elevations(height), 1e-6)
    column = np.minimum(CAMERA_HEIGHT / np.sin(down), SKY_RANGE)
    return np.broadcast_to(column[:, None], (height, 2 * height)).astype(np.float32)


def _ranges(layout: Layout, distance: Doubles, height: int) -> Floats:
    """[height, 2 height] ranges for walls at the given horizontal distances."""
    up = elevations(height)[:, None]
    floor = CAMERA_HEIGHT / np.maximum(np.sin(-up), 1e-6)
    wall = distance[None, :] / np.cos(up)
    ranges = np.minimum(floor, wall)
    if layout.is_outdoor:
        degree = height / 180
        top = layout.top + np.where(layout.top_seen, 0.0, math.radians(_CUT_OFF_DEGREES))
        # A rim of sky that moves with a wall is not noticed; a rim of wall that stays in the sky is.
        top = scipy.ndimage.maximum_filter1d(top, 2 * round(_SILHOUETTE_DEGREES * degree) + 1, mode="wrap")
        ranges = np.where(up > top[None, :] + math.radians(_SILHOUETTE_DEGREES), SKY_RANGE, ranges)
    else:
        ranges = np.minimum(ranges, _ceiling(layout) / np.maximum(np.sin(up), 1e-6))
    return np.minimum(ranges, SKY_RANGE).astype(np.float32)


def _ceiling(layout: Layout) -> float:
    """Height of the ceiling above the camera in metres: where most walls end, or above all that can be seen of them."""
    height = wall_distances(layout) * np.tan(np.minimum(layout.top, math.radians(80)))
    if layout.top_seen.mean() > 0.1:
        return float(np.clip(np.percentile(height[layout.top_seen], 60), _CEILING_LOWEST, _CEILING_HIGHEST))
    return float(np.clip(np.percentile(height, 80), 1.2, _CEILING_HIGHEST))


def _extended(colours: Floats, visible: Mask) -> Floats:
    """Colours of the visible pixels, and in the others a blend of visible ones around (a pull-push pyramid)."""
    height, width = visible.shape
    around = width // 4
    small = ((width + 2 * around) // 4, max(1, height // 4))
    weight = visible.astype(np.float32)
    weighted = np.dstack([colours * weight[..., None], weight])
    filled = _pulled(_resized(np.concatenate([weighted[:, -around:], weighted, weighted[:, :around]], axis=1), small))
    filled = _resized(filled, (width + 2 * around, height))[:, around : around + width]
    inner = cv2.blur(cv2.erode(weight, np.ones((3, 3), np.uint8), borderValue=1), (5, 5)) * weight
    return np.asarray(filled + inner[..., None] * (colours - filled), dtype=np.float32)


def _pulled(weighted: Floats) -> Floats:
    """[h, w, 3] colours of [h, w, 4] weighted colours and weights; where these are 0, from ever coarser levels."""
    weight = weighted[..., 3:]
    own = weighted[..., :3] / np.maximum(weight, 1e-4)
    height, width = weight.shape[:2]
    if min(height, width) <= 2 or float(weight.min()) > 0.5:
        mean = weighted.sum(axis=(0, 1))
        return np.asarray(np.where(weight > 1e-3, own, mean[:3] / max(mean[3], 1e-6)), dtype=np.float32)
    coarse = _pulled(_resized(weighted, (width // 2, height // 2)))
    smooth = cv2.GaussianBlur(_resized(coarse, (width, height)), (0, 0), 1.0)
    return np.asarray(smooth + np.clip(weight * 2, 0, 1) * (own - smooth), dtype=np.float32)


def _resized(image: Floats, size: tuple[int, int]) -> Floats:
    """The image at another size (columns, rows): averaged where it becomes smaller, interpolated where larger."""
    smaller = size[0] <= image.shape[1]
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.float32)
