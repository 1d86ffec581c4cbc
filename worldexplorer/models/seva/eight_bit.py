"""The transformers' widest products in eight-bit floating point: an option that changes results.

Tokens and weights are rounded to E4M3 (three bits of mantissa) with a scale for each token and for each output channel,
so that the largest number of a row is the largest of the format. Taken are the products that a normalisation feeds,
where a GPU multiplies them enough faster: queries, keys and values of 640 channels or more, value and gate of 1,280.
Convolutions, embeddings and the first and last layers stay as they are.

Example:
    >>> network.operations = EightBitOperations()
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from worldexplorer.errors import UserError
from worldexplorer.models.seva.operations import PlainOperations

KIND = torch.float8_e4m3fn
LARGEST = 448.0
LEAST_CHANNELS = 640
LEAST_GATED_CHANNELS = 1280
"""Narrower, the gate's own pass over memory takes longer than the product gains."""
LEAST_CAPABILITY = (8, 9)


def quantise(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [..., C] as eight-bit numbers and their scales [..., 1] in float32; a row of zeros has a scale of 1."""
    largest = x.float().abs().amax(dim=-1, keepdim=True)
    scales = torch.where(largest > 0, largest / LARGEST, 1.0)
    return (x.float() / scales).to(KIND), scales


def eight_bit_product(x: Tensor, weight: Tensor) -> Tensor:
    """Tokens x [..., C] times weight [K, C] with both rounded: the definition, for any device."""
    (values, scales), (rows, columns) = quantise(x), quantise(weight)
    return (functional.linear(values.float(), rows.float()) * scales * columns[:, 0]).to(x.dtype)


class EightBitOperations(PlainOperations):
    """Plain torch with rounded products: what the kernels are compared with.

    Args:
        least_channels: narrower products of queries, keys and values are left alone.
        least_gated_channels: narrower gated ones.
    """

    def __init__(
        self, *, least_channels: int = LEAST_CHANNELS, least_gated_channels: int = LEAST_GATED_CHANNELS
    ) -> None:
        self.least_channels = least_channels
        self.least_gated_channels = least_gated_channels

    def linear(self, x: Tensor, layer: nn.Linear) -> Tensor:
        """See Operations."""
        if layer.in_features < self.least_channels:
            return super().linear(x, layer)
        return eight_bit_product(x, layer.weight)

    def gated(self, x: Tensor, projection: nn.Linear) -> Tensor:
        """See Operations."""
        if projection.in_features < self.least_gated_channels:
            return super().gated(x, projection)
        value, gate = (eight_bit_product(x, projection.weight) + projection.bias).chunk(2, dim=-1)
        return value * functional.gelu(gate)


def require_eight_bit_units(capability: tuple[int, int], name: str) -> None:
    """Check that a GPU can multiply eight-bit numbers.

    Raises:
        UserError: it cannot.
    """
    if capability < LEAST_CAPABILITY:
        raise UserError(
            f"this GPU cannot multiply eight-bit numbers: its compute capability is {capability[0]}.{capability[1]}",
            where=name,
            remedy="leave fp8 off, or take a GPU of capability 8.9 or more: L4, RTX 40, H100 and later ones",
        )
