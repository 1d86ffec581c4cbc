"""value * GELU(gate) of a feed-forward block's projection, in one pass.

Example:
    >>> gated(projected)          # [..., 2H] -> [..., H]
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024


def gated(x: Tensor) -> Tensor:
    """The first half of the channels times the GELU of the second."""
    hidden = x.shape[-1] // 2
    out = torch.empty((*x.shape[:-1], hidden), dtype=x.dtype, device=x.device)
    rows = out.numel() // hidden
    _gated[(rows, triton.cdiv(hidden, _BLOCK))](x, out, hidden, BLOCK=_BLOCK, num_warps=4)
    return out


@triton.jit
def gelu(x):
    """X times the normal distribution function: 0.5 + an odd polynomial, off by at most 5e-5 in the result.

    The coefficients minimise the largest error of the result for |x| <= 4.4, where the function ends in float16.
    """
    bounded = tl.minimum(tl.maximum(x, -4.4), 4.4)
    square = bounded * bounded
    series = square * 3.5233867e-11 - 3.716831e-09
    series = series * square + 1.728402e-07
    series = series * square - 4.7026263e-06
    series = series * square + 8.406402e-05
    series = series * square - 1.0536295e-03
    series = series * square + 9.638581e-03
    series = series * square - 6.606949e-02
    series = series * square + 3.9875795e-01
    return x * (0.5 + bounded * series)


@triton.jit
def _gated(x, out, hidden, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < hidden
    value = tl.load(x + row * 2 * hidden + column, mask=inside).to(tl.float32)
    gate = tl.load(x + row * 2 * hidden + hidden + column, mask=inside).to(tl.float32)
    tl.store(out + row * hidden + column, (value * gelu(gate)).to(out.dtype.element_ty), mask=inside)
