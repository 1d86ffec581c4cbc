"""SEVA with random weights at full size, for the benchmarks: the network, and files like the published ones.

Example:
    >>> files = save_random_weights(random_network(device), folder)
    >>> model = SevaModel(files, SevaSettings())
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from worldexplorer.models.seva.config import SevaConfig
from worldexplorer.models.seva.model import SevaFiles
from worldexplorer.models.seva.network import SevaNetwork

TINY = SevaConfig(model_channels=32, head_channels=16, context_dim=32, channel_mult=(1, 1, 1, 1))
"""So small that a CPU takes a step in a second."""


def random_network(device: torch.device, config: SevaConfig | None = None) -> SevaNetwork:
    """Half precision: normal weights of deviation 1 / sqrt(fan-in), norms of 1; the published sizes unless given."""
    with torch.no_grad():
        with device:
            network = SevaNetwork(config or SevaConfig())
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, parameter[0].numel() ** -0.5)
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1 and name.endswith("bias"):
                parameter.normal_(0.0, 0.02)
    return network.half().to(memory_format=torch.channels_last).eval().requires_grad_(requires_grad=False)


def save_random_weights(network: SevaNetwork, folder: Path) -> SevaFiles:
    """Files like the published ones; with encoders as small as the network where it is smaller than the published."""
    config = network.config
    tiny = config.context_dim < SevaConfig().context_dim
    stated = {
        "model_channels": config.model_channels,
        "num_head_channels": config.head_channels,
        "context_dim": config.context_dim,
        "channel_mult": list(config.channel_mult),
    }
    save_file(
        {name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()},
        folder / "seva.safetensors",
        {"config": json.dumps(stated)},
    )
    with next(network.parameters()).device:
        codec = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8, 8, 8, 8) if tiny else (128, 256, 512, 512),
            layers_per_block=1 if tiny else 2,
            norm_num_groups=8 if tiny else 32,
        )
        tower = CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=64 if tiny else 1280,
                intermediate_size=128 if tiny else 5120,
                num_hidden_layers=2 if tiny else 32,
                num_attention_heads=4 if tiny else 16,
                patch_size=14,
                projection_dim=config.context_dim,
                hidden_act="gelu",
            )
        )
    codec.half().save_pretrained(folder / "vae")
    tower.half().save_pretrained(folder / "clip")
    return SevaFiles(folder / "seva.safetensors", folder / "vae", folder / "clip")
