"""Depth Anything V2 small enough for a CPU, saved the way the hub has it, and frames for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

from worldexplorer.engine import Views
from worldexplorer.geometry.cameras import normalised_intrinsics
from worldexplorer.models.geometry_models import DEPTH

FACTS = replace(DEPTH["indoor"], size=56)
SIZE = 72


def save_depth(folder: Path, kind: str = "metric") -> None:
    torch.manual_seed(0)
    backbone = Dinov2Config(
        image_size=56,
        patch_size=14,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[4, 4, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=4,
        depth_estimation_type=kind,
        max_depth=20,
    )
    network = DepthAnythingForDepthEstimation(config)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    network.save_pretrained(folder)


def views(count: int = 5) -> Views:
    images = np.random.default_rng(2).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
    images[:, :, : SIZE // 2] //= 3
    return Views(images, np.tile(np.eye(4), (count, 1, 1)), np.tile(normalised_intrinsics(), (count, 1, 1)))
