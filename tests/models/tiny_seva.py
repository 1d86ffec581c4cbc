"""A whole SEVA small enough for a CPU: the fixture's network, and encoders with random weights, saved as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from seva_fixtures import TINY, tiny_config
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from worldexplorer.engine import NovelViewRequest
from worldexplorer.geometry.cameras import normalised_intrinsics
from worldexplorer.models.seva.model import SevaFiles

SIZE = 64


def save_tiny_weights(folder: Path) -> SevaFiles:
    """The folders of a weight source: seva/, seva-vae/, seva-clip/."""
    torch.manual_seed(0)
    network = folder / "seva" / "modelv1.1.safetensors"
    network.parent.mkdir(parents=True)
    network.write_bytes(TINY.read_bytes())
    codec = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=8,
    )
    codec.save_pretrained(folder / "seva-vae" / "vae")
    save_tower(folder / "seva-clip", "gelu")
    return SevaFiles(network, folder / "seva-vae" / "vae", folder / "seva-clip")


def save_tower(folder: Path, activation: str) -> None:
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        projection_dim=tiny_config().context_dim,
        hidden_act=activation,
    )
    CLIPVisionModelWithProjection(config).save_pretrained(folder)


def request(frames: int = 6, given: int = 2, seed: int = 0, steps: int = 2, size: int = SIZE) -> NovelViewRequest:
    """A walk forward from pictures of noise."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (frames, size, size, 3), dtype=np.uint8)
    mask = np.arange(frames) < given
    images[~mask] = 0
    c2w = np.tile(np.eye(4), (frames, 1, 1))
    c2w[:, 2, 3] = 0.1 * np.arange(frames)
    return NovelViewRequest(
        images=images,
        given=mask,
        c2w=c2w,
        intrinsics=np.tile(normalised_intrinsics(), (frames, 1, 1)),
        translation_scaling_factor=1.0,
        cfg=3.0,
        cfg_min=1.2,
        steps=steps,
        seed=seed,
    )
