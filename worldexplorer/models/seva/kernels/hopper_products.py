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
from quack.epilogue.frontend import EpiMod, gemm_epilogue, unpack
from quack.epilogue.ops import TileStore
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


_TILES = _tiles(192, 2, 1)
_PIECE_ROWS = 64
"""Of a warp group's accumulators."""


class _Pieces(TileStore):
    """A gated product's results, of which an epilogue makes so many columns (of accumulators) at once.

    Between one piece and the next all warps of a group wait for each other twice; the package's own pieces have 32.
    """

    def __init__(self, columns: int) -> None:
        super().__init__("postact", gated=True)
        self.columns = columns

    def epi_tile_shape_override(self, arch, cta_tile_shape_mnk, atom_layout_mnk):
        return _PIECE_ROWS, self.columns

    def config_key(self):
        return (*super().config_key(), self.columns)


def _value_times_gelu(acc, bias):
    """Half of x (1 + tanh y(x)), y fitted to the error function: off by 2.5e-5, and by the tanh instruction's 2^-11."""
    value, gate = unpack(acc + bias)
    square = hopper_instructions.bounded_square(gate)
    bent = gate * (square * (square * _SERIES[2] + _SERIES[1]) + _SERIES[0])
    return {"postact": (gate * quack.activation.tanh(bent) + gate) * value}


def _gated(columns: int, piece: int, cluster_m: int, cluster_n: int) -> tuple[EpiMod, GemmConfig]:
    epilogue = EpiMod(_value_times_gelu, outputs=(_Pieces(piece),), mode="acc_pair")
    return epilogue, _tiles(columns, cluster_m, cluster_n)


# Each the fastest of eight or more for the published network's sizes on an H200.
_NARROW, _NARROW_GATED = 320, _gated(128, 128, 1, 2)
"""Up to so many channels a product is shorter than its epilogue."""
_GATED = _gated(192, 64, 2, 1)
_WIDE, _WIDE_GATED = 1280, _gated(160, 160, 1, 2)


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
    channels = x.shape[-1]
    epilogue, tiles = _NARROW_GATED if channels <= _NARROW else _WIDE_GATED if channels >= _WIDE else _GATED
    epilogue(rows, weight.T, out={"postact": out}, store_d=False, config=tiles, bias=bias)
    return out.reshape(*x.shape[:-1], -1)


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Tokens x [..., C], weight [K, C] -> [..., K]."""
    rows = x.reshape(-1, x.shape[-1])
    out = torch.empty((len(rows), len(weight)), dtype=x.dtype, device=x.device)
    _as_it_is(rows, weight.T, out={"D": out}, config=_TILES)
    return out.reshape(*x.shape[:-1], -1)
