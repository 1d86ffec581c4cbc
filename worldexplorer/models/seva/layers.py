"""The blocks of the SEVA network.

Written from a description of the network's arithmetic and parameter names. A feature map is [B*T, C, h, w] with frame t
of batch element b at b*T + t; inside a transformer it is tokens [B*T, h*w, C].

The context is a single token, so the softmax over it is 1 and every cross-attention equals `to_out(to_v(token))` at
every position: its queries and keys are never needed, and it is computed once for all steps of a sampling.

Example:
    >>> block = ResidualBlock(320, 640, time_channels=1280)
    >>> block((x,), time, dense, PlainOperations()).shape
    torch.Size([42, 640, 36, 36])
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from worldexplorer.models.seva.config import DENSE_CHANNELS
from worldexplorer.models.seva.operations import Modulation, Operations

GROUPS = 32
RESIDUAL_EPSILON = 1e-5
_TRANSFORMER_EPSILON = 1e-6


class ResidualBlock(nn.Module):
    """Two convolutions with time and camera conditioning, and a skip."""

    def __init__(self, channels_in: int, channels_out: int, time_channels: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, channels_in, eps=RESIDUAL_EPSILON),
            nn.SiLU(),
            nn.Conv2d(channels_in, channels_out, 3, padding=1),
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time_channels, channels_out))
        self.dense_emb_layers = nn.Sequential(nn.Conv2d(DENSE_CHANNELS, 2 * channels_in, 1))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(GROUPS, channels_out, eps=RESIDUAL_EPSILON),
            nn.SiLU(),
            nn.Dropout(0.0),
            nn.Conv2d(channels_out, channels_out, 3, padding=1),
        )
        same = channels_in == channels_out
        self.skip_connection = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, parts: tuple[Tensor, ...], time: Tensor, dense: Tensor, operations: Operations) -> Tensor:
        """Run the block.

        Args:
            parts: maps whose concatenation [N, C_in, h, w] is the input.
            time: [1 or N, time_channels], after the SiLU of `emb_layers`, which all blocks share.
            dense: [M, 6, h, w] Pluecker maps; frame n takes map n % M.
            operations: how to compute.

        Returns:
            [N, C_out, h, w].
        """
        modulation = Modulation(dense, self.dense_emb_layers[0])
        first, second = self.in_layers[2], self.out_layers[3]
        h = operations.group_norm(parts, self.in_layers[0], modulation=modulation)
        # The first bias and the time embedding are the same at every pixel: both join the next normalisation.
        h = operations.convolve(h, first)
        h = operations.group_norm((h,), self.out_layers[0], offset=self.emb_layers[1](time) + first.bias)
        if isinstance(self.skip_connection, nn.Identity):
            (x,) = parts
            return operations.convolve_add(h, second, x, second.bias)
        skipped = operations.project(parts, self.skip_connection)
        return operations.convolve_add(h, second, skipped, second.bias + self.skip_connection.bias)


class SelfAttention(nn.Module):
    """Projections of multi-head attention of tokens over themselves.

    The three input projections are one parameter here; checkpoints and `state_dict` name them `to_q`, `to_k`, `to_v`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))
        self.register_state_dict_post_hook(_split_projections)
        self.register_load_state_dict_pre_hook(_join_projections)


_PROJECTIONS = ("to_q.weight", "to_k.weight", "to_v.weight")
_JOINED = "to_qkv.weight"


def _split_projections(module: nn.Module, state: dict[str, Tensor], prefix: str, metadata: dict[str, Any]) -> None:
    """Name the parts of the joined projection in a state dict."""
    for name, part in zip(_PROJECTIONS, state.pop(prefix + _JOINED).chunk(3), strict=True):
        state[prefix + name] = part


def _join_projections(module: nn.Module, state: dict[str, Tensor], prefix: str, *others: object) -> None:
    """Join the three projections of a state dict; one that is missing is left for the loader to complain about."""
    names = [prefix + name for name in _PROJECTIONS]
    if all(name in state for name in names):
        state[prefix + _JOINED] = torch.cat([state.pop(name) for name in names])


class TokenAttention(nn.Module):
    """Cross-attention to one token: the token's own projection, the same for every position.

    `to_q` and `to_k` are in the published checkpoint and have no influence; they are kept so that it loads strictly.
    """

    def __init__(self, channels: int, context_dim: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(context_dim, channels, bias=False)
        self.to_v = nn.Linear(context_dim, channels, bias=False)
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, token: Tensor) -> Tensor:
        """[B, context_dim] -> [B, C], to be added to every position."""
        result: Tensor = self.to_out(self.to_v(token))
        return result


class GatedUnit(nn.Module):
    """The parameters of a projection to value and gate."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, 2 * hidden)


class FeedForward(nn.Module):
    """Gated feed-forward with a fourfold hidden width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GatedUnit(channels, 4 * channels), nn.Dropout(0.0), nn.Linear(4 * channels, channels))

    def hidden(self, x: Tensor, operations: Operations) -> Tensor:
        """[..., C] -> [..., 4C], before the last projection."""
        return operations.gated(x, self.net[0].proj)


class SpatialBlock(nn.Module):
    """Pre-norm attention, token attention and feed-forward, over a frame or over all frames together."""

    def __init__(self, channels: int, context_dim: int) -> None:
        super().__init__()
        self.attn1 = SelfAttention(channels)
        self.ff = FeedForward(channels)
        self.attn2 = TokenAttention(channels, context_dim)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        """Of the token attention's queries: without influence, but in the checkpoint."""
        self.norm3 = nn.LayerNorm(channels)


class TimeMixBlock(nn.Module):
    """Mixes the frames at every pixel."""

    def __init__(self, channels: int, context_dim: int) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(channels)
        self.ff_in = FeedForward(channels)
        self.attn1 = SelfAttention(channels)
        self.ff = FeedForward(channels)
        self.attn2 = TokenAttention(channels, context_dim)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        """Of the token attention's queries: without influence, but in the checkpoint."""
        self.norm3 = nn.LayerNorm(channels)


class Tokens(NamedTuple):
    """A transformer's projected context: for its spatial block [B, C] and for its time mixing [B, C]."""

    spatial: Tensor
    time: Tensor


class MultiviewTransformer(nn.Module):
    """Attention within frames (or over all of them) and along frames, around a residual."""

    def __init__(self, channels: int, head_channels: int, context_dim: int, *, joint: bool) -> None:
        super().__init__()
        self.joint = joint
        self.head_channels = head_channels
        self.norm = nn.GroupNorm(GROUPS, channels, eps=_TRANSFORMER_EPSILON)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([SpatialBlock(channels, context_dim)])
        self.time_mix_blocks = nn.ModuleList([TimeMixBlock(channels, context_dim)])
        self.proj_out = nn.Linear(channels, channels)

    def tokens(self, context: Tensor) -> Tokens:
        """Project the context [B, context_dim]."""
        return Tokens(self.transformer_blocks[0].attn2(context), self.time_mix_blocks[0].attn2(context))

    def forward(
        self, x: Tensor, tokens: Tokens, frames: int, operations: Operations, spread: Tensor | None = None
    ) -> Tensor:
        """Run the block.

        Args:
            x: [B*T, C, h, w], or only those frames that differ.
            tokens: of :meth:`tokens`.
            frames: T.
            operations: how to compute.
            spread: [B*T] for each frame the one of `x` it is like up to its token; None where `x` holds all.

        Returns:
            [B*T, C, h, w].
        """
        spatial, mix = self.transformer_blocks[0], self.time_mix_blocks[0]
        height, width = x.shape[-2:]
        rows = frames * height * width
        h = operations.group_norm((x,), self.norm, activate=False).flatten(2).transpose(1, 2)
        h = functional.linear(h, self.proj_in.weight)  # its bias is added where the result is read
        qkv = operations.linear(operations.layer_norm(h, spatial.norm1, self.proj_in.bias), spatial.attn1.to_qkv)
        if self.joint:
            mixed = operations.attention(qkv.reshape(-1, rows, qkv.shape[2]), self.head_channels).reshape(h.shape)
        else:
            mixed = operations.attention(qkv, self.head_channels)
        if spread is not None:
            x, h, mixed = frames_of(x, spread), h[spread], mixed[spread]
        h, normed = operations.linear_add_norm(
            mixed, spatial.attn1.to_out[0], h, spatial.norm3, token=tokens.spatial, base_bias=self.proj_in.bias
        )
        hidden = spatial.ff.hidden(normed, operations)
        seen, normed = operations.linear_add_norm(hidden, spatial.ff.net[2], h, mix.norm_in)

        hidden = mix.ff_in.hidden(normed, operations)
        h, normed = operations.linear_add_norm(hidden, mix.ff_in.net[2], seen, mix.norm1)
        mixed = operations.temporal_attention(operations.linear(normed, mix.attn1.to_qkv), frames, self.head_channels)
        normed = operations.linear_norm(mixed, mix.attn1.to_out[0], h, mix.norm3, tokens.time)
        base = x.flatten(2).transpose(1, 2)
        out = operations.close(normed, mix.ff.net[0].proj, mix.ff.net[2], seen, self.proj_out, base)
        return out.transpose(1, 2).unflatten(2, (height, width))


def frames_of(x: Tensor, places: Tensor) -> Tensor:
    """Frames of a map [N, C, h, w] by their places, in the order of memory that it has on a GPU (channels last)."""
    return x.permute(0, 2, 3, 1)[places].permute(0, 3, 1, 2)


class Downsample(nn.Module):
    """Halves the resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, h, w] -> [N, C, h/2, w/2]."""
        result: Tensor = self.op(x)
        return result


class Upsample(nn.Module):
    """Doubles the resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, operations: Operations) -> Tensor:
        """[N, C, h, w] -> [N, C, 2h, 2w]."""
        return operations.upsample(x, self.conv)
