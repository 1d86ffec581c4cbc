"""A heuristic layout of a picture: where the floor ends, where the walls end, column by column.

This is a prior, not a depth estimator: it knows pictures only as colours and textures that are more usual low or high.
Colours and texture are clustered; how much more likely each cluster is on the floor than elsewhere is estimated from a
prior on elevation and then, repeatedly, from the boundary found with it; the boundary itself is the best path over the
columns (Viterbi, IEEE Trans. Inf. Theory 13, 1967). The boundary of the sky or ceiling is found the same way. The
camera is taken to be level.

Example:
    >>> layout = estimate_layout(colours, known, closed=False, scene_type="outdoor", seed=0)
    >>> bool(layout.foot.max() < 0 < layout.top.min())
    True
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from worldexplorer.preview.equirectangular import elevations
from worldexplorer.preview.layout_features import (
    cluster_pixels,
    colour_and_texture,
    is_open_air,
    possible_sky,
    vertical_edges,
)

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]

_PIXELS_PER_DEGREE = 3.0
_CLUSTERS = 32
_ROUNDS = 3
_EDGE_REACH = 4
_EDGE = 5.0
"""Colour difference (Lab) that counts as the beginning of something."""
_STEADY_OUTDOORS, _STEADY_INDOORS = 7, 25
"""Columns over which the boundary's median is taken: the walls of rooms are long."""
_HIGHEST_FOOT, _LOWEST_TOP = math.radians(-2.5), math.radians(1.5)
_SURELY_OTHER, _SURELY_FLOOR = math.radians(4.0), math.radians(22.0)
"""How far below the horizon the prior has no floor yet, and nothing else any more."""
_WALL_REACH = math.radians(14.0)
"""How far above the horizon pixels still say what walls look like."""
_LARGEST_GAIN = 2.5
_EDGE_GAIN, _LARGEST_EDGE = 0.06, 40.0
_STEP_CHARGE, _LONGEST_STEP, _BREAK_CHARGE = 0.6, 12.0, 1.2
"""Per degree, degrees, and once for any step of more than one degree."""
_LEAST_SUPPORT = 0.15
"""Share of columns with an edge that a room's boundary needs."""


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
    foot_seen: Mask
    top_seen: Mask
    is_outdoor: bool


def estimate_layout(
    colours: NDArray[np.uint8], known: Mask, *, closed: bool, scene_type: str | None, seed: int
) -> Layout:
    """The layout of some columns of a panorama.

    Args:
        colours: [H, n, 3] uint8 sRGB, H rows from straight up to straight down.
        known: [H, n] bool, the pixels that mean something; at least a band some degrees high.
        closed: whether the last column borders the first.
        scene_type: "indoor", "outdoor" or None to judge by the picture.
        seed: of the clustering.
    """
    height, count = known.shape
    scale = _PIXELS_PER_DEGREE * 180 / height
    size = (max(4, round(count * scale)), max(4, round(height * scale)))
    whole = cv2.resize(known.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.999
    rows = _rows_in_use(whole)
    sure: Mask = whole[rows]
    coarse = np.asarray(cv2.resize(colours, size, interpolation=cv2.INTER_AREA)[rows], dtype=np.uint8)
    up = elevations(size[1])[rows]

    lab, texture = colour_and_texture(coarse, sure)
    is_outdoor = is_open_air(lab, texture, sure, up) if scene_type is None else scene_type == "outdoor"
    clusters = cluster_pixels(lab, texture, sure, _CLUSTERS, seed)
    edges = vertical_edges(lab, sure, _EDGE_REACH)
    likely = possible_sky(lab, texture, sure, up) if is_outdoor else np.ones_like(sure)
    below = _Half(clusters, sure, -up, edges, np.ones_like(sure), -_HIGHEST_FOOT, closed, is_outdoor)
    above = _Half(clusters[::-1], sure[::-1], up[::-1], edges[::-1], likely[::-1], _LOWEST_TOP, closed, is_outdoor)
    foot_row, top_row = _boundary(below), len(up) - _boundary(above)

    step = math.pi / size[1]
    border = up[0] + step / 2
    foot_seen = below.ends - foot_row > _PIXELS_PER_DEGREE
    top_seen = top_row - (len(up) - above.ends) > _PIXELS_PER_DEGREE
    return Layout(
        foot=_stretched(np.minimum(border - foot_row * step, _HIGHEST_FOOT), count, closed),
        top=_stretched(np.maximum(border - top_row * step, _LOWEST_TOP), count, closed),
        foot_seen=_stretched(foot_seen.astype(np.float64), count, closed) > 0.5,
        top_seen=_stretched(top_seen.astype(np.float64), count, closed) > 0.5,
        is_outdoor=is_outdoor,
    )


def _rows_in_use(known: Mask) -> slice:
    """The rows from the first to the last known one, at least four."""
    used = np.flatnonzero(known.any(axis=1))
    first = min(int(used[0]), known.shape[0] - 4)
    return slice(first, max(int(used[-1]) + 1, first + 4))


@dataclass(frozen=True)
class _Half:
    """The search for one boundary, told as that of a floor; for the sky everything stands on its head.

    Attributes:
        clusters: [h, n], -1 where nothing is known.
        known: [h, n].
        beyond: [h] how far below the horizon each row is, radians, growing.
        edges: [h + 1, n] colour differences across the row borders.
        likely: [h, n] the pixels that can be floor at all.
        least: how far below the horizon the boundary is at least, radians.
        closed: whether the last column borders the first.
        is_outdoor: whether smooth areas go on to the horizon.
    """

    clusters: Rows
    known: Mask
    beyond: Doubles
    edges: Floats
    likely: Mask
    least: float
    closed: bool
    is_outdoor: bool

    @property
    def first(self) -> int:
        """The highest row border that the boundary may have."""
        return int(np.argmax(self.beyond > self.least)) if self.beyond[-1] > self.least else len(self.beyond)

    @property
    def ends(self) -> Rows:
        """[n] the row border at which the picture ends."""
        rows = len(self.beyond)
        return np.where(self.known.any(axis=0), rows - np.argmax(self.known[::-1], axis=0), rows).astype(np.int64)


def _boundary(half: _Half) -> Rows:
    """[n] the row border below which each column is floor."""
    rows, columns = half.known.shape
    near = half.beyond > -_WALL_REACH
    slope = np.clip((half.beyond - _SURELY_OTHER) / (_SURELY_FLOOR - _SURELY_OTHER), 0, 1)
    floor = slope[:, None] * half.likely
    other = np.maximum(((1 - slope) * near)[:, None], ~half.likely)
    lowest = np.maximum(half.ends, half.first)
    row = np.arange(rows + 1)[:, None]
    path = lowest
    for _ in range(_ROUNDS):
        gain = np.where(half.known, _cluster_gains(half, floor, other)[half.clusters], 0.0)
        score = np.zeros((rows + 1, columns))
        score[:-1] = np.cumsum(gain[::-1], axis=0)[::-1] / _PIXELS_PER_DEGREE
        score += _EDGE_GAIN * np.minimum(half.edges, _LARGEST_EDGE)
        score[(row < half.first) | (row > half.ends)] = -1e4
        score[lowest, np.arange(columns)] = np.maximum(score[lowest, np.arange(columns)], 0.0)  # no floor at all
        path = _best_path(score, half.closed)
        is_floor = (row[:-1] >= path) & half.likely
        floor = is_floor.astype(np.float64)
        other = ~is_floor & (near[:, None] | ~half.likely)
    return _settled(half, path)


def _cluster_gains(half: _Half, floor: Doubles, other: NDArray[np.generic]) -> Doubles:
    """[k] how much more likely (logarithm) each cluster is on the floor than elsewhere, from shares of each pixel."""
    kinds = int(half.clusters.max()) + 1
    of = half.clusters[half.known]
    on_floor = np.bincount(of, weights=floor[half.known], minlength=kinds)
    elsewhere = np.bincount(of, weights=other[half.known].astype(np.float64), minlength=kinds)
    smoothing = 0.01 * (on_floor.sum() + elsewhere.sum()) / kinds + 1e-9
    ratio = np.log((on_floor + smoothing) / (elsewhere + smoothing))
    ratio -= np.log((on_floor.sum() + 1e-9) / (elsewhere.sum() + 1e-9))
    return np.asarray(np.clip(ratio, -_LARGEST_GAIN, _LARGEST_GAIN) - 0.1)


def _settled(half: _Half, path: Rows) -> Rows:
    """The boundary where it lies on an edge; elsewhere what is usual for the kind of place.

    Clusters cut smooth gradients (a sky, a lake, a lit wall) at arbitrary places. Outdoors a smooth area goes on to
    the horizon or until something begins; indoors the boundary is carried over from the columns beside, and where
    hardly any column has an edge the picture shows a wall only.
    """
    blurred = cv2.GaussianBlur(half.edges, (0, 0), sigmaX=2.0, sigmaY=0.6)
    beyond = blurred[half.first :]
    usual = float(np.median(beyond[beyond > 0])) if half.is_outdoor and (beyond > 0).any() else 0.0  # grass, waves
    strong = blurred > _EDGE + usual
    lowest = np.maximum(half.ends, half.first)
    columns = np.arange(len(path))
    found = np.array([strong[max(row - 2, 0) : row + 3, column].any() for column, row in enumerate(path)])
    found |= path >= half.ends
    if half.is_outdoor:
        row = np.arange(len(half.edges))[:, None]
        begins = np.where((row <= path) & strong, row, half.first).max(axis=0)
        settled = np.where(found, path, np.maximum(begins, half.first))
    elif found.mean() > _LEAST_SUPPORT:
        period = float(len(path)) if half.closed else None
        settled = np.rint(np.interp(columns, columns[found], path[found], period=period)).astype(np.int64)
    else:
        settled = lowest
    width = _STEADY_OUTDOORS if half.is_outdoor else _STEADY_INDOORS
    steady = scipy.ndimage.median_filter(settled, size=width, mode="wrap" if half.closed else "nearest")
    return np.asarray(np.minimum(steady, lowest), dtype=np.int64)


def _best_path(score: Doubles, closed: bool) -> Rows:
    """The row of each column that maximises the scores less a charge for steps (Viterbi)."""
    rows, columns = score.shape
    if closed:  # once around before and after, so that the ends do not matter
        return _best_path(np.concatenate([score, score, score], axis=1), False)[columns : 2 * columns]
    step = np.abs(np.arange(rows)[:, None] - np.arange(rows)[None, :]) / _PIXELS_PER_DEGREE
    charge = _STEP_CHARGE * np.minimum(step, _LONGEST_STEP) + _BREAK_CHARGE * (step > 1)
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


def _stretched(values: Doubles, count: int, closed: bool) -> Floats:
    """Values of coarse columns at `count` fine ones, linearly between the columns' centres."""
    at = (np.arange(count) + 0.5) * len(values) / count - 0.5
    period = float(len(values)) if closed else None
    return np.interp(at, np.arange(len(values)), values, period=period).astype(np.float32)
