"""Images of Gaussians on the CPU: front-to-back blending of splats, in numba.

Source: Kerbl, Kopanas, Leimkühler, Drettakis, "3D Gaussian Splatting for Real-Time Radiance Field Rendering" (2023).
Splats are blended in the order of their centres' depth; each has at most opacity 0.99 in a pixel and does not count
under 1/255; a pixel is finished before the splat that would leave less than 1e-4 of the light behind it. The background
is black.

How: the sixteen pixels of a block (:mod:`worldexplorer.preview.footprints`) lie together in memory, first the one
number of all of them, then the next, so that a splat is blended into a block in a few vector instructions.

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
from worldexplorer.preview.footprints import (
    HALF_PIXEL,
    LANES,
    SIDE,
    STRIPES,
    Footprints,
    footprints_of,
    stripe_rows,
)
from worldexplorer.preview.projection import (
    BLUE,
    GREEN,
    LEAST_OPACITY,
    LOG_OPACITY,
    RED,
    XX,
    XY,
    YY,
    Camera,
    X,
    Y,
    project,
)
from worldexplorer.preview.workers import ALONE, Workers

from numba import njit  # isort: skip

FLAGS = {"contract", "nsz", "nnan", "ninf"}
"""What the compiler may assume of blending: numbers are finite, and a product and a sum may be rounded once."""

ONE = np.float32(1.0)
LOG_LEAST_OPACITY = np.float32(np.log2(LEAST_OPACITY))
LOG_MOST_OPACITY = np.float32(np.log2(0.99))
LEAST_LIGHT = np.float32(1e-4)

_STATE = 4 * LANES
"""Numbers of a block: transmittance, red, green and blue of its pixels."""

# 2**f for f from -0.5 to 0.5, a polynomial of least relative error: 8e-8, 2.4e-7 with float32's own rounding
_P0, _P1, _P2 = np.float32(1.00000007), np.float32(0.69314697), np.float32(0.2402212)
_P3, _P4, _P5 = np.float32(0.05550713), np.float32(0.00967554), np.float32(0.00132765)
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
        footprints: of these.
    """

    image: NDArray[np.float32]
    transmittance: NDArray[np.float32]
    seen: NDArray[np.int32]
    footprints: Footprints


def render(rows: NDArray[np.float32], camera: Camera, workers: Workers = ALONE) -> Rendering:
    """The image that a camera takes of Gaussians.

    Args:
        rows: [N, 14] Gaussians, as :mod:`worldexplorer.preview.parameters` has them.
        camera: who looks.
        workers: who work at it.
    """
    projection = project(rows, camera, workers)
    order, footprints = footprints_of(projection, camera.width, camera.height, workers)
    image = np.empty((3, camera.height, camera.width), np.float32)
    transmittance = np.empty((camera.height, camera.width), np.float32)
    workers(_blend, footprints, image, transmittance)
    return Rendering(image, transmittance, projection.indices[order], footprints)


@njit(cache=True, nogil=True)
def _blend(part, parts, footprints, image, transmittance):  # type: ignore[no-untyped-def]
    for stripe in range(part, STRIPES, parts):
        first, _ = stripe_rows(stripe, image.shape[1])
        _store(_blend_stripe(footprints, stripe, image.shape[1], image.shape[2]), first, image, transmittance)


@njit(cache=True, fastmath=FLAGS, error_model="numpy")
def _blend_stripe(footprints, stripe, height, width):  # type: ignore[no-untyped-def]
    """The blocks of a stripe with its splats blended into them.

    A finished pixel's transmittance is kept with a minus sign, so that nothing can be blended into it any more.
    """
    first_row, last_row = stripe_rows(stripe, height)
    blocks = new_blocks(last_row - first_row + 1, (width + SIDE - 1) // SIDE, _STATE)
    for member in range(footprints.stripe_starts[stripe], footprints.stripe_starts[stripe + 1]):
        i = footprints.members[member]
        splat, top, bottom = footprints.splats[i], footprints.spans[i, 0], footprints.spans[i, 1]
        red, green, blue = splat[RED], splat[GREEN], splat[BLUE]
        xx, xy, yy, log_opacity = splat[XX], splat[XY], splat[YY], splat[LOG_OPACITY]
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
                    block[LANES + k] += weight * red
                    block[2 * LANES + k] += weight * green
                    block[3 * LANES + k] += weight * blue
    return blocks


@njit(cache=True)
def new_blocks(rows, columns, numbers):  # type: ignore[no-untyped-def]
    """Blocks before the first splat: [rows, columns, numbers], all zero but the transmittance, which is first."""
    blocks = np.zeros((rows, columns, numbers), np.float32)
    for row in range(rows):
        for column in range(columns):
            for k in range(LANES):
                blocks[row, column, k] = ONE
    return blocks


@njit(cache=True, error_model="numpy")
def power_of_two(exponent):  # type: ignore[no-untyped-def]
    """2 ** exponent for float32 exponents from -100 to 100, in operations that a vector unit has."""
    shifted = np.float32(exponent + _ROUND)
    f = exponent - (shifted - _ROUND)
    mantissa = np.float32(_P0 + f * (_P1 + f * (_P2 + f * (_P3 + f * (_P4 + f * _P5)))))
    shift = np.int32(shifted.view(np.int32) << _EXPONENT)
    bits = np.int32(mantissa.view(np.int32) + shift)
    return bits.view(np.float32)


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
