"""The autoencoder in SEVA's kernels against the package's own in float32, at the published size."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import AutoencoderKL

from worldexplorer.models.seva.attention import attention_backends
from worldexplorer.models.seva.codec_blocks import use_operations
from worldexplorer.models.seva.pictures import Codec

SIDE = 576
CUDA = torch.device("cuda")


def published_size() -> AutoencoderKL:
    """Stable Diffusion's autoencoder with random weights, norms and biases too."""
    torch.manual_seed(5)
    with CUDA:
        model = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
        )
    for parameter in model.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 0.5, 0.2)
    return model.eval().requires_grad_(requires_grad=False).to(memory_format=torch.channels_last)


@torch.inference_mode()
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16], ids=str)
def test_kernels_are_no_further_from_float32_than_the_package(kind: torch.dtype) -> None:
    from worldexplorer.models.seva.fused import FusedOperations

    exact = published_size()
    package = copy.deepcopy(exact).to(kind)
    kernels = copy.deepcopy(package)
    use_operations(kernels, FusedOperations(packages=False))
    pictures = torch.randint(0, 256, (2, SIDE, SIDE, 3), dtype=torch.uint8, device=CUDA)
    latents = torch.randn(3, 4, SIDE // 8, SIDE // 8, device=CUDA)
    off = {}
    with attention_backends(CUDA):
        decoded, encoded = Codec(exact).decode(latents).float(), Codec(exact).encode(pictures)
        for name, model in (("package", package), ("kernels", kernels)):
            codec = Codec(model)
            levels = (codec.decode(latents).float() - decoded).abs().mean()
            share = (codec.encode(pictures) - encoded).norm() / encoded.norm()
            off[name] = torch.stack([levels, share])
    assert decoded.std() > 10, "pictures of one grey would be near to anything"
    assert torch.all(off["kernels"] < 1.2 * off["package"] + 1e-3), off
