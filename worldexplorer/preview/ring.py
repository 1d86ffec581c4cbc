"""The ring around a photo, made of the photo's own columns: pixels and layout after a walk's plan.

Example:
    >>> ring = make_ring(colours, known, layout, photo=slice(830, 1330), seed=0)
    >>> ring.colours.shape, ring.layout.foot.shape
    ((1080, 2160, 3), (2160,))
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldexplorer.preview.column_profiles import column_profiles
from worldexplorer.preview.column_walk import Run, plan_walk
from worldexplorer.preview.layout_prior import Layout
from worldexplorer.preview.ring_scale import ring_sizes, vary_size
from worldexplorer.preview.seams import go_on_smoothly, level_difference, seam_share

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]

_OVERLAP_DEGREES = 3.5
"""A jump's seam may wander this far to either side of the joint."""
_FADE_DEGREES = 18.0
"""A difference of level between the sides of a jump is spread over this much of each side."""
_PLAIN_PERCENT = 30.0


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
    known: Mask
    layout: Layout
    plain: Mask


def make_ring(colours: NDArray[np.uint8], known: Mask, layout: Layout, photo: slice, seed: int) -> Ring:
    """Fill the columns outside the photo.

    Args:
        colours: [H, W, 3] uint8 panorama with the photo on it.
        known: [H, W] bool, the photo's pixels.
        layout: of the photo's columns.
        photo: the photo's columns.
        seed: of the walk and of the sizes.
    """
    width = known.shape[1]
    count = photo.stop - photo.start
    gap = width - count
    degree = width / 360
    size = ring_sizes(gap, degree, count / degree, layout.is_outdoor, seed)
    length = round(float((1 / size).sum()))  # pixels to walk over
    columns, steps = round(count / degree), round(length / degree)
    source_colours = np.ascontiguousarray(colours[:, photo]).astype(np.float32)
    source_known = np.ascontiguousarray(known[:, photo])
    profiles = column_profiles(source_colours, source_known, layout, columns)
    saliency = np.interp(np.arange(count), (np.arange(columns) + 0.5) * count / columns - 0.5, profiles.saliency)
    carried = np.stack([layout.foot, layout.top, layout.foot_seen, layout.top_seen, saliency]).astype(np.float32)
    source = _Source(source_colours, source_known, carried)
    pieces = _pieces(plan_walk(profiles, steps, seed), columns, steps, count / columns, length / steps)
    walked = _assembled(pieces, source, length, degree)
    filled = vary_size(walked.colours, walked.known, walked.rows, size)

    # Once around from the photo's left edge, then turned so that the photo is where it was.
    ring_colours = np.roll(np.concatenate([source_colours, filled[0]], axis=1), photo.start, axis=1)
    ring_known = np.roll(np.concatenate([source_known, filled[1]], axis=1), photo.start, axis=1)
    foot, top, foot_seen, top_seen, saliency = np.roll(
        np.concatenate([carried, filled[2]], axis=1), photo.start, axis=1
    )
    whole = Layout(foot, top, foot_seen > 0.5, top_seen > 0.5, layout.is_outdoor)
    return Ring(ring_colours, ring_known, whole, saliency <= np.percentile(saliency, _PLAIN_PERCENT))


@dataclass(frozen=True)
class _Source:
    """Columns with what belongs to them: colours [H, n, 3], known [H, n], and five rows [5, n].

    The rows are the layout's foot, top, foot_seen and top_seen, and the saliency.
    """

    colours: Floats
    known: Mask
    rows: Floats

    @property
    def count(self) -> int:
        """How many columns there are."""
        return int(self.known.shape[1])

    def taken(self, piece: _Piece, pixels: NDArray[np.integer]) -> _Source:
        """What a piece shows at some of the gap's columns."""
        place = piece.places(pixels, self.count)
        low = np.clip(np.floor(place).astype(np.int64), 0, self.count - 1)
        high = np.minimum(low + 1, self.count - 1)
        share = np.clip(place - low, 0, 1).astype(np.float32)[None, :]
        share = np.where(self.known[:, low] & self.known[:, high], share, self.known[:, high])[..., None]
        return _Source(
            (self.colours[:, low] * (1 - share) + self.colours[:, high] * share).astype(np.float32),
            self.known[:, low] | self.known[:, high],
            np.stack([np.interp(place, np.arange(self.count), row) for row in self.rows]).astype(np.float32),
        )


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
        pieces.append(_Piece(run.first_step * gap_step, begin * source_step, run.direction * slope, run.jumps, False))
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


def _joints(pieces: list[_Piece], source: _Source, gap: int, degree: float) -> list[_Joint | None]:
    """The jumps between the pieces; None where a piece goes on from the one before by a turn."""
    ends = [*(piece.start for piece in pieces[1:]), gap]
    lengths = [np.inf if piece.fixed else end - piece.start for piece, end in zip(pieces, ends, strict=True)]
    joints: list[_Joint | None] = []
    for index, (before, after) in enumerate(itertools.pairwise(pieces)):
        room = min(lengths[index], lengths[index + 1]) / 3  # windows must not meet
        reach = max(1, int(min(_OVERLAP_DEGREES * degree, room)))
        joints.append(_joint(before, after, source, gap, reach, degree) if after.jumps else None)
    return joints


def _joint(before: _Piece, after: _Piece, source: _Source, gap: int, reach: int, degree: float) -> _Joint:
    """The jump between two pieces, whose seam may lie up to `reach` pixels to either side."""
    middle = min(max(round(after.start), reach), gap - reach)  # the photo itself keeps its pixels
    window = np.arange(middle - reach, middle + reach)
    left, right = source.taken(before, window), source.taken(after, window)
    offset = level_difference(left.colours, right.colours, left.known, right.known, degree)
    return _Joint(window, offset, 0.0 if before.fixed else 1.0 if after.fixed else 0.5)


def _assembled(pieces: list[_Piece], source: _Source, gap: int, degree: float) -> _Source:
    """The pieces side by side in the gap, with their seams."""
    height = source.known.shape[0]
    canvas = _Source(
        np.zeros((height, gap, 3), dtype=np.float32),
        np.zeros((height, gap), dtype=bool),
        np.zeros((len(source.rows), gap), dtype=np.float32),
    )
    joints = _joints(pieces, source, gap, degree)
    for index, piece in enumerate(pieces):
        left = joints[index - 1] if index else None
        right = joints[index] if index < len(joints) else None
        start = round(piece.start)
        stop = round(pieces[index + 1].start) if index < len(joints) else gap
        first = int(left.window[0]) if left else start
        pixels = np.arange(first, int(right.window[-1]) + 1 if right else stop)
        if len(pixels) == 0:  # the photo itself, met by a turn
            continue
        strip = source.taken(piece, pixels)
        if not piece.fixed:
            _level(strip.colours, pixels, left, right, start, stop, degree)
            if not left:
                go_on_smoothly(strip.colours, strip.known, degree)
            if not right and pieces[index + 1].fixed:
                go_on_smoothly(strip.colours[:, ::-1], strip.known[:, ::-1], degree)
        shared = len(left.window) if left else 0
        if left:
            _blend(canvas, strip, left.window)
        canvas.colours[:, pixels[shared:]] = strip.colours[:, shared:]
        canvas.known[:, pixels[shared:]] = strip.known[:, shared:]
        canvas.rows[:, pixels[shared:]] = strip.rows[:, shared:]
    np.clip(canvas.colours, 0, 255, out=canvas.colours)
    return canvas


def _level(
    colours: Floats,
    pixels: NDArray[np.int64],
    left: _Joint | None,
    right: _Joint | None,
    start: int,
    stop: int,
    degree: float,
) -> None:
    """Bring a piece to the level of its neighbours at its jumps, fading with the distance from them; in place."""
    fade = max(2.0, min(_FADE_DEGREES * degree, stop - start))
    if left:
        weight = (1 - left.left_share) * _fading(pixels - start, fade)
        colours -= weight[None, :, None] * left.offset[:, None]
    if right:
        weight = right.left_share * _fading(stop - 1 - pixels, fade)
        colours += weight[None, :, None] * right.offset[:, None]


def _blend(canvas: _Source, strip: _Source, window: NDArray[np.int64]) -> None:
    """Join the first columns of a strip to what the canvas shows there already; in place."""
    shared = len(window)
    colours, known, rows = strip.colours[:, :shared], strip.known[:, :shared], strip.rows[:, :shared]
    share = seam_share(canvas.colours[:, window], colours, canvas.known[:, window], known)
    part = np.where(canvas.known[:, window] & known, share, known)[..., None]
    canvas.colours[:, window] += part * (colours - canvas.colours[:, window])
    canvas.known[:, window] = np.where(share > 0.5, known, canvas.known[:, window])
    canvas.rows[:, window] += np.linspace(0, 1, shared, dtype=np.float32) * (rows - canvas.rows[:, window])


def _fading(distance: NDArray[np.integer], length: float) -> Floats:
    """1 at distances up to 0, falling smoothly to 0 at `length`."""
    share = np.clip(1 - distance / length, 0, 1)
    return np.asarray(share * share * (3 - 2 * share), dtype=np.float32)
