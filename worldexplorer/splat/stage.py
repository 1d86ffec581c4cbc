"""Stage 3 of one job: train Gaussians on the scene, measure them, export them.

Files, relative to the job's folder:

    splat/splat.ply  splat/splat_rotated.ply    the world (see worldexplorer.splat.export)
    splat/splat.spz  splat/splat.compressed.ply smaller files, with --export_formats
    splat/splat.json                            counts, metrics, the training's own log
    splat/renders/NNN.png  splat/depth/NNN.png  the world from the eight scaffold views, and its depth
    splat/turntable.mp4  splat/walk.mp4         a full turn at the origin; out along trajectories and back
    splat/training/                             checkpoints and logs, with --keep_training

Example:
    >>> SPLAT.smaller(SplatSettings(smaller_trainings=("images stay in host memory",)))[1]
    'images stay in host memory'
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldexplorer import layout
from worldexplorer.config import STAGE_NAMES
from worldexplorer.context import InputFiles, Outcome, StageContext, StageDefinition
from worldexplorer.engine import NotMeasured, Poses, SplatScene, SplatTrainer, Views
from worldexplorer.errors import DefectError
from worldexplorer.geometry.cameras import normalised_intrinsics
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.geometry.ply import PointCloud, read_points
from worldexplorer.geometry.transforms import HELDOUT_NAME, TRANSFORMS_NAME, Transforms, read_transforms
from worldexplorer.pictures import is_blank, read_pictures, write_pictures
from worldexplorer.progress import Progress, part
from worldexplorer.report.video import write_video
from worldexplorer.seeds import derive_seed
from worldexplorer.splat.camera_paths import FRAME_RATE, scene_outings, turn, walk
from worldexplorer.splat.export import check_gaussians, export_gaussians, export_smaller
from worldexplorer.splat.formats import require_formats
from worldexplorer.splat.metrics import compare, halved, psnr
from worldexplorer.splat.renders import depth_pictures, depth_range, frames
from worldexplorer.splat.run_data import keep_with, keeping, run_data_folder
from worldexplorer.splat.settings import SplatSettings, instead, settings_basis, smaller_training, splat_settings
from worldexplorer.splat.thinning import Thinning, chosen, kept
from worldexplorer.trajectory.scene import SCAFFOLD_VIEWS

_NOTHING_KEPT_OUT = "not computed: training saw all views"
_TAKEN_OUT = "not computed: Gaussians were taken out after the trainer had measured"
LEAST_MEASURED_SIZE = 64
"""Pixels: held-out views are compared at full size, half of it and so on down to this."""


def produce_splat(context: StageContext[SplatSettings]) -> Outcome:
    """Train, measure, export."""
    assert context.inputs is not None, "stage 3 has a scene"
    require_formats(context.settings.formats)
    engine = context.engine
    scene_path = context.inputs.record.outputs["scene_path"]
    transforms = read_transforms(context.inputs.path(f"{scene_path}/{TRANSFORMS_NAME}"))
    train = _read_views(context.inputs, scene_path, TRANSFORMS_NAME, transforms)
    heldout = _read_heldout(context.inputs, scene_path)
    cloud = read_points(context.inputs.path(f"{scene_path}/{transforms.ply_file_path}"))
    trainer = engine.splat_trainer()
    run_data = run_data_folder(context, context.settings.nerf_folder)
    result = trainer.train(
        SplatScene(
            train,
            cloud.points,
            cloud.normals,
            cloud.colours,
            context.settings.made_smaller,
            folder=context.inputs.folder(scene_path),
        ),
        derive_seed(context.seed, "splat"),
        run_data,
        keeping(part(context.progress, 0.0, 0.9), run_data, keep_with(context, run_data)),
    )
    check_gaussians(result.gaussians)
    gaussians, counts = _thinned(
        trainer, result.gaussians, context.settings.thinning, train, cloud, part(context.progress, 0.9, 0.92)
    )
    out = context.out / layout.SPLAT_FOLDER
    out.mkdir(exist_ok=True)
    export_gaussians(
        context.out / layout.SPLAT_PLY,
        context.out / layout.SPLAT_ROTATED_PLY,
        gaussians,
        engine.label,
        antialiased=result.antialiased,
    )
    smaller = export_smaller(
        context.out / layout.SPLAT_SPZ,
        context.out / layout.SPLAT_COMPRESSED_PLY,
        gaussians,
        context.settings.formats,
        antialiased=result.antialiased,
    )
    context.progress(93, 100, "measuring")
    sizes = {} if heldout is None else _heldout_by_size(trainer, gaussians, heldout)
    metrics = _metrics(trainer, gaussians, train, sizes) | counts
    same = gaussians.count == result.gaussians.count  # else what the trainer measured is not what is exported
    if same:
        metrics |= {name: value for name, value in result.log.items() if name.startswith(("psnr_", "lpips_"))}
    lpips = _lpips(trainer, gaussians, heldout, result.log if same else {"lpips": _TAKEN_OUT})
    if heldout is not None and isinstance(lpips, float):
        metrics["lpips_heldout"] = lpips
    _render(trainer, gaussians, train, transforms, context.out, part(context.progress, 0.95, 1.0))
    document = {
        "engine": engine.name,
        "label": engine.label,
        "frame": "y up, camera 000 at the origin, trajectory units",
        "antialiased": result.antialiased,
        "metrics": metrics,
        "heldout_by_size": sizes,
        "lpips": lpips,
        "smaller_files": smaller,
        "training": result.log,
    }
    (context.out / layout.SPLAT_JSON).write_text(json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n")
    if context.settings.keep_training:
        shutil.copytree(run_data, out / "training", dirs_exist_ok=True)
    return Outcome(metrics=metrics, outputs={"export_path": layout.SPLAT_PLY})


def _thinned(
    trainer: SplatTrainer,
    gaussians: Gaussians,
    thinning: Thinning,
    train: Views,
    cloud: PointCloud,
    progress: Progress,
) -> tuple[Gaussians, dict[str, int]]:
    """What is left after floaters and then the least seen have been taken out, and how many of each there were."""

    def seen(rest: Gaussians) -> NDArray[np.float64]:
        return trainer.contributions(rest, train.c2w, train.intrinsics, train.images.shape[1], progress)

    rows, counts = kept(gaussians, thinning, train.c2w, cloud.points, seen)
    return gaussians if rows.size == gaussians.count else chosen(gaussians, rows), counts


def _read_heldout(inputs: InputFiles, scene_path: str) -> Views | None:
    """The held-out views; None where the scene has none."""
    if inputs.record.file(f"{scene_path}/{HELDOUT_NAME}") is None:
        return None
    transforms = read_transforms(inputs.path(f"{scene_path}/{HELDOUT_NAME}"))
    return _read_views(inputs, scene_path, HELDOUT_NAME, transforms)


def _read_views(inputs: InputFiles, scene_path: str, name: str, transforms: Transforms) -> Views:
    """The posed images that a file of the scene, which says `transforms`, lists."""
    images = read_pictures(inputs.files([f"{scene_path}/{path}" for path in transforms.file_paths]))
    if images.shape[1:3] != (transforms.height, transforms.width):
        raise DefectError(f"the frames are {images.shape[1:3]}, not as the scene says", where=f"{scene_path}/{name}")
    return Views(images, transforms.c2w, transforms.intrinsics)


def _heldout_by_size(trainer: SplatTrainer, gaussians: Gaussians, heldout: Views) -> dict[str, dict[str, float]]:
    """How well views that were not trained on are met, by their side in pixels, the full size first.

    What is bad at full size and good at half of it is detail; what stays bad is place or colour.
    """
    found: dict[str, dict[str, float]] = {}
    truths = heldout.images
    while True:
        size = truths.shape[1]
        fit = compare(trainer.render(gaussians, heldout.c2w, heldout.intrinsics, size), truths)
        found[str(size)] = {name: round(value, 4) for name, value in fit.items()}
        if size % 2 or size // 2 < LEAST_MEASURED_SIZE:
            return found
        truths = halved(truths)


def _lpips(trainer: SplatTrainer, gaussians: Gaussians, heldout: Views | None, log: Mapping[str, Any]) -> float | str:
    """The perceptual distance of views that were not trained on, or why there is none.

    The scene's own held-out views count; without them the frames that the trainer kept out.
    """
    if heldout is not None:
        found = trainer.lpips(gaussians, heldout)
        return f"not computed: {found.reason}" if isinstance(found, NotMeasured) else round(found, 6)
    kept_out: float | str = log.get("lpips_heldout_frames", log.get("lpips", _NOTHING_KEPT_OUT))
    return kept_out


def _metrics(
    trainer: SplatTrainer, gaussians: Gaussians, train: Views, sizes: Mapping[str, Mapping[str, float]]
) -> dict[str, float]:
    """The fit at poses that were not trained on, at full size, and at the photo's own."""
    first = trainer.render(gaussians, train.c2w[:1], train.intrinsics[:1], train.images.shape[1])
    found = {"psnr_input_view": round(psnr(first, train.images[:1]), 4)}
    for fit in list(sizes.values())[:1]:
        found |= {f"{name}_heldout": value for name, value in fit.items()}
    return found


def _render(
    trainer: SplatTrainer,
    gaussians: Gaussians,
    train: Views,
    transforms: Transforms,
    out: Path,
    progress: Progress,
) -> None:
    progress(0, 100, "renders")
    size = train.images.shape[1]
    c2w, intrinsics = train.c2w[:SCAFFOLD_VIEWS], train.intrinsics[:SCAFFOLD_VIEWS]
    views = trainer.render(gaussians, c2w, intrinsics, size)
    if is_blank(views).all():
        raise DefectError("nothing of the trained world is to be seen from any scaffold view")
    write_pictures(out / layout.SPLAT_RENDERS, views)
    depths = trainer.render_depth(gaussians, c2w, intrinsics, size)
    write_pictures(out / layout.SPLAT_DEPTH, depth_pictures(depths, depth_range(depths)))
    _film(trainer, gaussians, turn(), size, out / layout.SPLAT_TURNTABLE, part(progress, 0.1, 0.3))
    _film(trainer, gaussians, walk(scene_outings(transforms)), size, out / layout.SPLAT_WALK, part(progress, 0.3, 1.0))


def _film(trainer: SplatTrainer, gaussians: Gaussians, path: Poses, size: int, file: Path, progress: Progress) -> None:
    lenses = np.tile(normalised_intrinsics(), (len(path), 1, 1))
    write_video(file, frames(trainer, gaussians, path, lenses, size, progress=progress), FRAME_RATE)


SPLAT: StageDefinition[SplatSettings] = StageDefinition(
    number=3,
    name=STAGE_NAMES[3],
    settings=splat_settings,
    basis=settings_basis,
    produce=produce_splat,
    smaller=smaller_training,
    instead=instead,
)
