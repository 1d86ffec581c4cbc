"""Joining two overlapping strips of a panorama so that the seam does not show.

Example:
    >>> offset = level_difference(left, right, left_known, right_known, rows_per_degree=6.0)   # [H, 3]
    >>> share = seam_share(left + offset[:, None], right, left_known, right_known)             # [H, w], 0 left, 1 right
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_TRUSTED_DIFFERENCE = 30.0
_FEATHER_PIXELS = 2.0


def level_difference(
    left: Floats, right: Floats, left_known: Mask, right_known: Mask, rows_per_degree: float
) -> Floats:
    """How much brighter or more coloured the right strip is than the left one, row by row.

    Differences of whole objects are no differences of level: what is much larger than usual between two parts of one
    sky or wall fades to nothing.

    Args:
        left: [H, w, 3] colours, 0 to 255.
        right: [H, w, 3].
        left_known: [H, w].
        right_known: [H, w].
        rows_per_degree: rows a degree of elevation.

    Returns:
        [H, 3] float32, smooth along the rows.
    """
    both = (left_known & right_known).astype(np.float32)
    difference = (right - left) * both[..., None]
    size = np.linalg.norm(difference, axis=-1)
    trust = both * np.exp(-((size / _TRUSTED_DIFFERENCE) ** 2))
    total = np.concatenate([(difference * trust[..., None]).sum(axis=1), trust.sum(axis=1)[:, None]], axis=1)
    counted = both.sum(axis=1)[:, None]
    smooth = cv2.GaussianBlur(
        np.concatenate([total, counted], axis=1), (1, 2 * round(9 * rows_per_degree) + 1), sigmaX=1,
        sigmaY=3 * rows_per_degree, borderType=cv2.BORDER_REFLECT_101,
    )
    mean = smooth[:, :3] / np.maximum(smooth[:, 3:4], 1e-6)
    agreement = smooth[:, 3:4] / np.maximum(smooth[:, 4:5], 1e-6)
    return np.asarray(mean * np.clip(agreement * 1.5, 0, 1), dtype=np.float32)


def seam_share(left: Floats, right: Floats, left_known: Mask, right_known: Mask) -> Floats:
    """[H, w] share of the right strip: 0 left of the vertical cut of least visible difference, 1 right of it, feathered.

    The cut moves by at most one column a row (the dynamic programme of Efros and Freeman, "Image quilting", 2001).
    """
    rows, width = left_known.shape
    difference = np.linalg.norm(left - right, axis=-1)
    cost = cv2.blur(difference, (3, 3)) + 1.0
    cost[~(left_known & right_known)] = 1.0
    middle = np.abs(np.arange(width) - (width - 1) / 2) / width
    cost = cost * (1 + 0.3 * middle)[None, :]
    total = cost.astype(np.float64)
    for row in range(1, rows):
        above = np.pad(total[row - 1], 1, constant_values=np.inf)
        total[row] += np.minimum(np.minimum(above[:-2], above[2:]) + 0.3, above[1:-1])
    cut = np.zeros(rows, dtype=np.int64)
    cut[-1] = int(np.argmin(total[-1]))
    for row in range(rows - 2, -1, -1):
        first = max(0, cut[row + 1] - 1)
        cut[row] = first + int(np.argmin(total[row, first : cut[row + 1] + 2]))
    across = np.arange(width)[None, :] - cut[:, None]
    share = 1 / (1 + np.exp(-across / _FEATHER_PIXELS))
    share = (share - share[:, :1]) / np.maximum(share[:, -1:] - share[:, :1], 1e-6)  # exactly 0 and 1 at the ends
    return np.asarray(share, dtype=np.float32)
