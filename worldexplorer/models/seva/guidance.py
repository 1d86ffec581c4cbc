"""How strongly each frame follows its conditioning.

Example:
    >>> guidance_scales("multiview", c2w, intrinsics, given, cfg=3.0, cfg_min=1.2)
    tensor([1.2000, 3.0000, ...])
"""

from __future__ import annotations

import torch
from torch import Tensor

from worldexplorer.engine import Guider
from worldexplorer.models.seva.cameras import near_given


def guidance_scales(
    guider: Guider, c2w: Tensor, intrinsics: Tensor, given: Tensor, cfg: float, cfg_min: float
) -> Tensor:
    """[T] float32 by the guider of that name; see NovelViewRequest."""
    scales = {"multiview": multiview_scales, "temporal": temporal_scales}[guider]
    return scales(c2w, intrinsics, given, cfg, cfg_min)


def multiview_scales(c2w: Tensor, intrinsics: Tensor, given: Tensor, cfg: float, cfg_min: float) -> Tensor:
    """[T] float32: `cfg`, and `cfg_min` for frames that a given one nearly shows (guider 1)."""
    scales = torch.full((len(c2w),), cfg, device=c2w.device)
    return torch.where(near_given(c2w, intrinsics, given), torch.full_like(scales, cfg_min), scales)


def temporal_scales(c2w: Tensor, intrinsics: Tensor, given: Tensor, cfg: float, cfg_min: float) -> Tensor:
    """[T] float32: from `cfg_min` at a given frame to `cfg` at the one furthest along the sequence (guider 2)."""
    places = torch.arange(len(c2w), device=c2w.device, dtype=torch.float32)
    distance = (places[:, None] - places[given][None]).abs().amin(dim=1)
    scales = cfg_min + (cfg - cfg_min) * distance / distance.max().clamp(min=1.0)
    return torch.where(near_given(c2w, intrinsics, given), torch.full_like(scales, cfg_min), scales)
