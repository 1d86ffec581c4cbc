"""Gaussians drawn in plain torch, with the signature and the arithmetic of `gsplat.rasterization`.

For tests and for looking into: every Gaussian meets every pixel, so time and memory go with their product.

Sources: Zwicker et al., "EWA volume splatting" (2001) for the projection; Kerbl et al., "3D Gaussian Splatting for
Real-Time Radiance Field Rendering" (2023) for the drawing; Yu et al., "Mip-Splatting" (2024) for the opacity that makes
up for the blur of the pixel.

Example:
    >>> image, alpha, info = rasterization(means, quaternions, scales, opacities, sh, cameras, lenses, 32, 32,
    ...                                    sh_degree=1)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from worldexplorer.models.splatting.operations import rotations
from worldexplorer.models.splatting.spherical_harmonics import basis

PIXEL_BLUR = 0.3
"""Added to the variances of a projected Gaussian, square pixels."""
LEAST_ALPHA, MOST_ALPHA = 1.0 / 255.0, 0.999
_DEVIATIONS = 3.33
"""Standard deviations that a Gaussian reaches, after the blur of the pixel."""
_VIEW_MARGIN = 0.15
"""Of half the tangent of the view's angle (0.3 of half of it): how far outside Gaussians are projected rightly."""


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
    """Draw N Gaussians for C cameras.

    Args:
        means: [N, 3].
        quats: [N, 4] w, x, y, z of any length.
        scales: [N, 3].
        opacities: [N].
        colors: [N, K, 3] spherical harmonics.
        viewmats: [C, 4, 4] world to camera, OpenCV axes.
        Ks: [C, 3, 3] in pixels.
        width: of the images.
        height: of the images.
        near_plane: depth below which Gaussians are not drawn.
        sh_degree: of the colours; None takes all coefficients there are.
        packed: has no meaning here.
        backgrounds: [C, 3] colours behind the Gaussians; black without.
        render_mode: `RGB`, or `RGB+ED` with the mean depth as a fourth channel.
        absgrad: whether `info["means2d"].absgrad` is made with the gradients.
        rasterize_mode: `classic` or `antialiased`.

    Returns:
        [C, H, W, 3 or 4] colours, [C, H, W, 1] opacity, and `means2d` [C, N, 2], `radii` [C, N, 2] (0 where a Gaussian
        does not show), `width`, `height` and `n_cameras`.
    """
    pictures, alphas, centres, radii = [], [], [], []
    for camera, (view, lens) in enumerate(zip(viewmats, Ks, strict=True)):
        places = means @ view[:3, :3].T + view[:3, 3]
        depth = places[:, 2]
        centre, variances, blurred = _projected(places, quats, scales, view, lens, width, height)
        determinant = blurred[:, 0] * blurred[:, 2] - blurred[:, 1] ** 2
        extent = _DEVIATIONS * blurred[:, [0, 2]].detach().sqrt()
        inside = ((centre + extent > 0) & (centre - extent < centre.new_tensor([width, height]))).all(dim=1)
        shown = (depth > near_plane) & (determinant > 0) & inside
        opacity = opacities
        if rasterize_mode == "antialiased":
            sharp = (variances[:, 0] * variances[:, 2] - variances[:, 1] ** 2).clamp(min=0)
            opacity = opacities * (sharp / determinant).clamp(min=1e-12).sqrt()
        centre = centre * 1.0  # a tensor of its own, whose gradient can be kept
        degree = _degree(colors.shape[1]) if sh_degree is None else sh_degree
        origin = -view[:3, :3].T @ view[:3, 3]
        directions = functional.normalize(means - origin, dim=-1)
        used = (degree + 1) ** 2
        rgb = (torch.einsum("nk,nkc->nc", basis(directions, degree), colors[:, :used]) + 0.5).clamp(min=0)
        channels = torch.cat([rgb, depth[:, None]], dim=1) if render_mode == "RGB+ED" else rgb
        order = shown.nonzero().flatten()
        order = order[depth[order].argsort(stable=True)]
        picture, alpha = _drawn(centre, blurred, opacity, channels, order, width, height, absgrad)
        if render_mode == "RGB+ED":
            picture = torch.cat([picture[..., :3], picture[..., 3:] / alpha.clamp(min=1e-10)], dim=-1)
        if backgrounds is not None:
            behind = functional.pad(backgrounds[camera], (0, picture.shape[-1] - 3))
            picture = picture + (1.0 - alpha) * behind
        pictures.append(picture)
        alphas.append(alpha)
        centres.append(centre)
        radii.append(torch.where(shown[:, None], extent.ceil(), 0.0).int())
    info = {
        "means2d": _Centres(centres) if absgrad else torch.stack(centres),
        "radii": torch.stack(radii),
        "width": width,
        "height": height,
        "n_cameras": len(viewmats),
    }
    return torch.stack(pictures), torch.stack(alphas), info


class _Centres:
    """The projected means of every camera, as one array with its gradients; what strategies read of a tensor."""

    def __init__(self, centres: list[Tensor]) -> None:
        self._centres = centres
        self.device = centres[0].device

    @property
    def absgrad(self) -> Tensor:
        """[C, N, 2] sums over pixels of absolute gradients; zero where no pixel was drawn."""
        return torch.stack([getattr(one, "absgrad", torch.zeros_like(one)) for one in self._centres])


def _projected(
    places: Tensor, quats: Tensor, scales: Tensor, view: Tensor, lens: Tensor, width: int, height: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Centres [N, 2] in pixels and (xx, xy, yy) variances [N, 3], without and with the blur of the pixel."""
    fx, fy, cx, cy = lens[0, 0], lens[1, 1], lens[0, 2], lens[1, 2]
    x, y, z = places.unbind(dim=1)
    z = torch.where(z.abs() < 1e-6, 1e-6, z)
    low_x, high_x = -cx / fx - _VIEW_MARGIN * width / fx, (width - cx) / fx + _VIEW_MARGIN * width / fx
    low_y, high_y = -cy / fy - _VIEW_MARGIN * height / fy, (height - cy) / fy + _VIEW_MARGIN * height / fy
    slope_x, slope_y = (x / z).clamp(low_x, high_x), (y / z).clamp(low_y, high_y)
    nothing = torch.zeros_like(z)
    slopes = torch.stack([fx / z, nothing, -fx * slope_x / z, nothing, fy / z, -fy * slope_y / z], dim=1)
    axes = view[:3, :3] @ rotations(quats) * scales[:, None, :]
    flat = slopes.reshape(-1, 2, 3) @ axes
    variance = flat @ flat.transpose(1, 2)
    variances = torch.stack([variance[:, 0, 0], variance[:, 0, 1], variance[:, 1, 1]], dim=1)
    blurred = variances + variances.new_tensor([PIXEL_BLUR, 0.0, PIXEL_BLUR])
    return torch.stack([fx * x / z + cx, fy * y / z + cy], dim=1), variances, blurred


def _drawn(
    centre: Tensor,
    variances: Tensor,
    opacity: Tensor,
    channels: Tensor,
    order: Tensor,
    width: int,
    height: int,
    absgrad: bool,
) -> tuple[Tensor, Tensor]:
    """[H, W, D] colours times opacity and [H, W, 1] opacity of the Gaussians in the given order, front to back."""
    device = centre.device
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([columns, rows], dim=-1).reshape(-1, 1, 2).to(device) + 0.5
    middle = centre[order].expand(len(pixels), -1, -1)
    if absgrad and middle.requires_grad:
        middle.register_hook(lambda gradient: _keep_absolute(centre, order, gradient))
    away = middle - pixels
    xx, xy, yy = variances[order].unbind(dim=1)
    dx, dy = away.unbind(dim=-1)
    distance = (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / (xx * yy - xy * xy)
    alpha = (opacity[order] * torch.exp(-0.5 * distance)).clamp(max=MOST_ALPHA)
    alpha = torch.where(alpha >= LEAST_ALPHA, alpha, 0.0)
    through = torch.cumprod(1.0 - alpha, dim=1)
    before = torch.cat([torch.ones_like(through[:, :1]), through[:, :-1]], dim=1)
    picture = (before * alpha) @ channels[order]
    covered = 1.0 - (through[:, -1:] if len(order) else torch.ones(len(pixels), 1, device=device))
    return picture.reshape(height, width, -1), covered.reshape(height, width, 1)


def _keep_absolute(centre: Tensor, order: Tensor, gradient: Tensor) -> None:
    found = torch.zeros_like(centre)
    found[order] = gradient.abs().sum(dim=0)
    centre.absgrad = found


def _degree(coefficients: int) -> int:
    return round(coefficients**0.5) - 1
