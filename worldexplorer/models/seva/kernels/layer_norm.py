"""Layer normalisation of tokens, alone or after the additions that come before it.

The published widths are five times a power of two, so a row is held as two pieces of powers of two: no lane is idle.
Blocks run from the last row to the first: the last are what the kernel before has just written, and still in the
cache; the first are left there for the kernel that comes next.

Example:
    >>> total, normed = add_norm(x, change, change_bias, None, token, weight, bias, epsilon=1e-5)
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_LANES = 2048
"""Values a program works on, about."""
_WARPS = 4


def layer_norm(x: Tensor, bias_before: Tensor | None, weight: Tensor, bias: Tensor, epsilon: float) -> Tensor:
    """Tokens x [..., C], `bias_before` [C] added -> normalised, the same shape."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    _launch(x, None, None, bias_before, None, None, out, weight, bias, epsilon)
    return out


def add_norm(
    x: Tensor,
    change: Tensor,
    change_bias: Tensor | None,
    base_bias: Tensor | None,
    token: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    epsilon: float,
    *,
    keep: bool = True,
) -> tuple[Tensor | None, Tensor]:
    """The sum of tokens x [..., C], a change of them, two biases [C] and a token [B, C]; and that sum normalised.

    Where the sum is not to be kept it is not written, and None stands in its place.
    """
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    total = torch.empty_like(out) if keep else None
    _launch(x, change, change_bias, base_bias, token, total, out, weight, bias, epsilon)
    return total, out


def _launch(
    x: Tensor,
    change: Tensor | None,
    change_bias: Tensor | None,
    base_bias: Tensor | None,
    token: Tensor | None,
    total: Tensor | None,
    out: Tensor,
    weight: Tensor,
    bias: Tensor,
    epsilon: float,
) -> None:
    channels = x.shape[-1]
    count = x.numel() // channels
    rows = count // len(token) if token is not None else 1
    main = 1 << (channels.bit_length() - 1)
    rest = triton.next_power_of_2(channels - main) if channels > main else 0
    height = max(1, _LANES // main)
    _layer_norm[(triton.cdiv(count, height),)](
        x, change, change_bias, base_bias, token, total, out, weight, bias, count, rows, epsilon,
        CHANNELS=channels, MAIN=main, REST=rest, HEIGHT=height, num_warps=_WARPS,
    )  # fmt: skip


@triton.jit
def _layer_norm(
    x, change, change_bias, base_bias, token, total, out, weight, bias, count, rows, epsilon,
    CHANNELS: tl.constexpr, MAIN: tl.constexpr, REST: tl.constexpr, HEIGHT: tl.constexpr,
):  # fmt: skip
    row = (tl.num_programs(0) - 1 - tl.program_id(0)) * HEIGHT + tl.arange(0, HEIGHT)
    first = tl.arange(0, MAIN)
    values = _gather(x, change, change_bias, base_bias, token, total, row, first, count, rows, CHANNELS)
    mean = tl.sum(values, axis=1) / CHANNELS
    if REST > 0:
        second = MAIN + tl.arange(0, REST)
        others = _gather(x, change, change_bias, base_bias, token, total, row, second, count, rows, CHANNELS)
        mean += tl.sum(others, axis=1) / CHANNELS
    values -= mean[:, None]
    variance = tl.sum(values * values, axis=1) / CHANNELS
    if REST > 0:
        others = tl.where((second < CHANNELS)[None, :], others - mean[:, None], 0.0)
        variance += tl.sum(others * others, axis=1) / CHANNELS
    scale = 1.0 / tl.sqrt(variance + epsilon)
    _put(out, values, scale, weight, bias, row, first, count, CHANNELS)
    if REST > 0:
        _put(out, others, scale, weight, bias, row, second, count, CHANNELS)


@triton.jit
def _gather(x, change, change_bias, base_bias, token, total, row, column, count, rows, CHANNELS: tl.constexpr):
    """What is to be normalised of some columns, in float32; it is stored in `total`."""
    valid = column < CHANNELS
    inside = (row < count)[:, None] & valid[None, :]
    place = row.to(tl.int64)[:, None] * CHANNELS + column[None, :]
    values = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    if change is not None:
        values += tl.load(change + place, mask=inside, other=0.0).to(tl.float32)
    if base_bias is not None:
        values += tl.load(base_bias + column, mask=valid, other=0.0).to(tl.float32)[None, :]
    if change_bias is not None:
        values += tl.load(change_bias + column, mask=valid, other=0.0).to(tl.float32)[None, :]
    if token is not None:
        values += tl.load(token + (row // rows)[:, None] * CHANNELS + column[None, :], mask=inside, other=0.0)
    if total is not None:
        tl.store(total + place, values.to(total.dtype.element_ty), mask=inside)
    return values


@triton.jit
def _put(out, centred, scale, weight, bias, row, column, count, CHANNELS: tl.constexpr):
    valid = column < CHANNELS
    gain = tl.load(weight + column, mask=valid, other=0.0).to(tl.float32)
    add = tl.load(bias + column, mask=valid, other=0.0).to(tl.float32)
    result = centred * scale[:, None] * gain[None, :] + add[None, :]
    place = row.to(tl.int64)[:, None] * CHANNELS + column[None, :]
    tl.store(out + place, result.to(out.dtype.element_ty), mask=(row < count)[:, None] & valid[None, :])
