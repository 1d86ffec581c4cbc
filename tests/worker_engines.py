"""Engines that worker processes load, by name, and that do to their process what a test asks for.

What that is stands in files of the data set's folder, because nothing else reaches a worker.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

from builders import SmallEngine

from worldexplorer import extras
from worldexplorer.config import RunConfig


class ObedientEngine(SmallEngine):
    """Obeys `kill-in-training` and `fail-in-training`, once, and `sleep-in-training`.

    Its process's number is in `pid`, and those of every training in `pids`.
    """

    def __init__(self, data: Path) -> None:
        super().__init__()
        self._data = data

    def train(self, *arguments: Any) -> Any:
        logging.getLogger("worldexplorer.test").warning("training with hf_%s", "0123456789abcdef")
        (self._data / "pid").write_text(str(os.getpid()))
        with (self._data / "pids").open("a") as file:
            file.write(f"{os.getpid()}\n")
        order = self._data / "kill-in-training"
        if order.exists():
            order.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        order = self._data / "fail-in-training"
        if order.exists():
            order.unlink()
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if (self._data / "sleep-in-training").exists():
            time.sleep(600)
        return super().train(*arguments)


def obedient(run: RunConfig) -> ObedientEngine:
    return ObedientEngine(Path(run.batch.dataset_dir))


def dies_while_drawing(_run: RunConfig) -> SmallEngine:
    """The process goes when everything is committed and the contact sheet is drawn."""

    def draw(*arguments: Any) -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        return b""

    if _in_worker():
        extras._draw_sheet = draw
    return SmallEngine()


def cannot_be_loaded(_run: RunConfig) -> SmallEngine:
    """The process ends before it takes its first job."""
    if _in_worker():
        raise RuntimeError("no such device")
    return SmallEngine()


def has_a_process_of_its_own(run: RunConfig) -> SmallEngine:
    """Leaves in a file of the data set which GPUs a process of the worker sees, and how many it was told to use."""
    if _in_worker():
        folder = Path(run.batch.dataset_dir) / "gpus"
        process = multiprocessing.get_context("spawn").Process(target=_write_gpus, args=(folder, run.batch.gpus))
        process.start()
        process.join()
    return SmallEngine()


def _write_gpus(folder: Path, told: int | None) -> None:
    folder.mkdir(exist_ok=True)
    (folder / str(os.getppid())).write_text(f"{os.environ['CUDA_VISIBLE_DEVICES']} {told}")


def _in_worker() -> bool:
    return multiprocessing.current_process().name == "worldexplorer-worker"
