"""Loss, optimiser and noise in kernels of our own, on a CUDA GPU.

The same mathematics as :class:`worldexplorer.models.splatting.operations.PlainOperations`, in a tenth of the launches.

Example:
    >>> training = Training(scene, recipe, operations=FusedOperations(), ...)
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from worldexplorer.models.splatting.kernels import adam, losses, noise
from worldexplorer.models.splatting.operations import WINDOW, PlainOperations, Rates, Regularisation
from worldexplorer.models.splatting.state import GaussianState


class FusedOperations(PlainOperations):
    """See Operations."""

    def loss(self, image: Tensor, target: Tensor, ssim_weight: float) -> tuple[Tensor, Tensor]:
        """See Operations."""
        if min(image.shape[1:3]) < WINDOW:  # no window fits: L1 alone
            return super().loss(image, target, ssim_weight)
        return losses.loss(image.contiguous(), target.contiguous(), ssim_weight)

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
        adam.step(state, gradients, rates, decays, epsilon, regularisation)

    def add_noise(self, state: GaussianState, amplitude: float, seed: int) -> None:
        """See Operations."""
        noise.add_noise(state, amplitude, seed)
