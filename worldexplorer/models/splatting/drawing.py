"""Pictures and depths of trained Gaussians, one camera after the other.

Example:
    >>> for picture in draw(rasterize, values, cameras, intrinsics, (576, 576), near=0.01, antialiased=True):
    ...     picture.shape
    torch.Size([576, 576, 3])
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from worldexplorer.engine import Poses
from worldexplorer.models.splatting.frame import lenses
from worldexplorer.models.splatting.rasterizer import Rasterizer

COVERED = 0.5
"""Opacity of a pixel below which its depth is infinite."""


def draw(
    rasterize: Rasterizer,
    values: Mapping[str, Tensor],
    cameras: Tensor,
    intrinsics: Poses,
    size: tuple[int, int],
    *,
    near: float,
    antialiased: bool,
    depth: bool = False,
) -> Iterator[Tensor]:
    """Draw Gaussians before black.

    Args:
        rasterize: draws.
        values: `means`, `quaternions`, `scales`, `opacities` and `sh`.
        cameras: [C, 4, 4] world to camera, OpenCV axes.
        intrinsics: [C, 3, 3] normalised.
        size: width and height.
        near: depth below which Gaussians are not drawn.
        antialiased: as in training.
        depth: the mean depth, [H, W], infinite where less than half of a pixel is covered, instead of colours.

    Yields:
        [H, W, 3] float32, 0 to 1, a picture for each camera.
    """
    width, height = size
    pixels = torch.from_numpy(lenses(intrinsics, width, height)).to(cameras.device)
    for camera in range(len(cameras)):
        found, alpha, _ = rasterize(
            values["means"],
            values["quaternions"],
            values["scales"],
            values["opacities"],
            values["sh"],
            cameras[camera : camera + 1],
            pixels[camera : camera + 1],
            width,
            height,
            near_plane=near,
            sh_degree=round(values["sh"].shape[1] ** 0.5) - 1,
            packed=False,
            render_mode="RGB+ED" if depth else "RGB",
            rasterize_mode="antialiased" if antialiased else "classic",
        )
        if depth:
            yield torch.where(alpha[0, ..., 0] >= COVERED, found[0, ..., 3], torch.inf)
        else:
            yield found[0].clamp(0.0, 1.0)


def to_bytes(picture: Tensor) -> Tensor:
    """Colours from 0 to 1 as uint8."""
    return (picture * 255.0 + 0.5).to(torch.uint8)
