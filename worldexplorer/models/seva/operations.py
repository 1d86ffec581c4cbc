"""The steps of the network that a GPU does faster in kernels of its own, as one interface with two implementations.

:class:`PlainOperations` is their definition, in plain torch for any device; the fused one
(:mod:`worldexplorer.models.seva.fused`) computes the same on a CUDA GPU with fewer passes over memory. A feature map is
[N, C, h, w]; tokens are [N, L, C]; frame t of batch element b is at n = b * frames + t.

Example:
    >>> PlainOperations().temporal_attention(qkv, frames=21, head_channels=64).shape      # qkv [42, 5184, 960]
    torch.Size([42, 5184, 320])
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional


class Modulation(NamedTuple):
    """The cameras' part in a residual block: a map, and the 1 x 1 convolution that makes scale and shift of it.

    Attributes:
        dense: [M, 6, h, w]; frame n takes map n % M.
        projection: 6 -> 2C channels, scales first.
    """

    dense: Tensor
    projection: nn.Conv2d


class Operations(Protocol):
    """What the blocks of the network are made of."""

    def group_norm(
        self,
        parts: tuple[Tensor, ...],
        norm: nn.GroupNorm,
        *,
        offset: Tensor | None = None,
        activate: bool = True,
        modulation: Modulation | None = None,
    ) -> Tensor:
        """Normalise a map in float32; then SiLU; then times (1 + scale) plus shift.

        Args:
            parts: maps whose concatenation along the channels is meant.
            norm: its groups, epsilon, weight and bias.
            offset: [1 or N, C], added to every pixel first.
            activate: whether SiLU follows.
            modulation: scale and shift; None for neither.
        """

    def layer_norm(self, x: Tensor, norm: nn.LayerNorm, bias: Tensor | None = None) -> Tensor:
        """Normalise tokens, after adding `bias` [C] to them."""

    def linear(self, x: Tensor, layer: nn.Linear) -> Tensor:
        """Tokens through a layer without a bias."""

    def linear_add(self, x: Tensor, linear: nn.Linear, base: Tensor) -> Tensor:
        """Tokens `base` plus the projection of `x`."""

    def linear_add_norm(
        self,
        x: Tensor,
        linear: nn.Linear,
        base: Tensor,
        norm: nn.LayerNorm,
        *,
        token: Tensor | None = None,
        base_bias: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Tokens `base` plus the projection of `x`, plus what is given of the rest; and that sum normalised.

        The rest: `token` [B, C] for each batch element, whose tokens follow each other, and `base_bias` [C] for all.
        """

    def linear_norm(self, x: Tensor, linear: nn.Linear, base: Tensor, norm: nn.LayerNorm, token: Tensor) -> Tensor:
        """The second result of :meth:`linear_add_norm` alone, where the sum itself is not needed."""

    def attention(self, qkv: Tensor, head_channels: int) -> Tensor:
        """Attention of the L tokens of each n over themselves: [N, L, 3C] -> [N, L, C]."""

    def temporal_attention(self, qkv: Tensor, frames: int, head_channels: int) -> Tensor:
        """Attention of each pixel's `frames` tokens over themselves: [B * frames, L, 3C] -> [B * frames, L, C]."""

    def gated(self, x: Tensor, projection: nn.Linear) -> Tensor:
        """[..., C] -> [..., H]: project to 2H channels, value and gate; value * GELU(gate)."""

    def close(
        self, x: Tensor, gate: nn.Linear, last: nn.Linear, seen: Tensor, projection: nn.Linear, base: Tensor
    ) -> Tensor:
        """The end of a transformer: base + projection(seen + last(gated(x, gate))). It may be written over `base`."""

    def convolve(self, x: Tensor, convolution: nn.Conv2d) -> Tensor:
        """A 3 x 3 convolution without its bias: [N, C_in, h, w] -> [N, C_out, h, w]."""

    def convolve_add(self, x: Tensor, convolution: nn.Conv2d, base: Tensor, bias: Tensor) -> Tensor:
        """The same, plus a map and, at every pixel, `bias` [C_out]."""

    def project(self, parts: tuple[Tensor, ...], convolution: nn.Conv2d) -> Tensor:
        """A 1 x 1 convolution, without its bias, of the maps whose concatenation is meant."""

    def add(self, maps: tuple[Tensor, Tensor], bias: Tensor) -> Tensor:
        """The sum of two maps and of `bias` [C] at every pixel."""

    def upsample(self, x: Tensor, convolution: nn.Conv2d) -> Tensor:
        """Repeat every pixel twice each way, then convolve 3 x 3: [N, C, h, w] -> [N, C, 2h, 2w]."""


class PlainOperations:
    """The definition of :class:`Operations`."""

    def group_norm(
        self,
        parts: tuple[Tensor, ...],
        norm: nn.GroupNorm,
        *,
        offset: Tensor | None = None,
        activate: bool = True,
        modulation: Modulation | None = None,
    ) -> Tensor:
        """See Operations."""
        x = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        kind = x.dtype
        if offset is not None:
            x = x + offset[:, :, None, None]
        x = functional.group_norm(x.float(), norm.num_groups, norm.weight.float(), norm.bias.float(), norm.eps).to(kind)
        if activate:
            x = functional.silu(x)
        if modulation is not None:
            scale, shift = modulation.projection(modulation.dense).chunk(2, dim=1)
            again = len(x) // len(scale)
            x = x * (1 + scale.repeat(again, 1, 1, 1)) + shift.repeat(again, 1, 1, 1)
        return x

    def layer_norm(self, x: Tensor, norm: nn.LayerNorm, bias: Tensor | None = None) -> Tensor:
        """See Operations."""
        x = x if bias is None else x + bias
        return functional.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)

    def linear(self, x: Tensor, layer: nn.Linear) -> Tensor:
        """See Operations."""
        return functional.linear(x, layer.weight)

    def linear_add(self, x: Tensor, linear: nn.Linear, base: Tensor) -> Tensor:
        """See Operations."""
        result: Tensor = base + linear(x)
        return result

    def linear_add_norm(
        self,
        x: Tensor,
        linear: nn.Linear,
        base: Tensor,
        norm: nn.LayerNorm,
        *,
        token: Tensor | None = None,
        base_bias: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See Operations."""
        total = self.linear_add(x, linear, base if base_bias is None else base + base_bias)
        if token is not None:
            total = (total.reshape(len(token), -1, total.shape[-1]) + token[:, None]).reshape(total.shape)
        return total, self.layer_norm(total, norm)

    def linear_norm(self, x: Tensor, linear: nn.Linear, base: Tensor, norm: nn.LayerNorm, token: Tensor) -> Tensor:
        """See Operations."""
        return self.linear_add_norm(x, linear, base, norm, token=token)[1]

    def attention(self, qkv: Tensor, head_channels: int) -> Tensor:
        """See Operations."""
        q, k, v = qkv.unflatten(2, (3, -1, head_channels)).permute(2, 0, 3, 1, 4)
        return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def temporal_attention(self, qkv: Tensor, frames: int, head_channels: int) -> Tensor:
        """See Operations."""
        length = qkv.shape[1]
        columns = qkv.unflatten(0, (-1, frames)).transpose(1, 2).flatten(0, 1)  # [B * L, frames, 3C]
        mixed = self.attention(columns, head_channels)
        return mixed.unflatten(0, (-1, length)).transpose(1, 2).flatten(0, 1)

    def gated(self, x: Tensor, projection: nn.Linear) -> Tensor:
        """See Operations."""
        value, gate = projection(x).chunk(2, dim=-1)
        return value * functional.gelu(gate)

    def close(
        self, x: Tensor, gate: nn.Linear, last: nn.Linear, seen: Tensor, projection: nn.Linear, base: Tensor
    ) -> Tensor:
        """See Operations."""
        return self.linear_add(self.linear_add(self.gated(x, gate), last, seen), projection, base)

    def convolve(self, x: Tensor, convolution: nn.Conv2d) -> Tensor:
        """See Operations."""
        return functional.conv2d(x, convolution.weight, padding=1)

    def convolve_add(self, x: Tensor, convolution: nn.Conv2d, base: Tensor, bias: Tensor) -> Tensor:
        """See Operations."""
        return self.add((self.convolve(x, convolution), base), bias)

    def project(self, parts: tuple[Tensor, ...], convolution: nn.Conv2d) -> Tensor:
        """See Operations."""
        return functional.conv2d(torch.cat(parts, dim=1), convolution.weight)

    def add(self, maps: tuple[Tensor, Tensor], bias: Tensor) -> Tensor:
        """See Operations."""
        return maps[0] + maps[1] + bias[:, None, None]

    def upsample(self, x: Tensor, convolution: nn.Conv2d) -> Tensor:
        """See Operations."""
        result: Tensor = convolution(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return result
