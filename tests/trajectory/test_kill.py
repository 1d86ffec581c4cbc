"""Stage 2 is killed at random points, in real processes, and run again: the end is that of an undisturbed run."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import (
    Workbench,
    canonical_tree,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
)
from tiny_engine import TinyEngine

from worldexplorer import pictures
from worldexplorer.engine import StageDefaults
from worldexplorer.progress import silent

pytestmark = pytest.mark.slow
pytest.importorskip("imageio_ffmpeg")

SCENES = 5
KILLS_A_SCENE = 4
SETTINGS = {"trajectory_order": ("in", "up"), "translation_scaling_factor": 3.0}


class TellTaleEngine(TinyEngine):
    """Trajectories of full length, 21 frames a sampling; a frame shows what it was made from, and with which seed."""

    defaults = StageDefaults(8, None, 64, 2, sampling_frames=21)

    def sample(self, requests: Any, progress: Any) -> Any:
        (request,) = requests
        (frames,) = super().sample(requests, progress)
        found = hashlib.sha256(repr((request.seed, request.cfg, request.given.tobytes())).encode())
        found.update(request.images[request.given].tobytes())
        found.update(request.c2w.tobytes())
        trace = np.frombuffer(found.digest(), dtype=np.uint8)
        made = frames[~request.given]
        made[:, : len(trace) // 16, :, 0] = trace.reshape(-1, 16)
        frames[~request.given] = made
        return [frames]


class Moments:
    """Counts what a run does, and may end the process at one of these moments.

    Args:
        last: the number of the moment at which the process is killed; None lets it live.
    """

    def __init__(self, last: int | None = None) -> None:
        self.count = 0
        self._last = last
        self._lock = threading.Lock()

    def pass_by(self, on_death: Callable[[], Any] = lambda: None) -> None:
        with self._lock:
            self.count += 1
            if self.count == self._last:
                on_death()
                os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        """At every sampling, every picture (half written, too), and every file of the stage that gets its name."""
        sample, write, replace = TellTaleEngine.sample, pictures.write_picture, Path.replace

        def sampling(engine: Any, requests: Any, progress: Any) -> Any:
            self.pass_by()
            made = sample(engine, requests, progress)
            self.pass_by()
            return made

        def writing(path: Path, picture: Any) -> None:
            self.pass_by(lambda: path.write_bytes(b"\x89PNG half a picture"))
            write(path, picture)

        def naming(path: Path, target: Any) -> Any:
            in_stage = ".attempts" in path.parts and "records" not in path.parts
            if in_stage:
                self.pass_by()
            named = replace(path, target)
            if in_stage:
                self.pass_by()
            return named

        patch.setattr(TellTaleEngine, "sample", sampling)
        patch.setattr(pictures, "write_picture", writing)
        patch.setattr(Path, "replace", naming)


def run(folder: Path, moments: Moments) -> None:
    bench = Workbench(folder)
    with pytest.MonkeyPatch.context() as patch:
        moments.watch(patch)
        runner = bench.runner(bench.config(**SETTINGS), engine=TellTaleEngine(), run_id="20260101T000000Z-00000000")
        runner.run(bench.job(), "trajectory", silent)


def killed(folder: Path, moment: int) -> bool:
    """Run in a process of its own that is killed at a moment; whether it lived to see that."""
    child = os.fork()
    if child == 0:
        try:
            run(folder, Moments(moment))
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def test_killed_at_random_points(tmp_path: Path) -> None:
    bench = Workbench(tmp_path / "start")
    bench.runner(bench.config(**SETTINGS), engine=TellTaleEngine()).run(bench.job(), "scaffold", silent)
    shutil.copytree(tmp_path / "start", tmp_path / "whole")
    moments = Moments()
    run(tmp_path / "whole", moments)
    expected = canonical_tree(Workbench(tmp_path / "whole").output)
    assert sum(name.endswith("/walk.mp4") for name in expected) == 16
    generator = np.random.default_rng(0)
    kills = 0
    for scene in range(SCENES):
        folder = tmp_path / f"scene {scene}"
        shutil.copytree(tmp_path / "start", folder)
        places = sorted(generator.choice(np.arange(1, moments.count), KILLS_A_SCENE, replace=False).tolist())
        if not scene:
            places[-1] = moments.count - 1  # what comes after the last frame is shorter than what comes before
        # A resumed run has at least as many moments before it as the killed one had left.
        for moment in np.diff(places, prepend=0).tolist():
            kills += killed(folder, moment)
        run(folder, Moments())
        found = canonical_tree(Workbench(folder).output)
        assert found.keys() == expected.keys(), (scene, places)
        assert [name for name in found if found[name] != expected[name]] == [], (scene, places)
        assert Workbench(folder).leftovers() == []
        shutil.rmtree(folder)
    assert kills == SCENES * KILLS_A_SCENE
