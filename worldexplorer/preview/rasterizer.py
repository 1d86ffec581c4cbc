"""Images of Gaussians on the CPU: front-to-back blending of splats, in numba.

Source: Kerbl, Kopanas, Leimkühler, Drettakis, "3D Gaussian Splatting for Real-Time Radiance Field Rendering" (2023). Splats are
blended in the order of their centres' depth; each has at most opacity 0.99 in a pixel and does not count under 1/255; a pixel is
finished before the splat that would leave less than 1e-4 of the light behind it. The background is black.

How: the image is cut into blocks of 4 x 4 pixels that lie together in memory, one number of sixteen pixels beside the next, so that
a block is worked at in a few vector instructions; a splat visits the blocks its ellipse touches. Eight stripes of block
rows are independent of each other and shared among the threads, so the result does not depend on how many there are.

Example:
    >>> rendering = render(rows, camera)
    >>> rendering.image.shape                   # [3, H, W], 0 to 1 and more
    (3, 256, 256)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldexplorer.preview import threads as _threads  # noqa: F401  before numba, which reads its settings on import
from worldexplorer.preview.projection import (
    BLUE,
    GREEN,
    HALF_HEIGHT,
    HALF_WIDTH,
    LEAST_OPACITY,
    LOG_OPACITY,
    RED,
    SLANT,
    SPLAT,
    XX,
    XY,
    YY,
    Camera,
    X,
    Y,
    project,
)

from numba import njit, prange  # isort: skip

SIDE = 4
"""Pixels a side of a block."""

SIDE_BITS = 2
"""Its binary logarithm."""

LANES = SIDE * SIDE
"""Pixels of a block."""

STRIPES = 8
"""Parts of the image that are worked at independently of each other."""

FLAGS = {"contract", "nsz", "nnan", "ninf"}
"""What the compiler may assume of blending: numbers are finite, and a product and a sum may be rounded once."""

ONE = np.float32(1.0)
HALF_PIXEL = np.float32(0.5)
LOG_LEAST_OPACITY = np.float32(np.log2(LEAST_OPACITY))
LOG_MOST_OPACITY = np.float32(np.log2(0.99))
LEAST_LIGHT = np.float32(1e-4)

_STATE = 4 * LANES
"""Numbers of a block: transmittance, red, green and blue of its pixels."""

# 2**f for f from -0.5 to 0.5, relative error under 2.4e-7
_P0, _P1, _P2, _P3, _P4, _P5 = (np.float32(c) for c in (1.0, 0.6931472, 0.24022651, 0.05550411, 0.009618129, 0.0013333558))
_ROUND = np.float32(1.5 * 2**23)
"""Added to a small float32, it leaves the nearest whole number in the low bits."""
_EXPONENT = np.int32(23)


@dataclass(frozen=True)
class Rendering:
    """An image of Gaussians, and what it takes to go back from it to their gradients.

    Attributes:
        image: [3, H, W] float32.
        transmittance: [H, W] float32, the share of the background's light that comes through.
        seen: [V] int32 the Gaussians that show, front to back.
        splats: [V, 12] float32 of these.
        spans: [V, 2] int32, first and last row of blocks of these.
        members: [M] int32 which of the V splats each stripe works at, front to back, stripe after stripe.
        stripe_starts: [9] int64 where each stripe begins in `members`.
    """

    image: NDArray[np.float32]
    transmittance: NDArray[np.float32]
    seen: NDArray[np.int32]
    splats: NDArray[np.float32]
    spans: NDArray[np.int32]
    members: NDArray[np.int32]
    stripe_starts: NDArray[np.int64]


def render(rows: NDArray[np.float32], camera: Camera) -> Rendering:
    """The image that a camera takes of Gaussians.

    Args:
        rows: [N, 14] Gaussians, as :mod:`worldexplorer.preview.parameters` has them.
        camera: who looks.
    """
    splats, depths, spans = project(rows, camera)
    seen = order_by_depth(depths)
    splats, spans = _gather(splats, spans, seen)
    members, stripe_starts = _share_out(spans, camera.height)
    image = np.empty((3, camera.height, camera.width), np.float32)
    transmittance = np.empty((camera.height, camera.width), np.float32)
    with _threads.PARALLEL_REGION:
        _blend(splats, spans, members, stripe_starts, image, transmittance)
    return Rendering(image, transmittance, seen, splats, spans, members, stripe_starts)


@njit(cache=True)
def order_by_depth(depths):  # type: ignore[no-untyped-def]
    """Which of [N] float32 depths are positive, nearest first, equal ones in their order: [V] int32.

    A radix sort in three passes over the bits, whose order is that of the numbers since these are positive.
    """
    count = 0
    for i in range(len(depths)):
        count += depths[i] > 0.0
    order, other_order = np.empty(count, np.int32), np.empty(count, np.int32)
    keys, other_keys = np.empty(count, np.uint32), np.empty(count, np.uint32)
    bits = depths.view(np.uint32)
    starts = np.zeros((3, 2049), np.int64)
    n = 0
    for i in range(len(depths)):
        if depths[i] > 0.0:
            key = bits[i]
            order[n], keys[n] = i, key
            n += 1
            for digit in range(3):
                starts[digit, 1 + ((key >> np.uint32(11 * digit)) & np.uint32(2047))] += 1
    for digit in range(3):
        places = np.cumsum(starts[digit])
        for i in range(count):
            value = (keys[i] >> np.uint32(11 * digit)) & np.uint32(2047)
            place = places[value]
            places[value] += 1
            other_order[place], other_keys[place] = order[i], keys[i]
        order, other_order = other_order, order
        keys, other_keys = other_keys, keys
    return order


@njit(cache=True)
def _gather(splats, spans, seen):  # type: ignore[no-untyped-def]
    """Splats and rows of blocks, front to back."""
    ordered = np.empty((len(seen), SPLAT), np.float32)
    block_rows = np.empty((len(seen), 2), np.int32)
    for i in range(len(seen)):
        ordered[i] = splats[seen[i]]
        block_rows[i, 0] = spans[seen[i], 0] // SIDE
        block_rows[i, 1] = spans[seen[i], 1] // SIDE
    return ordered, block_rows


@njit(cache=True)
def stripe_rows(stripe, height):  # type: ignore[no-untyped-def]
    """The first and the last row of blocks of a stripe of an image."""
    block_rows = (height + SIDE - 1) // SIDE
    return stripe * block_rows // STRIPES, (stripe + 1) * block_rows // STRIPES - 1


@njit(cache=True)
def _share_out(spans, height):  # type: ignore[no-untyped-def]
    """The splats of every stripe, and where each stripe's begin: a counting sort that keeps the order."""
    stripe_of = np.empty((height + SIDE - 1) // SIDE, np.int64)
    for stripe in range(STRIPES):
        first, last = stripe_rows(stripe, height)
        stripe_of[first : last + 1] = stripe
    starts = np.zeros(STRIPES + 1, np.int64)
    for i in range(len(spans)):
        for stripe in range(stripe_of[spans[i, 0]], stripe_of[spans[i, 1]] + 1):
            starts[stripe + 1] += 1
    starts = np.cumsum(starts)
    members = np.empty(starts[STRIPES], np.int32)
    places = starts.copy()
    for i in range(len(spans)):
        for stripe in range(stripe_of[spans[i, 0]], stripe_of[spans[i, 1]] + 1):
            members[places[stripe]] = i
            places[stripe] += 1
    return members, starts


@njit(cache=True)
def stripe_of_part(part):  # type: ignore[no-untyped-def]
    """The stripe to work at as the `part`-th: even ones, then odd ones.

    A thread takes neighbouring parts, and what takes long lies together in an image.
    """
    return 2 * part if 2 * part < STRIPES else 2 * part - STRIPES + 1


@njit(cache=True, parallel=True)
def _blend(splats, spans, members, stripe_starts, image, transmittance):  # type: ignore[no-untyped-def]
    for part in prange(STRIPES):
        stripe = stripe_of_part(part)
        first, last = stripe_rows(stripe, image.shape[1])
        blocks = _blend_stripe(
            splats, spans, members[stripe_starts[stripe] : stripe_starts[stripe + 1]], first, last, image.shape[2]
        )
        _store(blocks, first, image, transmittance)


@njit(cache=True)
def _store(blocks, first_row, image, transmittance):  # type: ignore[no-untyped-def]
    """Write the pixels of blocks."""
    height, width = transmittance.shape
    for block_row in range(blocks.shape[0]):
        for y in range(min(SIDE, height - SIDE * (first_row + block_row))):
            row = SIDE * (first_row + block_row) + y
            for block_column in range(blocks.shape[1]):
                block = blocks[block_row, block_column]
                for x in range(min(SIDE, width - SIDE * block_column)):
                    column, k = SIDE * block_column + x, SIDE * y + x
                    transmittance[row, column] = abs(block[k])
                    image[0, row, column] = block[LANES + k]
                    image[1, row, column] = block[2 * LANES + k]
                    image[2, row, column] = block[3 * LANES + k]


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
    right = slant * at_right + half_width * np.sqrt(max(ONE - right_share * right_share, np.float32(0.0)))
    left = slant * at_left - half_width * np.sqrt(max(ONE - left_share * left_share, np.float32(0.0)))
    # Centres of pixels lie between the edges; a hundredth of a pixel is for rounding.
    first = np.ceil(min(max(splat[X] + left - np.float32(0.51), np.float32(0.0)), np.float32(SIDE * columns)))
    last = np.floor(min(max(splat[X] + right - np.float32(0.49), np.float32(-1.0)), np.float32(SIDE * columns - 1)))
    return np.int64(first) >> SIDE_BITS, np.int64(last) >> SIDE_BITS


@njit(cache=True, error_model="numpy")
def power_of_two(exponent):  # type: ignore[no-untyped-def]
    """2 ** exponent for float32 exponents from -100 to 100, in operations that a vector unit has."""
    shifted = np.float32(exponent + _ROUND)
    f = exponent - (shifted - _ROUND)
    mantissa = np.float32(_P0 + f * (_P1 + f * (_P2 + f * (_P3 + f * (_P4 + f * _P5)))))
    shift = np.int32(shifted.view(np.int32) << _EXPONENT)
    bits = np.int32(mantissa.view(np.int32) + shift)
    return bits.view(np.float32)


@njit(cache=True, fastmath=FLAGS, error_model="numpy")
def _blend_stripe(splats, spans, members, first_row, last_row, width):  # type: ignore[no-untyped-def]
    """The blocks of rows `first_row` to `last_row` with the splats `members` blended into them.

    A finished pixel's transmittance is kept with a minus sign, so that nothing can be blended into it any more.
    """
    columns = (width + SIDE - 1) // SIDE
    blocks = np.zeros((last_row - first_row + 1, columns, _STATE), np.float32)
    blocks[:, :, :LANES] = ONE
    for i in members:
        splat = splats[i]
        red, green, blue = splat[RED], splat[GREEN], splat[BLUE]
        xx, xy, yy, log_opacity = splat[XX], splat[XY], splat[YY], splat[LOG_OPACITY]
        for row in range(max(spans[i, 0], first_row), min(spans[i, 1], last_row) + 1):
            left, right = block_columns(splat, row, columns)
            y = np.float32(SIDE * row) + HALF_PIXEL - splat[Y]
            for column in range(left, right + 1):
                block = blocks[row - first_row, column]
                x = np.float32(SIDE * column) + HALF_PIXEL - splat[X]
                for k in range(LANES):
                    dx = x + np.float32(k % SIDE)
                    dy = y + np.float32(k // SIDE)
                    exponent = log_opacity + dx * (xx * dx + xy * dy) + yy * dy * dy
                    opacity = power_of_two(min(exponent, LOG_MOST_OPACITY))
                    opacity = opacity if exponent >= LOG_LEAST_OPACITY else np.float32(0.0)
                    light = block[k]
                    left_over = light - light * opacity
                    unfinished = left_over >= LEAST_LIGHT
                    weight = light * opacity if unfinished else np.float32(0.0)
                    block[k] = left_over if unfinished else -abs(light)
                    block[LANES + k] += weight * red
                    block[2 * LANES + k] += weight * green
                    block[3 * LANES + k] += weight * blue
    return blocks
