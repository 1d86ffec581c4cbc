"""The ring's content in varying size, as if it stood nearer here and farther there.

A walk over one photo shows the same things again and again, often mirrored. Where each of them has a size of its own,
this is far less conspicuous. The change is what moving a thing away does: about the horizon the tangent of its
elevation and, along the horizon, its width become smaller together, and so does the elevation of its foot; walls and
floor therefore still fit each other.

Example:
    >>> size = ring_sizes(width=1668, degree=6.0, photo_degrees=82.0, is_outdoor=True, seed=0)
    >>> colours, known, rows = vary_size(colours, known, rows, size)
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from worldexplorer.preview.equirectangular import elevations, row_of

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]

_SPACING_DEGREES = 35.0
_RAMP_DEGREES = 15.0
_SMALLEST_OUTDOORS, _LARGEST_OUTDOORS = 0.9, 1.18
_SMALLEST_INDOORS, _LARGEST_INDOORS = 0.94, 1.12
_NARROW_DEGREES, _LARGEST_ENLARGEMENT = 45.0, 2.5


def ring_sizes(width: int, degree: float, photo_degrees: float, is_outdoor: bool, seed: int) -> Doubles:
    """[width] size of each column of a ring: 1 at both ends, next to the photo, and between them random but smooth.

    Args:
        width: columns of the ring outside the photo.
        degree: columns a degree.
        photo_degrees: the photo's width. Narrow photos are enlarged away from the photo, lest they repeat too often.
        is_outdoor: whether sizes may differ much.
        seed: of the sizes.
    """
    low, high = (_SMALLEST_OUTDOORS, _LARGEST_OUTDOORS) if is_outdoor else (_SMALLEST_INDOORS, _LARGEST_INDOORS)
    random = np.random.default_rng([seed, 1])
    knots = max(2, round(width / degree / _SPACING_DEGREES))
    values = random.uniform(math.log(low), math.log(high), size=knots + 1)
    values[1:-1:2] = np.abs(values[1:-1:2])  # neighbours differ
    values += math.log(np.clip(_NARROW_DEGREES / photo_degrees, 1, _LARGEST_ENLARGEMENT))
    at = np.arange(width) / max(width - 1, 1) * knots
    before = np.minimum(at.astype(np.int64), knots - 1)
    share = at - before
    share = share * share * (3 - 2 * share)
    smooth = values[before] * (1 - share) + values[before + 1] * share
    end = np.minimum(np.arange(width), np.arange(width)[::-1]) / (_RAMP_DEGREES * degree)
    end = np.clip(end, 0, 1)
    return np.asarray(np.exp(smooth * end * end * (3 - 2 * end)))


def vary_size(colours: Floats, known: Mask, rows: Floats, size: Doubles) -> tuple[Floats, Mask, Floats]:
    """Enlarge and shrink parts of a strip smoothly.

    Args:
        colours: [H, n, 3] all rows of a panorama, some of its columns.
        known: [H, n].
        rows: [k, n] values by column, of which the first two are the elevations of foot and top (radians).
        size: [w] size of each column of the result; the sum of 1 / size is about n.

    Returns:
        Arrays of the same kinds with w columns.
    """
    height, count = known.shape
    speed = 1 / size
    place = (np.cumsum(speed) - speed / 2) * (count / speed.sum()) - 0.5
    row = row_of(np.arctan(np.tan(elevations(height))[:, None] / size[None, :]), height).astype(np.float32)
    column = np.ascontiguousarray(np.broadcast_to(place.astype(np.float32), row.shape))
    whole = cv2.remap(known.astype(np.float32), column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    # Unknown pixels next to known ones must not darken them.
    moved = cv2.remap(_grown(colours, known), column, row, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    carried = np.stack([np.interp(place, np.arange(count), values) for values in rows])
    carried[:2] = np.arctan(np.tan(carried[:2]) * size)
    return np.clip(moved, 0, 255), whole > 0.5, carried.astype(np.float32)


def _grown(colours: Floats, known: Mask) -> Floats:
    """The colours, with those of the first and last known pixel of each column repeated beyond them."""
    height = known.shape[0]
    first = np.where(known.any(axis=0), np.argmax(known, axis=0), 0)
    last = np.where(known.any(axis=0), height - 1 - np.argmax(known[::-1], axis=0), height - 1)
    source = np.clip(np.arange(height)[:, None], first, last)
    return colours[source, np.arange(known.shape[1])[None, :]]
