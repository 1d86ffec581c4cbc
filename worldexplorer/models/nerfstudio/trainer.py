"""The nerfstudio trainer: splatfacto-big as published, in a process of its own.

    RUN DATA/
      training.json                     what is trained; another training's files are removed
      checkpoint.ckpt                   the latest finished checkpoint
      nerfstudio.log                    everything nerfstudio printed, all calls after one another
      nerfstudio/splatfacto/training/   nerfstudio's own files: events for TensorBoard, dataparser_transforms.json
      scene/                            the training views, where they are not on disk already

A resumed training goes on from the last checkpoint, but is not the same as an uninterrupted one to the last digit:
nerfstudio keeps neither the state of its random numbers nor the order of the views.

Example:
    >>> trainer = NerfstudioTrainer(NerfstudioSettings(), renderer=gsplat_trainer)
    >>> result = trainer.train(scene, seed=0, checkpoint=Path("run-data"), progress=silent)
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldexplorer.engine import Images, NotMeasured, Poses, SplatScene, SplatTrainer, TrainingResult, Views
from worldexplorer.errors import DefectError
from worldexplorer.fingerprint import fingerprint
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.geometry.ply import PointCloud, write_points
from worldexplorer.geometry.transforms import POINT_CLOUD_NAME, TRANSFORMS_NAME, Transforms, write_transforms
from worldexplorer.models.nerfstudio import launch
from worldexplorer.models.nerfstudio.checkpoints import (
    CheckpointFile,
    adopt_checkpoint,
    latest_whole,
    read_gaussians,
)
from worldexplorer.models.nerfstudio.command import (
    CAP,
    TrainingRun,
    arguments,
    checkpoint_folder,
    frame_file,
    output_folder,
)
from worldexplorer.models.nerfstudio.frame import read_frame, undone
from worldexplorer.models.nerfstudio.output import failure, step_of
from worldexplorer.models.nerfstudio.process import SILENCE_LIMIT_SECONDS, watch
from worldexplorer.models.nerfstudio.settings import NerfstudioSettings, nerfstudio_python
from worldexplorer.pictures import write_pictures
from worldexplorer.progress import Progress, part

CHECKPOINT_NAME = "checkpoint.ckpt"
LOG_NAME = "nerfstudio.log"
_FACTS = "training.json"
_SCENE = "scene"
_TRAINING_SHARE = 0.99
"""Of the work; the rest is reading the Gaussians."""
_HEARTBEAT_SECONDS = 1.0

_log = logging.getLogger(__name__)


class NerfstudioTrainer:
    """See :class:`worldexplorer.engine.SplatTrainer`.

    Args:
        settings: how to train.
        renderer: draws what was trained, in this process.
        command: what is run, before nerfstudio's own arguments; by default this package's launcher.
        silence_limit: seconds without a word from nerfstudio after which it is stopped.
    """

    def __init__(
        self,
        settings: NerfstudioSettings,
        renderer: SplatTrainer,
        command: Sequence[str] | None = None,
        silence_limit: float = SILENCE_LIMIT_SECONDS,
    ) -> None:
        self._settings, self._renderer = settings, renderer
        self._command = list(command or (nerfstudio_python(), "-P", launch.__file__))
        self._silence_limit = silence_limit

    def train(self, scene: SplatScene, seed: int, checkpoint: Path, progress: Progress) -> TrainingResult:
        """Fit Gaussians to a scene.

        Args:
            scene: views of one size, and the points to start from; each time it was made smaller halves the cap.
            seed: given to nerfstudio.
            checkpoint: folder for the run data; made where it is missing.
            progress: told every ten steps, and every second while there are none; when it raises, nerfstudio is
                stopped, and the training can go on later from the last checkpoint.

        Returns:
            Gaussians in the scene frame, and a log: the recipe, `steps`, `resumed_at`, `gaussians`, `not_finite` and
            `transparent` (both left out).

        Raises:
            OutOfMemoryError: the GPU's or the machine's memory ran out.
            UserError: nerfstudio, gsplat's extension or the GPU is missing.
            InfrastructureError: the disk is full, the process was killed, or it said nothing for too long.
            DefectError: nerfstudio failed in another way, or its result is not what it should be.
        """
        checkpoint.mkdir(parents=True, exist_ok=True)
        cap = max(CAP >> scene.made_smaller, 1)
        _claim(checkpoint, self._basis(scene, seed, cap))
        found = self._resumable(checkpoint)
        resumed_at = found.step + 1 if found else 0
        if found is None or resumed_at < self._settings.end:
            run = TrainingRun(
                scene=_scene_folder(scene, checkpoint),
                run_data=checkpoint,
                seed=seed,
                steps=self._settings.steps,
                until=self._settings.until,
                cap=cap,
                checkpoint_interval=self._settings.checkpoint_interval,
                resume=found.path if found else None,
            )
            found = self._run(run, part(progress, 0.0, _TRAINING_SHARE), resumed_at)
        progress(round(_TRAINING_SHARE * 1000), 1000, "reading Gaussians")
        exported = read_gaussians(found.path)
        gaussians = undone(exported.gaussians, read_frame(frame_file(checkpoint)))
        if exported.not_finite:
            _log.warning("%d Gaussians were not finite and are left out", exported.not_finite)
        log: dict[str, Any] = {
            "trainer": "nerfstudio",
            "recipe": self._settings.described(cap),
            "steps": found.step + 1,
            "resumed_at": resumed_at,
            "gaussians": gaussians.count,
            "not_finite": exported.not_finite,
            "transparent": exported.transparent,
        }
        return TrainingResult(gaussians, log, antialiased=True)

    def render(self, gaussians: Gaussians, c2w: Poses, intrinsics: Poses, size: int) -> Images:
        """See SplatTrainer."""
        return self._renderer.render(gaussians, c2w, intrinsics, size)

    def render_depth(self, gaussians: Gaussians, c2w: Poses, intrinsics: Poses, size: int) -> NDArray[np.float32]:
        """See SplatTrainer."""
        return self._renderer.render_depth(gaussians, c2w, intrinsics, size)

    def contributions(
        self, gaussians: Gaussians, c2w: Poses, intrinsics: Poses, size: int, progress: Progress
    ) -> NDArray[np.float64]:
        """See SplatTrainer."""
        return self._renderer.contributions(gaussians, c2w, intrinsics, size, progress)

    def lpips(self, gaussians: Gaussians, views: Views) -> float | NotMeasured:
        """See SplatTrainer."""
        return self._renderer.lpips(gaussians, views)

    def _run(self, run: TrainingRun, progress: Progress, first: int) -> CheckpointFile:
        """Call nerfstudio; the checkpoint that it ends with."""
        made, log = checkpoint_folder(run.run_data), run.run_data / LOG_NAME
        shutil.rmtree(made, ignore_errors=True)  # what could be used of it is in the run data's own folder by now
        begins = log.stat().st_size if log.exists() else 0
        done, told, kept = first, time.monotonic(), first - 1

        def adopt(reached: int) -> int:
            adopted = adopt_checkpoint(made, run.run_data / CHECKPOINT_NAME, reached)
            return kept if adopted is None else adopted

        def listen(lines: list[str]) -> None:
            nonlocal done, told, kept
            steps = [step for line in lines if (step := step_of(line)) is not None]
            if steps:
                done, kept = steps[-1] + 1, adopt(steps[-1])
            if steps or time.monotonic() - told > _HEARTBEAT_SECONDS:
                told = time.monotonic()
                progress(done, self._settings.end, "training" if done > first else "starting nerfstudio")

        code = watch([*self._command, *arguments(run)], _environment(), log, listen, self._silence_limit)
        if code != 0:
            raise failure(code, log, begins)
        kept = adopt(self._settings.end)
        if kept + 1 != self._settings.end:
            raise DefectError(
                f"nerfstudio's training ended well and left no checkpoint of step {self._settings.end - 1}, "
                f"but {f'one of step {kept}' if kept >= 0 else 'none'}",
                where=str(log),
            )
        return CheckpointFile(kept, run.run_data / CHECKPOINT_NAME)

    def _resumable(self, run_data: Path) -> CheckpointFile | None:
        """The latest whole checkpoint, in its place; what is there and cannot be used is removed."""
        kept = run_data / CHECKPOINT_NAME
        found = None
        if frame_file(run_data).is_file():  # else these are Gaussians of a frame that nobody knows
            found = latest_whole(kept, checkpoint_folder(run_data))
        if found is None:
            if kept.exists():
                _log.warning("the checkpoint %s cannot be used and is removed", kept)
                kept.unlink()
            return None
        found.path.replace(kept)
        _log.info("training goes on after step %d", found.step)
        return CheckpointFile(found.step, kept)

    def _basis(self, scene: SplatScene, seed: int, cap: int) -> dict[str, Any]:
        """What tells this training from others whose run data may lie in the same folder."""
        facts = hashlib.sha256()
        for array in (scene.train.c2w, scene.train.intrinsics, scene.points, scene.colours):
            facts.update(np.ascontiguousarray(array).data)
        return {
            "recipe": self._settings.described(cap),
            "seed": seed,
            "pictures": list(scene.train.images.shape),
            "poses_and_points": facts.hexdigest(),
        }


def _claim(run_data: Path, basis: dict[str, Any]) -> None:
    """Make the folder one of this training; what another one has left in it is removed."""
    path, text = run_data / _FACTS, json.dumps({"fingerprint": fingerprint(basis)}) + "\n"
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    if path.is_file() or (run_data / CHECKPOINT_NAME).exists() or output_folder(run_data).exists():
        _log.warning("the run data in %s belong to another training; this one starts from the beginning", run_data)
    (run_data / CHECKPOINT_NAME).unlink(missing_ok=True)
    for folder in (output_folder(run_data), run_data / _SCENE):
        shutil.rmtree(folder, ignore_errors=True)
    path.write_text(text, encoding="utf-8")


def _scene_folder(scene: SplatScene, run_data: Path) -> Path:
    """Where nerfstudio finds the training views."""
    if scene.folder is not None:
        return scene.folder
    folder = run_data / _SCENE
    if (folder / TRANSFORMS_NAME).is_file():  # written last
        return folder
    views = scene.train
    paths = write_pictures(folder / "images", views.images)
    write_points(folder / POINT_CLOUD_NAME, PointCloud(scene.points, scene.normals, scene.colours))
    names = tuple(path.relative_to(folder).as_posix() for path in paths)
    height, width = views.images.shape[1:3]
    write_transforms(
        folder / TRANSFORMS_NAME, Transforms(names, views.c2w, views.intrinsics, width, height, POINT_CLOUD_NAME)
    )
    return folder


def _environment() -> dict[str, str]:
    """This program's variables, and what nerfstudio needs to be quiet and to need no compiler."""
    colours = ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
    kept = {name: value for name, value in os.environ.items() if name not in colours}
    return kept | {
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
        "TERM": "dumb",
        "TORCHDYNAMO_DISABLE": "1",  # it compiles one small function, for which its environment may have no C compiler
    }
