"""A diffusers pipeline as a maker of pictures: loading, placing, seeds, progress, and what can go wrong.

Each picture has a generator of its own on the CPU, so its noise depends on its seed alone: neither on the device, nor
on the order, nor on what is made with it. Where a model makes several at once, a group is always filled up, since how
many are computed together decides how sums are rounded.

When the GPU's memory runs out, the other networks leave it, then half as many pictures are made at once, then one
network at a time is on the GPU, and the same pictures are tried again; only when that fails is it an OutOfMemoryError.

Example:
    >>> maker = PictureMaker(TEXT_TO_IMAGE["flux1-dev"], FluxPipeline, folder, residents)
    >>> pictures = maker.make(len(seeds), group, steps=50, progress=silent)
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import diffusers
import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from safetensors import SafetensorError

from worldexplorer.engine import Picture
from worldexplorer.errors import DefectError, OutOfMemoryError, UserError
from worldexplorer.models.gpus import first_gpu
from worldexplorer.models.picture_models import (
    PictureModel,
    Placement,
    choose_placement,
    named_model,
    smaller_placement,
)
from worldexplorer.models.residents import Residents, free_gpu_bytes
from worldexplorer.pictures import is_blank
from worldexplorer.progress import Progress
from worldexplorer.units import GIB

_log = logging.getLogger(__name__)

Inputs = dict[str, Any]
"""What a pipeline's call is given for a group of pictures."""


class PictureMaker:
    """One pipeline, loaded when it is first needed.

    Args:
        model: what it is.
        pipeline: its class in diffusers.
        folder: answers with where its files are, downloading them where needed.
        residents: who else is on the GPU.
        device: to compute on; the current CUDA GPU unless given.
    """

    def __init__(
        self,
        model: PictureModel,
        pipeline: Any,
        folder: Callable[[], Path],
        residents: Residents,
        device: torch.device | None = None,
    ) -> None:
        self.model = model
        self._pipeline = pipeline
        self._folder = folder
        self._residents = residents
        self._device = device
        self._placement: Placement | None = None
        self._smaller: Placement | None = None

    def make(
        self,
        count: int,
        group: Callable[[int, int], tuple[Sequence[int], Inputs]],
        steps: int,
        progress: Progress,
    ) -> Iterator[Picture]:
        """Make pictures 0 to `count` - 1, in order, each given out as soon as its group is made.

        Args:
            count: pictures in all.
            group: asked for (first picture, most pictures of a group): the seeds of those made next, and what the
                pipeline's call is given for that many pictures. It is the group that says how many they are.
            steps: of each picture.
            progress: counts the steps of all pictures.

        Raises:
            UserError: there is no usable GPU, or the files are not this model's weights.
            OutOfMemoryError: the GPU's memory ran out at the smallest setting.
            DefectError: a picture is not finite, or of one colour.
        """
        done = 0
        while done < count:
            pipeline, placement = self._loaded()
            seeds, inputs = group(done, placement.together)
            try:
                with self._whole(seeds, progress, done, count, steps) as listen:
                    made = self._call(pipeline, seeds, inputs, steps, placement.together, listen)
            except torch.OutOfMemoryError as error:
                message = str(error).splitlines()[0]
                error.__traceback__ = None  # its frames hold the tensors that are to be freed
                del pipeline
                self._make_smaller(placement, message)
                continue
            del pipeline  # while the caller is busy with a picture, another network may need the room
            self._check(made, seeds)
            yield from made
            done += len(seeds)

    @property
    def placement(self) -> Placement | None:
        """How the pipeline is placed; None before it was loaded."""
        return self._placement

    def _loaded(self) -> tuple[Any, Placement]:
        """The pipeline and its placement."""
        pipeline = self._residents.get(self._key, int(self.model.wanted_gib * GIB), self._load)
        assert self._placement is not None
        return pipeline, self._placement

    @property
    def _key(self) -> str:
        return f"{self._pipeline.__name__} {self.model.name}"

    def _load(self) -> Any:
        device = self._device or first_gpu(self.model.title)
        self._placement = self._smaller or self._place(device)
        folder = self._folder()
        start = time.perf_counter()
        kind = getattr(torch, self.model.precision) if device.type == "cuda" else torch.float32
        with loading_errors(self.model.title, folder):
            pipeline = self._pipeline.from_pretrained(folder, dtype=kind, local_files_only=True, use_safetensors=True)
        pipeline.set_progress_bar_config(disable=True)
        if self._placement.resident:
            try:
                pipeline.to(device)
            except torch.OutOfMemoryError:  # another program took the memory since it was counted
                _log.warning("%s does not fit on the GPU as a whole: one network is there at a time", self.model.title)
                self._placement = Placement(resident=False, together=1)
                pipeline.to("cpu")
        if not self._placement.resident:
            pipeline.enable_model_cpu_offload(device=device)
        _log.info("%s loaded in %.1f s: %s", self.model.title, time.perf_counter() - start, self._placement)
        return pipeline

    def _place(self, device: torch.device) -> Placement:
        if device.type != "cuda":
            return Placement(resident=True, together=self.model.together)
        free = free_gpu_bytes(device)
        assert free is not None, "there is a GPU"
        return choose_placement(self.model, free)

    def _make_smaller(self, placement: Placement, message: str) -> None:
        """Free memory for another try; OutOfMemoryError where there is nothing left to free."""
        if self._residents.keep_only(self._key):
            _log.warning("%s ran out of GPU memory (%s): the other networks leave the GPU", self.model.title, message)
            return
        self._residents.drop(self._key)
        self._smaller = smaller_placement(placement)
        if self._smaller is None:
            raise _out_of_memory(self.model, message, self._device)
        _log.warning("%s ran out of GPU memory (%s): trying again, %s", self.model.title, message, self._smaller)

    def _call(
        self,
        pipeline: Any,
        seeds: Sequence[int],
        inputs: Inputs,
        steps: int,
        together: int,
        listen: Callable[[Any, int, Any, Inputs], Inputs],
    ) -> NDArray[np.uint8]:
        """The group's pictures [N, S, S, 3]."""
        filled = [*range(len(seeds)), *[len(seeds) - 1] * (together - len(seeds))]
        every = {
            name: [value[number] for number in filled] if isinstance(value, list) else value
            for name, value in inputs.items()
        }
        result = pipeline(
            **every,
            num_inference_steps=steps,
            generator=[torch.Generator("cpu").manual_seed(seeds[number]) for number in filled],
            callback_on_step_end=listen,
            output_type="np",
        )
        values = np.asarray(result.images[: len(seeds)], dtype=np.float32)
        if not np.isfinite(values).all():
            raise DefectError(
                f"{self.model.title} made a picture that is not finite",
                where=f"{self.model.precision}, seeds {list(seeds)}",
                remedy="check the weights with `worldexplorer weights verify`; if they are whole, report it",
            )
        return np.asarray(np.rint(values * 255.0), dtype=np.uint8)

    def _check(self, made: NDArray[np.uint8], seeds: Sequence[int]) -> None:
        blank = [seed for seed, empty in zip(seeds, is_blank(made), strict=True) if empty]
        if blank:
            raise DefectError(
                f"{self.model.title} made a picture of one colour",
                where=f"seeds {blank}",
                remedy="run it again; check the weights with `worldexplorer weights verify` if it stays",
            )

    @contextmanager
    def _whole(
        self, seeds: Sequence[int], progress: Progress, done: int, count: int, steps: int
    ) -> Iterator[Callable[[Any, int, Any, Inputs], Inputs]]:
        """What a pipeline calls after each step, which tells the caller, who may cancel there."""

        def listen(_pipeline: Any, step: int, _time: Any, tensors: Inputs) -> Inputs:
            progress(done * steps + (step + 1) * len(seeds), count * steps, self.model.title)
            return tensors

        with torch.inference_mode():
            yield listen


class NamedPipeline:
    """What models of pictures have in common: one of several by name, each with a pipeline of its own.

    Args:
        name: which one.
        folder: answers with where the files are, downloading them where needed.
        residents: who else is on the GPU.
        steps: of a picture; those that the model is published with unless given.
        device: to compute on; the current CUDA GPU unless given.

    Raises:
        UsageError: there is no model of this name.
    """

    role: ClassVar[str]
    """The flag that names a model."""
    models: ClassVar[Mapping[str, PictureModel]]
    pipelines: ClassVar[Mapping[str, Any]]
    """Classes of diffusers, by the models' names."""

    def __init__(
        self,
        name: str,
        folder: Callable[[], Path],
        residents: Residents,
        steps: int | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.model = named_model(self.models, name, self.role)
        self.steps = steps or self.model.steps
        self.maker = PictureMaker(self.model, self.pipelines[name], folder, residents, device)


@contextmanager
def loading_errors(title: str, folder: Path) -> Iterator[None]:
    """Turn what the libraries raise over files that are missing or damaged into an error that says what to do."""
    diffusers.utils.logging.disable_progress_bar()  # bars of their own would run through those of this program
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if isinstance(error, torch.OutOfMemoryError) or (isinstance(error, OSError) and error.errno is not None):
            raise  # the machine's fault, not the files'
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"the weights of {title} cannot be loaded: {lines[0]}",
            where=str(folder),
            remedy="`worldexplorer weights verify` names missing and damaged files, `worldexplorer weights pull` gets "
            "them again",
        ) from error


def require_size(model: PictureModel, size: int) -> None:
    """Refuse a picture size that a model cannot make; UserError."""
    if size % model.multiple or size <= 0:
        raise UserError(
            f"{model.title} makes pictures whose sides are multiples of {model.multiple} pixels, not {size}",
            where=model.name,
            remedy="take the full engine's own image size",
        )


def _out_of_memory(model: PictureModel, message: str, device: torch.device | None) -> OutOfMemoryError:
    return OutOfMemoryError(
        f"the GPU's memory ran out over {model.title} ({message})",
        where=str(device or "cuda"),
        remedy="end other programs on this GPU, take one with more memory, or a smaller model "
        "(--text_to_image flux2-klein, --inpaint sd2-inpainting)",
    )
