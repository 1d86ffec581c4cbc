"""The ring around a photo, made of the photo's own columns: pixels and layout after a walk's plan.

Example:
    >>> ring = make_ring(colours, known, layout, photo_columns=slice(800, 1300), steps_per_degree=1.0, seed=0)
    >>> ring.colours.shape, ring.layout.foot.shape
    ((1080, 2160, 3), (2160,))
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from worldexplorer.preview.column_walk import Profiles, Run, plan_walk
from worldexplorer.preview.equirectangular import elevations
from worldexplorer.preview.layout_prior import Layout
from worldexplorer.preview.seams import level_difference, seam_share

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]

_OVERLAP_DEGREES = 3.5
"""A jump's seam may wander this far to either side of the joint."""
_FADE_DEGREES = 18.0
"""A difference of level between the sides of a jump is spread over this much of each side."""


@dataclass(frozen=True)
class Ring:
    """All columns of a panorama as far as the photo's height reaches.

    Attributes:
        colours: [H, W, 3] float32, 0 to 255.
        known: [H, W] bool, the pixels that have colours.
        layout: of all W columns.
        plain: [W] bool, the columns that show the photo's subject least.
    """

    colours: Floats
    known: NDArray[np.bool_]
    layout: Layout
    plain: Mask


def make_ring(
    colours: NDArray[np.uint8], known: NDArray[np.bool_], layout: Layout, photo: slice, seed: int
) -> Ring:
    """Fill the columns outside the photo.

    Args:
        colours: [H, W, 3] uint8 panorama with the photo on it.
        known: [H, W] bool, the photo's pixels.
        layout: of the photo's columns.
        photo: the photo's columns.
        seed: of the walk.
    """
    height, width = known.shape
    source = _Source(
        np.ascontiguousarray(colours[:, photo]).astype(np.float32),
        np.ascontiguousarray(known[:, photo]),
        np.stack([layout.foot, layout.top, layout.foot_seen, layout.top_seen, np.zeros_like(layout.foot)]).astype(np.float32),
    )
    gap = width - source.count
    degree = width / 360
    columns, steps = round(source.count / degree), round(gap / degree)
    profiles = _profiles(source, columns)
    runs = plan_walk(profiles, steps, seed)
    source.rows[4] = np.interp(np.arange(source.count), (np.arange(columns) + 0.5) * source.count / columns - 0.5, profiles.saliency)
    pieces = _pieces(runs, columns, steps, source.count / columns, gap / steps)
    filled, filled_known, filled_rows = _assembled(pieces, source, gap, degree)

    ring_colours = np.empty((height, width, 3), dtype=np.float32)
    ring_known = np.empty((height, width), dtype=bool)
    rows = np.empty((5, width), dtype=np.float32)
    outside = (photo.stop + np.arange(gap)) % width
    ring_colours[:, photo], ring_known[:, photo], rows[:, photo] = source.colours, source.known, source.rows
    ring_colours[:, outside], ring_known[:, outside], rows[:, outside] = filled, filled_known, filled_rows
    carried = Layout(rows[0], rows[1], rows[2] > 0.5, rows[3] > 0.5, layout.is_outdoor)
    return Ring(ring_colours, ring_known, carried, rows[4] <= np.median(rows[4]))


@dataclass(frozen=True)
class _Source:
    """The photo's columns: colours [H, n, 3], known [H, n] and the layout's four rows and saliency [5, n]."""

    colours: Floats
    known: Mask
    rows: Floats

    @property
    def count(self) -> int:
        """How many columns there are."""
        return self.known.shape[1]

    def taken(self, piece: _Piece, pixels: NDArray[np.integer]) -> tuple[Floats, Mask]:
        """Colours and known pixels of a piece at some of the gap's columns."""
        place = piece.places(pixels, self.count)
        low = np.clip(np.floor(place).astype(np.int64), 0, self.count - 1)
        high = np.minimum(low + 1, self.count - 1)
        share = np.clip(place - low, 0, 1).astype(np.float32)[None, :]
        share = np.where(self.known[:, low] & self.known[:, high], share, self.known[:, high])[..., None]
        colours = self.colours[:, low] * (1 - share) + self.colours[:, high] * share
        return colours.astype(np.float32), self.known[:, low] | self.known[:, high]

    def rows_at(self, piece: _Piece, pixels: NDArray[np.integer]) -> Floats:
        """[5, k] layout of a piece at some of the gap's columns."""
        place = piece.places(pixels, self.count)
        return np.stack([np.interp(place, np.arange(self.count), row) for row in self.rows]).astype(np.float32)


@dataclass(frozen=True)
class _Piece:
    """A run in pixels: where it begins in the gap, where it would begin in the source, and how they go together."""

    start: float
    source_start: float
    slope: float
    jumps: bool
    fixed: bool  # the photo itself, of which nothing may change

    def places(self, pixels: NDArray[np.integer], count: int) -> Doubles:
        """Source coordinates (pixel centres at whole numbers) of the gap's pixels, reflected at the photo's edges."""
        place = self.source_start + self.slope * (pixels + 0.5 - self.start)
        place = np.mod(place, 2 * count)
        return np.asarray(np.minimum(place, 2 * count - place) - 0.5)


def _pieces(runs: list[Run], columns: int, steps: int, source_step: float, gap_step: float) -> list[_Piece]:
    """The photo, the runs, and the photo again."""
    slope = source_step / gap_step
    pieces = [_Piece(0.0, columns * source_step, slope, False, True)]
    for run in runs:
        begin = run.first_column + (run.direction < 0)
        pieces.append(
            _Piece(run.first_step * gap_step, begin * source_step, run.direction * slope, run.jumps, False)
        )
    last = runs[-1]
    end_column = last.first_column + last.direction * (last.last_step - last.first_step - 1)
    closes_by_turn = last.direction < 0 and end_column == 0
    pieces.append(_Piece(steps * gap_step, 0.0, slope, not closes_by_turn, True))
    return pieces


@dataclass(frozen=True)
class _Joint:
    """A jump: the pixels in which its seam may lie, and the level difference that is shared between its sides."""

    window: NDArray[np.int64]
    offset: Floats
    left_share: float


def _joint(before: _Piece, after: _Piece, source: _Source, gap: int, degree: float) -> _Joint | None:
    """The jump between two pieces; None where the second goes on from the first by a turn."""
    if not after.jumps:
        return None
    reach = max(1, round(_OVERLAP_DEGREES * degree))
    middle = min(max(round(after.start), reach), gap - reach)  # the photo itself keeps its pixels
    window = np.arange(max(0, middle - reach), min(gap, middle + reach))
    left, left_known = source.taken(before, window)
    right, right_known = source.taken(after, window)
    offset = level_difference(left, right, left_known, right_known, degree)
    return _Joint(window, offset, 0.0 if before.fixed else 1.0 if after.fixed else 0.5)


def _assembled(pieces: list[_Piece], source: _Source, gap: int, degree: float) -> tuple[Floats, Mask, Floats]:
    """Colours [H, gap, 3], known pixels [H, gap] and layout rows [5, gap] of the gap."""
    height = source.known.shape[0]
    colours = np.zeros((height, gap, 3), dtype=np.float32)
    known = np.zeros((height, gap), dtype=bool)
    rows = np.zeros((5, gap), dtype=np.float32)
    joints = [_joint(before, after, source, gap, degree) for before, after in itertools.pairwise(pieces)]
    for index, piece in enumerate(pieces):
        left = joints[index - 1] if index else None
        right = joints[index] if index < len(joints) else None
        start = round(piece.start)
        stop = round(pieces[index + 1].start) if index < len(joints) else gap
        first = int(left.window[0]) if left else start
        last = int(right.window[-1]) + 1 if right else stop
        pixels = np.arange(first, last)
        if len(pixels) == 0:
            continue
        strip, strip_known = source.taken(piece, pixels)
        fade = max(2.0, min(_FADE_DEGREES * degree, stop - start))
        if left and not piece.fixed:
            weight = (1 - left.left_share) * _fading(pixels - start, fade)
            strip -= weight[None, :, None] * left.offset[:, None]
        if right and not piece.fixed:
            weight = right.left_share * _fading(stop - 1 - pixels, fade)
            strip += weight[None, :, None] * right.offset[:, None]
        strip_rows = source.rows_at(piece, pixels)
        fresh = 0
        if left:
            fresh = len(left.window)
            w = left.window
            share = seam_share(colours[:, w], strip[:, :fresh], known[:, w], strip_known[:, :fresh])
            mix_left, mix_right = (1 - share) * known[:, w], share * strip_known[:, :fresh]
            total = mix_left + mix_right
            right_part = (mix_right / np.maximum(total, 1e-6))[..., None]
            colours[:, w] = colours[:, w] * (1 - right_part) + strip[:, :fresh] * right_part
            known[:, w] |= strip_known[:, :fresh]
            across = np.linspace(0, 1, fresh, dtype=np.float32)
            rows[:, w] = rows[:, w] * (1 - across) + strip_rows[:, :fresh] * across
        colours[:, pixels[fresh:]] = strip[:, fresh:]
        known[:, pixels[fresh:]] = strip_known[:, fresh:]
        rows[:, pixels[fresh:]] = strip_rows[:, fresh:]
    return np.clip(colours, 0, 255), known, rows


def _fading(distance: NDArray[np.integer], length: float) -> Floats:
    """1 at distances up to 0, falling smoothly to 0 at `length`."""
    share = np.clip(1 - distance / length, 0, 1)
    return np.asarray(share * share * (3 - 2 * share), dtype=np.float32)


def _profiles(source: _Source, columns: int) -> Profiles:
    """What the walk needs to know of the source, in columns of about a degree."""
    height = source.known.shape[0]
    bins = 90
    size = (columns, bins)
    weight = cv2.resize(source.known.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(source.colours / 255, cv2.COLOR_RGB2LAB) * source.known[..., None]
    mean = cv2.resize(lab, size, interpolation=cv2.INTER_AREA) / np.maximum(weight, 1e-3)[..., None]
    grey = lab[..., 0]
    inner = cv2.erode(source.known.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=1)
    steep = np.abs(cv2.Sobel(grey, cv2.CV_32F, 1, 0)) * inner / 8
    energy = cv2.resize(steep, size, interpolation=cv2.INTER_AREA) / np.maximum(weight, 1e-3)
    seen = weight > 0.5

    up = elevations(bins)
    importance = np.exp(-((up / math.radians(25)) ** 2))[:, None]
    both = (seen[:, :, None] & seen[:, None, :]) * importance[..., None]
    apart = np.linalg.norm(mean[:, :, None] - mean[:, None, :], axis=-1) + np.abs(energy[:, :, None] - energy[:, None, :])
    colour = (np.minimum(apart, 40) * both).sum(axis=0) / np.maximum(both.sum(axis=0), 1e-6)
    rows = source.rows[:, np.minimum((np.arange(columns) + 0.5) * source.count / columns, source.count - 1).astype(int)]
    far = np.log(np.tan(np.maximum(-rows[0], math.radians(8.5))))
    high = np.degrees(rows[1])
    mismatch = colour / 14 + np.abs(far[:, None] - far[None, :]) * 0.6 + np.minimum(np.abs(high[:, None] - high[None, :]), 15) / 15

    detail = (energy * seen * importance).sum(axis=0) / np.maximum((seen * importance).sum(axis=0), 1e-6)
    unusual = mismatch.mean(axis=0)
    centre = np.cos(np.linspace(-np.pi / 2, np.pi / 2, columns)) ** 2  # people point the camera at the subject
    saliency = 0.4 * _ranked(detail) + 0.35 * _ranked(unusual) + 0.25 * centre
    return Profiles(mismatch.astype(np.float64), saliency)


def _ranked(values: NDArray[np.floating]) -> Doubles:
    """Values brought to 0 to 1 between their tenth and ninetieth percentile."""
    low, high = np.percentile(values, [10, 90])
    return np.asarray(np.clip((values - low) / max(high - low, 1e-6), 0, 1), dtype=np.float64)
