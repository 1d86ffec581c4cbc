"""Queries and keys of VGGT normalised and turned, in one pass over memory and in place.

Example:
    >>> rotate(parts, q_norm, k_norm, cosines, sines)      # [B, N, 3, heads, 64]
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

_ROWS = 64
"""Heads of tokens that one program turns."""


def rotate(parts: Tensor, q_norm: nn.LayerNorm, k_norm: nn.LayerNorm, cosines: Tensor, sines: Tensor) -> None:
    """See :func:`worldexplorer.models.vggt_attention.rotate_in_place`."""
    batch, count, _, heads, channels = parts.shape
    rows = batch * count * heads
    weights = torch.stack([q_norm.weight, q_norm.bias, k_norm.weight, k_norm.bias]).float()
    _rotate[(triton.cdiv(rows, _ROWS), 2)](
        parts,
        weights,
        cosines,
        sines,
        rows,
        len(cosines),
        q_norm.eps,
        HEADS=heads,
        QUARTER=channels // 4,
        ROWS=_ROWS,
        num_warps=4,
    )


@triton.jit
def _rotate(
    parts, weights, cosines, sines, rows, places, eps, HEADS: tl.constexpr, QUARTER: tl.constexpr, ROWS: tl.constexpr
):
    kind = tl.program_id(1)  # 0 for queries, 1 for keys
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    token, head = row // HEADS, row % HEADS
    column = tl.arange(0, QUARTER)
    inside = (row < rows)[:, None] & (column >= 0)[None, :]
    start = parts + ((token * 3 + kind) * HEADS + head)[:, None] * (4 * QUARTER) + column[None, :]
    a = tl.load(start, mask=inside, other=0.0).to(tl.float32)
    b = tl.load(start + QUARTER, mask=inside, other=0.0).to(tl.float32)
    c = tl.load(start + 2 * QUARTER, mask=inside, other=0.0).to(tl.float32)
    d = tl.load(start + 3 * QUARTER, mask=inside, other=0.0).to(tl.float32)
    mean = (tl.sum(a, 1) + tl.sum(b, 1) + tl.sum(c, 1) + tl.sum(d, 1)) / (4 * QUARTER)
    a, b, c, d = a - mean[:, None], b - mean[:, None], c - mean[:, None], d - mean[:, None]
    square = (tl.sum(a * a, 1) + tl.sum(b * b, 1) + tl.sum(c * c, 1) + tl.sum(d * d, 1)) / (4 * QUARTER)
    scale = (1.0 / tl.sqrt(square + eps))[:, None]
    gain = weights + kind * (8 * QUARTER) + column
    shift = gain + 4 * QUARTER
    a = a * scale * tl.load(gain)[None, :] + tl.load(shift)[None, :]
    b = b * scale * tl.load(gain + QUARTER)[None, :] + tl.load(shift + QUARTER)[None, :]
    c = c * scale * tl.load(gain + 2 * QUARTER)[None, :] + tl.load(shift + 2 * QUARTER)[None, :]
    d = d * scale * tl.load(gain + 3 * QUARTER)[None, :] + tl.load(shift + 3 * QUARTER)[None, :]
    at = (token % places)[:, None] * (2 * QUARTER) + column[None, :]
    cosine, sine = tl.load(cosines + at, mask=inside), tl.load(sines + at, mask=inside)
    kept = parts.dtype.element_ty
    tl.store(start, (a * cosine - b * sine).to(kept), mask=inside)
    tl.store(start + QUARTER, (b * cosine + a * sine).to(kept), mask=inside)
    cosine, sine = tl.load(cosines + at + QUARTER, mask=inside), tl.load(sines + at + QUARTER, mask=inside)
    tl.store(start + 2 * QUARTER, (c * cosine - d * sine).to(kept), mask=inside)
    tl.store(start + 3 * QUARTER, (d * cosine + c * sine).to(kept), mask=inside)
