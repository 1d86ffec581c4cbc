"""Convolutions 3 x 3 by Winograd's minimal filtering, F(2 x 2, 3 x 3): 16 multiplications for four results, not 36.

A map is cut into tiles of 4 x 4 pixels that overlap by two. Tiles and weights are turned into 16 sums each
(B^T d B and G g G^T), the sums multiplied place by place, which is one matrix product over the channels for each of the
16, and every tile's 16 products turned into 2 x 2 results (A^T m A). After Lavin and Gray, "Fast algorithms for
convolutional neural networks", 2016, whose matrices these are. The kernels are in
:mod:`worldexplorer.models.seva.kernels.winograd`.

Example:
    >>> winograd_weights(convolution.weight).shape          # of [1280, 2560, 3, 3]
    torch.Size([16, 2560, 1280])
"""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_CHANNELS = 200.0
"""Of :func:`pays`.

For a pixel, the two transforms move about 5 (C_in + C_out) values, and there are 10 C_in C_out operations less, so what
counts is C_in C_out / (C_in + C_out). At the rates of an H200 in the course of a step, with the clock its power cap
leaves (485 TFLOP/s of direct convolutions, 540 of the products, 3.5 TB/s), both ways take the same time at 128.
"""


def pays(channels_in: int, channels_out: int) -> bool:
    """Whether the multiplications saved are worth the memory traffic of the transforms, with a margin."""
    return channels_in * channels_out / (channels_in + channels_out) >= LEAST_CHANNELS


def winograd_weights(weight: Tensor) -> Tensor:
    """[C_out, C_in, 3, 3] -> [16, C_in, C_out], summed in float32 and of the weights' type."""
    factors = torch.tensor([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]], dtype=torch.float32, device=weight.device) / 2
    return torch.einsum("ay,bx,oiyx->abio", factors, factors, weight.float()).flatten(0, 1).to(weight.dtype)
