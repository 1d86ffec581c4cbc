"""The point cloud of a scene: frames chosen, looked at by the geometry model, aligned, sampled, written.

Example:
    >>> outcome = write_scene_points(context, scaffold, shots, extra, world, folder)
    >>> outcome.metrics["points"]
    131072
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worldexplorer.context import StageContext
from worldexplorer.engine import Poses, Views, World
from worldexplorer.geometry.ply import write_points
from worldexplorer.geometry.transforms import POINT_CLOUD_NAME
from worldexplorer.seeds import derive_seed
from worldexplorer.trajectory.alignment import align
from worldexplorer.trajectory.frame_choice import choose_frames
from worldexplorer.trajectory.paths import path_length
from worldexplorer.trajectory.point_cloud import build_point_cloud
from worldexplorer.trajectory.sampling_requests import lenses
from worldexplorer.trajectory.scene import ALIGNMENT_NAME
from worldexplorer.trajectory.settings import TrajectorySettings
from worldexplorer.trajectory.shots import Shot


@dataclass(frozen=True)
class PointsOutcome:
    """What the record says of the points."""

    metrics: Mapping[str, float]
    notes: tuple[str, ...]


def write_scene_points(
    context: StageContext[TrajectorySettings],
    scaffold: Views,
    shots: Sequence[Shot],
    extra: Sequence[Shot],
    world: World | None,
    folder: Path,
) -> PointsOutcome:
    """Write the point cloud and how it was aligned.

    Args:
        context: of the stage.
        scaffold: the eight views.
        shots: of all trajectories; frames are chosen of them.
        extra: views that the engine adds, all of which are used.
        world: what stage 1 left for the engine, or None.
        folder: of the scene.
    """
    chosen = choose_frames(
        [len(shot) for shot in shots],
        [path_length(shot.c2w) for shot in shots],
        context.settings.num_images_for_vggt,
    )
    images = [scaffold.images, *(shot.pictures(picks) for shot, picks in zip(shots, chosen, strict=True) if picks)]
    c2w = [scaffold.c2w, *(shot.c2w[picks] for shot, picks in zip(shots, chosen, strict=True))]
    # What an engine adds, it adds because nothing else sees that part of the world.
    views = Views(
        np.concatenate([*images, *(shot.pictures(range(len(shot))) for shot in extra)]),
        np.concatenate([*c2w, *(shot.c2w for shot in extra)]),
        all_intrinsics(scaffold, sum(map(len, c2w[1:])) + sum(len(shot.c2w) for shot in extra)),
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
    metrics = {
        "points": len(cloud.points),
        "point_views": len(views.images),
        "alignment_median_units": round(residuals.centre_median, 6),
        "alignment_median_deg": round(residuals.rotation_median_deg, 6),
    }
    return PointsOutcome(metrics, maps.notes)


def all_intrinsics(scaffold: Views, others: int) -> Poses:
    """[8 + others, 3, 3] normalised: the scaffold's lenses, then the pipeline's."""
    return np.concatenate([scaffold.intrinsics, lenses(others)])
