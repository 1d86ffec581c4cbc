"""Group normalisation with SiLU and the cameras' scale and shift, in two passes over a channels-last map.

The input may be several maps whose concatenation is meant: it is written only normalised. Scale and shift are made from
the six Pluecker channels where they are used, twelve multiplications a value, instead of being read from memory. The
sums are made from the last frame to the first, which leaves the first frames in the cache for the second pass.

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
"""Pixels of a block."""
_SPLIT_ROWS = 324
"""Pixels of a frame whose sums one program makes."""
_PLANES = 6
"""Channels of a Pluecker map."""


def group_norm(
    parts: tuple[Tensor, ...],
    weight: Tensor,
    bias: Tensor,
    groups: int,
    epsilon: float,
    offset: Tensor | None,
    activate: bool,
    dense: Tensor | None = None,
    projection: Tensor | None = None,
) -> Tensor:
    """See Operations.group_norm.

    Maps are [N, C, h, w] in channels-last order, `dense` [M, 6, h, w] is plain, `projection` from :func:`arrange`.
    """
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
        _sums[(width_of_part // CHANNELS, splits, count)](
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
        _apply[(width_of_part // CHANNELS, triton.cdiv(pixels, _ROWS), count)](
            part, out, weight, bias, shift, moments, dense, projection,
            pixels, width_of_part, channels, start, shift_stride, count * groups, 1 if dense is None else len(dense),
            GROUP=size, GROUPS=groups, OFFSET=offset is not None, ACTIVATE=activate, PLANES=_PLANES,
            ROWS=_ROWS, CHANNELS=CHANNELS, num_warps=4,
        )  # fmt: skip
        start += width_of_part
    return out


def arrange(weight: Tensor, bias: Tensor) -> Tensor:
    """The 1 x 1 convolution from six channels to scale and shift, for :func:`group_norm`.

    Args:
        weight: [2C, 6, 1, 1], scales first.
        bias: [2C].

    Returns:
        [14, C] float32: six rows that make the scale, its bias and 1; the same for the shift.
    """
    scale, shift = torch.cat([weight[:, :, 0, 0], bias[:, None]], dim=1).float().chunk(2)
    scale = scale + torch.eye(_PLANES + 1, device=scale.device)[_PLANES]
    return torch.cat([scale.T, shift.T]).contiguous()


@triton.jit
def _sums(
    x, shift, sums, pixels, width, channels, start, shift_stride, plane, splits,
    OFFSET: tl.constexpr, SPLIT: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Sums and sums of squares of the channels over a part of a frame's pixels."""
    frame = tl.num_programs(2) - 1 - tl.program_id(2)
    split = tl.program_id(1)
    columns = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
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
    x, out, weight, bias, shift, moments, dense, projection,
    pixels, width, channels, start, shift_stride, moment_plane, maps,
    GROUP: tl.constexpr, GROUPS: tl.constexpr, OFFSET: tl.constexpr, ACTIVATE: tl.constexpr, PLANES: tl.constexpr,
    ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Normalise a block of pixels and channels, activate and modulate it."""
    frame = tl.program_id(2)
    whole = start + tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    group = frame * GROUPS + whole // GROUP
    scale = tl.load(moments + moment_plane + group) * tl.load(weight + whole).to(tl.float32)
    add = tl.load(bias + whole).to(tl.float32) - tl.load(moments + group) * scale
    if OFFSET:
        add += tl.load(shift + frame * shift_stride + whole).to(tl.float32) * scale
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    inside = (rows < pixels)[:, None]
    place = frame.to(tl.int64) * pixels
    values = tl.load(x + place * width + rows[:, None] * width + (whole - start)[None, :], mask=inside, other=0.0)
    y = values.to(tl.float32) * scale[None, :] + add[None, :]
    if ACTIVATE:
        y = y * _reciprocal(1.0 + tl.exp(-y))
    if dense is not None:
        grow = tl.zeros((ROWS, CHANNELS), dtype=tl.float32)
        move = tl.zeros((ROWS, CHANNELS), dtype=tl.float32)
        grow += tl.load(projection + PLANES * channels + whole)[None, :]
        move += tl.load(projection + (2 * PLANES + 1) * channels + whole)[None, :]
        for plane in tl.static_range(PLANES):
            at = dense + ((frame % maps) * PLANES + plane) * pixels + rows
            seen = tl.load(at, mask=rows < pixels, other=0.0).to(tl.float32)[:, None]
            grow += seen * tl.load(projection + plane * channels + whole)[None, :]
            move += seen * tl.load(projection + (PLANES + 1 + plane) * channels + whole)[None, :]
        y = y * grow + move
    target = out + place * channels + rows[:, None] * channels + whole[None, :]
    tl.store(target, y.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _reciprocal(x):
    """The instruction: off by one unit in float32's last place, 0 for infinity."""
    return tl.inline_asm_elementwise("rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)
