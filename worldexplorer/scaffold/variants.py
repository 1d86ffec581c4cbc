"""The variants of a corner view: the same hole filled again and again, with other guidance scales and other noise.

Every variant is kept as soon as it is made, so a run that is killed among them goes on with the next one. Each has a
seed of its own, derived from the run's seed, the corner and the variant's number, so it does not matter which were made
before. Variants of a model that takes no guidance scale differ by their noise alone.

Example:
    >>> [variant.name for variant in variants_of((7.0, 7.5), 2)], [variant.name for variant in variants_of(None, 2)]
    (['g7_s0', 'g7_s1', 'g7.5_s0', 'g7.5_s1'], ['s0', 's1'])
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

_WITHOUT_GUIDANCE = frozenset({"flux2-klein"})
"""Inpainting models that take no guidance scale."""
_NO_GUIDANCE = 1.0
"""The scale that leaves a prompt as it is."""


@dataclass(frozen=True)
class Variant:
    """One way to fill a corner.

    Attributes:
        guidance: scale of the prompt's guidance; None where the model takes none.
        number: which noise, from 0.
    """

    guidance: float | None
    number: int

    @property
    def name(self) -> str:
        """What a person calls it."""
        return f"s{self.number}" if self.guidance is None else f"g{self.guidance:g}_s{self.number}"

    @property
    def scale(self) -> float:
        """What a request says of the guidance."""
        return _NO_GUIDANCE if self.guidance is None else self.guidance

    def seed(self, run_seed: int, corner: int) -> int:
        """The seed of its noise; variants with one number differ by their guidance alone."""
        return derive_seed(run_seed, "scaffold", "corner", f"{corner:03d}", self.number)


def takes_guidance(model: str) -> bool:
    """Whether an inpainting model's pictures depend on a guidance scale."""
    return model not in _WITHOUT_GUIDANCE


def variants_of(guidances: Sequence[float] | None, seeds: int) -> tuple[Variant, ...]:
    """Every guidance scale with every noise, in the order they are made; None for a model that takes no scale."""
    scales: Sequence[float | None] = (None,) if guidances is None else guidances
    return tuple(Variant(guidance, number) for guidance in scales for number in range(seeds))


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
            guidance=variant.scale,
            seed=variant.seed(run_seed, corner.number),
        )
        for variant in missing
    ]
    made = engine.inpaint(model).inpaint(requests, progress)
    for variant, picture in zip(missing, made, strict=True):
        view = laid_over(corner.image, corner.mask, picture)
        kept.add(kept_name(corner.number, variant), view, made_from=corner.digest)
