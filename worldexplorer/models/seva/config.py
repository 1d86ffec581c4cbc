"""The sizes of a SEVA network.

Example:
    >>> SevaConfig().attention_levels
    (0, 1, 2)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LATENT_CHANNELS = 4
DENSE_CHANNELS = 6
"""Of the Pluecker map: a ray's direction and its moment."""
INPUT_CHANNELS = LATENT_CHANNELS + 1 + DENSE_CHANNELS
"""Noisy latent, mask plane, Pluecker map."""
LATENT_SCALE = 8
"""Picture pixels a latent pixel, each way."""
TRAINED_FRAMES = 21


@dataclass(frozen=True)
class SevaConfig:
    """Sizes; the defaults are those of the published checkpoint.

    Attributes:
        model_channels: channels at full resolution.
        head_channels: channels of an attention head.
        context_dim: channels of the CLIP token.
        channel_mult: channels of each level, in model_channels; every level halves the resolution.
        res_blocks: residual blocks a level on the way down, one more on the way up.
        attention_levels: levels whose residual blocks are followed by a transformer.
        joint_levels: levels whose transformers on the way up attend over all frames together; the middle always does.
    """

    model_channels: int = 320
    head_channels: int = 64
    context_dim: int = 1024
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    res_blocks: int = 2
    attention_levels: tuple[int, ...] = (0, 1, 2)
    joint_levels: tuple[int, ...] = (1, 2)

    @staticmethod
    def from_metadata(values: Mapping[str, Any]) -> SevaConfig:
        """The sizes a weight file states of itself."""
        return SevaConfig(
            model_channels=int(values["model_channels"]),
            head_channels=int(values["num_head_channels"]),
            context_dim=int(values["context_dim"]),
            channel_mult=tuple(int(factor) for factor in values["channel_mult"]),
        )
