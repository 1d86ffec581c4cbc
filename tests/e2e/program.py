"""The real command on the preview engine, in a process of its own, and pictures to give it.

program = Program(folder)                         # output in folder/out, run from `folder`
done = program.run("--dataset_dir", data)         # waits; done.code, done.events, done.errors
running = program.start("--dataset_dir", data)    # does not wait; running.wait_for(condition)
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "run_batch_pipeline.py"
QUICK = ("--engine", "preview", "--preset", "smoke", "--num_seva_frames", "8", "--log_format", "json")
PHOTO_SIZE = (120, 80)
_PATIENCE_SECONDS = 300.0


@dataclass(frozen=True)
class Done:
    """How a command ended and what it said."""

    code: int
    shown: str
    errors: str

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.shown.splitlines()]

    def of_kind(self, kind: str, **facts: Any) -> list[dict[str, Any]]:
        """The events of a kind with these values."""
        return [
            event
            for event in self.events
            if event["event"] == kind and all(event[name] == value for name, value in facts.items())
        ]


class Running:
    """A command at work in a process group of its own, as a shell starts it."""

    def __init__(self, words: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        self._stdout, self._stderr = folder / "stdout.txt", folder / "stderr.txt"
        with self._stdout.open("w") as stdout, self._stderr.open("w") as stderr:
            self.process = subprocess.Popen(
                words, cwd=folder, env=dict(environment), stdout=stdout, stderr=stderr, start_new_session=True
            )

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Until it holds; the command must not have ended before."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not condition():
            assert self.process.poll() is None, f"it ended too soon: {self.so_far().errors}"
            assert time.monotonic() < deadline, self.so_far().shown[-2000:]
            time.sleep(0.02)

    def so_far(self) -> Done:
        """What it has said, whole lines only."""
        shown = self._stdout.read_text()
        return Done(0, shown[: shown.rfind("\n") + 1], self._stderr.read_text())

    def has_said(self, *parts: str) -> bool:
        """Whether some line holds all the parts."""
        return any(all(part in line for part in parts) for line in self.so_far().shown.splitlines())

    def family(self) -> list[psutil.Process]:
        """The command's process and all below it."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def kill_group(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def interrupt(self) -> Done:
        """Ctrl-C: a terminal sends it to every process of the group."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.end()

    def end(self) -> Done:
        code = self.process.wait(_PATIENCE_SECONDS)
        return Done(code, self._stdout.read_text(), self._stderr.read_text())


class Program:
    """The command with its output in `folder/out`, always run from `folder` so that no path of the machine is kept."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.output = folder / "out"

    def start(self, *words: object, **environment: str) -> Running:
        command = [sys.executable, str(SCRIPT), "--output_base", "out", *QUICK, *map(str, words)]
        return Running(command, self.folder, {**os.environ, "PYTHONPATH": str(ROOT), **environment})

    def run(self, *words: object, **environment: str) -> Done:
        running = self.start(*words, **environment)
        try:
            return running.end()
        finally:
            if running.process.poll() is None:
                running.kill_group()

    def succeed(self, *words: object, **environment: str) -> Done:
        done = self.run(*words, **environment)
        assert done.code == 0, done.errors + done.shown[-3000:]
        return done

    def job(self, path: str = "", index: int = 0, variant: str = "photorealistic") -> Path:
        return self.output / variant / f"index_{index:04d}" / path

    def record(self, stage: str, index: int = 0, variant: str = "photorealistic") -> dict[str, Any]:
        return read_json(self.job(f"records/{stage}.json", index, variant))

    def scene(self, index: int = 0, scale: float = 10.0, variant: str = "photorealistic") -> Path:
        return self.job(f"scenes/index_{index:04d}_{scale}/img2trajvid", index, variant)

    def summary(self) -> dict[str, Any]:
        return read_json(self.output / "batch_summary.json")

    def result(self, index: int = 0, variant: str = "photorealistic") -> dict[str, Any]:
        (found,) = [one for one in self.summary()["results"] if (one["index"], one["variant"]) == (index, variant)]
        return found


def read_json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def files_below(folder: Path) -> Iterator[str]:
    """Every file, as a path relative to the folder, in order."""
    return (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if not path.is_dir())


def landscape(seed: int, width: int = PHOTO_SIZE[0], height: int = PHOTO_SIZE[1]) -> NDArray[np.uint8]:
    """A photo of a plain under a sky with a few houses far away, another one for each seed: [height, width, 3]."""
    chance = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width].astype(float)
    down = rows / height
    photo = np.where(
        (down < 0.55)[..., None],
        np.stack([110 + 120 * down, 150 + 90 * down, 215 + 30 * down], axis=-1),
        np.stack([95 + 40 * down, 105 + 60 * down, 60 + 20 * down], axis=-1),
    )
    stripes = np.sin(columns / 5.0 + seed) * np.cos(rows * rows / 300.0)
    photo += np.where(down < 0.55, 0.0, 18.0 * stripes)[..., None]
    for _ in range(4):
        left, wide, tall = chance.integers(0, width - 12), chance.integers(6, 14), chance.integers(4, 12)
        base = int(0.57 * height)
        photo[base - tall : base, left : left + wide] = chance.integers(60, 220, size=3)
    return np.clip(photo, 0, 255).astype(np.uint8)


def save_landscape(path: Path, seed: int, **size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(landscape(seed, **size)).save(path)


def write_dataset(folder: Path, samples: list[dict[str, Any]]) -> Path:
    """Write metadata.json; outdoor samples, unless they say otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = [{"scene_type": "outdoor", **sample} for sample in samples]
    (folder / "metadata.json").write_text(json.dumps({"samples": entries}))
    return folder


def photo_dataset(folder: Path, count: int, **more: Any) -> Path:
    """A data set of landscapes, one for each sample."""
    for index in range(count):
        save_landscape(folder / f"photorealistic/{index}.png", index)
    samples = [
        {"index": index, "photorealistic": {"original_path": f"photorealistic/{index}.png"}, **more}
        for index in range(count)
    ]
    return write_dataset(folder, samples)
