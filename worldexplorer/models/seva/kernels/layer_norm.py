"""Layer normalisation of tokens, alone or after the additions that come before it.

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
) -> tuple[Tensor, Tensor]:
    """The sum of tokens x [..., C], a change of them, two biases [C] and a token [B, C]; and that sum normalised."""
    total = torch.empty_like(x, memory_format=torch.contiguous_format)
    out = torch.empty_like(total)
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
    block = triton.next_power_of_2(channels)
    height = max(1, _LANES // block)
    _layer_norm[(triton.cdiv(count, height),)](
        x, change, change_bias, base_bias, token, total, out, weight, bias, count, rows, epsilon,
        CHANNELS=channels, BLOCK=block, HEIGHT=height, num_warps=4,
    )  # fmt: skip


@triton.jit
def _layer_norm(
    x, change, change_bias, base_bias, token, total, out, weight, bias, count, rows, epsilon,
    CHANNELS: tl.constexpr, BLOCK: tl.constexpr, HEIGHT: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)
    column = tl.arange(0, BLOCK)
    valid = column < CHANNELS
    inside = (row < count)[:, None] & valid[None, :]
    place = row.to(tl.int64)[:, None] * CHANNELS + column[None, :]
    values = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    if base_bias is not None:
        values += tl.load(base_bias + column, mask=valid, other=0.0).to(tl.float32)[None, :]
    if change is not None:
        values += tl.load(change + place, mask=inside, other=0.0).to(tl.float32)
    if change_bias is not None:
        values += tl.load(change_bias + column, mask=valid, other=0.0).to(tl.float32)[None, :]
    if token is not None:
        values += tl.load(token + (row // rows)[:, None] * CHANNELS + column[None, :], mask=inside, other=0.0)
    if total is not None:
        tl.store(total + place, values.to(out.dtype.element_ty), mask=inside)
    mean = tl.sum(values, axis=1) / CHANNELS
    centred = tl.where(inside, values - mean[:, None], 0.0)
    variance = tl.sum(centred * centred, axis=1) / CHANNELS
    scale = 1.0 / tl.sqrt(variance + epsilon)
    gain = tl.load(weight + column, mask=valid, other=0.0).to(tl.float32)
    add = tl.load(bias + column, mask=valid, other=0.0).to(tl.float32)
    result = centred * scale[:, None] * gain[None, :] + add[None, :]
    tl.store(out + place, result.to(out.dtype.element_ty), mask=inside)
