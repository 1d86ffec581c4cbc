"""Models that the processes of a fleet load, by name, and that do to their process what a test asks for."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from worldexplorer.engine import Images, NovelViewRequest
from worldexplorer.errors import OutOfMemoryError, UserError
from worldexplorer.models.seva.settings import SevaSettings
from worldexplorer.progress import Progress

if TYPE_CHECKING:  # the toys need no torch, which takes seconds to import
    from worldexplorer.models.seva.model import SevaFiles, SevaModel

STEPS = 4


@dataclass(frozen=True)
class Toy:
    """Loads a model without a network: every new pixel is the seed of its request.

    What it is to do stands in files of `folder`: it writes its process's number to `pid-NAME` when it is loaded, and
    `at-NAME` when it is in the middle of a request; there it does what the file `order-NAME` says, which it takes away,
    and waits for as long as there is a file `wait`. What it made is in `made-SEED`.
    """

    name: str
    folder: Path

    def __call__(self) -> ToyModel:
        logging.getLogger("worldexplorer.test").info("loaded")
        if (self.folder / f"refuse-{self.name}").exists():
            raise UserError("too little memory", where="21 frames", remedy="take another")
        (self.folder / f"pid-{self.name}").write_text(str(os.getpid()))
        return ToyModel(self.name, self.folder)


class ToyModel:
    """See Toy."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name = name
        self._folder = folder

    def sample(self, requests: Sequence[NovelViewRequest], progress: Progress) -> list[Images]:
        return [frames for _, frames in self.sample_each(requests, progress)]

    def sample_each(self, requests: Sequence[NovelViewRequest], progress: Progress) -> Iterator[tuple[int, Images]]:
        for number, request in enumerate(requests):
            for step in range(STEPS):
                progress(step + 1, STEPS, "sampling")
                if step == 1:
                    (self._folder / f"at-{self._name}").touch()
                    self._obey(request)
                    while (self._folder / "wait").exists():
                        time.sleep(0.01)
                        progress(step + 1, STEPS, "sampling")
            frames = request.images.copy()
            frames[~request.given] = request.seed
            (self._folder / f"made-{request.seed}").touch()
            yield number, frames

    def _obey(self, request: NovelViewRequest) -> None:
        order = self._folder / f"order-{self._name}"
        try:
            what = order.read_text()
            order.unlink()
        except FileNotFoundError:
            return
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "crash":
            ctypes.string_at(0)
        if what == "run out":
            raise OutOfMemoryError("the GPU's memory ran out", where="cuda:1", remedy="end other programs")
        if what == "fail":
            raise ValueError(f"seed {request.seed}")
        if what == "lose the GPU":
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with TORCH_USE_CUDA_DSA")
        if what == "hang":
            threading.Event().wait()


def blank_request(seed: int, frames: int = 3, size: int = 8) -> NovelViewRequest:
    """One given frame, of 200s, and the others to make."""
    images = np.zeros((frames, size, size, 3), dtype=np.uint8)
    images[0] = 200
    return NovelViewRequest(
        images=images,
        given=np.arange(frames) == 0,
        c2w=np.tile(np.eye(4), (frames, 1, 1)),
        intrinsics=np.tile(np.eye(3), (frames, 1, 1)),
        translation_scaling_factor=1.0,
        cfg=3.0,
        cfg_min=1.2,
        steps=STEPS,
        seed=seed,
    )


def toys(folder: Path, names: Sequence[str] = ("one", "two")) -> dict[str, Toy]:
    return {name: Toy(name, folder) for name in names}


def load_on_one_thread(files: SevaFiles, settings: SevaSettings) -> SevaModel:
    """SEVA on the CPU, computing as the tests' own process does."""
    import torch

    from worldexplorer.models.seva.model import load_on

    torch.set_num_threads(1)
    return load_on("cpu", files, settings)
