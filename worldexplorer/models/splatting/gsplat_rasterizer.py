"""gsplat's kernels put together for training.

`gsplat.rasterization` inverts the cameras, which waits for the GPU, and for several cameras copies all coefficients of
the colours for each. Here its projection, its sorting into tiles and its drawing are called one by one, and the colours
are made by a kernel of ours; the pictures are the same.

Example:
    >>> image, alpha, info = rasterization(means, quaternions, scales, opacities, sh, cameras, lenses, 576, 576,
    ...                                    sh_degree=3)
"""

from __future__ import annotations

from typing import Any

import gsplat
from torch import Tensor

from worldexplorer.models.splatting.kernels.harmonics import harmonic_colours

TILE = 8
"""Pixels across and down that are drawn together. gsplat's own 16 makes most of them look at Gaussians that do not
reach them, where there are several Gaussians a pixel."""
_PIXEL_BLUR = 0.3
_FAR = 1e10


def rasterization(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    *,
    near_plane: float = 0.01,
    sh_degree: int | None = None,
    packed: bool = False,
    backgrounds: Tensor | None = None,
    render_mode: str = "RGB",
    absgrad: bool = False,
    rasterize_mode: str = "classic",
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """As :class:`worldexplorer.models.splatting.rasterizer.Rasterizer`; what it has no own way for, gsplat does."""
    if sh_degree is None or packed or render_mode != "RGB":
        found: tuple[Tensor, Tensor, dict[str, Any]] = gsplat.rasterization(
            means, quats, scales, opacities, colors, viewmats, Ks, width, height,
            near_plane=near_plane, sh_degree=sh_degree, packed=packed, backgrounds=backgrounds,
            render_mode=render_mode, absgrad=absgrad, rasterize_mode=rasterize_mode,
        )  # fmt: skip
        return found
    radii, centres, depths, conics, sharpness = gsplat.fully_fused_projection(
        means, None, quats, scales, viewmats, Ks, width, height,
        eps2d=_PIXEL_BLUR, near_plane=near_plane, far_plane=_FAR, packed=False, opacities=opacities,
        calc_compensations=rasterize_mode == "antialiased",
    )  # fmt: skip
    shown = opacities.expand(len(viewmats), -1) if sharpness is None else opacities * sharpness
    places = -(viewmats[:, :3, :3] * viewmats[:, :3, 3:]).sum(dim=1)
    colours = harmonic_colours(means, colors, places, radii, sh_degree)
    across, down = -(-width // TILE), -(-height // TILE)
    _, places_in_tiles, order = gsplat.isect_tiles(centres, radii, depths, TILE, across, down, packed=False)
    starts = gsplat.isect_offset_encode(places_in_tiles, len(viewmats), across, down)
    image, alpha = gsplat.rasterize_to_pixels(
        centres, conics, colours, shown, width, height, TILE, starts, order,
        backgrounds=backgrounds, packed=False, absgrad=absgrad,
    )  # fmt: skip
    info = {"means2d": centres, "radii": radii, "width": width, "height": height, "n_cameras": len(viewmats)}
    return image, alpha, info
