"""The SEVA denoiser as one module, with the parameter names and shapes of the published checkpoint.

Example:
    >>> network = SevaNetwork(SevaConfig())
    >>> noise = network(x, timestep, context, dense, num_frames=21)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from worldexplorer.models.seva.config import INPUT_CHANNELS, LATENT_CHANNELS, SevaConfig
from worldexplorer.models.seva.layers import (
    GROUPS,
    RESIDUAL_EPSILON,
    Downsample,
    MultiviewTransformer,
    ResidualBlock,
    Tokens,
    Upsample,
    frames_of,
)
from worldexplorer.models.seva.operations import Operations, PlainOperations

_LONGEST_PERIOD = 10_000.0
_CHANNEL_MULTIPLE = 8
"""Half-precision convolutions are fast where their channels are a multiple of this."""


class Front(NamedTuple):
    """How frames that are alike until they meet their token share the work up to there.

    Attributes:
        dense: [K, 6, h, w] Pluecker maps of the K frames that differ.
        spread: [N] for each frame of the batch the one of the K it is like.
    """

    dense: Tensor
    spread: Tensor


class Conditioning(NamedTuple):
    """What does not change over the steps of a sampling.

    Attributes:
        dense: Pluecker maps [M, 6, h, w] at the resolution of each level; frame n takes map n % M.
        tokens: each transformer's projected context, in the order they run.
        front: where the input holds only the frames that differ; None where it holds all.
    """

    dense: list[Tensor]
    tokens: list[Tokens]
    front: Front | None = None


class SevaNetwork(nn.Module):
    """A U-Net over the latents of B x T frames.

    Args:
        config: its sizes.

    Attributes:
        operations: how the blocks compute; plain torch unless replaced.
    """

    def __init__(self, config: SevaConfig) -> None:
        super().__init__()
        self.config = config
        self.operations: Operations = PlainOperations()
        base = config.model_channels
        time_channels = 4 * base
        self.time_embed = nn.Sequential(
            nn.Linear(base, time_channels), nn.SiLU(), nn.Linear(time_channels, time_channels)
        )
        widths = [base * factor for factor in config.channel_mult]

        def residual(channels_in: int, channels_out: int) -> ResidualBlock:
            return ResidualBlock(channels_in, channels_out, time_channels)

        def transformer(channels: int, *, joint: bool) -> MultiviewTransformer:
            return MultiviewTransformer(channels, config.head_channels, config.context_dim, joint=joint)

        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(INPUT_CHANNELS, base, 3, padding=1)])])
        skips, channels = [base], base
        for level, width in enumerate(widths):
            for _ in range(config.res_blocks):
                entry: list[nn.Module] = [residual(channels, width)]
                channels = width
                if level in config.attention_levels:
                    entry.append(transformer(channels, joint=False))
                self.input_blocks.append(nn.ModuleList(entry))
                skips.append(channels)
            if level < len(widths) - 1:
                self.input_blocks.append(nn.ModuleList([Downsample(channels)]))
                skips.append(channels)

        self.middle_block = nn.ModuleList(
            [residual(channels, channels), transformer(channels, joint=True), residual(channels, channels)]
        )

        self.output_blocks = nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            for number in range(config.res_blocks + 1):
                entry = [residual(channels + skips.pop(), width)]
                channels = width
                if level in config.attention_levels:
                    entry.append(transformer(channels, joint=level in config.joint_levels))
                if level and number == config.res_blocks:
                    entry.append(Upsample(channels))
                self.output_blocks.append(nn.ModuleList(entry))

        self.out = nn.Sequential(
            nn.GroupNorm(GROUPS, base, eps=RESIDUAL_EPSILON), nn.SiLU(), nn.Conv2d(base, LATENT_CHANNELS, 3, padding=1)
        )

    def conditioning(self, context: Tensor, dense: Tensor) -> Conditioning:
        """Compute what the steps of a sampling share.

        Args:
            context: [B, context_dim], one token a batch element.
            dense: [M, 6, h, w] Pluecker maps; frame n of the batch takes map n % M.
        """
        height, width = dense.shape[-2:]
        maps = [dense]
        for _ in self.config.channel_mult[1:]:
            height, width = -(-height // 2), -(-width // 2)  # a strided convolution with padding 1 rounds up
            maps.append(functional.interpolate(dense, size=(height, width), mode="bilinear", align_corners=True))
        blocks = (*self.input_blocks, self.middle_block, *self.output_blocks)
        tokens = [
            layer.tokens(context) for entry in blocks for layer in entry if isinstance(layer, MultiviewTransformer)
        ]
        return Conditioning(maps, tokens)

    def forward(self, x: Tensor, timestep: Tensor, context: Tensor, dense: Tensor, num_frames: int) -> Tensor:
        """Predict the noise.

        Args:
            x: [B*T, 11, h, w] noisy latent, mask plane and Pluecker map.
            timestep: [B*T] 0 to 999.
            context: [B*T, 1, context_dim]; the token of each element's first frame counts.
            dense: [B*T, 6, h, w].
            num_frames: T.

        Returns:
            [B*T, 4, h, w].
        """
        return self.denoise(x, timestep, self.conditioning(context[::num_frames, 0], dense), num_frames)

    def denoise(self, x: Tensor, timestep: Tensor, conditioning: Conditioning, num_frames: int) -> Tensor:
        """As :meth:`forward`, with what :meth:`conditioning` computed; `timestep` is [1] where all frames share it.

        With a front, `x` holds only the frames that differ, and the result all.
        """
        operations = self.operations
        time = functional.silu(self.time_embed(sinusoids(timestep, self.config.model_channels).to(x.dtype)))
        tokens = iter(conditioning.tokens)
        level = 0

        def run(entry: nn.Module, parts: tuple[Tensor, ...], front: Front | None = None) -> Tensor:
            nonlocal level
            for layer in entry.children():
                if isinstance(layer, ResidualBlock):
                    h = layer(parts, time, front.dense if front else conditioning.dense[level], operations)
                elif isinstance(layer, MultiviewTransformer):
                    spread = front.spread if front else None
                    h = layer(*parts, next(tokens), num_frames, operations, spread)
                elif isinstance(layer, Upsample):
                    h = layer(*parts, operations)
                    level -= 1
                else:
                    h = layer(*parts)
                    level += 1
                parts = (h,)
            return h

        first = self.input_blocks[0].get_submodule("0")
        assert isinstance(first, nn.Conv2d)
        h = padded_convolution(x, first)
        front = conditioning.front
        kept = [frames_of(h, front.spread) if front else h]
        for number, entry in enumerate(self.input_blocks[1:]):
            h = run(entry, (h,), None if number else front)
            kept.append(h)
        h = run(self.middle_block, (h,))
        for entry in self.output_blocks:
            h = run(entry, (h, kept.pop()))
        return padded_convolution(operations.group_norm((h,), self.out[0]), self.out[2])


def padded_convolution(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """A 3 x 3 convolution of few channels, in half precision with zero channels that bring them to a fast number."""
    weight, bias = convolution.weight, convolution.bias
    assert bias is not None
    missing_in, missing_out = (-size % _CHANNEL_MULTIPLE for size in (weight.shape[1], weight.shape[0]))
    if x.dtype == torch.float32 or not (missing_in or missing_out):
        result: Tensor = convolution(x)
        return result
    x = functional.pad(x, (0, 0, 0, 0, 0, missing_in)).contiguous(memory_format=torch.channels_last)
    weight = functional.pad(weight, (0, 0, 0, 0, 0, missing_in, 0, missing_out)).contiguous(
        memory_format=torch.channels_last
    )
    return functional.conv2d(x, weight, functional.pad(bias, (0, missing_out)), padding=1)[:, : len(bias)]


def sinusoids(timestep: Tensor, channels: int) -> Tensor:
    """[N] -> [N, channels] float32: cosines, then sines, of frequencies from 1 down to 1/10,000."""
    half = channels // 2
    frequencies = torch.exp(-math.log(_LONGEST_PERIOD) * torch.arange(half, device=timestep.device) / half)
    angles = timestep.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)
