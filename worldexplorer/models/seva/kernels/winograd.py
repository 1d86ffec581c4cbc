"""A 3 x 3 convolution by Winograd's F(2 x 2, 3 x 3): two passes over memory around 16 matrix products.

:mod:`worldexplorer.models.seva.winograd` says how. The sums are made in float32; what lies between the passes is of
the map's type. Residual sums join the second pass.

Example:
    >>> convolve(x, winograd_weights(convolution.weight))           # channels-last [42, 1280, 18, 18], the same size
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

CHANNELS = 64
"""Channels of a block; all maps' channels are a multiple of it."""
_TILES = 8
"""Tiles of a block, of 2 x 2 results each."""
_MOST_BYTES = 2**29
"""Of transformed input at once: larger maps are convolved some frames at a time."""


def convolve(x: Tensor, weights: Tensor, base: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Convolve with padding 1; plus `base` and, at every pixel, `bias`, where they are given.

    Args:
        x: [N, C_in, h, w] in channels-last order.
        weights: [16, C_in, C_out] from :func:`worldexplorer.models.seva.winograd.winograd_weights`.
        base: [N, C_out, h, w] in channels-last order.
        bias: [C_out], only with `base`.

    Returns:
        [N, C_out, h, w] in channels-last order.
    """
    count, _, height, width = x.shape
    size = (count, weights.shape[2], height, width)
    out = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    frame_bytes = 16 * _tiles(height) * _tiles(width) * x.shape[1] * x.element_size()
    pieces = triton.cdiv(count * frame_bytes, _MOST_BYTES)
    frames = triton.cdiv(count, pieces)
    for first in range(0, count, frames):
        piece = slice(first, first + frames)
        products = torch.bmm(transform(x[piece]), weights)
        gather(products, out[piece], None if base is None else base[piece], bias)
    return out


def transform(x: Tensor) -> Tensor:
    """Every tile's sums: channels-last [N, C, h, w] -> [16, N * ceil(h / 2) * ceil(w / 2), C]."""
    count, channels, height, width = x.shape
    across, area = _tiles(width), _tiles(height) * _tiles(width)
    out = torch.empty((16, count * area, channels), dtype=x.dtype, device=x.device)
    _transform[(channels // CHANNELS, triton.cdiv(count * area, _TILES))](
        x, out, height, width, across, area, count * area, channels, TILES=_TILES, CHANNELS=CHANNELS, num_warps=4
    )
    return out


def gather(products: Tensor, out: Tensor, base: Tensor | None, bias: Tensor | None) -> None:
    """Every tile's 2 x 2 results from its products [16, tiles, C] into `out`, a channels-last [N, C, h, w]."""
    count, channels, height, width = out.shape
    across, area = _tiles(width), _tiles(height) * _tiles(width)
    _gather[(channels // CHANNELS, triton.cdiv(count * area, _TILES))](
        products, out, base, bias, height, width, across, area, count * area, channels,
        TILES=_TILES, CHANNELS=CHANNELS, num_warps=4,
    )  # fmt: skip


def _tiles(size: int) -> int:
    return triton.cdiv(size, 2)


_SIZES = ["height", "width", "across", "area", "tiles"]
"""Whether these are multiples of 16 makes no other kernel worth its compilation."""


@triton.jit(do_not_specialize=_SIZES)
def _transform(
    x, out, height, width, across, area, tiles, channels, TILES: tl.constexpr, CHANNELS: tl.constexpr
):  # fmt: skip
    tile = tl.program_id(1) * TILES + tl.arange(0, TILES)
    inside = tile < tiles
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    top = tile % area // across * 2 - 1
    left = tile % area % across * 2 - 1
    pixel = tile // area * height * width
    a0, a1, a2, a3 = _sums_of_a_row(x, pixel, top, left, height, width, channel, channels, inside)
    b0, b1, b2, b3 = _sums_of_a_row(x, pixel, top + 1, left, height, width, channel, channels, inside)
    c0, c1, c2, c3 = _sums_of_a_row(x, pixel, top + 2, left, height, width, channel, channels, inside)
    d0, d1, d2, d3 = _sums_of_a_row(x, pixel, top + 3, left, height, width, channel, channels, inside)
    target = out + tile.to(tl.int64)[:, None] * channels + channel[None, :]
    plane = tiles.to(tl.int64) * channels
    _put_sums_of_a_column(target, plane, a0, b0, c0, d0, inside)
    _put_sums_of_a_column(target + plane, plane, a1, b1, c1, d1, inside)
    _put_sums_of_a_column(target + 2 * plane, plane, a2, b2, c2, d2, inside)
    _put_sums_of_a_column(target + 3 * plane, plane, a3, b3, c3, d3, inside)


@triton.jit
def _sums_of_a_row(x, pixel, row, left, height, width, channel, channels, inside):
    inside = inside & (row >= 0) & (row < height)
    start = pixel + row * width + left
    a = _pixel(x, start, channel, channels, inside & (left >= 0))
    b = _pixel(x, start + 1, channel, channels, inside)
    c = _pixel(x, start + 2, channel, channels, inside & (left + 2 < width))
    d = _pixel(x, start + 3, channel, channels, inside & (left + 3 < width))
    return a - c, b + c, c - b, b - d


@triton.jit
def _pixel(x, pixel, channel, channels, inside):
    place = pixel.to(tl.int64)[:, None] * channels + channel[None, :]
    return tl.load(x + place, mask=inside[:, None], other=0.0).to(tl.float32)


@triton.jit
def _put_sums_of_a_column(target, plane, a, b, c, d, inside):
    kind = target.dtype.element_ty
    tl.store(target, (a - c).to(kind), mask=inside[:, None])
    tl.store(target + 4 * plane, (b + c).to(kind), mask=inside[:, None])
    tl.store(target + 8 * plane, (c - b).to(kind), mask=inside[:, None])
    tl.store(target + 12 * plane, (b - d).to(kind), mask=inside[:, None])


@triton.jit(do_not_specialize=_SIZES)
def _gather(
    products, out, base, bias, height, width, across, area, tiles, channels,
    TILES: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(1) * TILES + tl.arange(0, TILES)
    inside = tile < tiles
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    source = products + tile.to(tl.int64)[:, None] * channels + channel[None, :]
    plane = tiles.to(tl.int64) * channels
    left0, right0 = _halves_of_a_row(source, plane, inside)
    left1, right1 = _halves_of_a_row(source + 4 * plane, plane, inside)
    left2, right2 = _halves_of_a_row(source + 8 * plane, plane, inside)
    left3, right3 = _halves_of_a_row(source + 12 * plane, plane, inside)
    row = tile % area // across * 2
    column = tile % area % across * 2
    pixel = (tile // area * height + row) * width + column
    below = inside & (row + 1 < height)
    beside = column + 1 < width
    _put(out, base, bias, pixel, channel, channels, left0 + left1 + left2, inside)
    _put(out, base, bias, pixel + 1, channel, channels, right0 + right1 + right2, inside & beside)
    _put(out, base, bias, pixel + width, channel, channels, left1 - left2 - left3, below)
    _put(out, base, bias, pixel + width + 1, channel, channels, right1 - right2 - right3, below & beside)


@triton.jit
def _halves_of_a_row(source, plane, inside):
    a = tl.load(source, mask=inside[:, None], other=0.0).to(tl.float32)
    b = tl.load(source + plane, mask=inside[:, None], other=0.0).to(tl.float32)
    c = tl.load(source + 2 * plane, mask=inside[:, None], other=0.0).to(tl.float32)
    d = tl.load(source + 3 * plane, mask=inside[:, None], other=0.0).to(tl.float32)
    return a + b + c, b - c - d


@triton.jit
def _put(out, base, bias, pixel, channel, channels, values, inside):
    place = pixel.to(tl.int64)[:, None] * channels + channel[None, :]
    if base is not None:
        values += tl.load(base + place, mask=inside[:, None], other=0.0).to(tl.float32)
        values += tl.load(bias + channel).to(tl.float32)[None, :]
    tl.store(out + place, values.to(out.dtype.element_ty), mask=inside[:, None])
