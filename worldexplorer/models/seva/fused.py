"""The network's steps in kernels of our own, for half precision on a CUDA GPU.

The same arithmetic as :class:`worldexplorer.models.seva.operations.PlainOperations`, with sums in float32 and fewer
roundings in between. Weights in another arrangement are made at their first use and kept here. On Hopper two more
kernels are taken from packages, where those are installed: attention from flash-attn-4, the gated product from quack.
Wide convolutions in float16 are computed by Winograd's filtering, which multiplies less and rounds once more.

Example:
    >>> network.operations = FusedOperations()
"""

from __future__ import annotations

import importlib.util
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional

from worldexplorer.models.compilers import keep_compiled_kernels
from worldexplorer.models.seva.kernels import gated, group_norm, layer_norm, maps, temporal_attention, winograd
from worldexplorer.models.seva.operations import Modulation, PlainOperations
from worldexplorer.models.seva.upsampling import upsampling_weights
from worldexplorer.models.seva.winograd import pays, winograd_weights

_HOPPER = (9, 0)


class FusedOperations(PlainOperations):
    """See Operations.

    Args:
        packages: whether kernels of installed packages may be taken.
        winograd: whether wide convolutions may be computed by Winograd's filtering. Their weights are kept a second
            time, 16/9 as large: 1.6 GiB of the published network.
    """

    def __init__(self, *, packages: bool = True, winograd: bool = True) -> None:
        keep_compiled_kernels()  # before a package is imported
        hopper = packages and torch.cuda.get_device_capability() == _HOPPER
        self.flash_attention = hopper and _installed("flash_attn.cute")
        self.fused_products = hopper and _installed("quack")
        self.winograd = winograd
        self._arranged: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()

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
        if any(part.shape[1] % group_norm.CHANNELS for part in parts):  # narrower than any published network
            return super().group_norm(parts, norm, offset=offset, activate=activate, modulation=modulation)
        return group_norm.group_norm(
            tuple(_channels_last(part) for part in parts),
            norm.weight,
            norm.bias,
            norm.num_groups,
            norm.eps,
            offset,
            activate,
            dense=None if modulation is None else modulation.dense.contiguous(),
            projection=None if modulation is None else self._modulation(modulation.projection),
        )

    def layer_norm(self, x: Tensor, norm: nn.LayerNorm, bias: Tensor | None = None) -> Tensor:
        """See Operations."""
        return layer_norm.layer_norm(x.contiguous(), bias, norm.weight, norm.bias, norm.eps)

    def linear(self, x: Tensor, layer: nn.Linear) -> Tensor:
        """See Operations."""
        if not self.fused_products:
            return super().linear(x, layer)
        from worldexplorer.models.seva.kernels import hopper_products

        return hopper_products.linear(x, layer.weight)

    # cuBLAS takes up to twice as long for a narrow product when it adds a bias: biases are added by the next kernel.

    def linear_add(self, x: Tensor, linear: nn.Linear, base: Tensor) -> Tensor:
        """See Operations."""
        return maps.add(base.contiguous(), functional.linear(x, linear.weight), linear.bias)

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
        change = functional.linear(x, linear.weight)
        total, normed = layer_norm.add_norm(
            base.contiguous(), change, linear.bias, base_bias, token, norm.weight, norm.bias, norm.eps
        )
        assert total is not None
        return total, normed

    def linear_norm(self, x: Tensor, linear: nn.Linear, base: Tensor, norm: nn.LayerNorm, token: Tensor) -> Tensor:
        """See Operations."""
        change = functional.linear(x, linear.weight)
        return layer_norm.add_norm(
            base.contiguous(), change, linear.bias, None, token, norm.weight, norm.bias, norm.eps, keep=False
        )[1]

    def attention(self, qkv: Tensor, head_channels: int) -> Tensor:
        """See Operations."""
        if self.flash_attention:
            from worldexplorer.models.seva.kernels import hopper_attention

            if qkv.shape[1] >= hopper_attention.LEAST_LENGTH:
                return hopper_attention.attention(qkv, head_channels)
        return super().attention(qkv, head_channels)

    def temporal_attention(self, qkv: Tensor, frames: int, head_channels: int) -> Tensor:
        """See Operations."""
        if frames > temporal_attention.LARGEST_FRAMES:
            return super().temporal_attention(qkv, frames, head_channels)
        return temporal_attention.temporal_attention(qkv, frames, head_channels)

    def gated(self, x: Tensor, projection: nn.Linear) -> Tensor:
        """See Operations."""
        if not self.fused_products:
            return gated.gated(projection(x))
        from worldexplorer.models.seva.kernels import hopper_products

        arranged = self._arranged.get(projection)
        if arranged is None:
            arranged = self._arranged[projection] = hopper_products.interleave(projection.weight, projection.bias)
        return hopper_products.gated(x, *arranged)

    def close(
        self, x: Tensor, gate: nn.Linear, last: nn.Linear, seen: Tensor, projection: nn.Linear, base: Tensor
    ) -> Tensor:
        """See Operations; two products that add to `base` in place.

        The two last projections are one: projection(last(hidden)) has the weights' product. Their biases come with a
        hidden channel that is always 1.
        """
        if not self.fused_products:
            return super().close(x, gate, last, seen, projection, base)
        from worldexplorer.models.seva.kernels import hopper_products

        arranged = self._arranged.get(projection)
        if arranged is None:
            gates = hopper_products.with_a_one(gate.weight, gate.bias)
            arranged = gates, closing_weights(last, projection, hopper_products.MORE)
            self._arranged[projection] = arranged
        gates, weight = arranged
        hidden = hopper_products.gated(x, *gates)
        rows = base.contiguous().flatten(0, -2)
        rows.addmm_(hidden.flatten(0, -2), weight.T)
        rows.addmm_(seen.flatten(0, -2), projection.weight.T)
        return rows.view_as(base)

    def _modulation(self, projection: nn.Conv2d) -> Tensor:
        arranged = self._arranged.get(projection)
        if arranged is None:
            assert projection.bias is not None
            arranged = self._arranged[projection] = group_norm.arrange(projection.weight, projection.bias)
        return arranged

    def convolve(self, x: Tensor, convolution: nn.Conv2d) -> Tensor:
        """See Operations."""
        weights = self._winograd_weights(x, convolution)
        if weights is None:
            return super().convolve(x, convolution)
        return winograd.convolve(_channels_last(x), weights)

    def convolve_add(self, x: Tensor, convolution: nn.Conv2d, base: Tensor, bias: Tensor) -> Tensor:
        """See Operations."""
        weights = self._winograd_weights(x, convolution)
        if weights is None:
            return super().convolve_add(x, convolution, base, bias)
        return winograd.convolve(_channels_last(x), weights, _channels_last(base), bias)

    def _winograd_weights(self, x: Tensor, convolution: nn.Conv2d) -> Tensor | None:
        """Arranged weights, where this way is taken.

        Its results are off by twice as much as a direct convolution's, both by rounding: by 7e-4 in float16, but by
        5.5e-3 in bfloat16 (docs/seva-speed.md), for which the way is not taken.
        """
        channels = convolution.in_channels, convolution.out_channels
        whole = not any(size % winograd.CHANNELS for size in channels)
        if not (self.winograd and x.dtype == torch.float16 and whole and pays(*channels)):
            return None
        weights: Tensor | None = self._arranged.get(convolution)
        if weights is None:
            weights = self._arranged[convolution] = winograd_weights(convolution.weight)
        return weights

    def project(self, parts: tuple[Tensor, ...], convolution: nn.Conv2d) -> Tensor:
        """See Operations."""
        weights = convolution.weight[:, :, 0, 0].split([part.shape[1] for part in parts], dim=1)
        rows = [_rows(_channels_last(part)) for part in parts]
        total = rows[0] @ weights[0].T
        for row, weight in zip(rows[1:], weights[1:], strict=True):
            total.addmm_(row, weight.T)
        count, _, height, width = parts[0].shape
        return total.reshape(count, height, width, -1).permute(0, 3, 1, 2)

    def add(self, maps_: tuple[Tensor, Tensor], bias: Tensor) -> Tensor:
        """See Operations."""
        return maps.add(_channels_last(maps_[0]), _channels_last(maps_[1]), bias)

    def upsample(self, x: Tensor, convolution: nn.Conv2d) -> Tensor:
        """See Operations; four 2 x 2 convolutions, one for each place of a pixel in its doubled one.

        Each reads the source pixels that the 3 x 3 convolution would meet repeated, with the sums of its weights.
        """
        weight = self._arranged.get(convolution)
        if weight is None:
            weight = self._arranged[convolution] = upsampling_weights(convolution.weight)
        assert convolution.bias is not None
        return maps.interleave(functional.conv2d(_channels_last(x), weight, padding=1), convolution.bias)


def closing_weights(last: nn.Linear, projection: nn.Linear, more: int) -> Tensor:
    """[C, H + more]: the product of both layers' weights, and what a hidden channel that is 1 adds: their biases."""
    weight = projection.weight.float() @ last.weight.float()
    bias = projection.weight.float() @ last.bias.float() + projection.bias.float()
    return torch.cat([weight, functional.pad(bias[:, None], (0, more - 1))], dim=1).to(last.weight.dtype)


def _installed(name: str) -> bool:
    """Whether a package is there; it is imported only when it is used."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of the package it lies in
        return False


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _rows(x: Tensor) -> Tensor:
    """A channels-last map as [N * h * w, C]."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
