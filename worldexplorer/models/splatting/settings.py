"""What the command says about training splats on the full engine.

Example:
    >>> SplatTraining.of(run.splat).recipe().batch
    1
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from worldexplorer.config import SplatConfig
from worldexplorer.models.splatting.recipe import Recipe, named_recipe

SMALLER_TRAININGS = ("at most 500,000 Gaussians", "at most 250,000 Gaussians")
"""What changes each time that memory ran out; :attr:`worldexplorer.engine.SplatScene.made_smaller` counts into it."""


@dataclass(frozen=True)
class SplatTraining:
    """How to train.

    Attributes:
        profile: `published` or `fast`.
        images: training images to see, counted one by one; None for the published number.
        heldout_every: keep every n-th frame out of training, to measure with; None keeps none out.
        stop_psnr: end as soon as these frames come out at so many dB; None never does.
    """

    profile: str = "published"
    images: int | None = None
    heldout_every: int | None = None
    stop_psnr: float | None = None

    @staticmethod
    def of(config: SplatConfig) -> SplatTraining:
        """What a command's settings of stage 3 say."""
        return SplatTraining(
            config.splat_profile, config.splat_steps, config.splat_heldout_every, config.splat_stop_psnr
        )

    def recipe(self) -> Recipe:
        """The values to train with."""
        return named_recipe(self.profile, self.images)

    def described(self) -> dict[str, Any]:
        """Everything that changes the result, for fingerprints."""
        return {
            "recipe": self.recipe().described(),
            "heldout_every": self.heldout_every,
            "stop_psnr": self.stop_psnr,
        }
