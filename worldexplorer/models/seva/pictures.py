"""Pictures to latents and back, and to CLIP's token: the two published encoders behind plain calls.

Example:
    >>> codec = load_codec(Path("weights/vae"), torch.device("cuda"), torch.bfloat16)
    >>> codec.decode(codec.encode(images)).dtype        # [N, H, W, 3] uint8 -> [N, 4, H/8, W/8] -> uint8
    torch.uint8
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional
from transformers import CLIPVisionModelWithProjection
from transformers.utils.logging import disable_progress_bar

from worldexplorer.errors import UserError
from worldexplorer.models.seva.codec_blocks import use_operations
from worldexplorer.models.seva.operations import Operations

_LATENT_FACTOR = 0.18215
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)
_ACTIVATION = "gelu"
BATCH = 7
"""Pictures encoded or decoded together: a third of the frames trained with, and within a 12 GB card's memory."""


def signed(images: Tensor) -> Tensor:
    """[N, H, W, 3] uint8 -> [N, 3, H, W] float32 from -1 to 1."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1.0


class Codec:
    """The variational autoencoder.

    Args:
        model: of diffusers.
        compiled: torch.compile the decoder, for one size of batch.
    """

    def __init__(self, model: Any, *, compiled: bool = False) -> None:
        self.model = model
        self._decode = torch.compile(_decode, dynamic=False) if compiled else _decode
        self._fill = compiled

    def encode(self, images: Tensor) -> Tensor:
        """[N, H, W, 3] uint8 -> [N, 4, H/8, W/8] float32: the mean of each picture's latents, scaled."""
        x = signed(images).to(self.model.dtype).contiguous(memory_format=torch.channels_last)
        return torch.cat([_encode(self.model, part) for part in x.split(BATCH)])

    def decode(self, latents: Tensor) -> Tensor:
        """[N, 4, h, w] -> [N, 8h, 8w, 3] uint8."""
        count = len(latents)
        if self._fill:  # a compiled decoder takes full batches only: the last is filled up with copies
            latents = torch.cat([latents, latents[-1:].expand(-count % BATCH, -1, -1, -1)])
        return torch.cat([self._decode(self.model, part) for part in latents.split(BATCH)])[:count]


def _encode(model: Any, x: Tensor) -> Tensor:
    mean: Tensor = model.encode(x).latent_dist.mean
    return mean.float() * _LATENT_FACTOR


def _decode(model: Any, z: Tensor) -> Tensor:
    z = (z / _LATENT_FACTOR).to(model.dtype).contiguous(memory_format=torch.channels_last)
    x = model.decode(z).sample.float()
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)


class ImageTower:
    """CLIP's image tower, projected.

    Args:
        model: of transformers.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def embed(self, images: Tensor) -> Tensor:
        """[N, H, W, 3] uint8 -> [N, D] float32, not normalised."""
        size = int(self.model.config.image_size)
        x = functional.interpolate(
            signed(images), size=(size, size), mode="bicubic", align_corners=True, antialias=True
        )
        mean = torch.tensor(_CLIP_MEAN, device=x.device)[:, None, None]
        deviation = torch.tensor(_CLIP_DEVIATION, device=x.device)[:, None, None]
        x = ((x + 1) / 2 - mean) / deviation
        embedded: Tensor = self.model(x.to(self.model.dtype)).image_embeds
        return embedded.float()


def load_codec(
    folder: Path,
    device: torch.device,
    kind: torch.dtype,
    *,
    operations: Operations | None = None,
    compiled: bool = False,
) -> Codec:
    """The autoencoder of a folder with `config.json` and its weights.

    Args:
        folder: its files.
        device: where it is put.
        kind: what it computes in.
        operations: what its blocks are made of; the package's own blocks unless given.
        compiled: see :class:`Codec`.
    """
    model = _load(AutoencoderKL, folder, device, torch_dtype=kind)
    if operations is not None:
        use_operations(model, operations)
    return Codec(model.to(memory_format=torch.channels_last), compiled=compiled)


def load_image_tower(folder: Path, device: torch.device, kind: torch.dtype) -> ImageTower:
    """The image tower of a folder with `config.json` and its weights.

    Raises:
        UserError: it is not the tower SEVA was trained with.
    """
    disable_progress_bar()
    model = _load(CLIPVisionModelWithProjection, folder, device, dtype=kind)
    if model.config.hidden_act != _ACTIVATION:
        raise UserError(
            f"this CLIP model computes with {model.config.hidden_act}, SEVA's with {_ACTIVATION}",
            where=str(folder),
            remedy="give laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        )
    return ImageTower(model)


def _load(family: Any, folder: Path, device: torch.device, **kind: torch.dtype) -> Any:
    try:
        model = family.from_pretrained(folder, local_files_only=True, use_safetensors=True, **kind)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{family.__name__} cannot be loaded ({error})",
            where=str(folder),
            remedy="the folder needs the model's config.json and its weights as safetensors",
        ) from error
    return model.eval().requires_grad_(requires_grad=False).to(device=device)
