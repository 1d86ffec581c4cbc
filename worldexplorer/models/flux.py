"""Views from text: FLUX.1-dev and FLUX.2-klein-4B through diffusers.

FLUX.1-dev is run as the published system runs it: bfloat16, 100 steps, guidance 3.5, no negative prompt. FLUX.2-klein
is distilled to 4 steps and takes no guidance.

Example:
    >>> model = FluxModel("flux2-klein", folder, Residents())
    >>> picture = next(model.generate([TextToImageRequest("a harbour", seed=7, size=576)], silent))
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from diffusers import Flux2KleinPipeline, FluxPipeline

from worldexplorer.engine import Picture, TextToImageRequest
from worldexplorer.models.picture_models import TEXT_TO_IMAGE
from worldexplorer.models.pipelines import Inputs, NamedPipeline, require_size
from worldexplorer.progress import Progress


class FluxModel(NamedPipeline):
    """A model of :class:`worldexplorer.engine.TextToImageModel`; made as every :class:`NamedPipeline`."""

    role = "text_to_image"
    models = TEXT_TO_IMAGE
    pipelines: ClassVar = {"flux1-dev": FluxPipeline, "flux2-klein": Flux2KleinPipeline}

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
