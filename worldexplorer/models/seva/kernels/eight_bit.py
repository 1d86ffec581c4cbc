"""Rows as eight-bit floating-point numbers with a scale each, in one pass.

Example:
    >>> values, scales = quantise(tokens)        # [M, C] -> float8_e4m3fn [M, C], float32 [M]
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_LANES = 2048
_LARGEST = 448.0


def quantise(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [M, C] and their scales [M]; a row of zeros has a scale of 1."""
    x = x.contiguous()
    count, channels = x.shape
    values = torch.empty(x.shape, dtype=torch.float8_e4m3fn, device=x.device)
    scales = torch.empty(count, dtype=torch.float32, device=x.device)
    block = triton.next_power_of_2(channels)
    height = max(1, _LANES // block)
    _quantise[(triton.cdiv(count, height),)](
        x, values, scales, count, _LARGEST, CHANNELS=channels, BLOCK=block, HEIGHT=height, num_warps=4
    )
    return values, scales


@triton.jit
def _quantise(
    x, values, scales, count, most, CHANNELS: tl.constexpr, BLOCK: tl.constexpr, HEIGHT: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)
    column = tl.arange(0, BLOCK)
    inside = (row < count)[:, None] & (column < CHANNELS)[None, :]
    place = row.to(tl.int64)[:, None] * CHANNELS + column[None, :]
    numbers = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    largest = tl.max(tl.abs(numbers), axis=1)
    scale = tl.where(largest > 0.0, largest / most, 1.0)
    tl.store(scales + row, scale, mask=row < count)
    bounded = tl.minimum(tl.maximum(numbers / scale[:, None], -most), most)
    tl.store(values + place, bounded.to(values.dtype.element_ty), mask=inside)
