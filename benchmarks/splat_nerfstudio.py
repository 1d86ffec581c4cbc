"""How fast the nerfstudio trainer is on this GPU, and how good its worlds are: the scene of benchmarks/splat_scene.py.

The counterpart of benchmarks/splat.py, with the same columns: nerfstudio's published call in a process of its own,
looked at from outside. Seconds count from its first step, checkpoints included; the launch stands apart. Checkpoints
near the milestones are put aside and drawn afterwards, by the same renderer and at the same held-out views as those of
the other trainer. Needs an environment with nerfstudio 50e0e3c (see docs), or WORLDEXPLORER_NERFSTUDIO_PYTHON.

A run longer than one sitting is done in several: `--until 15000`, then the same command with `--until 30000`.

Example:
    python benchmarks/splat_scene.py /data/scene
    python benchmarks/splat_nerfstudio.py /data/scene --run-data /data/nerfstudio --until 7000 --json nerfstudio.json
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from splat import MILESTONES, table
from splat_scene import load_scene

from worldexplorer.engine import Views
from worldexplorer.models.nerfstudio.checkpoints import CheckpointFile, checkpoint_step, read_gaussians
from worldexplorer.models.nerfstudio.command import STEPS, frame_file, output_folder
from worldexplorer.models.nerfstudio.frame import read_frame, undone
from worldexplorer.models.nerfstudio.output import last_lines, step_of
from worldexplorer.models.nerfstudio.settings import NerfstudioSettings, missing_for_nerfstudio
from worldexplorer.models.nerfstudio.trainer import CHECKPOINT_NAME, LOG_NAME, NerfstudioTrainer
from worldexplorer.models.splatting.measures import fit_of
from worldexplorer.models.splatting.plain_rasterizer import rasterization as plain_rasterization
from worldexplorer.models.splatting.rasterizer import gsplat_rasterizer
from worldexplorer.models.splatting.settings import SplatTraining
from worldexplorer.models.splatting.trainer import GsplatTrainer

CHECKPOINT_INTERVAL = 1000
_TIMED_STEPS = 400
_MEMORY = "GPU Memory (MB)"


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("scene", type=Path)
    parser.add_argument("--run-data", type=Path, required=True, help="kept, and gone on from")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the whole recipe; its schedules shrink with it")
    parser.add_argument("--until", type=int, help="stop after so many steps")
    parser.add_argument("--interval", type=int, default=CHECKPOINT_INTERVAL, help="steps between checkpoints")
    parser.add_argument("--milestones", type=int, nargs="+", default=list(MILESTONES))
    parser.add_argument("--device", default="cuda", help="that draws; nerfstudio itself needs a GPU")
    parser.add_argument("--json", type=Path, help="write the figures here too, and go on from those there")
    arguments = parser.parse_args()
    for sentence in missing_for_nerfstudio():
        parser.error(sentence)
    scene, heldout = load_scene(arguments.scene)
    rasterizer = gsplat_rasterizer if arguments.device == "cuda" else lambda: plain_rasterization
    renderer = GsplatTrainer(SplatTraining(), arguments.device, rasterizer)
    start = time.perf_counter()
    if arguments.device == "cuda":
        gsplat_rasterizer()  # compiled here, where it is not yet, and not in nerfstudio's launch
    settings = NerfstudioSettings(arguments.steps, arguments.until, arguments.interval)
    watch = Watch(arguments.run_data, sorted({min(one, settings.end) for one in arguments.milestones} | {settings.end}))
    figures: dict[str, Any] = {
        "torch": torch.__version__,
        "frames": len(scene.train.images),
        "kernels ready s": round(time.perf_counter() - start, 2),
    }
    if arguments.device == "cuda":
        figures["gpu"] = torch.cuda.get_device_name()
    trainer = NerfstudioTrainer(settings, renderer)
    watch.begin()
    result = trainer.train(replace(scene, folder=arguments.scene), 0, arguments.run_data, watch)
    watch.look()
    before = _before(arguments.json)
    figures |= {"launch s": round(watch.launched, 1), "from": result.log["resumed_at"], "log": result.log}
    figures["rows"] = before + rows(watch, renderer, heldout, float(before[-1]["seconds"]) if before else 0.0)
    console = Console(width=150)
    console.print(table("nerfstudio", figures))
    console.print({name: value for name, value in figures.items() if name not in ("rows", "log")})
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


@dataclass
class Watch:
    """Sees a training go by: when each step was done, and the checkpoints that are to be drawn.

    Attributes:
        run_data: of the training.
        milestones: numbers of steps; the first checkpoint from each on is put aside.
        launched: seconds from the beginning to the first step.
        times: steps done and the seconds since the first, as often as they were told.
        aside: the checkpoints, by the milestone they belong to.
    """

    run_data: Path
    milestones: list[int]
    launched: float = 0.0
    times: list[tuple[int, float]] = field(default_factory=list)
    aside: dict[int, CheckpointFile] = field(default_factory=dict)
    _started: float = 0.0
    _seen: int = 0

    def begin(self) -> None:
        """Now."""
        kept = self.run_data / CHECKPOINT_NAME
        self._seen = kept.stat().st_mtime_ns if kept.exists() else 0
        first = (checkpoint_step(kept) or 0) + 1
        self.milestones = [one for one in self.milestones if one > first]
        self._started = time.perf_counter()

    def __call__(self, done: int, total: int, what: str) -> None:
        """See Progress; NerfstudioTrainer counts in thousandths, the log has the steps."""
        if what != "training":
            return
        now = time.perf_counter() - self._started
        if not self.times:
            self.launched = now
        steps = _steps_in(self.run_data)
        if not self.times or steps > self.times[-1][0]:
            self.times.append((steps, now - self.launched))
        self.look()

    def look(self) -> None:
        """Put a new checkpoint aside where it is the first from a milestone on."""
        kept = self.run_data / CHECKPOINT_NAME
        if not kept.exists() or kept.stat().st_mtime_ns == self._seen:
            return
        self._seen = kept.stat().st_mtime_ns
        step = checkpoint_step(kept)
        assert step is not None, "the trainer moves whole ones there"
        due = [one for one in self.milestones if one not in self.aside and one <= step + 1]
        if due:
            folder = self.run_data / "milestones"
            folder.mkdir(exist_ok=True)
            self.milestones = [one for one in self.milestones if one > due[-1]]
            self.aside[due[-1]] = CheckpointFile(step, Path(shutil.copy(kept, folder / f"{step}.ckpt")))

    def seconds(self, steps: int) -> float:
        """When so many steps were done."""
        done, seconds = np.array(self.times).T
        return float(np.interp(steps, done, seconds))


def rows(watch: Watch, renderer: GsplatTrainer, heldout: Views, seconds: float) -> list[dict[str, Any]]:
    """One row for each checkpoint that was put aside; removes it."""
    memory = _memory(watch.run_data)
    frame = read_frame(frame_file(watch.run_data))
    found = []
    for checkpoint in watch.aside.values():
        exported = read_gaussians(checkpoint.path)
        gaussians = undone(exported.gaussians, frame)
        size = heldout.images.shape[1]
        pictures = renderer.render(gaussians, heldout.c2w, heldout.intrinsics, size)
        fit = fit_of((torch.from_numpy(picture).float() / 255.0 for picture in pictures), heldout.images)
        steps = checkpoint.step + 1
        begin = max(steps - _TIMED_STEPS, watch.times[0][0])
        pace = 1000 * (watch.seconds(steps) - watch.seconds(begin)) / max(steps - begin, 1)
        peak = max((value for step, value in memory if step < steps), default=0.0)
        found.append(
            {
                "images": steps,
                "seconds": round(seconds + watch.seconds(steps), 2),
                "ms a step": round(pace, 2),
                "ms an image": round(pace, 2),
                "PSNR": round(fit.psnr, 3),
                "SSIM": round(fit.ssim, 5),
                "Gaussians": gaussians.count + exported.transparent,
                "peak GiB": round(peak / 1024, 2),
            }
        )
        print("nerfstudio", found[-1], flush=True)
        checkpoint.path.unlink()
    return found


def _steps_in(run_data: Path) -> int:
    """Steps done, by the last line of the log."""
    steps = [step for line in last_lines(run_data / LOG_NAME) if (step := step_of(line)) is not None]
    return steps[-1] + 1 if steps else 0


def _memory(run_data: Path) -> list[tuple[int, float]]:
    """MB that torch had allocated at most by each step, as nerfstudio's events say."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(output_folder(run_data)), size_guidance={"scalars": 0})
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(_MEMORY)]


def _before(path: Path | None) -> list[dict[str, Any]]:
    """Rows of an earlier part."""
    return list(json.loads(path.read_text())["rows"]) if path and path.exists() else []


if __name__ == "__main__":
    main()
