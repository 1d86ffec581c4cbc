"""A process of a training on several GPUs: a member of the team (:mod:`worldexplorer.models.splatting.team`).

It trains from the checkpoint that there is to the end; the first member writes checkpoints and says how far it is. The
result is the last checkpoint. Members find each other through a file that the parent names, and end with the parent.

Example:
    >>> context.Process(target=serve, args=(0, task, folder / "rendezvous", pipe_end))
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from torch import distributed

from worldexplorer.engine import SplatScene
from worldexplorer.models.gpu_processes import Line, Told, failed, forward_log
from worldexplorer.models.splatting.memory import memory_named
from worldexplorer.models.splatting.operations import Operations
from worldexplorer.models.splatting.rasterizer import Rasterizer
from worldexplorer.models.splatting.recipe import Recipe
from worldexplorer.models.splatting.team import Together
from worldexplorer.models.splatting.training import Training
from worldexplorer.processes import end_with_parent
from worldexplorer.progress import silent


@dataclass(frozen=True)
class Place:
    """Where a member trains.

    Attributes:
        device: of torch.
        name: what errors call it.
    """

    device: str
    name: str


@dataclass(frozen=True)
class Task:
    """What every member is told; crosses the process border.

    Attributes:
        places: of the members, the first first.
        scene: what to train on, without its pictures.
        images: file with these, [N, H, W, 3] uint8 as numpy writes it.
        recipe: how to train.
        cap: most Gaussians.
        seed: of everything random.
        heldout_every: keep every n-th view out of training.
        stop_psnr: end as soon as these come out at so many dB.
        folder: of the checkpoint.
        rasterizer: makes what draws.
        operations: makes loss, optimiser and noise for a device.
        patience: seconds that members wait for one another.
    """

    places: tuple[Place, ...]
    scene: SplatScene
    images: Path
    recipe: Recipe
    cap: int
    seed: int
    heldout_every: int | None
    stop_psnr: float | None
    folder: Path
    rasterizer: Callable[[], Rasterizer]
    operations: Callable[[torch.device], Operations]
    patience: float


@dataclass(frozen=True)
class Done:
    """The training is at its end."""


def serve(rank: int, task: Task, rendezvous: Path, connection: Connection) -> None:
    """The life of the process.

    Args:
        rank: which member it is.
        task: what the team does.
        rendezvous: file of these members alone, which the first of them to come makes.
        connection: to the parent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to handle
    end_with_parent()
    line, name = Line(connection), task.places[rank].name
    forward_log(name, line, logging.INFO if rank == 0 else logging.WARNING)  # what all would say one says
    try:
        with memory_named(task.cap), _joined(rank, task, rendezvous) as team:
            _train(task, team, torch.device(task.places[rank].device), line)
    except Exception as error:  # noqa: BLE001 (whatever it is, the parent raises it)
        line.send(failed(name, error, ends=True))
    else:
        line.send(Done())
    # What NCCL keeps may hang when it is taken down beside a member that failed; the system takes all back at once.
    connection.close()
    os._exit(0)


def _train(task: Task, team: Together, device: torch.device, line: Line) -> None:
    images = np.load(task.images, mmap_mode="c")  # the members' pages are one and the same
    training = Training(
        replace(task.scene, train=replace(task.scene.train, images=images)),
        task.recipe,
        cap=task.cap,
        seed=task.seed,
        device=device,
        rasterize=task.rasterizer(),
        operations=task.operations(device),
        heldout_every=task.heldout_every,
        stop_psnr=task.stop_psnr,
        team=team,
    )
    training.resume(task.folder)
    team.require_equal(training.image, "images behind it")

    def tell(done: int, total: int, what: str) -> None:
        line.send(Told(done, total, what))

    training.run(task.folder, tell if team.first else silent)
    team.require_equal(training.image, "images behind it")  # nobody goes while another needs it


@contextmanager
def _joined(rank: int, task: Task, rendezvous: Path) -> Iterator[Together]:
    """The team, when all members have come."""
    size, device = len(task.places), torch.device(task.places[rank].device)
    patience = timedelta(seconds=task.patience)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # what Triton and gsplat start their kernels on
    # NCCL reads its settings from the environment, which members inherit: where NVLink's multicast makes trouble,
    # NCCL_NVLS_ENABLE=0 leaves it out.
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=distributed.FileStore(str(rendezvous), size),  # torch's other one listens on every interface
        rank=rank,
        world_size=size,
        timeout=patience,
        device_id=device if device.type == "cuda" else None,
    )
    yield Together(rank, size, device)
    distributed.destroy_process_group()
