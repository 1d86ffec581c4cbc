"""Which pixels splats touch, and in which order: depth, blocks of the image, stripes of blocks.

The image is cut into blocks of 4 x 4 pixels; a splat touches some blocks of some rows of blocks, those its ellipse
reaches. Eight stripes of rows of blocks are independent of each other: each has its own list of splats, front to back,
so that threads can share them and results do not depend on how many threads there are.

Example:
    >>> order, footprints = footprints_of(project(rows, camera, ALONE), 256, 256, ALONE)
    >>> footprints.stripe_starts[-1] == len(footprints.members)
    True
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worldexplorer.preview import threads as _threads  # noqa: F401  before numba, which reads its settings on import
from worldexplorer.preview.projection import HALF_HEIGHT, HALF_WIDTH, SLANT, SPLAT, Projection, X, Y
from worldexplorer.preview.workers import Workers

from numba import njit  # isort: skip

SIDE = 4
"""Pixels a side of a block."""

SIDE_BITS = 2
"""Its binary logarithm."""

LANES = SIDE * SIDE
"""Pixels of a block."""

STRIPES = 8
"""Parts of the image that are worked at independently of each other."""

HALF_PIXEL = np.float32(0.5)

_ONE, _ZERO = np.float32(1.0), np.float32(0.0)
_ROUNDING = np.float32(0.01)
"""Pixels by which an ellipse is taken to be wider than it is, because its edge is rounded."""


class Footprints(NamedTuple):
    """Where V splats lie, front to back.

    Attributes:
        splats: [V, 12] float32.
        spans: [V, 2] int32 first and last row of blocks.
        row_starts: [V + 1] int64 where the rows of each splat begin in `extents`.
        extents: [R, 2] int32 first and last block in a row that a splat touches; none where the last lies before the
            first.
        members: [M] int32 which splats each stripe has, front to back, stripe after stripe.
        stripe_starts: [9] int64 where each stripe begins in `members`.
    """

    splats: NDArray[np.float32]
    spans: NDArray[np.int32]
    row_starts: NDArray[np.int64]
    extents: NDArray[np.int32]
    members: NDArray[np.int32]
    stripe_starts: NDArray[np.int64]


def footprints_of(
    projection: Projection, width: int, height: int, workers: Workers
) -> tuple[NDArray[np.int32], Footprints]:
    """Sort projected Gaussians.

    Args:
        projection: of C Gaussians.
        width: of the image, pixels.
        height: of the image, pixels.
        workers: who work at it.

    Returns:
        [V] int32 which of the C show, front to back, and their footprints.
    """
    order = order_by_depth(projection.depths)
    splats, spans, row_starts = _gather(projection.splats, projection.spans, order)
    extents = np.empty((row_starts[-1], 2), np.int32)
    workers(_find_extents, splats, spans, row_starts, (width + SIDE - 1) // SIDE, extents)
    members, stripe_starts = _share_out(spans, height)
    return order, Footprints(splats, spans, row_starts, extents, members, stripe_starts)


def order_by_depth(depths: NDArray[np.float32]) -> NDArray[np.int32]:
    """Which of [N] depths are positive, nearest first, equal ones in their order: [V]."""
    order: NDArray[np.int32] = _radix_sort(depths.view(np.uint32), np.flatnonzero(depths > 0.0).astype(np.int32))
    return order


@njit(cache=True)
def _radix_sort(bits, chosen):  # type: ignore[no-untyped-def]
    """Sort the indices `chosen` by the bits of positive float32 numbers, whose order is that of the numbers.

    Three passes over eleven bits each, the lowest first, every one stable.
    """
    count = len(chosen)
    order, other_order = chosen.copy(), np.empty(count, np.int32)
    for digit in range(3):
        shift = np.uint32(11 * digit)
        places = np.zeros(2049, np.int64)
        for i in range(count):
            places[1 + ((bits[order[i]] >> shift) & np.uint32(2047))] += 1
        for value in range(2048):
            places[value + 1] += places[value]
        for i in range(count):
            value = (bits[order[i]] >> shift) & np.uint32(2047)
            other_order[places[value]] = order[i]
            places[value] += 1
        order, other_order = other_order, order
    return order


@njit(cache=True)
def _gather(splats, spans, order):  # type: ignore[no-untyped-def]
    """Splats front to back, their rows of blocks, and where the list of these rows begins for each splat."""
    ordered = np.empty((len(order), SPLAT), np.float32)
    block_spans = np.empty((len(order), 2), np.int32)
    row_starts = np.zeros(len(order) + 1, np.int64)
    for i in range(len(order)):
        for column in range(SPLAT):
            ordered[i, column] = splats[order[i], column]
        first, last = spans[order[i], 0] >> SIDE_BITS, spans[order[i], 1] >> SIDE_BITS
        block_spans[i, 0], block_spans[i, 1] = first, last
        row_starts[i + 1] = row_starts[i] + last - first + 1
    return ordered, block_spans, row_starts


@njit(cache=True, nogil=True)
def _find_extents(part, parts, splats, spans, row_starts, columns, extents):  # type: ignore[no-untyped-def]
    for i in range(len(splats) * part // parts, len(splats) * (part + 1) // parts):
        for row in range(spans[i, 0], spans[i, 1] + 1):
            first, last = block_columns(splats[i], row, columns)
            extents[row_starts[i] + row - spans[i, 0], 0] = first
            extents[row_starts[i] + row - spans[i, 0], 1] = last


@njit(cache=True, error_model="numpy")
def block_columns(splat, row, columns):  # type: ignore[no-untyped-def]
    """The first and the last block (within 0 and `columns` - 1) of a row of blocks that a splat's ellipse reaches.

    The ellipse's edge to the right leans furthest out at one height; on the row's span of heights it is furthest out
    at the nearest height to that. To the left it is the same, turned by half a turn about the centre.
    """
    half_height, half_width, slant = splat[HALF_HEIGHT], splat[HALF_WIDTH], splat[SLANT]
    low = max(np.float32(row * SIDE) + HALF_PIXEL - splat[Y], -half_height)
    high = min(np.float32(row * SIDE + SIDE - 1) + HALF_PIXEL - splat[Y], half_height)
    lean = slant * half_height
    outermost = half_height * lean / np.sqrt(lean * lean + half_width * half_width)
    at_right = min(max(outermost, low), high)
    at_left = min(max(-outermost, low), high)
    right_share, left_share = at_right / half_height, at_left / half_height
    right = slant * at_right + half_width * np.sqrt(max(_ONE - right_share * right_share, _ZERO))
    left = slant * at_left - half_width * np.sqrt(max(_ONE - left_share * left_share, _ZERO))
    # Centres of pixels lie between the edges.
    first = np.ceil(min(max(splat[X] + left - HALF_PIXEL - _ROUNDING, _ZERO), np.float32(SIDE * columns)))
    last = np.floor(
        min(max(splat[X] + right - HALF_PIXEL + _ROUNDING, np.float32(-1.0)), np.float32(SIDE * columns - 1))
    )
    return np.int64(first) >> SIDE_BITS, np.int64(last) >> SIDE_BITS


@njit(cache=True)
def stripe_rows(stripe, height):  # type: ignore[no-untyped-def]
    """The first and the last row of blocks of a stripe of an image; the last is before the first in tiny images."""
    block_rows = (height + SIDE - 1) // SIDE
    return stripe * block_rows // STRIPES, (stripe + 1) * block_rows // STRIPES - 1


@njit(cache=True)
def _share_out(spans, height):  # type: ignore[no-untyped-def]
    """The splats of every stripe, and where each stripe's begin: a counting sort that keeps the order."""
    stripe_of = np.empty((height + SIDE - 1) // SIDE, np.int64)
    for stripe in range(STRIPES):
        first, last = stripe_rows(stripe, height)
        for row in range(first, last + 1):
            stripe_of[row] = stripe
    starts = np.zeros(STRIPES + 1, np.int64)
    for i in range(len(spans)):
        for stripe in range(stripe_of[spans[i, 0]], stripe_of[spans[i, 1]] + 1):
            starts[stripe + 1] += 1
    for stripe in range(STRIPES):
        starts[stripe + 1] += starts[stripe]
    members = np.empty(starts[STRIPES], np.int32)
    places = starts.copy()
    for i in range(len(spans)):
        for stripe in range(stripe_of[spans[i, 0]], stripe_of[spans[i, 1]] + 1):
            members[places[stripe]] = i
            places[stripe] += 1
    return members, starts
