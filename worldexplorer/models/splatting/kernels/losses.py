"""L1 and SSIM of drawn pictures with their gradient, in four passes.

The window of SSIM is separable, and equal to its own adjoint but for the border. Of a picture x and its target y only
x + y, x - y and their squares are filtered: means, the sum of variances and the covariance follow from these. Channels
stay interleaved; a tap to the side is three numbers away.

Example:
    >>> value, gradient = loss(image, target, ssim_weight=0.2)
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from worldexplorer.models.splatting.operations import C1, C2, WINDOW, window

_BLOCK = 512
_MARGIN = WINDOW - 1


def loss(image: Tensor, target: Tensor, ssim_weight: float) -> tuple[Tensor, Tensor]:
    """See :meth:`worldexplorer.models.splatting.operations.Operations.loss`; pictures at least 11 pixels wide."""
    count, height, width, channels = image.shape
    row, inner = width * channels, (width - _MARGIN) * channels
    rows = height - _MARGIN
    device, numbers = image.device, image.numel()
    taps = _taps(device)
    across = torch.empty(4, count, height, inner, device=device)
    slopes = torch.empty(3, count, rows, inner, device=device)
    back = torch.empty(3, count, height, inner, device=device)
    gradient = torch.empty_like(image)
    blocks, wide = triton.cdiv(inner, _BLOCK), triton.cdiv(row, _BLOCK)
    similar = torch.empty(count * rows, blocks, device=device)
    absolute = torch.empty(count * height, wide, device=device)
    per_window = ssim_weight / (count * rows * inner)
    shape = {"TAPS": WINDOW, "STRIDE": channels, "BLOCK": _BLOCK, "num_warps": 4}
    _across[(count * height, blocks)](image, target, taps, across, row, inner, across.stride(0), **shape)
    _similarity[(count * rows, blocks)](
        across, taps, slopes, similar, rows, inner, across.stride(0), slopes.stride(0), -per_window,
        FIRST=C1, SECOND=C2, TAPS=WINDOW, BLOCK=_BLOCK, num_warps=4,
    )  # fmt: skip
    _back_down[(3 * count * height, blocks)](
        slopes, taps, back, height, rows, inner, TAPS=WINDOW, BLOCK=_BLOCK, num_warps=4
    )
    _finish[(count * height, wide)](
        image,
        target,
        taps,
        back,
        gradient,
        absolute,
        row,
        inner,
        back.stride(0),
        (1.0 - ssim_weight) / numbers,
        **shape,
    )
    value = (1.0 - ssim_weight) / numbers * absolute.sum() + ssim_weight - per_window * similar.sum()
    return value, gradient


_taps_of: dict[torch.device, Tensor] = {}


def _taps(device: torch.device) -> Tensor:
    if device not in _taps_of:
        _taps_of[device] = torch.tensor(window(), dtype=torch.float32, device=device)
    return _taps_of[device]


@triton.jit
def _shown(pointer, inside):
    return tl.minimum(tl.maximum(tl.load(pointer, mask=inside, other=0.0), 0.0), 1.0)


@triton.jit
def _across(image, target, taps, out, row, inner, plane, TAPS: tl.constexpr, STRIDE: tl.constexpr, BLOCK: tl.constexpr):
    line = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = place < inner
    plus = tl.zeros([BLOCK], tl.float32)
    minus = tl.zeros([BLOCK], tl.float32)
    plus_square = tl.zeros([BLOCK], tl.float32)
    minus_square = tl.zeros([BLOCK], tl.float32)
    for tap in tl.static_range(TAPS):
        weight = tl.load(taps + tap)
        at = line * row + place + tap * STRIDE
        x = _shown(image + at, inside)
        y = tl.load(target + at, mask=inside, other=0.0)
        p = x + y
        m = x - y
        plus += weight * p
        minus += weight * m
        plus_square += weight * p * p
        minus_square += weight * m * m
    to = out + line * inner + place
    tl.store(to, plus, mask=inside)
    tl.store(to + plane, minus, mask=inside)
    tl.store(to + 2 * plane, plus_square, mask=inside)
    tl.store(to + 3 * plane, minus_square, mask=inside)


@triton.jit
def _similarity(
    across, taps, slopes, similar, rows, inner, plane, slope_plane, scale,
    FIRST: tl.constexpr, SECOND: tl.constexpr, TAPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    line = tl.program_id(0).to(tl.int64)
    picture, top = line // rows, line % rows
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = place < inner
    plus = tl.zeros([BLOCK], tl.float32)
    minus = tl.zeros([BLOCK], tl.float32)
    plus_square = tl.zeros([BLOCK], tl.float32)
    minus_square = tl.zeros([BLOCK], tl.float32)
    for tap in tl.static_range(TAPS):
        weight = tl.load(taps + tap)
        at = across + (picture * (rows + TAPS - 1) + top + tap) * inner + place
        plus += weight * tl.load(at, mask=inside, other=0.0)
        minus += weight * tl.load(at + plane, mask=inside, other=0.0)
        plus_square += weight * tl.load(at + 2 * plane, mask=inside, other=0.0)
        minus_square += weight * tl.load(at + 3 * plane, mask=inside, other=0.0)
    pp = plus * plus
    mm = minus * minus
    light = (pp - mm) * 0.5 + FIRST
    light_over = (pp + mm) * 0.5 + FIRST
    detail = (plus_square - minus_square) * 0.5 - (pp - mm) * 0.5 + SECOND
    detail_over = (plus_square + minus_square) * 0.5 - (pp + mm) * 0.5 + SECOND
    over = 1.0 / (light_over * detail_over)
    value = light * detail * over
    by_light = detail * over
    by_detail = light * over
    by_plus = plus * (by_light - value / light_over - by_detail + value / detail_over)
    by_minus = minus * (by_detail - by_light - value / light_over + value / detail_over)
    by_plus_square = 0.5 * (by_detail - value / detail_over)
    by_minus_square = 0.5 * (-by_detail - value / detail_over)
    to = slopes + line * inner + place
    tl.store(to, scale * (by_plus + by_minus), mask=inside)
    tl.store(to + slope_plane, scale * by_plus_square, mask=inside)
    tl.store(to + 2 * slope_plane, scale * by_minus_square, mask=inside)
    total = tl.sum(tl.where(inside, value, 0.0))
    tl.store(similar + line * tl.num_programs(1) + tl.program_id(1), total)


@triton.jit
def _back_down(slopes, taps, back, height, rows, inner, TAPS: tl.constexpr, BLOCK: tl.constexpr):
    line = tl.program_id(0).to(tl.int64)
    picture, row = line // height, line % height
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = place < inner
    found = tl.zeros([BLOCK], tl.float32)
    for tap in tl.static_range(TAPS):
        top = row - tap
        there = inside & (top >= 0) & (top < rows)
        found += tl.load(taps + tap) * tl.load(slopes + (picture * rows + top) * inner + place, mask=there, other=0.0)
    tl.store(back + line * inner + place, found, mask=inside)


@triton.jit
def _finish(
    image, target, taps, back, gradient, absolute, row, inner, plane, scale,
    TAPS: tl.constexpr, STRIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    line = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = place < row
    mean = tl.zeros([BLOCK], tl.float32)
    plus = tl.zeros([BLOCK], tl.float32)
    minus = tl.zeros([BLOCK], tl.float32)
    for tap in tl.static_range(TAPS):
        weight = tl.load(taps + tap)
        left = place - tap * STRIDE
        there = inside & (left >= 0) & (left < inner)
        at = back + line * inner + left
        mean += weight * tl.load(at, mask=there, other=0.0)
        plus += weight * tl.load(at + plane, mask=there, other=0.0)
        minus += weight * tl.load(at + 2 * plane, mask=there, other=0.0)
    drawn = tl.load(image + line * row + place, mask=inside, other=0.0)
    x = tl.minimum(tl.maximum(drawn, 0.0), 1.0)
    y = tl.load(target + line * row + place, mask=inside, other=0.0)
    sign = tl.where(x > y, 1.0, tl.where(x < y, -1.0, 0.0))
    found = mean + 2.0 * ((x + y) * plus + (x - y) * minus) + scale * sign
    # What is not a number stays so, for the loss to tell.
    uncut = (drawn >= 0.0) & (drawn <= 1.0)
    tl.store(gradient + line * row + place, tl.where(uncut, found, 0.0), mask=inside)
    total = tl.sum(tl.where(inside, tl.abs(x - y), 0.0))
    total += tl.sum(tl.where(inside & (drawn != drawn), drawn, 0.0))
    tl.store(absolute + line * tl.num_programs(1) + tl.program_id(1), total)
