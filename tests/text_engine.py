"""The small engine with fakes of the models that scaffold_gen needs: every picture follows from its request alone.

engine = TextEngine()
engine.stop_after = 100     # stops in the middle of everything after so many pictures
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from builders import SmallEngine

from worldexplorer.config import RunConfig
from worldexplorer.engine import Images, InpaintRequest, Picture, TextToImageRequest
from worldexplorer.progress import Progress
from worldexplorer.seeds import derive_seed

SHIFT = 3
"""What the fake inpainting model adds to the pixels that it is to leave alone, as an autoencoder would."""


class Stopped(BaseException):
    """Stands in for a kill: nothing that catches errors catches it."""


class TextEngine(SmallEngine):
    """See the module.

    Attributes:
        stop_after: pictures from now on until Stopped is raised.
        made: what was asked of the models, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stop_after: int | None = None
        self.made: list[TextToImageRequest | InpaintRequest] = []
        self.scored: list[tuple[str, ...]] = []
        self.models: list[str] = []

    def text_to_image(self, name: str) -> TextEngine:
        self.models.append(name)
        return self

    def inpaint(self, name: str) -> FakeInpainting:
        self.models.append(name)
        return FakeInpainting(self)

    def prompt_scorer(self) -> TextEngine:
        self.models.append("clip")
        return self

    def generate(self, requests: Sequence[TextToImageRequest], progress: Progress) -> Iterator[Picture]:
        for number, request in enumerate(requests):
            self.count(request)
            yield waves(f"{request.prompt} {request.seed}", request.size)
            progress(number + 1, len(requests), "pictures from text")

    def score(self, images: Images, texts: Sequence[str], progress: Progress) -> np.ndarray:
        self.scored.append(tuple(texts))
        progress(len(images), len(images), "scoring")
        weights = np.array([1.0 + derive_seed(0, text) % 7 for text in texts])
        return (images.mean(axis=(1, 2, 3))[:, None] / 255 / weights).astype(np.float32)

    def count(self, request: TextToImageRequest | InpaintRequest) -> None:
        if self.stop_after is not None:
            if self.stop_after == 0:
                raise Stopped
            self.stop_after -= 1
        self.made.append(request)


class FakeInpainting:
    """Fills the hole with a colour that follows from the request, and shifts the rest a little."""

    def __init__(self, engine: TextEngine) -> None:
        self._engine = engine

    def inpaint(self, requests: Sequence[InpaintRequest], progress: Progress) -> Iterator[Picture]:
        for number, request in enumerate(requests):
            self._engine.count(request)
            filled = waves(f"{request.prompt} {request.seed} {request.guidance}", len(request.image))
            shifted = np.clip(request.image.astype(int) + SHIFT, 0, 255).astype(np.uint8)
            yield np.where(request.mask[..., None], filled, shifted)
            progress(number + 1, len(requests), "corner views")


def waves(text: str, size: int) -> Picture:
    """A smooth picture, another one for each text."""
    rows, columns = np.mgrid[0:size, 0:size] / size
    phases = [derive_seed(channel, text) % 628 / 100 for channel in range(3)]
    level = 90 + derive_seed(3, text) % 70
    return (level + 60 * np.stack([np.sin(4 * rows + 3 * columns + phase) for phase in phases], axis=-1)).astype(
        np.uint8
    )


def text_engine(_run: RunConfig) -> TextEngine:
    """Loads the engine; known by name to worker processes."""
    return TextEngine()


class _Killed(TextEngine):
    """Kills its process at the picture that the data set's file `kill-at` names, once."""

    def __init__(self, data: Path) -> None:
        super().__init__()
        self._order = data / "kill-at"

    def count(self, request: TextToImageRequest | InpaintRequest) -> None:
        super().count(request)
        if self._order.exists() and len(self.made) > int(self._order.read_text()):
            self._order.unlink()
            os.kill(os.getpid(), signal.SIGKILL)


def killed_in_the_middle(run: RunConfig) -> TextEngine:
    """Loads an engine whose process is killed."""
    return _Killed(Path(run.batch.dataset_dir))
