"""Parts of pictures made anew: Stable Diffusion 2 inpainting, FLUX.2-klein and FLUX.1-Fill-dev through diffusers.

Stable Diffusion 2 is run as the published system runs it: float16, 50 steps, full strength, with the negative prompt;
up to eight pictures with one guidance scale are made at once. FLUX.2-klein is distilled to 4 steps: it takes neither
guidance nor a negative prompt, so requests that differ in those alone give one picture. FLUX.1-Fill-dev takes the
guidance scale, for which 30 is published, and no negative prompt.

What stands under the mask plays no part: it is replaced by the nearest given pixels before a model sees it.

Example:
    >>> model = InpaintingModel("sd2-inpainting", folder, Residents())
    >>> picture = next(model.inpaint([request], silent))
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import ClassVar

import numpy as np
from diffusers import Flux2KleinInpaintPipeline, FluxFillPipeline, StableDiffusionInpaintPipeline
from PIL import Image
from scipy import ndimage

from worldexplorer.engine import InpaintRequest, Picture
from worldexplorer.models.picture_models import INPAINT
from worldexplorer.models.pipelines import Inputs, NamedPipeline, require_size
from worldexplorer.progress import Progress

_WITH_NEGATIVE_PROMPT = frozenset({"sd2-inpainting"})
_FULL_STRENGTH = 1.0
"""The masked part starts from noise alone."""


class InpaintingModel(NamedPipeline):
    """A model of :class:`worldexplorer.engine.InpaintModel`; made as every :class:`NamedPipeline`."""

    role = "inpaint"
    models = INPAINT
    pipelines: ClassVar = {
        "sd2-inpainting": StableDiffusionInpaintPipeline,
        "flux2-klein": Flux2KleinInpaintPipeline,
        "flux1-fill": FluxFillPipeline,
    }

    def inpaint(self, requests: Sequence[InpaintRequest], progress: Progress) -> Iterator[Picture]:
        """See InpaintModel.

        Raises:
            UserError: there is no usable GPU, the weights cannot be had, or a request's size cannot be made.
            OutOfMemoryError: the GPU's memory ran out.
            DefectError: a picture is not finite, or of one colour.
        """
        for request in requests:
            require_size(self.model, request.image.shape[0])

        def group(start: int, most: int) -> tuple[Sequence[int], Inputs]:
            first = requests[start]
            some = list(takewhile(lambda one: _alike(one, first), requests[start : start + most]))
            return [one.seed for one in some], self._inputs(some)

        return self.maker.make(len(requests), group, self.steps, progress)

    def _inputs(self, requests: Sequence[InpaintRequest]) -> Inputs:
        size = requests[0].image.shape[0]
        inputs: Inputs = {
            "prompt": [one.prompt for one in requests],
            "image": [Image.fromarray(nearest_given(one.image, one.mask)) for one in requests],
            "mask_image": [Image.fromarray(one.mask.astype(np.uint8) * np.uint8(255)) for one in requests],
            "height": size,
            "width": size,
            "strength": _FULL_STRENGTH,
            "guidance_scale": requests[0].guidance if self.model.guidance is None else self.model.guidance,
        }
        if self.model.name in _WITH_NEGATIVE_PROMPT:
            inputs["negative_prompt"] = [one.negative_prompt for one in requests]
        return inputs


def nearest_given(picture: Picture, mask: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> Picture:
    """The picture with each masked pixel replaced by the nearest one that is not; grey where all are masked."""
    if mask.all():
        return np.full_like(picture, 127)
    if not mask.any():
        return picture
    rows, columns = ndimage.distance_transform_edt(mask, return_distances=False, return_indices=True)
    return np.ascontiguousarray(picture[rows, columns])


def _alike(one: InpaintRequest, other: InpaintRequest) -> bool:
    """Whether two requests can be made in one call."""
    return one.guidance == other.guidance and one.image.shape == other.image.shape
