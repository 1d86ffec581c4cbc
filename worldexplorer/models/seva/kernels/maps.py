"""Sums of maps, and the rearrangement after an upsampling convolution, each in one pass.

Example:
    >>> add(h, skipped, bias)           # channels-last maps [N, C, h, w], bias [C]
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 2048


def add(x: Tensor, other: Tensor, bias: Tensor) -> Tensor:
    """See Operations.add."""
    out = torch.empty_like(x)  # the same strides
    _add[(triton.cdiv(x.numel(), _BLOCK),)](x, other, bias, out, x.numel(), len(bias), BLOCK=_BLOCK, num_warps=4)
    return out


def interleave(x: Tensor, bias: Tensor) -> Tensor:
    """The four shifted results of an upsampling convolution, put together.

    Args:
        x: [N, 4C, h + 1, w + 1] channels-last: for each of the four places (a, b) of a pixel in its doubled one, C
            channels whose value for source pixel (i, j) lies at (i + a, j + b).
        bias: [C].

    Returns:
        [N, C, 2h, 2w] channels-last.
    """
    count, channels, height, width = x.shape[0], len(bias), x.shape[2] - 1, x.shape[3] - 1
    size = (count, channels, 2 * height, 2 * width)
    out = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    block = triton.next_power_of_2(channels)
    _interleave[(2 * width, 2 * height, count)](
        x, bias, out, height, width, CHANNELS=channels, BLOCK=block, num_warps=2
    )
    return out


@triton.jit
def _add(x, other, bias, out, count, channels, BLOCK: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * BLOCK
    place = start + tl.arange(0, BLOCK)
    channel = ((start % channels).to(tl.int32) + tl.arange(0, BLOCK)) % channels
    inside = place < count
    total = tl.load(x + place, mask=inside).to(tl.float32) + tl.load(other + place, mask=inside).to(tl.float32)
    total += tl.load(bias + channel).to(tl.float32)
    tl.store(out + place, total.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _interleave(x, bias, out, height, width, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    column = tl.program_id(0)
    row = tl.program_id(1)
    frame = tl.program_id(2).to(tl.int64)
    channel = tl.arange(0, BLOCK)
    inside = channel < CHANNELS
    a = row % 2
    b = column % 2
    pixel = (frame * (height + 1) + row // 2 + a) * (width + 1) + column // 2 + b
    value = tl.load(x + (pixel * 4 + 2 * a + b) * CHANNELS + channel, mask=inside)
    value = value.to(tl.float32) + tl.load(bias + channel, mask=inside).to(tl.float32)
    target = ((frame * 2 * height + row) * 2 * width + column) * CHANNELS
    tl.store(out + target + channel, value.to(out.dtype.element_ty), mask=inside)
