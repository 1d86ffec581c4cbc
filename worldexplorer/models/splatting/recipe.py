"""The published training recipe, every value once, and its faster profile.

The recipe is that of `splatfacto-big` at nerfstudio commit 50e0e3c, with the flags that WorldExplorer calls it with
and those that the method passes on to gsplat's strategies. Comments say where a value comes from: [big] the method's
own configuration, [model] the model's defaults, [we] WorldExplorer's flags, [gsplat] the strategy's defaults, [own] a
decision of this program.

Everything counts *images seen*, not steps: a step of four images counts four. So one recipe serves any batch. The one
exception is the scale regularisation: it is no mean over a step's images, so it weighs as much a step in every batch.

Lengths are those of nerfstudio's frame, in which the camera furthest from the middle has its largest coordinate at 1;
:class:`worldexplorer.models.splatting.frame.TrainingFrame` goes there and back.

Example:
    >>> recipe = named_recipe("fast", images=None)
    >>> recipe.batch, recipe.images, recipe.steps
    (4, 30000, 7500)
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from worldexplorer.errors import DefectError

PUBLISHED_IMAGES = 30_000


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        images: seen in all; one a step in the published recipe.
        batch: images a step.
        means_rate: Adam's step length of means at first.
        means_rate_end: and at the end; exponential in between.
        scales_rate: of log scales.
        quaternions_rate: of quaternions.
        opacities_rate: of opacities before the sigmoid.
        colours_rate: of the first coefficient of spherical harmonics.
        directional_rate: of the other coefficients.
        first_decay: of Adam's average of gradients, for one image a step.
        second_decay: of its average of squared gradients, likewise.
        epsilon: Adam's, likewise.
        ssim_weight: share of 1 - SSIM in the loss, the rest being L1.
        sh_degree: of the colours.
        sh_interval: images after which one more degree joins in.
        downscales: how often the pictures are halved at first.
        downscale_interval: images after which one halving less is done.
        random_background: a new colour for every image, instead of black.
        antialiased: opacities corrected for the blur of the pixel (Mip-Splatting).
        near: depth below which Gaussians are not drawn.
        ratio_limit: longest over shortest axis of a Gaussian above which the scale regularisation acts.
        ratio_weight: of that regularisation.
        ratio_steps: steps between two times it acts.
        initial_opacity: of the first Gaussians.
        strategy: how Gaussians are added and removed.
        refine_from: images before the first time.
        refine_until: images after which the number of Gaussians stays.
        refine_interval: images between two times.
        least_opacity: Gaussians less opaque are moved or removed.
        cap: MCMC: most Gaussians.
        growth: MCMC: of their number, each time.
        noise: MCMC: of the means, over their rate.
        opacity_weight: MCMC: of the mean opacity in the loss.
        scale_weight: MCMC: of the mean scale in the loss.
        growth_gradient: default strategy: gradient of a projected mean above which a Gaussian is doubled, where
            the half width and the half height of an image are 1.
        split_scale: default strategy: scale above which it is split in two smaller ones instead of copied.
        split_radius: default strategy: radius, over the image's larger side, from which it is split anyway.
        remove_scale: default strategy: scale above which a Gaussian is removed.
        remove_radius: default strategy: radius from which it is removed.
        radius_until: default strategy: images after which radii count no more.
        reset_interval: default strategy: images between two times that opacities are brought down to twice the least.
        kept_opacity: Gaussians less opaque are left out of the result.
        checkpoint_interval: images between two checkpoints.
    """

    images: int = PUBLISHED_IMAGES  # [big]
    batch: int = 1  # [big]
    means_rate: float = 1.6e-4  # [big]
    means_rate_end: float = 1.6e-6  # [big]
    scales_rate: float = 5e-3  # [big]
    quaternions_rate: float = 1e-3  # [big]
    opacities_rate: float = 5e-2  # [big]
    colours_rate: float = 2.5e-3  # [big]
    directional_rate: float = 2.5e-3 / 20  # [big]
    first_decay: float = 0.9  # torch's Adam
    second_decay: float = 0.999  # torch's Adam
    epsilon: float = 1e-15  # [big]
    ssim_weight: float = 0.2  # [model]
    sh_degree: int = 3  # [model]
    sh_interval: int = 1000  # [model]
    downscales: int = 2  # [model]
    downscale_interval: int = 3000  # [model]
    random_background: bool = True  # [model]
    antialiased: bool = True  # [we]
    near: float = 0.01  # [model]
    ratio_limit: float = 5.0  # [we]; the model's own 10 is not used
    ratio_weight: float = 0.1  # [model], switched on by [we]
    ratio_steps: int = 10  # [model]
    initial_opacity: float = 0.1  # [model]
    strategy: Literal["mcmc", "default"] = "mcmc"  # [we]
    refine_from: int = 500  # [model]
    refine_until: int = 15_000  # [model]
    refine_interval: int = 100  # [model]
    least_opacity: float = 0.005  # [big]
    cap: int = 1_000_000  # [model]
    growth: float = 0.05  # [gsplat]
    noise: float = 5e5  # [model]
    opacity_weight: float = 0.01  # [model]
    scale_weight: float = 0.01  # [model]
    growth_gradient: float = 5e-4  # [big]; gradients are absolute, as the model has it
    split_scale: float = 0.01  # [model]
    split_radius: float = 0.05  # [model]
    remove_scale: float = 0.1  # [we]
    remove_radius: float = 0.1  # [we]
    radius_until: int = 4000  # [model]
    reset_interval: int = 3000  # [model]: 30 times refine_interval
    kept_opacity: float = 1 / 255  # nerfstudio's export
    checkpoint_interval: int = 2000  # [big]

    def __post_init__(self) -> None:
        if self.images < 1 or self.batch < 1 or self.cap < 1 or self.sh_degree not in range(4):
            raise DefectError(f"a recipe cannot have {self.images} images, {self.batch} a step, a cap of {self.cap}")
        if min(self.decays) < 0.0:
            raise DefectError(
                f"a recipe cannot have {self.batch} images a step: Adam's averages would have to forget more than all"
            )

    @property
    def steps(self) -> int:
        """Steps in all; the last one is whole."""
        return -(-self.images // self.batch)

    def means_rate_at(self, image: int) -> float:
        """The means' step length after so many images, for one image a step."""
        done = min(image / self.images, 1.0)
        return math.exp((1.0 - done) * math.log(self.means_rate) + done * math.log(self.means_rate_end))

    def sh_degree_at(self, image: int) -> int:
        """The degree of the colours in use after so many images."""
        return min(image // self.sh_interval, self.sh_degree)

    def downscale_at(self, image: int) -> int:
        """By how much pictures are smaller after so many images: 4, 2, 1."""
        return int(2 ** max(self.downscales - image // self.downscale_interval, 0))

    def due(self, image: int, interval: int) -> bool:
        """Whether something that is done every `interval` images is done in the step that begins after `image`."""
        return image % interval < self.batch

    def ratio_weight_at(self, image: int) -> float:
        """The weight of the scale regularisation in the step that begins after `image`; mostly 0."""
        return self.ratio_weight if (image // self.batch) % self.ratio_steps == 0 else 0.0

    @property
    def batch_factor(self) -> float:
        """What step lengths are multiplied by: the square root of the batch, since its gradients are means."""
        return math.sqrt(self.batch)

    @property
    def decays(self) -> tuple[float, float]:
        """Adam's decays a step: they forget as fast by images as the published ones."""
        return 1.0 - self.batch * (1.0 - self.first_decay), 1.0 - self.batch * (1.0 - self.second_decay)

    def described(self) -> dict[str, Any]:
        """All values, for records and fingerprints."""
        return asdict(self)


def named_recipe(profile: str, images: int | None) -> Recipe:
    """The recipe of a profile.

    Args:
        profile: `published`, or `fast`: four images a step, the same number of images.
        images: to see in all; the published number for None. What the published recipe does until or every so many
            images is then done in proportion, but for refinements, regularisation and checkpoints, which keep their
            intervals.
    """
    recipe = {"published": Recipe(), "fast": Recipe(batch=4)}[profile]
    return recipe if images is None else shortened(recipe, images)


def shortened(recipe: Recipe, images: int) -> Recipe:
    """The recipe for another number of images; see :func:`named_recipe`."""
    share = images / recipe.images
    scaled = {
        name: max(round(getattr(recipe, name) * share), 1)
        for name in ("sh_interval", "downscale_interval", "refine_from", "refine_until", "radius_until")
    }
    return replace(recipe, images=images, **scaled)
