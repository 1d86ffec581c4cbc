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
_STEP_PRICE = 0.3
_CREASE_DEGREES, _CREASE_SMOOTHING_DEGREES = 16.0, 1.2
_CREASE_UNLIKE, _CREASE_ROUGH = 14.0, 5.0


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
        np.concatenate([total, counted], axis=1),
        (1, 2 * round(9 * rows_per_degree) + 1),
        sigmaX=1,
        sigmaY=3 * rows_per_degree,
        borderType=cv2.BORDER_REFLECT_101,
    )
    mean = smooth[:, :3] / np.maximum(smooth[:, 3:4], 1e-6)
    agreement = smooth[:, 3:4] / np.maximum(smooth[:, 4:5], 1e-6)
    return np.asarray(mean * np.clip(agreement * 1.5, 0, 1), dtype=np.float32)


def seam_share(left: Floats, right: Floats, left_known: Mask, right_known: Mask) -> Floats:
    """[H, w] share of the right strip: 0 left of the vertical cut that shows least, 1 right of it, feathered.

    The cut moves by at most one column a row (the dynamic programme of Efros and Freeman, "Image quilting", 2001).
    """
    rows, width = left_known.shape
    difference = np.linalg.norm(left - right, axis=-1)
    cost = cv2.blur(difference, (3, 3)) + 1.0
    cost[~(left_known & right_known)] = 1.0
    middle = np.abs(np.arange(width) - (width - 1) / 2) / width
    cost = cost * (1 + 0.3 * middle)[None, :]
    total = np.full((rows, width + 2), np.inf)
    total[:, 1:-1] = cost
    for row in range(1, rows):
        above = total[row - 1]
        total[row, 1:-1] += np.minimum(np.minimum(above[:-2], above[2:]) + _STEP_PRICE, above[1:-1])
    total = total[:, 1:-1]
    cut = np.zeros(rows, dtype=np.int64)
    cut[-1] = int(np.argmin(total[-1]))
    for row in range(rows - 2, -1, -1):
        first = max(0, cut[row + 1] - 1)
        cut[row] = first + int(np.argmin(total[row, first : cut[row + 1] + 2]))
    across = np.arange(width)[None, :] - cut[:, None]
    share = 1 / (1 + np.exp(-across / _FEATHER_PIXELS))
    share = (share - share[:, :1]) / np.maximum(share[:, -1:] - share[:, :1], 1e-6)  # exactly 0 and 1 at the ends
    return np.asarray(share, dtype=np.float32)


def go_on_smoothly(strip: Floats, known: Mask, degree: float) -> None:
    """Let smooth areas of a mirrored strip go on as they came, so that a mirror in a sky shows no crease; in place.

    A mirror turns a gradient round. Where the strip is smooth and near the colour of the edge, the gradient is turned
    back: value and slope are continuous at the edge, and the strip's own some way off.

    Args:
        strip: [H, w, 3] colours, whose first column mirrors the edge.
        known: [H, w].
        degree: pixels a degree.
    """
    length = min(strip.shape[1], round(_CREASE_DEGREES * degree))
    part, part_known = strip[:, :length], known[:, :length]
    sigma = _CREASE_SMOOTHING_DEGREES * degree
    # Continued beyond the edge by point reflection, which keeps a gradient's slope up to the edge.
    margin = min(length - 1, round(3 * sigma))
    if margin < 1:
        return
    beyond = slice(margin, 0, -1)
    weight = np.concatenate([part_known[:, beyond] & part_known[:, :1], part_known], axis=1).astype(np.float32)
    longer = np.concatenate([2 * part[:, :1] - part[:, beyond], part], axis=1) * weight[..., None]
    blurred_weight = np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma, borderType=cv2.BORDER_REFLECT), 1e-3)
    smooth = cv2.GaussianBlur(longer, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) / blurred_weight[..., None]
    rough = np.abs(longer - smooth).max(axis=-1) * weight
    rough = cv2.GaussianBlur(rough, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) / blurred_weight
    smooth, rough, sure = smooth[:, margin:], rough[:, margin:], blurred_weight[:, margin:] > 0.3
    away = smooth[:, :1] - smooth
    unlike = np.abs(away).max(axis=-1)
    trust = np.exp(-((unlike / _CREASE_UNLIKE) ** 2) - (rough / _CREASE_ROUGH) ** 2) * sure
    trust = cv2.GaussianBlur(trust.astype(np.float32), (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    trust = np.minimum.accumulate(trust, axis=1)  # nothing goes on behind something that stands in between
    share = 1 - np.arange(length, dtype=np.float32) / length
    share = share * share * (3 - 2 * share)
    part += 2 * away * (share * trust)[..., None]
    np.clip(part, 0, 255, out=part)
