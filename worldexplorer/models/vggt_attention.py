"""VGGT's blocks with fewer passes over memory.

Before queries and keys meet, each head's 64 values are normalised and then turned by angles that tell where in its
frame the token is: half of them by its row, half by its column. The package does this in some thirty operations in
float32, which move ten times as much memory as the attention reads. The kernel reads and writes each value once; it
computes in float32 too, and rounds once, where the package rounds before attention. What a block adds to its tokens is
scaled and added in one operation, and attention is computed by the fastest kernel that SEVA's operations know.

Example:
    >>> fuse(network.aggregator)
    >>> output = block(tokens, pos=RotationTable.of(places, network.aggregator))
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from worldexplorer.models.seva.operations import Operations, PlainOperations

HEAD_CHANNELS = 64
"""Of the published network; other widths are left to the package."""


@dataclass(frozen=True)
class RotationTable:
    """Cosines and sines [tokens of a frame, 2, channels / 4] float32: of the row's angles, and of the column's."""

    cosines: Tensor
    sines: Tensor

    @staticmethod
    def of(places: Tensor, trunk: Any) -> RotationTable:
        """The table for tokens at places [tokens, 2] (row, column) of the package's `aggregator`.

        Source: J. Su et al., "RoFormer: Enhanced transformer with rotary position embedding", 2021, in each direction.
        """
        attention = trunk.frame_blocks[0].block.attn
        quarter = attention.q_norm.weight.shape[0] // 4
        exponents = torch.arange(quarter, device=places.device).float() / quarter
        angles = places[..., None].float() * trunk.rope.base_frequency**-exponents
        return RotationTable(angles.cos().contiguous(), angles.sin().contiguous())


class FusedAttention(nn.Module):
    """In place of the package's attention, with its weights. `pos` is a :class:`RotationTable`."""

    def __init__(self, attention: Any, operations: Operations) -> None:
        super().__init__()
        self.qkv, self.proj = attention.qkv, attention.proj
        self.q_norm, self.k_norm = attention.q_norm, attention.k_norm
        self.num_heads = attention.num_heads
        self._operations = operations

    def forward(self, x: Tensor, pos: RotationTable) -> Tensor:
        """Tokens [B, N, C] that look at each other, N a multiple of a frame's."""
        projected = self.qkv(x)
        rotate_in_place(projected.unflatten(2, (3, self.num_heads, -1)), self.q_norm, self.k_norm, pos)
        mixed: Tensor = self.proj(self._operations.attention(projected, HEAD_CHANNELS))
        return mixed


class FusedBlock(nn.Module):
    """In place of the package's block, with its parts."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, pos: RotationTable | None = None) -> Tensor:
        """Tokens [B, N, C] after attention and feed-forward layers; blocks without places take no `pos`."""
        block = self.block
        places = {} if pos is None else {"pos": pos}
        x = _add(x, block.attn(block.norm1(x), **places), block.ls1)
        return _add(x, block.mlp(block.norm2(x)), block.ls2)


def fuse(trunk: Any) -> None:
    """Put :class:`FusedBlock` around a trunk's blocks, where their heads are of the published width."""
    if not all(_fits(block.attn) for block in (*trunk.frame_blocks, *trunk.global_blocks)):
        return
    operations = _operations(trunk.camera_token)
    for blocks in (trunk.frame_blocks, trunk.global_blocks):
        for number, block in enumerate(blocks):
            block.attn = FusedAttention(block.attn, operations)
            blocks[number] = FusedBlock(block)
    for blocks in (one for one in [getattr(trunk.patch_embed, "blocks", None)] if one is not None):
        for number, block in enumerate(blocks):
            blocks[number] = FusedBlock(block)


def is_fused(trunk: Any) -> bool:
    """Whether :func:`fuse` changed the trunk."""
    return isinstance(trunk.frame_blocks[0], FusedBlock)


def _operations(anywhere: Tensor) -> Operations:
    """How attention is computed where a tensor is."""
    if not anywhere.is_cuda:
        return PlainOperations()
    from worldexplorer.models.seva.fused import FusedOperations

    return FusedOperations()


def _add(x: Tensor, branch: Tensor, scale: nn.Module) -> Tensor:
    """X plus the scaled branch, which may be of lower precision."""
    gamma = getattr(scale, "gamma", None)
    if gamma is None:
        return x + branch
    with torch.autocast(x.device.type, enabled=False):  # which would bring the branch to float32 in a pass of its own
        return torch.addcmul(x, branch, gamma)


def _fits(attention: Any) -> bool:
    norms = (attention.q_norm, attention.k_norm)
    return all(isinstance(norm, nn.LayerNorm) and norm.normalized_shape == (HEAD_CHANNELS,) for norm in norms)


def rotate_in_place(parts: Tensor, q_norm: nn.LayerNorm, k_norm: nn.LayerNorm, table: RotationTable) -> None:
    """Normalise and turn queries and keys; by the kernel on a CUDA GPU, else by torch.

    Args:
        parts: [B, N, 3, heads, channels] queries, keys and values, contiguous; the first two are changed.
        q_norm: of each query's channels.
        k_norm: of each key's.
        table: of a frame's tokens; N is a multiple of their number.
    """
    if parts.is_cuda:
        from worldexplorer.models.vggt_kernel import rotate

        rotate(parts, q_norm, k_norm, table.cosines, table.sines)
        return
    repeats = parts.shape[1] // len(table.cosines)
    cosines, sines = (values.repeat(repeats, 1, 1)[:, None] for values in (table.cosines, table.sines))
    for number, norm in enumerate((q_norm, k_norm)):
        values = norm(parts[:, :, number].float()).unflatten(-1, (2, 2, -1))  # row or column, first or second half
        first, second = values.unbind(-2)
        turned = torch.stack([first * cosines - second * sines, second * cosines + first * sines], dim=-2)
        parts[:, :, number] = turned.flatten(-3).to(parts.dtype)
