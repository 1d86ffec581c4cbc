"""Stage 1 from a photo by the program's own code, with SEVA of random weights: one photo in, the stage's files out.

Used by `benchmarks/stage1.py`. Kernels are compiled and steps recorded when they are first needed, whatever the number
of steps; so each pan is made with two steps twice, which tells what the first time costs more, and then as published.

Example:
    >>> with random_seva(device, tiny=False) as model:
    ...     PanBench(model, size=576, steps=None, peak=peak).measure(8)
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from random_seva import TINY, random_network, save_random_weights

from worldexplorer.config import BatchConfig, RunConfig, ScaffoldConfig
from worldexplorer.context import Outcome, StageContext
from worldexplorer.dataset import Job
from worldexplorer.dataset.job import ExpansionOverrides, ScaffoldOverrides
from worldexplorer.engine import Images, NovelViewRequest
from worldexplorer.models.engine import FullEngine
from worldexplorer.models.seva.model import SevaModel
from worldexplorer.models.seva.settings import SevaSettings
from worldexplorer.progress import Progress, silent
from worldexplorer.scaffold.stage import produce_scaffold, scaffold_settings

_FEW_STEPS = 2
_PHOTO = (768, 1024)

Peak = Callable[[], AbstractContextManager[dict[str, float]]]
"""Seconds ("s") and, on a GPU, GiB ("allocated", "reserved") of a block."""


@contextmanager
def random_seva(device: torch.device, *, tiny: bool) -> Iterator[SevaModel]:
    """SEVA loaded from files of random weights; its memory is free again afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        files = save_random_weights(random_network(device, TINY if tiny else None), Path(folder))
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        model = SevaModel(files, SevaSettings(precision="float32" if tiny else "float16"), device)
    yield model
    del model
    gc.collect()


class _OneModel(FullEngine):
    """The full engine with a SEVA that is there already, noting the seconds of each sampling."""

    def __init__(self, model: SevaModel, size: int) -> None:
        super().__init__()
        self.image_size = size
        self.seconds: list[float] = []
        self._model = model

    def novel_views(self) -> _OneModel:
        return self

    def sample(self, requests: Sequence[NovelViewRequest], progress: Progress) -> list[Images]:
        return [frames for _, frames in self.sample_each(requests, progress)]

    def sample_each(self, requests: Sequence[NovelViewRequest], progress: Progress) -> Iterator[tuple[int, Images]]:
        for number, request in enumerate(requests):
            start = time.perf_counter()
            (frames,) = self._model.sample([request], progress)  # in the computer's memory: the GPU has finished
            self.seconds.append(round(time.perf_counter() - start, 2))
            yield number, frames


class PanBench:
    """Pans of one loaded model.

    Args:
        model: SEVA.
        size: of the views, pixels.
        steps: of a sampling; None for the published ones.
        peak: measures a block.
    """

    def __init__(self, model: SevaModel, size: int, steps: int | None, peak: Peak) -> None:
        self._model = model
        self._size = size
        self._steps = steps
        self._peak = peak
        self._made = 0

    def measure(self, frames: int) -> dict[str, Any]:
        """A pan of so many frames."""
        first, _, _ = self._pan(frames, _FEW_STEPS)
        again, _, _ = self._pan(frames, _FEW_STEPS)
        warm, calls, samplings = self._pan(frames, self._steps)
        return {
            "frames": frames,
            "samplings": samplings,
            "s": round(warm["s"], 2),
            "of these in SEVA": calls,
            "first time, s more": round(first["s"] - again["s"], 1),
            "peak allocated GiB": warm.get("allocated"),
            "peak reserved GiB": warm.get("reserved"),
        }

    def _pan(self, frames: int, steps: int | None) -> tuple[dict[str, float], list[float], list[int]]:
        self._made += 1
        self._model.settings = replace(self._model.settings, steps=steps)
        engine = _OneModel(self._model, self._size)
        run = RunConfig(BatchConfig(dataset_dir="benchmark"), ScaffoldConfig(num_seva_frames=frames))
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            job = _job(folder / "photo.png", seed=self._made)
            for name in ("out", "work"):
                (folder / name).mkdir()
            context = StageContext(
                job=job,
                settings=scaffold_settings(job, run, engine),
                engine=engine,
                seed=self._made,
                inputs=None,
                attempt="benchmark",
                out=folder / "out",
                work=folder / "work",
                progress=silent,
            )
            with self._peak() as found:
                outcome = produce_scaffold(context)
        assert isinstance(outcome, Outcome), "single_image asks nobody"
        return found, engine.seconds, outcome.metrics["samplings"]


def _job(photo: Path, seed: int) -> Job:
    """A job with a photo of noise."""
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*_PHOTO, 3), dtype=np.uint8)).save(photo)
    return Job(
        index=0,
        variant="default",
        image=photo,
        scaffold_path=None,
        scene_type="indoor",
        category=None,
        theme=None,
        scaffold=ScaffoldOverrides(),
        expansion=ExpansionOverrides(),
    )
