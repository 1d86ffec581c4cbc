"""Attention along the frames, read where the tokens lie.

Every pixel's few frames are one small problem: a program takes one pixel and one head, so no copy into and out of a
layout with the frames together is made.

Example:
    >>> temporal_attention(qkv, frames=21, head_channels=64)        # [42, 5184, 960] -> [42, 5184, 320]
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

LARGEST_FRAMES = 128
"""More frames would not fit a program's registers."""


def temporal_attention(qkv: Tensor, frames: int, head_channels: int) -> Tensor:
    """See Operations.temporal_attention."""
    count, length, triple = qkv.shape
    channels = triple // 3
    out = torch.empty((count, length, channels), dtype=qkv.dtype, device=qkv.device)
    block = max(16, triton.next_power_of_2(frames))
    _attend[(channels // head_channels, length, count // frames)](
        qkv, out, length, channels, head_channels**-0.5 * 1.4426950408889634,
        FRAMES=frames, BLOCK=block, HEAD=head_channels, num_warps=max(1, block // 32),
    )  # fmt: skip
    return out


@triton.jit
def _attend(
    qkv, out, length, channels, scale, FRAMES: tl.constexpr, BLOCK: tl.constexpr, HEAD: tl.constexpr
):  # fmt: skip
    frame = tl.arange(0, BLOCK)
    inside = frame < FRAMES
    columns = tl.program_id(0) * HEAD + tl.arange(0, HEAD)
    token = (tl.program_id(2) * FRAMES + frame).to(tl.int64) * length + tl.program_id(1)
    place = qkv + token[:, None] * (3 * channels) + columns[None, :]
    query = tl.load(place, mask=inside[:, None], other=0.0)
    key = tl.load(place + channels, mask=inside[:, None], other=0.0)
    value = tl.load(place + 2 * channels, mask=inside[:, None], other=0.0)
    scores = tl.dot(query, tl.trans(key)) * scale
    scores = tl.where(inside[None, :], scores, float("-inf"))
    weights = tl.exp2(scores - tl.max(scores, axis=1)[:, None])
    mixed = tl.dot(weights.to(value.dtype), value) / tl.sum(weights, axis=1)[:, None]
    target = out + token[:, None] * channels + columns[None, :]
    tl.store(target, mixed.to(out.dtype.element_ty), mask=inside[:, None])
