"""What a training step does besides drawing: loss, optimiser, noise. Here in plain torch, the reference of the kernels.

Example:
    >>> operations = PlainOperations()
    >>> value, gradient = operations.loss(image, target, ssim_weight=0.2)
    >>> operations.adam(state, gradients, rates, decays=(0.9, 0.999), epsilon=1e-15, regularisation=regularisation)
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from worldexplorer.models.compilers import own_kernels_run
from worldexplorer.models.splatting.state import NAMES, GaussianState

_log = logging.getLogger(__name__)

WINDOW = 11
_DEVIATION = 1.5
C1, C2 = 0.01**2, 0.03**2
NOISE_STEEPNESS, NOISE_MIDDLE = 100.0, 0.995
"""Of the sigmoid of 1 - opacity that a Gaussian's noise is multiplied by: nearly opaque ones stay where they are."""


def window() -> list[float]:
    """The 11 weights of SSIM's window along one axis."""
    places = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weights = torch.exp(-(places**2) / (2 * _DEVIATION**2))
    return [float(weight) for weight in weights / weights.sum()]


@dataclass(frozen=True)
class Regularisation:
    """Weights of what the loss holds besides the pictures; 0 where it is not at work.

    Attributes:
        opacity: of the mean opacity.
        scale: of the mean scale.
        ratio: of the mean by which a Gaussian's longest over its shortest axis exceeds the limit.
        ratio_limit: that limit.
    """

    opacity: float
    scale: float
    ratio: float
    ratio_limit: float


@dataclass(frozen=True)
class Rates:
    """Adam's step lengths; `colours` of the first coefficient, `directional` of the others."""

    means: float
    log_scales: float
    quaternions: float
    opacity_logits: float
    colours: float
    directional: float


class Operations(Protocol):
    """The steps that have kernels of their own on a GPU."""

    def loss(self, image: Tensor, target: Tensor, ssim_weight: float) -> tuple[Tensor, Tensor]:
        """(1 - w) L1 + w (1 - SSIM) of drawn pictures, cut to the range 0 to 1, and its gradient.

        SSIM is that of Wang et al. 2004 with a Gaussian window of 11 x 11 pixels, where the window lies within the
        picture.

        Args:
            image: [C, H, W, 3] as drawn.
            target: [C, H, W, 3] float32, 0 to 1.
            ssim_weight: w.

        Returns:
            The loss, a tensor without dimensions, and its gradient by `image`.
        """

    def adam(
        self,
        state: GaussianState,
        gradients: Mapping[str, Tensor],
        rates: Rates,
        decays: tuple[float, float],
        epsilon: float,
        regularisation: Regularisation,
    ) -> None:
        """One step of Adam on every value of `state`, in place.

        Args:
            state: the Gaussians; `steps` counts up.
            gradients: of the pictures' loss by `means`, `quaternions` and `sh`, and by `scales` [N, 3] and `opacities`
                [N], the values after exp and sigmoid.
            rates: step lengths.
            decays: of the two averages.
            epsilon: Adam's.
            regularisation: whose gradients are added.
        """

    def add_noise(self, state: GaussianState, amplitude: float, seed: int) -> None:
        """MCMC's noise: means move by normal noise of the Gaussian's own covariance, less the more opaque it is.

        Source: Kheradmand et al., "3D Gaussian Splatting as Markov Chain Monte Carlo" (2024), equation 9.

        Args:
            state: the Gaussians.
            amplitude: of the noise.
            seed: of this step's noise.
        """


class PlainOperations:
    """Plain torch, on any device; see Operations."""

    def loss(self, image: Tensor, target: Tensor, ssim_weight: float) -> tuple[Tensor, Tensor]:
        """See Operations."""
        with torch.enable_grad():
            drawn = image.detach().requires_grad_()
            shown = drawn.clamp(0.0, 1.0)
            value = (1.0 - ssim_weight) * (shown - target).abs().mean()
            if ssim_weight:
                value = value + ssim_weight * (1.0 - ssim(shown, target))
            (gradient,) = torch.autograd.grad(value, drawn)
        return value.detach(), gradient

    def adam(
        self,
        state: GaussianState,
        gradients: Mapping[str, Tensor],
        rates: Rates,
        decays: tuple[float, float],
        epsilon: float,
        regularisation: Regularisation,
    ) -> None:
        """See Operations."""
        by_value = value_gradients(state, gradients, regularisation)
        state.steps += 1
        corrections = tuple(1.0 - decay**state.steps for decay in decays)
        for name in NAMES:
            gradient, first, second = by_value[name], state.first[name], state.second[name]
            first.lerp_(gradient, 1.0 - decays[0])
            second.mul_(decays[1]).addcmul_(gradient, gradient, value=1.0 - decays[1])
            change = (first / corrections[0]) / ((second / corrections[1]).sqrt() + epsilon)
            if name == "sh":
                state.values[name][:, :1] -= rates.colours * change[:, :1]
                state.values[name][:, 1:] -= rates.directional * change[:, 1:]
            else:
                state.values[name] -= getattr(rates, name) * change

    def add_noise(self, state: GaussianState, amplitude: float, seed: int) -> None:
        """See Operations."""
        means = state.values["means"]
        generator = torch.Generator(means.device).manual_seed(seed)
        noise = torch.randn(means.shape, generator=generator, device=means.device, dtype=means.dtype)
        weight = torch.sigmoid(NOISE_STEEPNESS * (1.0 - state.opacities() - NOISE_MIDDLE))
        turn = rotations(state.values["quaternions"])
        scales = torch.exp(state.values["log_scales"])
        along = torch.einsum("nji,nj->ni", turn, noise) * scales.square()
        means += amplitude * weight[:, None] * torch.einsum("nij,nj->ni", turn, along)


def operations_for(device: torch.device) -> Operations:
    """Kernels on a CUDA GPU where they can start, plain torch elsewhere."""
    if device.type != "cuda":
        return PlainOperations()
    if not own_kernels_run():
        _log.warning(
            "There is no C compiler here, which Triton needs once to start kernels: training in plain torch takes "
            "longer and draws other random numbers, so the world is another one of the same kind. Install gcc, or name "
            "a compiler in CC."
        )
        return PlainOperations()
    from worldexplorer.models.splatting.fused import FusedOperations

    return FusedOperations()


def value_gradients(
    state: GaussianState, gradients: Mapping[str, Tensor], regularisation: Regularisation
) -> dict[str, Tensor]:
    """Gradients by the values that train, regularisation included."""
    opacities, scales = state.opacities(), torch.exp(state.values["log_scales"])
    count = max(state.count, 1)
    by_opacity = gradients["opacities"] + regularisation.opacity / count
    by_log_scale = (gradients["scales"] + regularisation.scale / (3 * count)) * scales
    if regularisation.ratio:
        longest, shortest = scales.argmax(dim=1, keepdim=True), scales.argmin(dim=1, keepdim=True)
        ratio = scales.gather(1, longest) / scales.gather(1, shortest)
        weight = torch.where(ratio > regularisation.ratio_limit, ratio, 0.0) * (regularisation.ratio / count)
        by_log_scale = by_log_scale.scatter_add(1, longest, weight).scatter_add(1, shortest, -weight)
    return {
        "means": gradients["means"],
        "log_scales": by_log_scale,
        "quaternions": gradients["quaternions"],
        "opacity_logits": by_opacity * opacities * (1.0 - opacities),
        "sh": gradients["sh"],
    }


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """The mean SSIM of pictures [C, H, W, 3] from 0 to 1, where the whole window lies within; 1 for smaller ones."""
    if min(first.shape[1:3]) < WINDOW:
        return first.new_ones(())
    weights = torch.tensor(window(), dtype=first.dtype, device=first.device)
    x, y = (picture.permute(0, 3, 1, 2) for picture in (first, second))
    maps = torch.cat([x, y, x * x, y * y, x * y], dim=1)
    channels = maps.shape[1]
    for shape in ((1, 1, 1, WINDOW), (1, 1, WINDOW, 1)):
        maps = functional.conv2d(maps, weights.reshape(shape).expand(channels, 1, -1, -1), groups=channels)
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = maps.chunk(5, dim=1)
    variances = mean_xx - mean_x**2 + mean_yy - mean_y**2
    similar = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return (similar * (2 * (mean_xy - mean_x * mean_y) + C2) / (variances + C2)).mean()


def rotations(quaternions: Tensor) -> Tensor:
    """[N, 3, 3] of quaternions w, x, y, z of any length."""
    w, x, y, z = functional.normalize(quaternions, dim=-1).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
