"""A package with VGGT's public interface and a tiny network, for tests where the real one is not installed.

It has what this program uses: the trunk's parts by name, and heads that take the trunk's outputs. Its `forward` is the
plain way, as the real one's: every layer's output is kept and every head runs.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

CHANNELS = 128
HEADS = 2
LAYERS = 5
READ = (0, 2, 3, 4)
"""Layers that the depth head reads."""
PATCH = 7
SIZE = 28


class Rope(nn.Module):
    base_frequency = 100.0

    def forward(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Pairs of values as complex numbers, turned by row * w and column * w."""
        quarter = tokens.shape[-1] // 4
        speeds = self.base_frequency ** -(torch.arange(quarter) / quarter)
        parts = []
        for direction, values in enumerate(tokens.chunk(2, dim=-1)):
            number = torch.complex(*values.chunk(2, dim=-1))
            turn = torch.polar(torch.tensor(1.0), places[..., direction, None] * speeds)
            turned = number * turn[:, None]
            parts += [turned.real, turned.imag]
        return torch.cat(parts, dim=-1)


class Attention(nn.Module):
    def __init__(self, rope: Rope) -> None:
        super().__init__()
        self.num_heads = HEADS
        self.qkv, self.proj = nn.Linear(CHANNELS, 3 * CHANNELS), nn.Linear(CHANNELS, CHANNELS)
        self.q_norm, self.k_norm = nn.LayerNorm(CHANNELS // HEADS), nn.LayerNorm(CHANNELS // HEADS)
        self.rope = rope

    def forward(self, x: Tensor, pos: Any = None) -> Tensor:
        batch, count, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, count, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        q, k = self.rope(self.q_norm(q), pos), self.rope(self.k_norm(k), pos)
        seen = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.proj(seen.transpose(1, 2).reshape(batch, count, CHANNELS))


class LayerScale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(CHANNELS))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, rope: Rope) -> None:
        super().__init__()
        self.ls1, self.ls2 = LayerScale(), nn.Identity()
        self.norm1, self.norm2 = nn.LayerNorm(CHANNELS), nn.LayerNorm(CHANNELS)
        self.attn, self.mlp = Attention(rope), nn.Linear(CHANNELS, CHANNELS)

    def forward(self, x: Tensor, pos: Any = None) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x), pos=pos))
        return x + self.ls2(self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, CHANNELS, PATCH, PATCH)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        return {"x_norm_patchtokens": self.proj(pixels).flatten(2).transpose(1, 2)}


class Aggregator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patch_size, self.patch_start_idx = PATCH, 3
        self.patch_embed, self.rope = PatchEmbed(), Rope()
        self.camera_token = nn.Parameter(torch.randn(1, 2, 1, CHANNELS))
        self.register_token = nn.Parameter(torch.randn(1, 2, 2, CHANNELS))
        self.frame_blocks = nn.ModuleList(Block(self.rope) for _ in range(LAYERS))
        self.global_blocks = nn.ModuleList(Block(self.rope) for _ in range(LAYERS))
        self.register_buffer("means", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)
        self.register_buffer("deviations", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)

    def position_getter(self, batch: int, rows: int, columns: int, device: Any) -> Tensor:
        grid = torch.cartesian_prod(torch.arange(rows, device=device), torch.arange(columns, device=device))
        return grid.expand(batch, -1, -1).clone()

    def forward(self, images: Tensor) -> tuple[list[Tensor], int]:
        (frames,) = images
        count = len(frames)
        patches = self.patch_embed((frames - self.means) / self.deviations)["x_norm_patchtokens"]
        rows = []
        for number in range(count):
            kind = min(number, 1)
            rows.append(torch.cat([self.camera_token[0, kind], self.register_token[0, kind], patches[number]]))
        tokens = torch.stack(rows)
        side = frames.shape[-1] // PATCH
        places = torch.cat([torch.zeros(3, 2), self.position_getter(1, side, side, None)[0] + 1.0]).repeat(count, 1, 1)
        outputs = []
        for within, across in zip(self.frame_blocks, self.global_blocks, strict=True):
            own = within(tokens, pos=places)
            flat = across(own.reshape(1, -1, CHANNELS), pos=places.reshape(1, -1, 2))
            tokens = flat.reshape(own.shape)
            outputs.append(torch.cat([own, tokens], dim=-1)[None])
        return outputs, self.patch_start_idx


class CameraHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(2 * CHANNELS, 9)

    def forward(self, outputs: list[Tensor]) -> list[Tensor]:
        encoding = self.out(outputs[-1][:, :, 0])
        lens = 1.0 + 0.1 * torch.tanh(encoding[..., 7:])
        return [encoding, torch.cat([encoding[..., :7], lens], dim=-1)]


class DepthHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.intermediate_layer_idx = list(READ)
        self.out = nn.Linear(2 * CHANNELS, 2 * PATCH * PATCH)

    def forward(
        self, outputs: list[Tensor], images: Tensor, patch_start_idx: int, frames_chunk_size: int = 8
    ) -> tuple[Tensor, Tensor]:
        values = []
        for start in range(0, images.shape[1], frames_chunk_size):
            frames = slice(start, start + frames_chunk_size)
            mean = torch.stack([outputs[layer][0, frames, patch_start_idx:] for layer in READ]).mean(dim=0)
            side = images.shape[-1] // PATCH
            squares = self.out(mean).unflatten(1, (side, side)).unflatten(-1, (2, PATCH, PATCH))
            values.append(squares.permute(3, 0, 1, 4, 2, 5).flatten(4).flatten(2, 3))  # [2, n, S, S]
        depth, confidence = torch.cat(values, dim=1).exp()
        return depth[None, ..., None], 1 + confidence[None]


class VGGT(nn.Module):
    """Its constructor takes what the real one's does, as far as it is used."""

    def __init__(self, img_size: int = 518, *, enable_point: bool = True, enable_track: bool = True) -> None:
        super().__init__()
        self.img_size = img_size
        self.aggregator, self.camera_head, self.depth_head = Aggregator(), CameraHead(), DepthHead()
        self.point_head = nn.Linear(4, 4) if enable_point else None
        self.track_head = nn.Linear(4, 4) if enable_track else None

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        outputs, start = self.aggregator(images)
        depth, confidence = self.depth_head(outputs, images=images, patch_start_idx=start)
        return {"pose_enc": self.camera_head(outputs)[-1], "depth": depth, "depth_conf": confidence}


def random_vggt() -> VGGT:
    """A network of which every weight matters."""
    torch.manual_seed(0)
    network = VGGT(SIZE).eval().requires_grad_(requires_grad=False)
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.1)
    return network


def pretend_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `import vggt.models.vggt` find this module's network."""
    for name in ("vggt", "vggt.models", "vggt.models.vggt", "einops"):
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        module.__path__ = []  # type: ignore[attr-defined]
        module.VGGT = VGGT  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
