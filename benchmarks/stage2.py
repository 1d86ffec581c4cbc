"""What stage 2's samplings cost on this GPU: trajectories by the program's own code, SEVA with random weights.

Makes the first three trajectories of a scene, the third cut by an obstacle: 30 of 303 samplings, with their memory,
collision rule, files and films; depth is a stub. Prints seconds a sampling, minutes for a whole scene, and the share of
time that the GPU is busy, by its own clock and by the driver's; then rows of what makes it faster and changes frames.
Where time on the GPU is short, `--steps 10` makes the 30 with fewer steps, which is harder on the share, and four with
all of them, which the minutes are reckoned from.

Example:
    python benchmarks/stage2.py --json stage2.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pan import random_seva

from worldexplorer.engine import PUBLISHED_STEPS, Images, NovelViewRequest, Views, World
from worldexplorer.geometry.cameras import normalised_intrinsics
from worldexplorer.models.engine import FullEngine
from worldexplorer.models.seva import model as seva_model
from worldexplorer.models.seva.model import SevaModel
from worldexplorer.progress import Progress, silent
from worldexplorer.scaffold.poses import scaffold_poses
from worldexplorer.trajectory.films import write_walk
from worldexplorer.trajectory.generate import ShotGenerator, planned_samplings
from worldexplorer.trajectory.paths import published_trajectories
from worldexplorer.trajectory.scene_work import SceneWork
from worldexplorer.trajectory.walks import Walk, scene_walks
from worldexplorer.trajectory.writing import BackgroundWriter

_ORDER = ("in", "left", "right", "up")
_CUT = {"000_right": 11}
"""Anchors that are left of a trajectory, by its folder."""
_SHORT_CUT = {"000_left": 3}
_POLL_SECONDS = 0.25
_FEW_STEPS = 2


@dataclass
class BusyTime:
    """Adds up how long the GPU works on what is wrapped, by events on its own clock; on a CPU by the wall clock."""

    device: torch.device
    spans: list[Any] = field(default_factory=list)

    def wrapped(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same, timed."""

        def timed(*arguments: Any, **options: Any) -> Any:
            start = self._now()
            result = work(*arguments, **options)
            self.spans.append((start, self._now()))
            return result

        return timed

    def seconds(self) -> float:
        """So far; the GPU has finished."""
        if self.device.type != "cuda":
            return float(sum(end - start for start, end in self.spans))
        torch.cuda.synchronize(self.device)
        return float(sum(start.elapsed_time(end) for start, end in self.spans)) / 1000

    def _now(self) -> Any:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


class StubDepth:
    """A wall five metres away, and one within reach where a trajectory is to be cut."""

    def __init__(self, cuts: Mapping[str, int], walks: Sequence[Walk]) -> None:
        self._cuts = cuts
        self._coming = [walk.folder for walk in walks]

    def depth(self, views: Views, world: World | None, translation_scaling_factor: float) -> np.ndarray:
        """[N, 8, 8] metres; trajectories come in order."""
        depth = np.full((len(views.images), 8, 8), 5.0, dtype=np.float32)
        depth[self._cuts.get(self._coming.pop(0), len(depth)) :] = 0.1
        return depth


class OneModel(FullEngine):
    """The full engine with a SEVA that is there already, noting when each sampling was made."""

    def __init__(self, model: SevaModel | AnswersAtOnce, size: int, depth: StubDepth) -> None:
        super().__init__()
        self.image_size = size
        self.made: list[float] = []
        self._model = model
        self._depth = depth

    def novel_views(self) -> Any:
        """See Engine."""
        return self

    def depth(self, scene_type: str | None = None) -> Any:
        """See Engine."""
        return self._depth

    def sample(self, requests: Sequence[NovelViewRequest], progress: Progress) -> list[Images]:
        """See NovelViewModel."""
        return [frames for _, frames in self.sample_each(requests, progress)]

    def sample_each(self, requests: Sequence[NovelViewRequest], progress: Progress) -> Iterator[tuple[int, Images]]:
        """See NovelViewModel."""
        for number, frames in self._model.sample_each(requests, progress):
            self.made.append(time.perf_counter())
            yield number, frames


class AnswersAtOnce:
    """In SEVA's place: what is left is the stage's own work."""

    def __init__(self, size: int) -> None:
        self._noise = np.random.default_rng(1).integers(0, 256, (32, size, size, 3), dtype=np.uint8)

    def sample_each(self, requests: Sequence[NovelViewRequest], progress: Progress) -> Iterator[tuple[int, Images]]:
        """See NovelViewModel."""
        for number, request in enumerate(requests):
            frames = request.images.copy()
            frames[~request.given] = self._noise[: int((~request.given).sum())]
            yield number, frames


def stage_alone(size: int) -> dict[str, Any]:
    """The same 30 samplings without a network: processor time of the thread that samples, and of all."""
    walks = scene_walks(scaffold_poses(), published_trajectories(), _ORDER, None)[:3]
    engine = OneModel(AnswersAtOnce(size), size, StubDepth(_CUT, walks))
    pictures = np.random.default_rng(0).integers(0, 256, (8, size, size, 3), dtype=np.uint8)
    scaffold = Views(pictures, scaffold_poses(), np.tile(normalised_intrinsics(), (8, 1, 1)))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "scene").mkdir()
        with BackgroundWriter() as writer:
            shared = SceneWork(engine, scaffold, None, 3.0, None, 0.4, 0, Path(folder) / "work", writer)
            generator = ShotGenerator(shared, Path(folder) / "scene", write_walk)
            thread, process, films = time.thread_time(), time.process_time(), _children_seconds()
            generator.second_passes(walks, generator.first_passes(walks, silent), silent)
            thread = time.thread_time() - thread
            writer.wait()
            process = time.process_time() - process
            films = _children_seconds() - films
    count = len(engine.made)
    return {
        "samplings": count,
        "CPU s a sampling, of the thread that samples": round(thread / count, 4),
        "of all threads": round(process / count, 4),
        "of the films' encoder": round(films / count, 4),
    }


def _children_seconds() -> float:
    spent = os.times()
    return spent.children_user + spent.children_system


class Bench:
    """Parts of a scene with one loaded model.

    Args:
        model: SEVA.
        size: of the views, pixels.
        steps: of a sampling; None for the published ones.
    """

    def __init__(self, model: SevaModel, size: int, steps: int | None) -> None:
        self._model = model
        self._size = size
        self._plain = replace(model.settings, steps=steps)
        pictures = np.random.default_rng(0).integers(0, 256, (8, size, size, 3), dtype=np.uint8)
        self._scaffold = Views(pictures, scaffold_poses(), np.tile(normalised_intrinsics(), (8, 1, 1)))

    def warm_up(self) -> float:
        """Seconds of the first sampling, of two steps: kernels are compiled and steps recorded then."""
        start = time.perf_counter()
        self.measure(self._walks("in")[:1], {"000_in": 2}, steps=_FEW_STEPS)
        return time.perf_counter() - start

    def published(self) -> dict[str, Any]:
        """The first three trajectories, the published way."""
        return self.measure(self._walks(*_ORDER)[:3], _CUT)

    def all_steps(self) -> dict[str, Any]:
        """One trajectory with all steps, where the others are made with fewer."""
        return self.measure(self._walks("in")[:1], {}, steps=None)

    def few_steps(self) -> dict[str, Any]:
        """One trajectory with half of the steps, of second order."""
        return self.measure(self._walks("in")[:1], {}, steps=PUBLISHED_STEPS // 2, multistep=True)

    def shorter_chunks(self) -> dict[str, Any]:
        """The beginning of a long trajectory, whose second pass is filled to two thirds, without padding."""
        return self.measure(self._walks("left")[:1], _SHORT_CUT, steps=None, shorter_chunks=True)

    def measure(self, walks: Sequence[Walk], cuts: Mapping[str, int], **settings: Any) -> dict[str, Any]:
        """Make trajectories and say what it took."""
        model = self._model
        model.settings = replace(self._plain, **settings)
        engine = OneModel(model, self._size, StubDepth(cuts, walks))
        with tempfile.TemporaryDirectory() as folder, _watched(model) as busy, _driver_says(model.device) as driver:
            scene, work = Path(folder) / "scene", Path(folder) / "work"
            scene.mkdir()
            start = time.perf_counter()
            with BackgroundWriter() as writer:
                shared = SceneWork(engine, self._scaffold, None, 3.0, None, 0.4, 0, work, writer)
                generator = ShotGenerator(shared, scene, write_walk)
                verdicts = generator.first_passes(walks, silent)
                between = time.perf_counter()
                first = len(engine.made)
                shots = generator.second_passes(walks, verdicts, silent)
                sampled = time.perf_counter()
            end = time.perf_counter()
            frames = sum(map(len, shots))
        second = len(engine.made) - first
        return {
            "samplings": [first, second],
            "frames": frames,
            "s a sampling, first passes": round((between - start) / first, 3),
            "s a sampling, second passes": round((sampled - between) / max(1, second), 3),
            "s in all": round(sampled - start, 2),
            "s of writing after the last sampling": round(end - sampled, 2),
            "GPU busy, of the time": round(busy.seconds() / (sampled - start), 4),
            "GPU busy, by the driver": round(statistics.mean(driver) / 100, 4) if driver else None,
            "longest wait between samplings' ends, s": round(float(np.diff([start, *engine.made]).max()), 2),
        }

    @staticmethod
    def _walks(*order: str) -> list[Walk]:
        return scene_walks(scaffold_poses(), published_trajectories(), order, None)


@contextmanager
def _watched(model: SevaModel) -> Iterator[BusyTime]:
    """The time that encoding, denoising and decoding take."""
    busy = BusyTime(model.device)
    places = [(seva_model, "sample"), (model._codec, "encode"), (model._codec, "decode"), (model._tower, "embed")]
    before = [getattr(place, name) for place, name in places]
    for (place, name), work in zip(places, before, strict=True):
        setattr(place, name, busy.wrapped(work))
    try:
        yield busy
    finally:
        for (place, name), work in zip(places, before, strict=True):
            setattr(place, name, work)


@contextmanager
def _driver_says(device: torch.device) -> Iterator[list[int]]:
    """The driver's own percentages, a few a second; none without a GPU or its package."""
    found: list[int] = []
    over = threading.Event()

    def poll() -> None:
        with suppress(ModuleNotFoundError, RuntimeError):
            while not over.wait(_POLL_SECONDS):
                found.append(torch.cuda.utilization(device))

    thread = threading.Thread(target=poll)
    if device.type == "cuda":
        thread.start()
    try:
        yield found
    finally:
        over.set()
        if device.type == "cuda":
            thread.join()


def scene_minutes(first_seconds: float, second_seconds: float, anchors: int | None = None) -> dict[str, Any]:
    """A whole scene in which nothing is in the way."""
    walks = scene_walks(scaffold_poses(), published_trajectories(), _ORDER, None, anchors)
    first, second = planned_samplings(walks, FullEngine.defaults.sampling_frames)
    minutes = (first * first_seconds + second * second_seconds) / 60
    return {"samplings of a scene": [first, second], "minutes of a scene": round(minutes, 2)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, help="of the first three trajectories; one more is then made with all")
    parser.add_argument("--rows", nargs="*", default=["steps", "chunks"], choices=["steps", "chunks"])
    parser.add_argument("--size", type=int, default=576)
    parser.add_argument("--no_model", action="store_true", help="only what the stage itself costs, on any machine")
    parser.add_argument("--tiny", action="store_true", help="a tiny network on the CPU: whether this script works")
    parser.add_argument("--json", type=Path, help="write the figures here too, after each row")
    arguments = parser.parse_args()
    if arguments.no_model:
        print("the stage alone", json.dumps(stage_alone(arguments.size)))
        return
    torch.manual_seed(0)
    device = torch.device("cpu" if arguments.tiny else "cuda")
    rows: dict[str, Any] = {
        "device": "CPU" if arguments.tiny else torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "pixels": arguments.size,
    }

    def tell(name: str, row: dict[str, Any]) -> None:
        rows[name] = row
        print(name, json.dumps(row), flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(rows, indent=1))

    start = time.perf_counter()
    with random_seva(device, tiny=arguments.tiny) as model:
        bench = Bench(model, arguments.size, arguments.steps)
        loaded = time.perf_counter()
        tell("before", {"s to load": round(loaded - start, 1), "s to warm up": round(bench.warm_up(), 1)})
        row = bench.published()
        tell("the first three trajectories", row)
        if arguments.steps is not None:
            row = bench.all_steps()
            tell(f"one trajectory with {PUBLISHED_STEPS} steps", row)
        first, second = row["s a sampling, first passes"], row["s a sampling, second passes"]
        tell("a scene, the published way", scene_minutes(first, second))
        tell("with --anchors 9", scene_minutes(first, second, 9))
        if "steps" in arguments.rows:
            row = bench.few_steps()
            fewer = row["s a sampling, first passes"], row["s a sampling, second passes"]
            tell("half of the steps, multistep", row | scene_minutes(*fewer))
            tell("the same with --anchors 9", scene_minutes(*fewer, 9))
        if "chunks" in arguments.rows:
            row = bench.shorter_chunks()
            # Of 240 second-pass samplings 192 are of the long trajectories; the others are full in any case.
            mixed = (192 * row["s a sampling, second passes"] + 48 * second) / 240
            tell("shorter chunks", row | scene_minutes(first, mixed))


if __name__ == "__main__":
    main()
