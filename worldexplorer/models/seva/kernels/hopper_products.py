"""Matrix products for Hopper by the package quack: plain ones, and the gated projection of a feed-forward block.

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
from torch.nn import functional

from worldexplorer.models.seva.kernels import hopper_instructions

_FAR = 8.0
"""A gate whose GELU is the gate itself."""
MORE = 64
"""Channels that keep rows on 128 bytes; with eight more, the product that reads them takes a sixth longer."""
_VALUE_FACTOR = 4.0
_GATE_FACTOR = 1 / 8
"""What weights of value and gate are multiplied by beforehand, instead of in every epilogue.

Powers of two round nothing, but for float16 weights under 5e-4, which are off by up to 3e-8."""
_SERIES = (6.380042196267154, 18.948106746593155, -11.531150476112254)
"""Of y(x) in x / 8 and its square."""


def _tiles(columns: int, cluster_m: int, cluster_n: int) -> GemmConfig:
    return GemmConfig(
        tile_m=128,
        tile_n=columns,
        pingpong=True,
        is_dynamic_persistent=False,
        cluster_m=cluster_m,
        cluster_n=cluster_n,
    )


_NARROW, _NARROW_TILES = 320, _tiles(160, 2, 1)
"""Up to so many channels a product is shorter than its epilogue."""
_TILES = _tiles(192, 2, 1)
_WIDE, _WIDE_TILES = 1280, _tiles(192, 1, 2)


@gemm_epilogue(outputs=("postact",), mode="acc_pair")
def _value_times_gelu(acc, bias):
    """Half of x (1 + tanh y(x)), y fitted to the error function: off by 2.5e-5, and by the tanh instruction's 2^-11."""
    value, gate = unpack(acc + bias)
    square = hopper_instructions.bounded_square(gate)
    bent = gate * (square * (square * _SERIES[2] + _SERIES[1]) + _SERIES[0])
    return {"postact": (gate * quack.activation.tanh(bent) + gate) * value}


@gemm_epilogue()
def _as_it_is(acc):
    return {"D": acc}


def interleave(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of value and gate in turns, times the factors above, and the bias in float32 likewise."""
    factors = torch.tensor([_VALUE_FACTOR, _GATE_FACTOR], device=weight.device)
    rows = torch.stack(weight.chunk(2), dim=1) * factors.to(weight.dtype)[:, None]
    return rows.flatten(0, 1).contiguous(), (torch.stack(bias.chunk(2), dim=1) * factors).flatten()[None]


def with_a_one(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`interleave`, with :data:`MORE` hidden channels more: the first is always 1, the others 0.

    Nothing but biases makes them: the GELU of 8 is 8 in half precision, and 8 times 1/8 is 1.
    """
    value, gate = (functional.pad(part, (0, 0, 0, MORE)) for part in weight.chunk(2))
    value_bias, gate_bias = (functional.pad(part, (0, MORE)) for part in bias.chunk(2))
    value_bias[-MORE], gate_bias[-MORE] = 1 / _FAR, _FAR
    return interleave(torch.cat([value, gate]), torch.cat([value_bias, gate_bias]))


def gated(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Tokens x [..., C], weight [2H, C] and bias [1, 2H] from :func:`interleave` -> [..., H]."""
    rows = x.reshape(-1, x.shape[-1])
    out = torch.empty((len(rows), len(weight) // 2), dtype=x.dtype, device=x.device)
    tiles = _NARROW_TILES if x.shape[-1] <= _NARROW else _WIDE_TILES if x.shape[-1] >= _WIDE else _TILES
    _value_times_gelu(rows, weight.T, out={"postact": out}, store_d=False, config=tiles, bias=bias)
    return out.reshape(*x.shape[:-1], -1)


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Tokens x [..., C], weight [K, C] -> [..., K]."""
    rows = x.reshape(-1, x.shape[-1])
    out = torch.empty((len(rows), len(weight)), dtype=x.dtype, device=x.device)
    _as_it_is(rows, weight.T, out={"D": out}, config=_TILES)
    return out.reshape(*x.shape[:-1], -1)
