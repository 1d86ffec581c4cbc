"""Stage 2 of one job: trajectories of new views around the scaffold, and a point cloud in the scene frame."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from worldexplorer import layout
from worldexplorer.config import STAGE_NAMES
from worldexplorer.context import Outcome, StageContext, StageDefinition
from worldexplorer.engine import Engine, Images, Views
from worldexplorer.errors import UserError
from worldexplorer.geometry.cameras import normalised_intrinsics
from worldexplorer.geometry.transforms import (
    HELDOUT_NAME,
    POINT_CLOUD_NAME,
    TRANSFORMS_NAME,
    Transforms,
    write_transforms,
)
from worldexplorer.pictures import write_pictures
from worldexplorer.progress import Progress, part
from worldexplorer.report.video import ffmpeg
from worldexplorer.seeds import derive_seed
from worldexplorer.trajectory.collision import CollisionVerdict, clearance_threshold
from worldexplorer.trajectory.films import turns_of, write_walk, write_walkthrough
from worldexplorer.trajectory.generate import ShotGenerator, planned_samplings
from worldexplorer.trajectory.heldout import heldout_poses
from worldexplorer.trajectory.paths import ANCHOR_COUNT
from worldexplorer.trajectory.scene import (
    COLLISION_NAME,
    HELDOUT_FOLDER,
    INPUT_FOLDER,
    SAMPLINGS_NAME,
    SCAFFOLD_VIEWS,
    WALK_NAME,
    frame_path,
    heldout_path,
    input_path,
    read_scaffold_views,
)
from worldexplorer.trajectory.scene_points import all_intrinsics, write_scene_points
from worldexplorer.trajectory.scene_work import SceneWork
from worldexplorer.trajectory.settings import (
    TrajectorySettings,
    fewer_images,
    known_trajectories,
    settings_basis,
    trajectory_settings,
)
from worldexplorer.trajectory.shots import Shot
from worldexplorer.trajectory.walks import Walk, scene_walks
from worldexplorer.trajectory.writing import BackgroundWriter

_OTHER_WORK = 10
"""What comes after the trajectories, in samplings; only the estimate of the time left uses it."""


def produce_scene(context: StageContext[TrajectorySettings]) -> Outcome:
    """Make the frames, the point cloud and the files that describe them."""
    settings, engine = context.settings, context.engine
    assert context.inputs is not None, "stage 2 has a scaffold"
    if _makes_films(engine):
        ffmpeg()  # said before hours of sampling, not after
    scaffold = read_scaffold_views(context.inputs, engine.image_size)
    world = engine.load_world(context.inputs.folder(layout.SCAFFOLD_WORLD), scaffold)
    scale = settings.translation_scaling_factor
    scene_path = layout.scene_folder(context.job.id.index, scale)
    folder = context.out / scene_path
    folder.mkdir(parents=True, exist_ok=True)
    write_pictures(folder / INPUT_FOLDER, scaffold.images)
    clearance = None
    if settings.collision_rule == "clearance":
        clearance = clearance_threshold(engine.depth(settings.scene_type).depth(scaffold, world, scale))
    with BackgroundWriter() as writer:
        shared = SceneWork(
            engine,
            scaffold,
            world,
            scale,
            settings.scene_type,
            clearance,
            context.seed,
            context.work,
            writer,
            context.keep,
        )
        generator = ShotGenerator(shared, folder, _film_of(engine))
        shots, extra = _shots(context, generator, scaffold, clearance, folder)
        _write_json(folder / COLLISION_NAME, {shot.folder: shot.verdict.to_json() for shot in shots if shot.verdict})
        _write_json(folder / SAMPLINGS_NAME, generator.samplings)
        writer.wait()
        if _makes_films(engine):
            turns = turns_of(context.inputs, scaffold.images)
            writer.submit(lambda: _write_films(folder, shots, turns, context.work / "films"))
        points = write_scene_points(context, scaffold, shots, extra, world, folder)
    _write_scene(folder, scaffold, [*shots, *extra], engine.image_size)
    empty = [shot.folder for shot in shots if not len(shot)]
    cut = sum(1 for shot in shots if shot.verdict is not None and shot.verdict.collided)
    return Outcome(
        metrics={
            "frames": SCAFFOLD_VIEWS + sum(map(len, (*shots, *extra))),
            "trajectories_cut": cut,
            "trajectories_empty": len(empty),
            **points.metrics,
        },
        notes=(*_told_empty(empty), *points.notes),
        outputs={"scene_path": scene_path},
    )


def _told_empty(folders: list[str]) -> tuple[str, ...]:
    if not folders:
        return ()
    return (f"trajectories without frames, because something is in the way: {' '.join(folders)}",)


def _makes_films(engine: Engine) -> bool:
    """A trajectory that the engine shortens has too few frames for a film."""
    return engine.defaults.frames_per_trajectory is None


def _film_of(engine: Engine) -> Callable[[Path, Images], None]:
    """What is done with the frames of a finished trajectory."""
    return write_walk if _makes_films(engine) else lambda folder, frames: None


def _write_films(folder: Path, shots: list[Shot], turns: list[Images], work: Path) -> None:
    """The film through all trajectories, and those of single ones that a run which was killed has left out."""
    for shot in shots:
        if len(shot) and not (folder / shot.folder / WALK_NAME).exists():
            write_walk(folder / shot.folder, shot.pictures(range(len(shot))))
    write_walkthrough(folder, shots, turns, work)


def _shots(
    context: StageContext[TrajectorySettings],
    generator: ShotGenerator,
    scaffold: Views,
    clearance_m: float | None,
    folder: Path,
) -> tuple[list[Shot], list[Shot]]:
    """Shots of all trajectories, and of the views that the engine adds; held-out views are written as well."""
    engine, settings = context.engine, context.settings
    known = known_trajectories(settings.root_dir)
    defaults = engine.defaults
    walks = scene_walks(
        scaffold.c2w, known, settings.trajectory_order, defaults.frames_per_trajectory, settings.anchors
    )
    first, second = planned_samplings(walks, defaults.sampling_frames)
    units = first + second + _OTHER_WORK
    sampled = (first + second) / units
    verdicts = generator.first_passes(walks, part(context.progress, 0.0, first / units))
    _require_frames(verdicts, clearance_m)
    shots = generator.second_passes(walks, verdicts, part(context.progress, first / units, sampled))
    others = part(context.progress, sampled, 1.0)
    scale = settings.translation_scaling_factor
    extra = [
        generator.views(name, c2w, part(others, 0.0, 0.2)) for name, c2w in engine.extra_trajectories(scale).items()
    ]
    _write_heldout(context, generator, walks, shots, folder, part(others, 0.2, 0.4))
    others(4, 10, "points")
    return shots, extra


def _require_frames(verdicts: list[CollisionVerdict], clearance_m: float | None) -> None:
    if any(verdict.kept_targets for verdict in verdicts):
        return
    room = f"less than {clearance_m:.2f} m of room" if clearance_m is not None else "too near by the legacy rule"
    raise UserError(
        f"all {len(verdicts)} trajectories were cut to nothing: {room} from the start",
        remedy="use a smaller translation_scaling_factor, or a photo with more room in front of the camera",
    )


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n")


def _write_heldout(
    context: StageContext[TrajectorySettings],
    generator: ShotGenerator,
    walks: list[Walk],
    shots: list[Shot],
    folder: Path,
    progress: Progress,
) -> None:
    count = context.engine.defaults.heldout_views
    if not count:
        return
    origins = np.stack([walk.base for walk in walks])
    c2w = heldout_poses(origins, [shot.c2w for shot in shots], count, derive_seed(context.seed, "heldout"))
    write_pictures(folder / HELDOUT_FOLDER, generator.sample("heldout", c2w, progress))
    size = context.engine.image_size
    intrinsics = np.tile(normalised_intrinsics(), (count, 1, 1))
    names = tuple(heldout_path(view) for view in range(count))
    write_transforms(folder / HELDOUT_NAME, Transforms(names, c2w, intrinsics, size, size))


def _write_scene(folder: Path, scaffold: Views, shots: list[Shot], size: int) -> None:
    names = [input_path(view) for view in range(SCAFFOLD_VIEWS)]
    names += [frame_path(shot.folder, frame) for shot in shots for frame in range(len(shot))]
    c2w = np.concatenate([scaffold.c2w, *(shot.c2w for shot in shots)])
    intrinsics = all_intrinsics(scaffold, len(names) - SCAFFOLD_VIEWS)
    write_transforms(folder / TRANSFORMS_NAME, Transforms(tuple(names), c2w, intrinsics, size, size, POINT_CLOUD_NAME))


TRAJECTORY: StageDefinition[TrajectorySettings] = StageDefinition(
    number=2,
    name=STAGE_NAMES[2],
    settings=trajectory_settings,
    basis=settings_basis,
    produce=produce_scene,
    smaller=fewer_images,
    implied={"anchors": ANCHOR_COUNT},
)
