"""The gated projection of a feed-forward block as one matrix product for Hopper, by the package quack.

While the next tile is computed, the product's epilogue adds the bias and multiplies each value by the GELU of its gate:
neither is written to memory.

Example:
    >>> weight, bias = interleave(projection.weight, projection.bias)
    >>> gated(x, weight, bias)          # [M, C] -> [M, H]
"""

from __future__ import annotations

import quack.activation
import torch
from quack.epilogue.frontend import gemm_epilogue, unpack
from quack.gemm_config import GemmConfig
from torch import Tensor

_TILES = GemmConfig(tile_m=128, tile_n=192, pingpong=True, is_dynamic_persistent=False, cluster_m=2, cluster_n=1)


@gemm_epilogue(outputs=("postact",), mode="acc_pair")
def _value_times_gelu(acc, bias):
    """Half of x (1 + tanh y(x)), y fitted to the error function: off by 2.5e-5, and by the tanh instruction's 2^-11."""
    value, gate = unpack(acc + bias)
    square = quack.activation._minnumf(gate * gate, 40.0)
    bent = gate * (square * (square * -0.0003519023949208153 + 0.03700801999374146) + 0.7975052753834446)
    half = gate * 0.5
    return {"postact": (half * quack.activation.tanh(bent) + half) * value}


def interleave(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of value and gate in turns, and the bias in float32 likewise."""
    rows = torch.stack(weight.chunk(2), dim=1).flatten(0, 1).contiguous()
    return rows, torch.stack(bias.chunk(2), dim=1).flatten().float()[None]


def gated(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Tokens x [..., C], weight [2H, C] and bias [1, 2H] from :func:`interleave` -> [..., H]."""
    rows = x.reshape(-1, x.shape[-1])
    out = torch.empty((len(rows), len(weight) // 2), dtype=x.dtype, device=x.device)
    _value_times_gelu(rows, weight.T, out={"postact": out}, store_d=False, config=_TILES, bias=bias)
    return out.reshape(*x.shape[:-1], -1)
