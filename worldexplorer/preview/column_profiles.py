"""What the column walk needs to know of a photo: which columns go together, and which catch the eye.

Example:
    >>> profiles = column_profiles(source_colours, source_known, layout, columns=82)
    >>> profiles.mismatch.shape
    (82, 82)
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from worldexplorer.preview.column_walk import Profiles
from worldexplorer.preview.equirectangular import elevations
from worldexplorer.preview.layout_prior import Layout

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]

_BINS = 90
_IMPORTANT_DEGREES = 25.0
_VISIBLE_DIFFERENCE, _LARGEST_DIFFERENCE = 14.0, 40.0
_DISTANCE_WEIGHT = 0.6
_HEIGHT_DEGREES = 15.0
_NEAREST_HORIZON = math.radians(8.5)
"""Feet nearer to the horizon than this belong to walls that all stand equally far away."""
_DETAIL, _UNUSUAL, _CENTRAL = 0.4, 0.35, 0.25


def column_profiles(colours: Floats, known: Mask, layout: Layout, columns: int) -> Profiles:
    """Mismatch and saliency of a photo's columns.

    Two columns mismatch by their colours and detail at equal elevations (those near the horizon count most), the
    distances of their walls and the heights at which these end. A column is salient by its detail, by how unlike the
    others it is, and by being in the middle: people point cameras at their subject.

    Args:
        colours: [H, n, 3] float32, 0 to 255, H rows from straight up to straight down.
        known: [H, n] bool.
        layout: of the n columns.
        columns: how many columns the walk counts.
    """
    size = (columns, _BINS)
    weight = cv2.resize(known.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(colours / 255, cv2.COLOR_RGB2LAB) * known[..., None]
    mean = cv2.resize(lab, size, interpolation=cv2.INTER_AREA) / np.maximum(weight, 1e-3)[..., None]
    inner = cv2.erode(known.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=1)
    steep = np.abs(cv2.Sobel(lab[..., 0], cv2.CV_32F, 1, 0)) * inner / 8
    detail = cv2.resize(steep, size, interpolation=cv2.INTER_AREA) / np.maximum(weight, 1e-3)
    importance = np.exp(-((elevations(_BINS) / math.radians(_IMPORTANT_DEGREES)) ** 2))[:, None] * (weight > 0.5)

    both = np.minimum(importance[:, :, None], importance[:, None, :])
    apart = np.linalg.norm(mean[:, :, None] - mean[:, None, :], axis=-1)
    apart += np.abs(detail[:, :, None] - detail[:, None, :])
    mismatch = (np.minimum(apart, _LARGEST_DIFFERENCE) * both).sum(axis=0) / np.maximum(both.sum(axis=0), 1e-6)
    mismatch /= _VISIBLE_DIFFERENCE
    at = ((np.arange(columns) + 0.5) * known.shape[1] / columns).astype(np.int64)
    distance = -np.log(np.tan(np.maximum(-layout.foot[at], _NEAREST_HORIZON)))
    height = np.degrees(layout.top[at])
    mismatch += _DISTANCE_WEIGHT * np.abs(distance[:, None] - distance[None, :])
    mismatch += np.minimum(np.abs(height[:, None] - height[None, :]) / _HEIGHT_DEGREES, 1)

    detailed = (detail * importance).sum(axis=0) / np.maximum(importance.sum(axis=0), 1e-6)
    central = np.cos(np.linspace(-np.pi / 2, np.pi / 2, columns)) ** 2
    saliency = _DETAIL * _spread(detailed) + _UNUSUAL * _spread(mismatch.mean(axis=0)) + _CENTRAL * central
    return Profiles(mismatch.astype(np.float64), saliency)


def _spread(values: NDArray[np.floating]) -> Doubles:
    """Values brought to 0 to 1 between their tenth and ninetieth percentile."""
    low, high = np.percentile(values, [10, 90])
    return np.asarray(np.clip((values - low) / max(high - low, 1e-6), 0, 1), dtype=np.float64)
