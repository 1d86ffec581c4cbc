"""The autoencoder made of the network's operations computes what the package's own blocks do."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import AutoencoderKL

from worldexplorer.models.seva.codec_blocks import ResidualBlock, Upsampling, use_operations
from worldexplorer.models.seva.operations import PlainOperations

KINDS = 4


@pytest.fixture(scope="module")
def codec() -> AutoencoderKL:
    """Stable Diffusion's, narrow, every number of it random: biases and norms of 0 and 1 would hide a mistake."""
    torch.manual_seed(3)
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * KINDS,
        up_block_types=("UpDecoderBlock2D",) * KINDS,
        block_out_channels=(8, 16, 16, 32),
        layers_per_block=2,
        norm_num_groups=8,
    )
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 0.7, 0.3)
    return model.eval().requires_grad_(requires_grad=False)


@torch.inference_mode()
def test_both_halves_are_as_the_package_has_them(codec: AutoencoderKL) -> None:
    fused = copy.deepcopy(codec)
    use_operations(fused, PlainOperations())
    pictures = torch.randn(2, 3, 48, 64)
    latents = codec.encode(pictures).latent_dist.mean
    torch.testing.assert_close(fused.encode(pictures).latent_dist.mean, latents, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(fused.decode(latents).sample, codec.decode(latents).sample, rtol=1e-4, atol=1e-3)


def test_every_block_is_changed(codec: AutoencoderKL) -> None:
    fused = copy.deepcopy(codec)
    use_operations(fused, PlainOperations())
    names = [type(module).__name__ for module in fused.modules()]
    assert "ResnetBlock2D" not in names
    assert "Upsample2D" not in names
    residuals = [module for module in codec.modules() if type(module).__name__ == "ResnetBlock2D"]
    assert sum(isinstance(module, ResidualBlock) for module in fused.modules()) == len(residuals)
    assert sum(isinstance(module, Upsampling) for module in fused.modules()) == KINDS - 1
