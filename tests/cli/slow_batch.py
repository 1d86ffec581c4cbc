"""`worldexplorer batch` on the tiny engine, held up at a moment: `slow_batch.py MOMENT REACHED WORDS...`.

When the moment comes (`sampling`: a worker is inside a model; `summary`: the parent writes the summary), the file
REACHED appears and the program takes its time.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

from tiny_engine import TinyEngine

import worldexplorer.batch
import worldexplorer.cli.batch
from worldexplorer.batch import prepare_batch
from worldexplorer.cli import main

SECONDS = 1.0


class HeldUpEngine(TinyEngine):
    def __init__(self, reached: Path) -> None:
        super().__init__()
        self._reached = reached

    def sample(self, requests, progress):
        self._reached.touch()
        time.sleep(600)
        return super().sample(requests, progress)


def load_held_up(batch, reached):
    return HeldUpEngine(reached)


def load_tiny(batch):
    return TinyEngine()


def hold_up_the_summary(reached):
    write = worldexplorer.batch.write_summary

    def slow(*arguments, **settings):
        reached.touch()
        time.sleep(SECONDS)
        return write(*arguments, **settings)

    worldexplorer.batch.write_summary = slow


if __name__ == "__main__":
    moment, reached, *words = sys.argv[1:]
    load = load_tiny
    if moment == "sampling":
        load = partial(load_held_up, reached=Path(reached))
    else:
        hold_up_the_summary(Path(reached))
    worldexplorer.cli.batch.prepare_batch = partial(prepare_batch, load=load)
    sys.exit(main(["batch", *words]))
