"""How the preview engine trains its Gaussians; every default stands here.

Example:
    >>> TrainerSettings(gaussians=15_000, iterations_half=100, iterations_full=400).iterations
    500
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldexplorer.preview.parameters import COLOUR, LOG_SCALE, MEAN, OPACITY, PARAMETERS, QUATERNION


@dataclass(frozen=True)
class TrainerSettings:
    """How to train.

    Attributes:
        gaussians: at most so many; training makes no new ones.
        iterations_half: steps on views of half the size, which come first.
        iterations_full: steps on views of full size.
        checkpoint_interval: steps between two checkpoints.
        mean_rate: step length of means, in spacings of the points.
        mean_rate_end: what it falls to, as a share.
        scale_rate: step length of log scales.
        quaternion_rate: step length of quaternions.
        opacity_rate: step length of opacities before the sigmoid.
        colour_rate: step length of colour coefficients.
        rate_end: what these four fall to, as a share.
        first_decay: of Adam's average of gradients.
        second_decay: of Adam's average of squared gradients.
        ssim_weight: share of 1 - SSIM in the loss of colours, the rest being L1.
        least_opacity: Gaussians less opaque than this in the end are left out.
        near: depth up to which Gaussians are not seen, in the scene's units.
    """

    gaussians: int = 80_000
    iterations_half: int = 400
    iterations_full: int = 2_000
    checkpoint_interval: int = 200
    mean_rate: float = 0.13
    mean_rate_end: float = 0.1
    scale_rate: float = 0.1
    quaternion_rate: float = 0.02
    opacity_rate: float = 0.1
    colour_rate: float = 0.045
    rate_end: float = 0.15
    first_decay: float = 0.75
    second_decay: float = 0.95
    ssim_weight: float = 0.4
    least_opacity: float = 0.02
    near: float = 0.02

    @property
    def iterations(self) -> int:
        """All steps."""
        return self.iterations_half + self.iterations_full

    def rates(self, iteration: int) -> NDArray[np.float32]:
        """Step lengths of the columns of a row in the given iteration: [14]. They fall exponentially."""
        done = iteration / max(self.iterations, 1)
        rates = np.empty(PARAMETERS)
        rates[LOG_SCALE:QUATERNION] = self.scale_rate
        rates[QUATERNION:OPACITY] = self.quaternion_rate
        rates[OPACITY] = self.opacity_rate
        rates[COLOUR:] = self.colour_rate
        rates *= self.rate_end**done
        rates[MEAN:LOG_SCALE] = self.mean_rate * self.mean_rate_end**done
        return rates.astype(np.float32)
