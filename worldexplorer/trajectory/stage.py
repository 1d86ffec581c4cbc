"""Stage 2 of one job: trajectories of new views around the scaffold, and a point cloud in the scene frame."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from worldexplorer import layout, overrides
from worldexplorer.checksum import file_sha256
from worldexplorer.config import STAGE_NAMES, RunConfig
from worldexplorer.context import InputFiles, Outcome, StageContext, StageDefinition
from worldexplorer.dataset import Job
from worldexplorer.engine import Engine, Poses, Views, World
from worldexplorer.errors import UserError
from worldexplorer.geometry.cameras import normalised_intrinsics
from worldexplorer.geometry.ply import write_points
from worldexplorer.geometry.transforms import (
    HELDOUT_NAME,
    POINT_CLOUD_NAME,
    TRANSFORMS_NAME,
    Transforms,
    write_transforms,
)
from worldexplorer.pictures import write_pictures
from worldexplorer.progress import Progress, part
from worldexplorer.seeds import derive_seed
from worldexplorer.trajectory.alignment import align
from worldexplorer.trajectory.collision import clearance_threshold
from worldexplorer.trajectory.frame_choice import choose_frames
from worldexplorer.trajectory.generate import Shot, ShotGenerator
from worldexplorer.trajectory.heldout import heldout_poses
from worldexplorer.trajectory.own_paths import load_trajectories, trajectories_folder
from worldexplorer.trajectory.paths import (
    Trajectory,
    job_order,
    parse_folder_name,
    parse_trajectory_order,
    path_length,
    published_trajectories,
)
from worldexplorer.trajectory.point_cloud import build_point_cloud
from worldexplorer.trajectory.scene import (
    ALIGNMENT_NAME,
    COLLISION_NAME,
    HELDOUT_FOLDER,
    INPUT_FOLDER,
    SCAFFOLD_VIEWS,
    frame_path,
    heldout_path,
    input_path,
    read_scaffold_views,
)

_LEAST_VGGT_IMAGES = 4


@dataclass(frozen=True)
class TrajectorySettings:
    """What a job's scene depends on besides its scaffold and the engine.

    Attributes:
        own_trajectories: name and checksum of each of `--root_dir`'s; None for the built-in four.
    """

    translation_scaling_factor: float
    trajectory_order: tuple[str, ...]
    num_images_for_vggt: int
    collision_rule: str
    root_dir: str | None
    own_trajectories: Mapping[str, str] | None


def trajectory_settings(job: Job, run: RunConfig, engine: Engine) -> TrajectorySettings:
    """The settings of one job; UsageError where they cannot be."""
    config = run.trajectory
    known = _known_trajectories(config.root_dir)
    order = parse_trajectory_order(overrides.trajectory_order(job, config), known)
    digests = None
    if config.root_dir is not None:
        folder = trajectories_folder(config.root_dir)
        digests = {name: file_sha256(folder / name / TRANSFORMS_NAME) for name in order}
    return TrajectorySettings(
        translation_scaling_factor=overrides.translation_scaling(job, config),
        trajectory_order=order,
        num_images_for_vggt=overrides.num_images_for_vggt(job, config, engine),
        collision_rule=config.collision_rule,
        root_dir=config.root_dir,
        own_trajectories=digests,
    )


def produce_scene(context: StageContext[TrajectorySettings]) -> Outcome:
    """Make the frames, the point cloud and the files that describe them."""
    settings, engine = context.settings, context.engine
    assert context.inputs is not None, "stage 2 has a scaffold"
    scaffold = read_scaffold_views(context.inputs, engine.image_size)
    world = _load_world(context.inputs, engine, scaffold)
    scale = settings.translation_scaling_factor
    scene_path = layout.scene_folder(context.job.id.index, scale)
    folder = context.out / scene_path
    folder.mkdir(parents=True, exist_ok=True)
    marks = context.work / "marks"
    marks.mkdir(exist_ok=True)
    write_pictures(folder / INPUT_FOLDER, scaffold.images)
    clearance = None
    if settings.collision_rule == "clearance":
        clearance = clearance_threshold(engine.depth().depth(scaffold, world, scale))
    generator = ShotGenerator(engine, scaffold, world, scale, clearance, context.seed, folder, marks, context.keep)
    shots = _trajectories(generator, settings, part(context.progress, 0.0, 0.75))
    _require_frames(shots, clearance)
    extra = [
        generator.views(name, c2w, part(context.progress, 0.75, 0.80))
        for name, c2w in engine.extra_trajectories(scale).items()
    ]
    _write_collisions(folder / COLLISION_NAME, shots)
    _write_heldout(context, generator, scaffold, shots, folder, part(context.progress, 0.80, 0.85))
    context.progress(85, 100, "points")
    alignment = _write_points(context, scaffold, shots, extra, world, folder)
    _write_scene(folder, scaffold, [*shots, *extra], engine.image_size)
    empty = [shot.folder for shot in shots if not len(shot.frames)]
    cut = sum(1 for shot in shots if shot.verdict is not None and shot.verdict.collided)
    return Outcome(
        metrics={
            "frames": SCAFFOLD_VIEWS + sum(len(shot.frames) for shot in (*shots, *extra)),
            "trajectories_cut": cut,
            "trajectories_empty": len(empty),
            **alignment,
        },
        notes=(f"trajectories without frames, because something is in the way: {' '.join(empty)}",) if empty else (),
        outputs={"scene_path": scene_path},
    )


def fewer_images(settings: TrajectorySettings) -> tuple[TrajectorySettings, str] | None:
    """Half the frames for the point cloud, which is what needs most memory."""
    fewer = settings.num_images_for_vggt // 2
    if fewer < _LEAST_VGGT_IMAGES:
        return None
    return replace(settings, num_images_for_vggt=fewer), f"num_images_for_vggt {fewer}"


def _known_trajectories(root_dir: str | None) -> Mapping[str, Trajectory]:
    if root_dir is None:
        return published_trajectories()
    files = sorted(trajectories_folder(root_dir).glob(f"*/{TRANSFORMS_NAME}"))
    return _own_trajectories(root_dir, tuple(file_sha256(path) for path in files))


@lru_cache(maxsize=8)
def _own_trajectories(root_dir: str, _digests: tuple[str, ...]) -> Mapping[str, Trajectory]:
    """Read once as long as the files stay what they are: every job asks for its settings several times."""
    return load_trajectories(trajectories_folder(root_dir))


def _load_world(inputs: InputFiles, engine: Engine, scaffold: Views) -> World | None:
    return engine.load_world(inputs.folder(layout.SCAFFOLD_WORLD), scaffold)


def _trajectories(generator: ShotGenerator, settings: TrajectorySettings, progress: Progress) -> list[Shot]:
    known = _known_trajectories(settings.root_dir)
    jobs = job_order(settings.trajectory_order)
    shots = []
    for done, (view, name) in enumerate(jobs):
        progress(done, len(jobs), f"{view:03d} {name}")
        share = part(progress, done / len(jobs), (done + 1) / len(jobs))
        shots.append(generator.trajectory(view, known[name], share))
    return shots


def _require_frames(shots: list[Shot], clearance_m: float | None) -> None:
    if any(len(shot.frames) for shot in shots):
        return
    room = f"less than {clearance_m:.2f} m of room" if clearance_m is not None else "too near by the legacy rule"
    raise UserError(
        f"all {len(shots)} trajectories were cut to nothing: {room} from the start",
        remedy="use a smaller translation_scaling_factor, or a photo with more room in front of the camera",
    )


def _write_collisions(path: Path, shots: list[Shot]) -> None:
    document = {shot.folder: shot.verdict.to_json() for shot in shots if shot.verdict is not None}
    path.write_text(json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n")


def _write_heldout(
    context: StageContext[TrajectorySettings],
    generator: ShotGenerator,
    scaffold: Views,
    shots: list[Shot],
    folder: Path,
    progress: Progress,
) -> None:
    count = context.engine.defaults.heldout_views
    if not count:
        return
    origins = np.stack([scaffold.c2w[parse_folder_name(shot.folder)[0]] for shot in shots])
    c2w = heldout_poses(origins, [shot.c2w for shot in shots], count, derive_seed(context.seed, "heldout"))
    write_pictures(folder / HELDOUT_FOLDER, generator.sample("heldout", c2w, progress))
    size = context.engine.image_size
    intrinsics = np.tile(normalised_intrinsics(), (count, 1, 1))
    names = tuple(heldout_path(view) for view in range(count))
    write_transforms(folder / HELDOUT_NAME, Transforms(names, c2w, intrinsics, size, size))


def _write_points(
    context: StageContext[TrajectorySettings],
    scaffold: Views,
    shots: list[Shot],
    extra: list[Shot],
    world: World | None,
    folder: Path,
) -> dict[str, float]:
    """The point cloud of chosen frames, in the scene frame; returns what goes into the metrics."""
    chosen = choose_frames(
        [len(shot.frames) for shot in shots],
        [path_length(shot.c2w) for shot in shots],
        context.settings.num_images_for_vggt,
    )
    images = [scaffold.images, *(shot.frames[picks] for shot, picks in zip(shots, chosen, strict=True))]
    c2w = [scaffold.c2w, *(shot.c2w[picks] for shot, picks in zip(shots, chosen, strict=True))]
    # What an engine adds, it adds because nothing else sees that part of the world.
    views = Views(
        np.concatenate([*images, *(shot.frames for shot in extra)]),
        np.concatenate([*c2w, *(shot.c2w for shot in extra)]),
        _all_intrinsics(scaffold, sum(map(len, c2w[1:])) + sum(len(shot.c2w) for shot in extra)),
    )
    maps = context.engine.geometry().points(views, world, context.settings.translation_scaling_factor)
    points, report = align(maps, views.c2w)
    (folder / ALIGNMENT_NAME).write_text(json.dumps(report.to_json(), indent=1, sort_keys=True, allow_nan=False) + "\n")
    cloud = build_point_cloud(
        points,
        maps.confidence,
        views.images,
        views.c2w,
        count=context.engine.defaults.point_count,
        seed=derive_seed(context.seed, "points"),
        use=report.usable,
    )
    write_points(folder / POINT_CLOUD_NAME, cloud)
    residuals = report.residuals
    return {
        "points": len(cloud.points),
        "point_views": len(views.images),
        "alignment_median_units": round(residuals.centre_median, 6),
        "alignment_median_deg": round(residuals.rotation_median_deg, 6),
    }


def _write_scene(folder: Path, scaffold: Views, shots: list[Shot], size: int) -> None:
    names = [input_path(view) for view in range(SCAFFOLD_VIEWS)]
    names += [frame_path(shot.folder, frame) for shot in shots for frame in range(len(shot.frames))]
    c2w = np.concatenate([scaffold.c2w, *(shot.c2w for shot in shots)])
    intrinsics = _all_intrinsics(scaffold, len(names) - SCAFFOLD_VIEWS)
    write_transforms(folder / TRANSFORMS_NAME, Transforms(tuple(names), c2w, intrinsics, size, size, POINT_CLOUD_NAME))


def _all_intrinsics(scaffold: Views, others: int) -> Poses:
    return np.concatenate([scaffold.intrinsics, np.tile(normalised_intrinsics(), (others, 1, 1))])


def _basis(settings: TrajectorySettings) -> Mapping[str, Any]:
    values = asdict(settings)
    del values["root_dir"]  # the trajectories' checksums count, not where they lie
    return values


TRAJECTORY: StageDefinition[TrajectorySettings] = StageDefinition(
    number=2,
    name=STAGE_NAMES[2],
    settings=trajectory_settings,
    basis=_basis,
    produce=produce_scene,
    smaller=fewer_images,
)
