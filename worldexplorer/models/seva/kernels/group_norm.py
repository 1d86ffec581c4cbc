"""Group normalisation with SiLU and the cameras' scale and shift, in two passes over a channels-last map.

The input may be several maps whose concatenation is meant: it is written only normalised. Scale and shift are made from
the six Pluecker channels where they are used, twelve multiplications a value, instead of being read from memory.

Example:
    >>> group_norm((h, skip), weight, bias, groups=32, epsilon=1e-5, offset=None, activate=True)
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

CHANNELS = 64
"""Channels of a block; every part's channels are a multiple of it."""
_ROWS = 32
_SPLIT_ROWS = 324
"""Pixels of a frame whose sums one program makes."""


def group_norm(
    parts: tuple[Tensor, ...],
    weight: Tensor,
    bias: Tensor,
    groups: int,
    epsilon: float,
    offset: Tensor | None,
    activate: bool,
    dense: Tensor | None = None,
    projection_weight: Tensor | None = None,
    projection_bias: Tensor | None = None,
) -> Tensor:
    """See Operations.group_norm; maps are [N, C, h, w] in channels-last order, `dense` [M, 6, h, w] is plain."""
    count, _, height, width = parts[0].shape
    pixels = height * width
    channels = sum(part.shape[1] for part in parts)
    splits = triton.cdiv(pixels, _SPLIT_ROWS)
    sums = torch.empty((2, count, splits, channels), dtype=torch.float32, device=weight.device)
    moments = torch.empty((2, count, groups), dtype=torch.float32, device=weight.device)
    out = torch.empty_strided(
        (count, channels, height, width),
        (pixels * channels, 1, width * channels, channels),
        dtype=parts[0].dtype,
        device=weight.device,
    )
    shift = weight if offset is None else offset
    shift_stride = 0 if offset is None or len(offset) == 1 else channels
    start = 0
    for part in parts:
        width_of_part = part.shape[1]
        _sums[(count, splits, width_of_part // CHANNELS)](
            part, shift, sums, pixels, width_of_part, channels, start, shift_stride, count * splits * channels,
            splits, OFFSET=offset is not None, SPLIT=_SPLIT_ROWS, ROWS=_ROWS, CHANNELS=CHANNELS, num_warps=4,
        )  # fmt: skip
        start += width_of_part
    size = channels // groups
    _moments[(count, groups)](
        sums, moments, pixels, channels, count * splits * channels, count * groups, splits, epsilon,
        GROUP=size, GROUP_BLOCK=triton.next_power_of_2(size), SPLITS=triton.next_power_of_2(splits), num_warps=1,
    )  # fmt: skip
    start = 0
    for part in parts:
        width_of_part = part.shape[1]
        _apply[(triton.cdiv(pixels, _ROWS), width_of_part // CHANNELS, count)](
            part, out, weight, bias, shift, moments,
            weight if dense is None else dense,
            weight if projection_weight is None else projection_weight,
            weight if projection_bias is None else projection_bias,
            pixels, width_of_part, channels, start, shift_stride, count * groups, 1 if dense is None else len(dense),
            GROUP=size, GROUPS=groups, OFFSET=offset is not None, ACTIVATE=activate, MODULATE=dense is not None,
            ROWS=_ROWS, CHANNELS=CHANNELS, num_warps=4,
        )  # fmt: skip
        start += width_of_part
    return out


@triton.jit
def _sums(
    x, shift, sums, pixels, width, channels, start, shift_stride, plane, splits,
    OFFSET: tl.constexpr, SPLIT: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Sums and sums of squares of the channels over a part of a frame's pixels."""
    frame = tl.program_id(0)
    split = tl.program_id(1)
    columns = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    base = x + frame.to(tl.int64) * pixels * width + columns[None, :]
    total = tl.zeros((ROWS, CHANNELS), dtype=tl.float32)
    squares = tl.zeros((ROWS, CHANNELS), dtype=tl.float32)
    added = tl.zeros((CHANNELS,), dtype=tl.float32)
    if OFFSET:
        added = tl.load(shift + frame * shift_stride + start + columns).to(tl.float32)
    last = tl.minimum((split + 1) * SPLIT, pixels)
    for first in range(split * SPLIT, last, ROWS):
        rows = first + tl.arange(0, ROWS)
        inside = (rows < last)[:, None]
        values = tl.load(base + rows[:, None] * width, mask=inside, other=0.0).to(tl.float32)
        if OFFSET:
            values = tl.where(inside, values + added[None, :], 0.0)
        total += values
        squares += values * values
    place = sums + (frame * splits + split) * channels + start + columns
    tl.store(place, tl.sum(total, axis=0))
    tl.store(place + plane, tl.sum(squares, axis=0))


@triton.jit
def _moments(
    sums, moments, pixels, channels, plane, moment_plane, splits, epsilon,
    GROUP: tl.constexpr, GROUP_BLOCK: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """Mean and reciprocal deviation of a group."""
    frame = tl.program_id(0)
    group = tl.program_id(1)
    members = tl.arange(0, GROUP_BLOCK)
    parts = tl.arange(0, SPLITS)
    place = sums + (frame * splits + parts[:, None]) * channels + group * GROUP + members[None, :]
    inside = (members < GROUP)[None, :] & (parts < splits)[:, None]
    number = (pixels * GROUP).to(tl.float32)
    mean = tl.sum(tl.load(place, mask=inside, other=0.0)) / number
    variance = tl.sum(tl.load(place + plane, mask=inside, other=0.0)) / number - mean * mean
    target = moments + frame * tl.num_programs(1) + group
    tl.store(target, mean)
    tl.store(target + moment_plane, 1.0 / tl.sqrt(tl.maximum(variance, 0.0) + epsilon))


@triton.jit
def _apply(
    x, out, weight, bias, shift, moments, dense, projection_weight, projection_bias,
    pixels, width, channels, start, shift_stride, moment_plane, maps,
    GROUP: tl.constexpr, GROUPS: tl.constexpr, OFFSET: tl.constexpr, ACTIVATE: tl.constexpr, MODULATE: tl.constexpr,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Normalise a block of pixels and channels, activate and modulate it."""
    frame = tl.program_id(2)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    whole = start + columns
    inside = (rows < pixels)[:, None]
    place = frame.to(tl.int64) * pixels
    values = tl.load(x + place * width + rows[:, None] * width + columns[None, :], mask=inside, other=0.0)
    group = frame * GROUPS + whole // GROUP
    scale = tl.load(moments + moment_plane + group) * tl.load(weight + whole).to(tl.float32)
    add = tl.load(bias + whole).to(tl.float32) - tl.load(moments + group) * scale
    if OFFSET:
        add += tl.load(shift + frame * shift_stride + whole).to(tl.float32) * scale
    y = values.to(tl.float32) * scale[None, :] + add[None, :]
    if ACTIVATE:
        y = y / (1.0 + tl.exp(-y))
    if MODULATE:
        grow = tl.zeros((ROWS, CHANNELS), dtype=tl.float32)
        move = tl.zeros((ROWS, CHANNELS), dtype=tl.float32)
        grow += 1.0 + tl.load(projection_bias + whole).to(tl.float32)[None, :]
        move += tl.load(projection_bias + channels + whole).to(tl.float32)[None, :]
        for channel in tl.static_range(6):
            seen = tl.load(dense + ((frame % maps) * 6 + channel) * pixels + rows, mask=rows < pixels, other=0.0)
            grow_by = tl.load(projection_weight + whole * 6 + channel).to(tl.float32)
            move_by = tl.load(projection_weight + (channels + whole) * 6 + channel).to(tl.float32)
            grow += seen.to(tl.float32)[:, None] * grow_by[None, :]
            move += seen.to(tl.float32)[:, None] * move_by[None, :]
        y = y * grow + move
    target = out + place * channels + rows[:, None] * channels + whole[None, :]
    tl.store(target, y.to(out.dtype.element_ty), mask=inside)
