"""Views from text: FLUX.1-dev and FLUX.2-klein-4B through diffusers.

FLUX.1-dev is run as the published system runs it: bfloat16, 100 steps, guidance 3.5, no negative prompt. FLUX.2-klein
is distilled to 4 steps and takes no guidance.

Example:
    >>> model = FluxModel("flux2-klein", folder, Residents())
    >>> picture = next(model.generate([TextToImageRequest("a harbour", seed=7, size=576)], silent))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from diffusers import Flux2KleinPipeline, FluxPipeline

from worldexplorer.engine import Picture, TextToImageRequest
from worldexplorer.models.picture_models import TEXT_TO_IMAGE, named_model
from worldexplorer.models.pipelines import Inputs, PictureMaker, require_size
from worldexplorer.models.residents import Residents
from worldexplorer.progress import Progress

_PIPELINES = {"flux1-dev": FluxPipeline, "flux2-klein": Flux2KleinPipeline}


class FluxModel:
    """A model of :class:`worldexplorer.engine.TextToImageModel`.

    Args:
        name: `flux1-dev` or `flux2-klein`.
        folder: answers with where the files are, downloading them where needed.
        residents: who else is on the GPU.
        steps: of a picture; those that the model is published with unless given.
        device: to compute on; the current CUDA GPU unless given.

    Raises:
        UsageError: there is no model of this name.
    """

    def __init__(
        self,
        name: str,
        folder: Callable[[], Path],
        residents: Residents,
        steps: int | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.model = named_model(TEXT_TO_IMAGE, name, "text_to_image")
        self.steps = steps or self.model.steps
        self.maker = PictureMaker(self.model, _PIPELINES[name], folder, residents, device)

    def generate(self, requests: Sequence[TextToImageRequest], progress: Progress) -> Iterator[Picture]:
        """See TextToImageModel.

        Raises:
            UserError: there is no usable GPU, the weights cannot be had, or a request's size cannot be made.
            OutOfMemoryError: the GPU's memory ran out.
            DefectError: a picture is not finite, or of one colour.
        """
        for request in requests:
            require_size(self.model, request.size)

        def group(start: int, _most: int) -> tuple[Sequence[int], Inputs]:
            request = requests[start]
            inputs: Inputs = {
                "prompt": [request.prompt],
                "height": request.size,
                "width": request.size,
                "guidance_scale": self.model.guidance,
            }
            return [request.seed], inputs

        return self.maker.make(len(requests), group, self.steps, progress)
