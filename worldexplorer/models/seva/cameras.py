"""What SEVA sees of cameras: Pluecker maps, and which frames stand where a given one does.

Example:
    >>> pluecker_maps(c2w, intrinsics, height=72, width=72).shape
    torch.Size([21, 6, 72, 72])
"""

from __future__ import annotations

import torch
from torch import Tensor

NEAR_ROTATION_DEG = 10.0
NEAR_TRANSLATION = 1e-5


def pluecker_maps(c2w: Tensor, intrinsics: Tensor, height: int, width: int) -> Tensor:
    """A ray's direction and moment at every latent pixel, in the axes of the first camera.

    Args:
        c2w: [T, 4, 4] OpenCV camera-to-world, translations scaled.
        intrinsics: [T, 3, 3] normalised.
        height: of the map, pixels.
        width: of the map, pixels.

    Returns:
        [T, 6, height, width] float32: unit directions, then position x direction.
    """
    poses = torch.linalg.inv(c2w.double()[:1]) @ c2w.double()
    size = torch.tensor([[width], [height], [1.0]], dtype=torch.float64, device=c2w.device)
    lenses = intrinsics.double() * size
    rows, columns = torch.meshgrid(
        torch.arange(height, dtype=torch.float64, device=c2w.device) + 0.5,
        torch.arange(width, dtype=torch.float64, device=c2w.device) + 0.5,
        indexing="ij",
    )
    pixels = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1)
    local = torch.einsum("tij,hwj->thwi", torch.linalg.inv(lenses), pixels)
    directions = torch.nn.functional.normalize(torch.einsum("tij,thwj->thwi", poses[:, :3, :3], local), dim=-1)
    centres = poses[:, None, None, :3, 3].expand_as(directions)
    moments = torch.linalg.cross(centres, directions)
    return torch.cat([directions, moments], dim=-1).permute(0, 3, 1, 2).float()


def near_given(c2w: Tensor, intrinsics: Tensor, given: Tensor) -> Tensor:
    """[T] bool: frames that a given frame nearly shows: turned by less than 10 degrees, same place, same lens."""
    poses = c2w.double()
    turns = torch.einsum("tij,gij->tg", poses[:, :3, :3], poses[given][:, :3, :3])
    angle = torch.rad2deg(torch.arccos(((turns - 1) / 2).clamp(-1, 1)))
    distance = torch.cdist(poses[:, :3, 3], poses[given][:, :3, 3])
    lens = (intrinsics[:, None] == intrinsics[given][None]).flatten(2).all(dim=2)
    return ((angle < NEAR_ROTATION_DEG) & (distance < NEAR_TRANSLATION) & lens).any(dim=1)
