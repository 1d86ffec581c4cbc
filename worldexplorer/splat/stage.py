"""Stage 3 of one job: train Gaussians on the scene, measure them, export them.

Files, relative to the job's folder:

    splat/splat.ply  splat/splat_rotated.ply    the world (see worldexplorer.splat.export)
    splat/splat.json                            counts, metrics, the training's own log
    splat/renders/NNN.png                       the world from the eight scaffold views
    splat/turntable.mp4                         a full turn at the origin
    splat/training/                             checkpoints and logs, with --keep_training
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldexplorer import layout
from worldexplorer.config import STAGE_NAMES, RunConfig
from worldexplorer.context import Outcome, StageContext, StageDefinition
from worldexplorer.dataset import Job
from worldexplorer.engine import Engine, Images, SplatScene, SplatTrainer, Views
from worldexplorer.errors import DefectError
from worldexplorer.geometry.cameras import normalised_intrinsics, pose, yaw_matrix
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.geometry.ply import read_points
from worldexplorer.geometry.transforms import HELDOUT_NAME, TRANSFORMS_NAME, read_transforms
from worldexplorer.pictures import is_blank, read_pictures, write_pictures
from worldexplorer.progress import Progress, part
from worldexplorer.report.video import write_video
from worldexplorer.seeds import derive_seed
from worldexplorer.splat.export import check_gaussians, export_gaussians
from worldexplorer.splat.metrics import compare, psnr
from worldexplorer.trajectory.scene import SCAFFOLD_VIEWS

TURNTABLE_FRAMES = 72
TURNTABLE_RATE = 24


@dataclass(frozen=True)
class SplatSettings:
    """Where the trainer's run data go; nothing here changes the result."""

    nerf_folder: str | None
    keep_training: bool


def splat_settings(_job: Job, run: RunConfig, _engine: Engine) -> SplatSettings:
    """The settings of one job."""
    return SplatSettings(run.splat.nerf_folder, run.splat.keep_training)


def produce_splat(context: StageContext[SplatSettings]) -> Outcome:
    """Train, measure, export."""
    assert context.inputs is not None, "stage 3 has a scene"
    engine = context.engine
    scene_path = context.inputs.record.outputs["scene_path"]
    train = _read_views(context, scene_path, TRANSFORMS_NAME)
    heldout = _read_views(context, scene_path, HELDOUT_NAME)
    assert train is not None, "the scene's record names its transforms"
    transforms = read_transforms(context.inputs.path(f"{scene_path}/{TRANSFORMS_NAME}"))
    cloud = read_points(context.inputs.path(f"{scene_path}/{transforms.ply_file_path}"))
    trainer = engine.splat_trainer()
    run_data = _run_data_folder(context)
    result = trainer.train(
        SplatScene(train, cloud.points, cloud.normals, cloud.colours),
        derive_seed(context.seed, "splat"),
        run_data,
        keeping(part(context.progress, 0.0, 0.92), run_data, context.keep),
    )
    gaussians = result.gaussians
    check_gaussians(gaussians)
    out = context.out / layout.SPLAT_FOLDER
    out.mkdir(exist_ok=True)
    export_gaussians(context.out / layout.SPLAT_PLY, context.out / layout.SPLAT_ROTATED_PLY, gaussians, engine.label)
    context.progress(93, 100, "measuring")
    metrics = _measure(trainer, gaussians, train, heldout) | {"gaussians": gaussians.count}
    metrics |= {name: value for name, value in result.log.items() if name.startswith("psnr_")}
    context.progress(96, 100, "renders")
    _render(trainer, gaussians, train, out)
    document = {
        "engine": engine.name,
        "label": engine.label,
        "frame": "y up, camera 000 at the origin, trajectory units",
        "metrics": metrics,
        "lpips": "not computed",
        "training": result.log,
    }
    (context.out / layout.SPLAT_JSON).write_text(json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n")
    if context.settings.keep_training:
        shutil.copytree(run_data, out / "training", dirs_exist_ok=True)
    return Outcome(metrics=metrics, outputs={"export_path": layout.SPLAT_PLY})


def _run_data_folder(context: StageContext[SplatSettings]) -> Path:
    """A folder of this attempt alone; a resumed attempt finds its own again."""
    if context.settings.nerf_folder is None:
        folder = context.work / "training"
    else:
        job = context.job.id
        folder = Path(context.settings.nerf_folder) / job.variant / f"{job.index:04d}-{context.attempt}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def keeping(progress: Progress, run_data: Path, keep: Callable[[], None]) -> Progress:
    """Progress that calls `keep` after every checkpoint.

    Trainers put a checkpoint in place by a rename, which changes the time of the folder.
    """
    seen = run_data.stat().st_mtime_ns

    def report(done: int, total: int, what: str) -> None:
        nonlocal seen
        now = run_data.stat().st_mtime_ns
        if now != seen:
            seen = now
            keep()
        progress(done, total, what)

    return report


def _read_views(context: StageContext[SplatSettings], scene_path: str, name: str) -> Views | None:
    """The posed images that a file of the scene lists; None where the scene has no such file."""
    inputs = context.inputs
    assert inputs is not None
    if inputs.record.file(f"{scene_path}/{name}") is None:
        return None
    transforms = read_transforms(inputs.path(f"{scene_path}/{name}"))
    images = read_pictures(inputs.files([f"{scene_path}/{path}" for path in transforms.file_paths]))
    if images.shape[1:3] != (transforms.height, transforms.width):
        raise DefectError(f"the frames are {images.shape[1:3]}, not as the scene says", where=f"{scene_path}/{name}")
    return Views(images, transforms.c2w, transforms.intrinsics)


def _measure(trainer: SplatTrainer, gaussians: Gaussians, train: Views, heldout: Views | None) -> dict[str, float]:
    """The fit at poses that were not trained on, and at the photo's own."""
    size = train.images.shape[1]
    first = trainer.render(gaussians, train.c2w[:1], train.intrinsics[:1], size)
    found = {"psnr_input_view": psnr(first, train.images[:1])}
    if heldout is not None:
        fit = compare(trainer.render(gaussians, heldout.c2w, heldout.intrinsics, size), heldout.images)
        found |= {f"{name}_heldout": value for name, value in fit.items()}
    return {name: round(value, 4) for name, value in found.items()}


def _render(trainer: SplatTrainer, gaussians: Gaussians, train: Views, folder: Path) -> None:
    size = train.images.shape[1]
    views = trainer.render(gaussians, train.c2w[:SCAFFOLD_VIEWS], train.intrinsics[:SCAFFOLD_VIEWS], size)
    if is_blank(views).all():
        raise DefectError("nothing of the trained world is to be seen from any scaffold view")
    write_pictures(folder / "renders", views)
    write_video(folder / "turntable.mp4", turntable(trainer, gaussians, size), TURNTABLE_RATE)


def turntable(trainer: SplatTrainer, gaussians: Gaussians, size: int) -> Images:
    """A full turn to the left at the origin: [N, size, size, 3] uint8."""
    turns = yaw_matrix(360.0 * np.arange(TURNTABLE_FRAMES) / TURNTABLE_FRAMES)
    c2w = pose(turns, np.zeros((TURNTABLE_FRAMES, 3)))
    return trainer.render(gaussians, c2w, np.tile(normalised_intrinsics(), (TURNTABLE_FRAMES, 1, 1)), size)


def _basis(_settings: SplatSettings) -> Mapping[str, Any]:
    return {}


SPLAT: StageDefinition[SplatSettings] = StageDefinition(
    number=3,
    name=STAGE_NAMES[3],
    settings=splat_settings,
    basis=_basis,
    produce=produce_splat,
)
