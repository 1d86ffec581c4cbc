"""A heuristic layout of a picture: where the floor ends, where the walls end, column by column.

This is a prior, not a depth estimator: it knows pictures only as colours and textures that are more usual low or high.
Colours (Lab) and texture energy are clustered; how much more likely each cluster is on the floor than elsewhere is
estimated from a prior on elevation and then, repeatedly, from the boundary found with it; the boundary itself is the
best path over the columns (Viterbi, IEEE Trans. Inf. Theory 13, 1967). The boundary of the sky or ceiling is found the
same way. The camera is taken to be level.

Example:
    >>> layout = estimate_layout(colours, known, closed=False, scene_type="outdoor", seed=0)
    >>> layout.foot.max() < 0 < layout.top.min()
    True
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import scipy.ndimage
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2, vq

from worldexplorer.preview.equirectangular import elevations

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_PIXELS_PER_DEGREE = 3.0
_CLUSTERS = 32
_FITTED_PIXELS = 12_000
_ROUNDS = 3
_EDGE = 5.0
"""Colour difference (Lab) that counts as the beginning of something."""
_HIGHEST_FOOT = math.radians(-2.5)
_LOWEST_TOP = math.radians(1.5)


@dataclass(frozen=True)
class Layout:
    """Where the walls stand, by panorama column.

    Attributes:
        foot: [n] elevation (radians, negative) at which the wall meets the floor.
        top: [n] elevation (radians, positive) at which the wall ends in sky or ceiling.
        foot_seen: [n] bool, whether floor is visible below the foot; else the foot is where the picture ends.
        top_seen: [n] bool, whether sky or ceiling is visible above the top; else the top is where the picture ends.
        is_outdoor: whether what is above the walls is sky.
    """

    foot: Floats
    top: Floats
    foot_seen: NDArray[np.bool_]
    top_seen: NDArray[np.bool_]
    is_outdoor: bool


def estimate_layout(
    colours: NDArray[np.uint8], known: NDArray[np.bool_], *, closed: bool, scene_type: str | None, seed: int
) -> Layout:
    """The layout of some columns of a panorama.

    Args:
        colours: [H, n, 3] uint8 sRGB, H rows from straight up to straight down.
        known: [H, n] bool, the pixels that mean something.
        closed: whether the last column borders the first.
        scene_type: "indoor", "outdoor" or None to judge by the picture.
        seed: of the clustering.
    """
    height, count = known.shape
    scale = _PIXELS_PER_DEGREE * 180 / height
    shape = (max(4, round(count * scale)), max(4, round(height * scale)))
    coarse_known = cv2.resize(known.astype(np.float32), shape, interpolation=cv2.INTER_AREA) > 0.999
    coarse = np.asarray(cv2.resize(colours, shape, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    rows = _rows_in_use(coarse_known)
    coarse, coarse_known = coarse[rows], coarse_known[rows]
    up = elevations(shape[1])[rows]

    lab, texture = _features(coarse, coarse_known)
    is_outdoor = _looks_like_sky(lab, texture, coarse_known, up) if scene_type is None else scene_type == "outdoor"
    clusters = _clusters(lab, texture, coarse_known, seed)
    edges = _vertical_edges(lab, coarse_known)
    floor_row = _boundary(clusters, coarse_known, -up, edges, -_HIGHEST_FOOT, closed, is_outdoor)
    top_row = _boundary(clusters[::-1], coarse_known[::-1], up[::-1], edges[::-1], _LOWEST_TOP, closed, is_outdoor)
    top_row = len(up) - top_row  # rows counted from above again; the first row of the wall

    lowest, highest = _reach(coarse_known)
    step = math.pi / shape[1]
    border = up[0] + step / 2
    foot = np.minimum(border - floor_row * step, _HIGHEST_FOOT)
    top = np.maximum(border - top_row * step, _LOWEST_TOP)
    foot_seen = lowest - floor_row > 1.0 * _PIXELS_PER_DEGREE
    top_seen = top_row - highest > 1.0 * _PIXELS_PER_DEGREE
    return Layout(
        foot=_stretched(foot, count, closed),
        top=_stretched(top, count, closed),
        foot_seen=_stretched(foot_seen.astype(np.float64), count, closed) > 0.5,
        top_seen=_stretched(top_seen.astype(np.float64), count, closed) > 0.5,
        is_outdoor=is_outdoor,
    )


def _rows_in_use(known: NDArray[np.bool_]) -> slice:
    """The rows from the first to the last known one, at least four."""
    used = np.flatnonzero(known.any(axis=1))
    if len(used) == 0:
        return slice(0, known.shape[0])
    first = min(int(used[0]), known.shape[0] - 4)
    return slice(first, max(int(used[-1]) + 1, first + 4))


def _reach(known: NDArray[np.bool_]) -> tuple[Doubles, Doubles]:
    """Per column the row below the last known one and the first known row."""
    rows = known.shape[0]
    seen = known.any(axis=0)
    last = np.where(seen, rows - np.argmax(known[::-1], axis=0), rows)
    first = np.where(seen, np.argmax(known, axis=0), 0)
    return last.astype(np.float64), first.astype(np.float64)


def _features(colours: NDArray[np.uint8], known: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """CIE Lab [h, n, 3] and texture energy [h, n]: the logarithm of the local mean gradient of L."""
    lab = cv2.cvtColor(colours.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    across = cv2.Scharr(lab[..., 0], cv2.CV_32F, 1, 0) / 32
    down = cv2.Scharr(lab[..., 0], cv2.CV_32F, 0, 1) / 32
    whole = cv2.erode(known.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1).astype(np.float32)
    weight = cv2.GaussianBlur(whole, (0, 0), 2.0)
    energy = cv2.GaussianBlur(np.hypot(across, down) * whole, (0, 0), 2.0) / np.maximum(weight, 1e-3)
    return np.asarray(lab, dtype=np.float32), np.log1p(energy).astype(np.float32)


def _clusters(lab: Floats, texture: Floats, known: NDArray[np.bool_], seed: int) -> NDArray[np.int64]:
    """[h, n] cluster of each pixel by k-means; -1 where nothing is known."""
    features = np.concatenate([lab * np.float32([0.6, 1.0, 1.0]), 14 * texture[..., None]], axis=-1)
    samples = features[known].astype(np.float64)
    result = np.full(known.shape, -1, dtype=np.int64)
    if len(samples) == 0:
        return result
    random = np.random.default_rng(seed)
    fitted = samples[random.choice(len(samples), min(len(samples), _FITTED_PIXELS), replace=False)]
    fitted = fitted + random.normal(scale=1e-3, size=fitted.shape)  # k-means++ needs distinct points
    centres, _ = kmeans2(fitted, min(_CLUSTERS, len(fitted)), iter=12, minit="++", rng=random)
    result[known], _ = vq(samples, centres)
    return result


def _vertical_edges(lab: Floats, known: NDArray[np.bool_]) -> Floats:
    """[h + 1, n] colour difference across each row border, between the two degrees above and below it."""
    reach = 4
    padded = np.pad(lab * known[..., None], ((reach, reach), (0, 0), (0, 0)))
    weights = np.pad(known.astype(np.float32), ((reach, reach), (0, 0)))
    sums = np.concatenate([np.zeros_like(padded[:1]), np.cumsum(padded, axis=0, dtype=np.float64)])
    counts = np.concatenate([np.zeros_like(weights[:1]), np.cumsum(weights, axis=0, dtype=np.float64)])
    above = (sums[reach:-reach] - sums[: -2 * reach]) / np.maximum(counts[reach:-reach] - counts[: -2 * reach], 1)[..., None]
    below = (sums[2 * reach :] - sums[reach:-reach]) / np.maximum(counts[2 * reach :] - counts[reach:-reach], 1)[..., None]
    both = (counts[reach:-reach] - counts[: -2 * reach] > 0) & (counts[2 * reach :] - counts[reach:-reach] > 0)
    return np.asarray(np.linalg.norm(above - below, axis=-1) * both, dtype=np.float32)


def _boundary(
    clusters: NDArray[np.int64],
    known: NDArray[np.bool_],
    beyond: Doubles,
    edges: Floats,
    least: float,
    closed: bool,
    is_outdoor: bool,
) -> Doubles:
    """Per column the row border below which the clusters are those of the floor (rows counted from above).

    Args:
        clusters: [h, n], -1 where nothing is known.
        known: [h, n].
        beyond: [h] how far below the horizon each row is, radians, growing.
        edges: [h + 1, n] colour differences across the row borders.
        least: how far below the horizon the boundary is at least, radians.
        closed: whether the last column borders the first.
        is_outdoor: whether smooth areas go on to the horizon.
    """
    rows, columns = clusters.shape
    kinds = int(clusters.max()) + 1
    floor_share = np.broadcast_to(np.clip((beyond - math.radians(4)) / math.radians(18), 0, 1)[:, None], known.shape)
    other_share = np.broadcast_to(
        np.clip(1 - (beyond - math.radians(3)) / math.radians(18), 0, 1)[:, None]
        * (beyond > math.radians(-14))[:, None],
        known.shape,
    )
    border = np.argmax(beyond > least) if beyond[-1] > least else rows
    last = rows - np.argmax(known[::-1], axis=0)
    last = np.where(known.any(axis=0), last, rows)
    path = np.asarray(last, dtype=np.int64)
    for _ in range(_ROUNDS):
        on_floor = np.bincount(clusters[known], weights=floor_share[known], minlength=kinds)
        elsewhere = np.bincount(clusters[known], weights=other_share[known], minlength=kinds)
        smoothing = 0.01 * (on_floor.sum() + elsewhere.sum()) / max(kinds, 1) + 1e-9
        ratio = np.log((on_floor + smoothing) / (elsewhere + smoothing))
        ratio -= np.log((on_floor.sum() + 1e-9) / (elsewhere.sum() + 1e-9))
        gain = np.where(known, np.clip(ratio, -2.5, 2.5)[clusters] - 0.1, 0.0)
        total = np.zeros((rows + 1, columns))
        total[:-1] = np.cumsum(gain[::-1], axis=0)[::-1]
        score = total / _PIXELS_PER_DEGREE + 0.06 * np.minimum(edges, 40)
        row = np.arange(rows + 1)[:, None]
        score[(row < border) | (row > last)] = -1e4
        score[np.minimum(np.maximum(last, border), rows), np.arange(columns)] = np.maximum(
            score[np.minimum(np.maximum(last, border), rows), np.arange(columns)], 0.0
        )
        path = _best_path(score, closed)
        below = np.arange(rows)[:, None] >= path
        floor_share = np.where(below, 1.0, 0.0) * known
        other_share = np.where(below, 0.0, 1.0) * known * (beyond > math.radians(-14))[:, None]
    return _settled(path, edges, border, last, is_outdoor).astype(np.float64)


def _settled(
    path: NDArray[np.int64], edges: Floats, border: int, last: NDArray[np.int64], is_outdoor: bool
) -> NDArray[np.int64]:
    """The boundary where it lies on an edge; elsewhere what is usual for the kind of place.

    Clusters cut smooth gradients (a sky, a lake, a lit wall) at arbitrary places. Outdoors a smooth area goes on towards
    the horizon until something begins there; indoors the boundary is carried over from the columns beside, and where
    hardly any column has an edge the picture shows a wall only.
    """
    blurred = cv2.GaussianBlur(edges, (0, 0), sigmaX=2.0, sigmaY=0.6)
    beyond = blurred[border:]
    usual = float(np.median(beyond[beyond > 0])) if is_outdoor and (beyond > 0).any() else 0.0  # grass, waves, leaves
    strong = blurred > _EDGE + usual
    ends = np.maximum(last, border)
    columns = np.arange(len(path))
    found = np.array([strong[max(row - 2, 0) : row + 3, column].any() for column, row in enumerate(path)])
    found |= path >= last
    if is_outdoor:
        above = np.where((np.arange(len(edges))[:, None] <= path) & strong, np.arange(len(edges))[:, None], border)
        settled = np.where(found, path, np.maximum(above.max(axis=0), border))
    elif found.mean() > 0.15:
        settled = np.rint(np.interp(columns, columns[found], path[found])).astype(np.int64)
    else:
        settled = ends
    return np.minimum(scipy.ndimage.median_filter(settled, size=7, mode="nearest"), ends)


def _best_path(score: Doubles, closed: bool) -> NDArray[np.int64]:
    """The row of each column that maximises the scores less a charge for steps (Viterbi)."""
    rows, columns = score.shape
    if closed:
        return _best_path(np.concatenate([score, score, score], axis=1), False)[columns : 2 * columns]
    step = np.abs(np.arange(rows)[:, None] - np.arange(rows)[None, :]) / _PIXELS_PER_DEGREE
    charge = 0.6 * np.minimum(step, 12.0) + 1.2 * (step > 1)
    best = score[:, 0].copy()
    came_from = np.zeros((columns, rows), dtype=np.int64)
    for column in range(1, columns):
        candidates = best[None, :] - charge
        came_from[column] = np.argmax(candidates, axis=1)
        best = candidates[np.arange(rows), came_from[column]] + score[:, column]
    path = np.zeros(columns, dtype=np.int64)
    path[-1] = int(np.argmax(best))
    for column in range(columns - 1, 0, -1):
        path[column - 1] = came_from[column, path[column]]
    return path


def _looks_like_sky(lab: Floats, texture: Floats, known: NDArray[np.bool_], up: Doubles) -> bool:
    """Whether the upper border of the picture looks like sky (bright and not warm, or blue; smooth), or all is foliage.

    The thresholds were set on crops of eighteen panoramas of rooms and open places.
    """
    lightness, green, yellow = (lab[..., k] for k in range(3))
    pale = (lightness > 72) & (yellow < 4.5)
    blue = (yellow < -12) & (green < 12)
    smooth = texture < 0.9
    highest = np.max(np.where(known, up[:, None], -np.pi), axis=0)
    upper_border = known & (up[:, None] > highest - math.radians(5))
    foliage = (green < -3) & (yellow > 8) & (texture > 1.0)
    if not upper_border.any():
        return False
    return bool(((pale | blue) & smooth)[upper_border].mean() > 0.38 or foliage[known].mean() > 0.36)


def _stretched(values: Doubles, count: int, closed: bool) -> Floats:
    """Values of coarse columns at `count` fine ones, linearly between the columns' centres."""
    at = (np.arange(count) + 0.5) * len(values) / count - 0.5
    period = float(len(values)) if closed else None
    return np.interp(at, np.arange(len(values)), values, period=period).astype(np.float32)
