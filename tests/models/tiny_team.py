"""What members of a team on the CPU draw with, and what they do wrong when a test asks for it; crosses processes."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tiny_splats import recipe
from torch import Tensor, distributed

from worldexplorer.engine import SplatScene
from worldexplorer.models.splatting.operations import operations_for
from worldexplorer.models.splatting.plain_rasterizer import rasterization
from worldexplorer.models.splatting.rasterizer import Rasterizer
from worldexplorer.models.splatting.recipe import Recipe
from worldexplorer.models.splatting.team_process import Place, Task
from worldexplorer.models.splatting.together import pictures_kept, train_together
from worldexplorer.progress import Progress

PLACES = (Place("cpu", "first"), Place("cpu", "second"))
PATIENCE = 120.0


def plain() -> Rasterizer:
    """What a member that does nothing wrong draws with."""
    return rasterization


@dataclass(frozen=True)
class Misbehaving:
    """Makes a rasteriser that, in one member, does something else in the n-th step.

    Attributes:
        folder: where every member writes its process's number, as `pid-RANK`.
        what: `die`, `wait`, `fill` the memory, `break`, or `spoil` the picture.
        rank: of the member.
        step: counted from 1.
    """

    folder: Path
    what: str
    rank: int = 1
    step: int = 3

    def __call__(self) -> Rasterizer:
        rank, calls = distributed.get_rank(), 0
        (self.folder / f"pid-{rank}").write_text(str(os.getpid()))

        def draw(*arguments: Any, **named: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
            nonlocal calls
            calls += 1
            image, alpha, info = rasterization(*arguments, **named)
            if rank == self.rank and calls == self.step:
                if self.what == "die":
                    os.kill(os.getpid(), signal.SIGKILL)
                if self.what == "wait":
                    time.sleep(600)
                if self.what == "fill":
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
                if self.what == "break":
                    raise RuntimeError("CUDA error: an illegal memory access was encountered")
                image = image * torch.nan
            return image, alpha, info

        return draw


def train(
    of: SplatScene,
    folder: Path,
    progress: Progress,
    how: Recipe | None = None,
    rasterizer: Any = plain,
    patience: float = PATIENCE,
    places: tuple[Place, ...] = PLACES,
    **changes: Any,
) -> None:
    """Train a scene on two CPUs, four pictures a step."""
    with pictures_kept(of) as (without, images):
        task = Task(
            places=places,
            scene=without,
            images=images,
            recipe=how or recipe(batch=4),
            cap=10_000,
            seed=0,
            heldout_every=changes.pop("heldout_every", None),
            stop_psnr=changes.pop("stop_psnr", None),
            folder=folder,
            rasterizer=rasterizer,
            operations=operations_for,
            patience=patience,
        )
        train_together(task, progress)
