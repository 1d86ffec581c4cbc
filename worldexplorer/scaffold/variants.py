"""The variants of a corner view: the same hole filled again and again, with other guidance scales and other noise.

Every variant is kept as soon as it is made, so a run that is killed among them goes on with the next one. Each has a
seed of its own, derived from the run's seed, the corner and the variant's number, so it does not matter which were made
before.

Example:
    >>> [variant.name for variant in variants_of((7.0, 7.5), 2)]
    ['g7_s0', 'g7_s1', 'g7.5_s0', 'g7.5_s1']
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worldexplorer.engine import Engine, InpaintRequest
from worldexplorer.pictures import frame_name
from worldexplorer.progress import Progress
from worldexplorer.scaffold.corners import CornerView, laid_over
from worldexplorer.scaffold.kept_pictures import KeptPictures
from worldexplorer.scaffold.prompts import NOT_IN_A_CORNER
from worldexplorer.seeds import derive_seed


@dataclass(frozen=True)
class Variant:
    """One way to fill a corner.

    Attributes:
        guidance: scale of the prompt's guidance.
        number: which noise, from 0.
    """

    guidance: float
    number: int

    @property
    def name(self) -> str:
        """What a person calls it."""
        return f"g{self.guidance:g}_s{self.number}"

    def seed(self, run_seed: int, corner: int) -> int:
        """The seed of its noise; variants with one number differ by their guidance alone."""
        return derive_seed(run_seed, "scaffold", "corner", f"{corner:03d}", self.number)


def variants_of(guidances: Sequence[float], seeds: int) -> tuple[Variant, ...]:
    """Every guidance scale with every noise, in the order they are made."""
    return tuple(Variant(guidance, number) for guidance in guidances for number in range(seeds))


def corner_name(corner: int) -> str:
    """`001`."""
    return frame_name(corner).removesuffix(".png")


def kept_name(corner: int, variant: Variant) -> str:
    """Where a variant is kept."""
    return f"{corner_name(corner)}/{variant.name}"


def make_variants(
    engine: Engine,
    model: str,
    kept: KeptPictures,
    corner: CornerView,
    variants: Sequence[Variant],
    prompt: str,
    run_seed: int,
    progress: Progress,
) -> None:
    """Make those variants of a corner that are not there yet, and keep each.

    Args:
        engine: asked for its inpainting model only where something is to be made.
        model: the inpainting model's name.
        kept: where they go, by :func:`kept_name`.
        corner: what is given of the view.
        variants: which.
        prompt: see :func:`worldexplorer.scaffold.prompts.inpaint_prompt`.
        run_seed: the run's.
        progress: counts the variants.
    """
    missing = [one for one in variants if not kept.has(kept_name(corner.number, one), made_from=corner.digest)]
    if not missing:
        return
    requests = [
        InpaintRequest(
            image=corner.image,
            mask=corner.mask,
            prompt=prompt,
            negative_prompt=NOT_IN_A_CORNER,
            guidance=variant.guidance,
            seed=variant.seed(run_seed, corner.number),
        )
        for variant in missing
    ]
    made = engine.inpaint(model).inpaint(requests, progress)
    for variant, picture in zip(missing, made, strict=True):
        view = laid_over(corner.image, corner.mask, picture)
        kept.add(kept_name(corner.number, variant), view, made_from=corner.digest)
