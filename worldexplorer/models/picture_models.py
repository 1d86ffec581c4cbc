"""The models of scaffold_gen by name: their weights, how they are published to be run, and what they take of a GPU.

The sizes of the weights follow from parameter counts and precision; the work beside them is what a picture of 576
pixels takes at most, as measured (docs/gpu-hours.md) and rounded up. Nothing here needs torch.

Example:
    >>> INPAINT["flux2-klein"].steps
    4
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worldexplorer.config import SCAFFOLD_GEN, Precision, RunConfig
from worldexplorer.errors import UsageError, UserError
from worldexplorer.models.geometry_models import DEPTH, GEOMETRY, FrameModel, geometry_model
from worldexplorer.models.seva.config import TRAINED_FRAMES
from worldexplorer.units import GIB

SEVA_WEIGHTS = ("seva", "seva-vae", "seva-clip")
PROMPT_SCORE_WEIGHTS = "prompt-score"
JOINT_FRAMES = 24
"""Most frames of stage 1's joint sampling: SEVA bears a few more than it was trained with, and these hold a turn's
eight views and two frames between each pair."""
_HYBRID = "single_image_hybrid"
_PHOTO_METHODS = ("single_image", _HYBRID)
_MARGIN_GIB = 0.7
"""The gaps between allocations; what CUDA itself takes is gone from the free memory when that is read."""


@dataclass(frozen=True)
class PictureModel:
    """One way to make pictures.

    Attributes:
        name: in the command.
        title: for a person.
        weights: name of its weight set.
        steps: that it is published with.
        guidance: scale that it is published with; None where the request says one.
        precision: type it computes in.
        weights_gib: all its networks in that precision.
        largest_gib: the largest of them.
        work_gib: what one picture takes besides.
        together: most pictures made at once.
        multiple: pixels that a picture's sides are multiples of.
    """

    name: str
    title: str
    weights: str
    steps: int
    guidance: float | None
    precision: Precision
    weights_gib: float
    largest_gib: float
    work_gib: float
    together: int = 1
    multiple: int = 16

    @property
    def least_gib(self) -> float:
        """The least free GPU memory, with one network on the GPU at a time."""
        return round(self.largest_gib + self.work_gib + _MARGIN_GIB, 1)

    @property
    def wanted_gib(self) -> float:
        """The free GPU memory with which everything stays there and most pictures are made at once."""
        return round(self.weights_gib + self.together * self.work_gib + _MARGIN_GIB, 1)


@dataclass(frozen=True)
class Placement:
    """How to use a GPU.

    Attributes:
        resident: whether all networks stay on it; otherwise each is there while it works, at the same result.
        together: pictures made at once.
    """

    resident: bool
    together: int


@dataclass(frozen=True)
class TextSettings:
    """What a command says about the models besides SEVA; None for what they are published with."""

    text_to_image: str = "flux1-dev"
    inpaint: str = "sd2-inpainting"
    text_to_image_steps: int | None = None
    inpaint_steps: int | None = None
    commercial: bool = False
    geometry_model: str = "vggt"


TEXT_TO_IMAGE: Mapping[str, PictureModel] = {
    one.name: one
    for one in (
        PictureModel("flux1-dev", "FLUX.1-dev", "flux1-dev", 100, 3.5, "bfloat16", 31.5, 22.2, 0.9),
        PictureModel("flux2-klein", "FLUX.2-klein-4B", "flux2-klein", 4, 1.0, "bfloat16", 14.9, 7.5, 0.9),
    )
}
INPAINT: Mapping[str, PictureModel] = {
    one.name: one
    for one in (
        PictureModel(
            "sd2-inpainting",
            "Stable Diffusion 2 inpainting",
            "sd2-inpainting",
            50,
            None,
            "float16",
            2.4,
            1.7,
            0.9,
            together=8,
            multiple=8,
        ),
        PictureModel("flux2-klein", "FLUX.2-klein-4B inpainting", "flux2-klein", 4, 1.0, "bfloat16", 14.9, 7.5, 0.9),
        PictureModel("flux1-fill", "FLUX.1-Fill-dev", "flux1-fill", 50, None, "bfloat16", 31.5, 22.2, 0.9),
    )
}


def text_settings(run: RunConfig) -> TextSettings:
    """Those of a command."""
    scaffold = run.scaffold
    return TextSettings(
        text_to_image=scaffold.text_to_image,
        inpaint=scaffold.inpaint,
        text_to_image_steps=scaffold.text_to_image_steps,
        inpaint_steps=scaffold.inpaint_steps,
        commercial=run.batch.commercial,
        geometry_model=run.trajectory.geometry_model,
    )


def named_model(models: Mapping[str, PictureModel], name: str, flag: str) -> PictureModel:
    """A model by its name; UsageError where there is none."""
    if name not in models:
        raise UsageError(f"{flag} is {name!r}", where=f"--{flag}", remedy=f"choose from {', '.join(models)}")
    return models[name]


def models_of(stages: Sequence[int], scaffold_method: str, text: TextSettings) -> list[PictureModel]:
    """The models of pictures that stages use."""
    if 1 not in stages or scaffold_method not in (SCAFFOLD_GEN, _HYBRID):
        return []
    made = [named_model(TEXT_TO_IMAGE, text.text_to_image, "text_to_image")] if scaffold_method == SCAFFOLD_GEN else []
    return [*made, named_model(INPAINT, text.inpaint, "inpaint")]


def frame_models_of(stages: Sequence[int], text: TextSettings) -> list[FrameModel]:
    """The models of depth and points that stages use; which of those of depth follows from the sample."""
    return [*DEPTH.values(), geometry_model(text.geometry_model)] if 2 in stages else []


def needs_seva(stages: Sequence[int], scaffold_method: str) -> bool:
    """Whether stages use SEVA."""
    return 2 in stages or (1 in stages and scaffold_method in _PHOTO_METHODS)


def most_frames_at_once(stages: Sequence[int], scaffold_method: str, num_seva_frames: int) -> int:
    """Of the samplings that stages make with SEVA, the frames of the largest; shorter ones are filled up."""
    joint = num_seva_frames if 1 in stages and scaffold_method in _PHOTO_METHODS else 0
    return max(TRAINED_FRAMES, min(joint, JOINT_FRAMES))


def needed_weights(stages: Sequence[int], scaffold_method: str, text: TextSettings) -> tuple[str, ...]:
    """The names of the weight sets that stages use on the full engine, in the order they are used."""
    names = [model.weights for model in models_of(stages, scaffold_method, text)]
    if 1 in stages and scaffold_method == SCAFFOLD_GEN:
        names.append(PROMPT_SCORE_WEIGHTS)
    if needs_seva(stages, scaffold_method):
        names += SEVA_WEIGHTS
    names += [model.weights for model in frame_models_of(stages, text)]
    return tuple(dict.fromkeys(names))


def built_in_weights() -> tuple[str, ...]:
    """The names of all weight sets that the full engine can use."""
    models = (*TEXT_TO_IMAGE.values(), *INPAINT.values())
    frames = (*DEPTH.values(), *GEOMETRY.values())
    names = (*SEVA_WEIGHTS, *(one.weights for one in models), PROMPT_SCORE_WEIGHTS, *(one.weights for one in frames))
    return tuple(dict.fromkeys(names))


def choose_placement(model: PictureModel, free_bytes: int) -> Placement:
    """Decide from a GPU's free memory before anything is loaded.

    Raises:
        UserError: there is too little.
    """
    free = free_bytes / GIB
    if free < model.least_gib:
        raise UserError(
            f"too little GPU memory for {model.title}: {free:.1f} GiB are free, {model.least_gib:.1f} GiB are needed",
            where=model.name,
            remedy="end other programs on this GPU, take a GPU with more memory or a smaller model "
            "(--text_to_image flux2-klein, --inpaint sd2-inpainting)",
        )
    spare = free - model.weights_gib - _MARGIN_GIB
    if spare < model.work_gib:
        return Placement(resident=False, together=1)
    return Placement(resident=True, together=max(1, min(model.together, int(spare / model.work_gib))))


def smaller_placement(placement: Placement) -> Placement | None:
    """What to try when memory ran out: half as many pictures at once, then one network at a time; None after that."""
    if placement.together > 1:
        return Placement(placement.resident, placement.together // 2)
    return Placement(resident=False, together=1) if placement.resident else None
