"""What the layout prior looks at: colours, texture, clusters of both, edges, and what may be sky.

Everything works on a small copy of the picture, a few pixels a degree.

Example:
    >>> lab, texture = colour_and_texture(coarse, known)
    >>> clusters = cluster_pixels(lab, texture, known, count=32, seed=0)
"""

from __future__ import annotations

import math
import warnings

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2, vq

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]

_FITTED_PIXELS = 12_000
_FEATURE_WEIGHTS = np.array([0.6, 1.0, 1.0, 14.0])
"""Of L, a, b and texture: brightness tells surfaces apart less than colour does."""
_BORDER_DEGREES = 5.0


def colour_and_texture(colours: NDArray[np.uint8], known: Mask) -> tuple[Floats, Floats]:
    """CIE Lab [h, n, 3] and texture energy [h, n]: the logarithm of the local mean gradient of L."""
    lab = cv2.cvtColor(colours.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    across = cv2.Scharr(lab[..., 0], cv2.CV_32F, 1, 0) / 32
    down = cv2.Scharr(lab[..., 0], cv2.CV_32F, 0, 1) / 32
    whole = cv2.erode(known.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1).astype(np.float32)
    weight = cv2.GaussianBlur(whole, (0, 0), 2.0)
    energy = cv2.GaussianBlur(np.hypot(across, down) * whole, (0, 0), 2.0) / np.maximum(weight, 1e-3)
    return np.asarray(lab, dtype=np.float32), np.log1p(energy).astype(np.float32)


def cluster_pixels(lab: Floats, texture: Floats, known: Mask, count: int, seed: int) -> NDArray[np.int64]:
    """[h, n] cluster of each pixel by k-means (k-means++ start); -1 where nothing is known."""
    features = np.concatenate([lab, texture[..., None]], axis=-1).astype(np.float64) * _FEATURE_WEIGHTS
    samples = features[known]
    result = np.full(known.shape, -1, dtype=np.int64)
    random = np.random.default_rng(seed)
    fitted = samples[random.choice(len(samples), min(len(samples), _FITTED_PIXELS), replace=False)]
    fitted = fitted + random.normal(scale=1e-3, size=fitted.shape)  # k-means++ needs distinct points
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="One of the clusters is empty", category=UserWarning)
        centres, _ = kmeans2(fitted, min(count, len(fitted)), iter=12, minit="++", rng=random)
    result[known], _ = vq(samples, centres)
    return result


def vertical_edges(lab: Floats, known: Mask, reach: int) -> Floats:
    """[h + 1, n] colour difference across each row border, between the means of `reach` rows above and below it."""
    padded = np.pad(lab.astype(np.float64) * known[..., None], ((reach, reach), (0, 0), (0, 0)))
    weights = np.pad(known.astype(np.float64), ((reach, reach), (0, 0)))
    sums = np.concatenate([np.zeros_like(padded[:1]), np.cumsum(padded, axis=0)])
    counts = np.concatenate([np.zeros_like(weights[:1]), np.cumsum(weights, axis=0)])[..., None]
    count_above = counts[reach:-reach] - counts[: -2 * reach]
    count_below = counts[2 * reach :] - counts[reach:-reach]
    above = (sums[reach:-reach] - sums[: -2 * reach]) / np.maximum(count_above, 1)
    below = (sums[2 * reach :] - sums[reach:-reach]) / np.maximum(count_below, 1)
    both = (count_above > 0) & (count_below > 0)
    return np.asarray(np.linalg.norm((above - below) * both, axis=-1), dtype=np.float32)


def is_open_air(lab: Floats, texture: Floats, known: Mask, up: Doubles) -> bool:
    """Whether the upper border of the picture looks like sky by day, or much of the picture like foliage.

    The thresholds were set on crops of eighteen panoramas of rooms and open places.

    Args:
        lab: [h, n, 3].
        texture: [h, n].
        known: [h, n], some of it.
        up: [h] elevations of the rows, radians.
    """
    foliage = (lab[..., 1] < -3) & (lab[..., 2] > 8) & (texture > 1.0)
    sky = _daylight(lab) & (texture < 0.9)
    return bool(sky[_upper_border(known, up)].mean() > 0.38 or foliage[known].mean() > 0.36)


def possible_sky(lab: Floats, texture: Floats, known: Mask, up: Doubles) -> Mask:
    """[h, n] pixels that may be sky in a picture taken outdoors, clouds included.

    Where no sky by day reaches the upper border, it may be dusk or night if most of the border is smooth.
    """
    border = _upper_border(known, up)
    by_day: Mask = _daylight(lab) & (texture < 1.4)
    if by_day[border].mean() > 0.1:
        return by_day
    smooth: Mask = texture < 0.9
    return smooth if smooth[border].mean() > 0.6 else np.zeros_like(smooth)


def _daylight(lab: Floats) -> Mask:
    """Pixels in the colours of a sky by day: bright without warmth, or blue."""
    lightness, green, yellow = (lab[..., k] for k in range(3))
    return np.asarray((lightness > 72) & (yellow < 4.5) | (yellow < -12) & (green < 12))


def _upper_border(known: Mask, up: Doubles) -> Mask:
    """The highest few degrees of each column."""
    highest = np.max(np.where(known, up[:, None], -np.pi), axis=0)
    return np.asarray(known & (up[:, None] > highest - math.radians(_BORDER_DEGREES)))
