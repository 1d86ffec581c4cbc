"""The way back through blending: from the gradient of a loss by an image to its gradient by every Gaussian.

With splats numbered front to back, C = sum_i c_i a_i T_i and T_(i+1) = T_i (1 - a_i), so that

    dL / d a_i = T_i (g . c_i) - rest_i / (1 - a_i),    rest_i = g . (colour from behind i) + dL/dT T

with g the gradient by the pixel's colour and T its transmittance in the end. `rest` before the first splat is known
from the image, and each splat takes its own part out of it: the way back walks front to back like the way there, and
makes the same choices.

Example:
    >>> seen, gradients = backward(rows, camera, rendering, by_image, by_transmittance)
    >>> gradients.shape == (len(seen), 14)
    True
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from worldexplorer.preview import threads as _threads  # noqa: F401  before numba, which reads its settings on import
from worldexplorer.preview.footprints import HALF_PIXEL, LANES, SIDE, STRIPES, stripe_rows
from worldexplorer.preview.projection import (
    BLUE,
    GREEN,
    LOG_OPACITY,
    RED,
    XX,
    XY,
    YY,
    Camera,
    X,
    Y,
)
from worldexplorer.preview.projection_backward import GRADIENTS, project_backward
from worldexplorer.preview.rasterizer import (
    FLAGS,
    LEAST_LIGHT,
    LOG_LEAST_OPACITY,
    LOG_MOST_OPACITY,
    ONE,
    Rendering,
    new_blocks,
    power_of_two,
)
from worldexplorer.preview.workers import ALONE, Workers

from numba import njit  # isort: skip

_STATE = 5 * LANES
"""Numbers of a block: transmittance, rest, and the gradient by red, green and blue of its pixels."""


def backward(
    rows: NDArray[np.float32],
    camera: Camera,
    rendering: Rendering,
    by_image: NDArray[np.float32],
    by_transmittance: NDArray[np.float32],
    workers: Workers = ALONE,
) -> NDArray[np.float32]:
    """The gradient of a loss by the Gaussians that show.

    Args:
        rows: [N, 14] Gaussians.
        camera: who looks.
        rendering: what `render` made of these two.
        by_image: [3, H, W] float32, the loss's gradient by the image.
        by_transmittance: [H, W] float32, its gradient by the transmittance.
        workers: who work at it.

    Returns:
        [V, 14] float32 gradients by the rows of the Gaussians `rendering.seen`.
    """
    found = np.empty((len(rendering.footprints.members), GRADIENTS), np.float32)
    workers(
        _backward, rendering.footprints, rendering.image, rendering.transmittance, by_image, by_transmittance, found
    )
    sums = _add_up(rendering.footprints.members, found, len(rendering.seen))
    return project_backward(rows, camera, rendering.seen, sums, workers)


@njit(cache=True)
def _add_up(members, found, count):  # type: ignore[no-untyped-def]
    """Add up what the stripes found of each splat, always from the top of the image to its bottom: [count, 9]."""
    sums = np.zeros((count, GRADIENTS), np.float32)
    for member in range(len(members)):
        for column in range(GRADIENTS):
            sums[members[member], column] += found[member, column]
    return sums


@njit(cache=True, nogil=True)
def _backward(part, parts, footprints, image, light, by_image, by_light, found):  # type: ignore[no-untyped-def]
    for stripe in range(part, STRIPES, parts):
        first, last = stripe_rows(stripe, image.shape[1])
        blocks = _load(first, last, image, light, by_image, by_light)
        _backward_stripe(footprints, stripe, first, last, blocks, found)


@njit(cache=True)
def _load(first_row, last_row, image, transmittance, by_image, by_transmittance):  # type: ignore[no-untyped-def]
    """A stripe's blocks before the first splat."""
    height, width = transmittance.shape
    blocks = new_blocks(last_row - first_row + 1, (width + SIDE - 1) // SIDE, _STATE)
    for block_row in range(blocks.shape[0]):
        for y in range(min(SIDE, height - SIDE * (first_row + block_row))):
            row = SIDE * (first_row + block_row) + y
            for block_column in range(blocks.shape[1]):
                block = blocks[block_row, block_column]
                for x in range(min(SIDE, width - SIDE * block_column)):
                    column, k = SIDE * block_column + x, SIDE * y + x
                    rest = by_transmittance[row, column] * transmittance[row, column]
                    for channel in range(3):
                        rest += by_image[channel, row, column] * image[channel, row, column]
                        block[(2 + channel) * LANES + k] = by_image[channel, row, column]
                    block[LANES + k] = rest
    return blocks


@njit(cache=True, fastmath=FLAGS, error_model="numpy")
def _backward_stripe(footprints, stripe, first_row, last_row, blocks, found):  # type: ignore[no-untyped-def]
    """Write the sums of a stripe's splats over its blocks into their rows of `found`."""
    lanes = np.empty(GRADIENTS * LANES, np.float32)
    for member in range(footprints.stripe_starts[stripe], footprints.stripe_starts[stripe + 1]):
        i = footprints.members[member]
        splat, top, bottom = footprints.splats[i], footprints.spans[i, 0], footprints.spans[i, 1]
        red, green, blue = splat[RED], splat[GREEN], splat[BLUE]
        xx, xy, yy, log_opacity = splat[XX], splat[XY], splat[YY], splat[LOG_OPACITY]
        for k in range(GRADIENTS * LANES):
            lanes[k] = np.float32(0.0)
        for row in range(max(top, first_row), min(bottom, last_row) + 1):
            extent = footprints.extents[footprints.row_starts[i] + row - top]
            y = np.float32(SIDE * row) + HALF_PIXEL - splat[Y]
            for column in range(extent[0], extent[1] + 1):
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
                    by_red, by_green, by_blue = block[2 * LANES + k], block[3 * LANES + k], block[4 * LANES + k]
                    by_weight = by_red * red + by_green * green + by_blue * blue
                    rest = block[LANES + k] - by_weight * weight
                    block[LANES + k] = rest
                    # q = opacity * dL / d opacity; at the greatest opacity nothing but colour has an influence.
                    q = by_weight * weight - rest * opacity / (ONE - opacity)
                    q = q if unfinished and exponent < LOG_MOST_OPACITY else np.float32(0.0)
                    lanes[k] += q
                    lanes[LANES + k] += q * dx
                    lanes[2 * LANES + k] += q * dy
                    lanes[3 * LANES + k] += q * dx * dx
                    lanes[4 * LANES + k] += q * dx * dy
                    lanes[5 * LANES + k] += q * dy * dy
                    lanes[6 * LANES + k] += weight * by_red
                    lanes[7 * LANES + k] += weight * by_green
                    lanes[8 * LANES + k] += weight * by_blue
        sums = found[member]
        for column in range(GRADIENTS):
            total = np.float32(0.0)
            for k in range(LANES):
                total += lanes[column * LANES + k]
            sums[column] = total
