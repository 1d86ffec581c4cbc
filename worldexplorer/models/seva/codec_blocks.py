"""The autoencoder's blocks made of the network's own operations, so that they get its kernels on a GPU.

The package's residual block normalises, activates, adds biases and sums in passes of their own, each over maps of up to
1.2 GB a batch, and its upsampling writes every pixel four times before it convolves. These blocks take the package's
layers with their weights and do the same arithmetic in fewer passes (:mod:`worldexplorer.models.seva.operations`).

Example:
    >>> use_operations(codec_model, FusedOperations(packages=False))
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from worldexplorer.models.seva.operations import Operations


class ResidualBlock(nn.Module):
    """In place of the package's residual block without a time embedding, with its layers."""

    def __init__(self, block: Any, operations: Operations) -> None:
        super().__init__()
        self.norm1, self.conv1, self.norm2, self.conv2 = block.norm1, block.conv1, block.norm2, block.conv2
        self.conv_shortcut = block.conv_shortcut
        self._operations = operations

    def forward(self, x: Tensor, temb: None = None) -> Tensor:
        """[N, C, h, w] -> [N, C', h, w]; there is no time."""
        operations = self._operations
        h = operations.group_norm((x,), self.norm1)
        h = functional.conv2d(h, self.conv1.weight, padding=1)
        h = operations.group_norm((h,), self.norm2, offset=self.conv1.bias[None])
        h = functional.conv2d(h, self.conv2.weight, padding=1)
        bias = self.conv2.bias
        if self.conv_shortcut is not None:
            x = operations.project((x,), self.conv_shortcut)
            bias = bias + self.conv_shortcut.bias
        return operations.add((x, h), bias)


class NormAndActivation(nn.Module):
    """A group normalisation and the SiLU that follows it."""

    def __init__(self, norm: nn.GroupNorm, operations: Operations) -> None:
        super().__init__()
        self.norm = norm
        self._operations = operations

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w], the same size."""
        return self._operations.group_norm((x,), self.norm)


class Upsampling(nn.Module):
    """Twice the size, then a convolution."""

    def __init__(self, convolution: nn.Conv2d, operations: Operations) -> None:
        super().__init__()
        self.conv = convolution
        self._operations = operations

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] -> [N, C, 2h, 2w]."""
        return self._operations.upsample(x, self.conv)


def use_operations(model: Any, operations: Operations) -> None:
    """Make an AutoencoderKL of diffusers compute by these operations; its weights stay, under other names.

    Args:
        model: loaded, with SiLU and residual blocks as Stable Diffusion's have them.
        operations: what its blocks are made of.
    """
    for half in (model.encoder, model.decoder):
        blocks = [half.mid_block, *(half.down_blocks if half is model.encoder else half.up_blocks)]
        for block in blocks:
            for number, residual in enumerate(block.resnets):
                block.resnets[number] = ResidualBlock(residual, operations)
            for number, upsampler in enumerate(getattr(block, "upsamplers", None) or ()):
                block.upsamplers[number] = Upsampling(upsampler.conv, operations)
        half.conv_norm_out = NormAndActivation(half.conv_norm_out, operations)
        half.conv_act = nn.Identity()
