"""The settings of stage 2 for one job.

Example:
    >>> trajectory_settings(job, run, engine).trajectory_order
    ('in', 'left', 'right', 'up')
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

from worldexplorer import overrides
from worldexplorer.checksum import file_sha256
from worldexplorer.config import RunConfig, TrajectoryConfig
from worldexplorer.dataset import Job
from worldexplorer.engine import Engine
from worldexplorer.errors import UsageError
from worldexplorer.geometry.transforms import TRANSFORMS_NAME
from worldexplorer.trajectory.own_paths import load_trajectories, trajectories_folder
from worldexplorer.trajectory.paths import ANCHOR_COUNT, Trajectory, parse_trajectory_order, published_trajectories

_LEAST_VGGT_IMAGES = 4
_RECORDED_IF_CHOSEN = ("anchors", "models")
"""Without them a scene's fingerprint is what it was before there was a choice."""


@dataclass(frozen=True)
class TrajectorySettings:
    """What a job's scene depends on besides its scaffold and the engine.

    Attributes:
        own_trajectories: name and checksum of each of `--root_dir`'s; None for the built-in four.
        anchors: of each trajectory; None for the published number.
        scene_type: `indoor`, `outdoor`, another kind of place or None; the engine chooses models by it.
        models: which models the engine chooses, by role; empty where it has no choice.
    """

    translation_scaling_factor: float
    trajectory_order: tuple[str, ...]
    num_images_for_vggt: int
    collision_rule: str
    root_dir: str | None
    own_trajectories: Mapping[str, str] | None
    anchors: int | None
    scene_type: str | None
    models: Mapping[str, str]


def trajectory_settings(job: Job, run: RunConfig, engine: Engine) -> TrajectorySettings:
    """The settings of one job; UsageError where they cannot be."""
    config = run.trajectory
    known = known_trajectories(config.root_dir)
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
        anchors=_anchors(config, engine),
        scene_type=job.scene_type,
        models=engine.scene_models(job.scene_type),
    )


def _anchors(config: TrajectoryConfig, engine: Engine) -> int | None:
    frames = engine.defaults.frames_per_trajectory
    if config.anchors is not None and frames is not None:
        raise UsageError(
            f"--anchors is for trajectories of full length, and the {engine.name} engine makes {frames} frames of each",
            where="--anchors",
            remedy="leave it out, or take --engine full",
        )
    return config.anchors if config.anchors != ANCHOR_COUNT else None


def fewer_images(settings: TrajectorySettings) -> tuple[TrajectorySettings, str] | None:
    """Half the frames for the point cloud, which is what needs most memory."""
    fewer = settings.num_images_for_vggt // 2
    if fewer < _LEAST_VGGT_IMAGES:
        return None
    return replace(settings, num_images_for_vggt=fewer), f"num_images_for_vggt {fewer}"


def known_trajectories(root_dir: str | None) -> Mapping[str, Trajectory]:
    """The trajectories of `--root_dir`, or the built-in four, by name."""
    if root_dir is None:
        return published_trajectories()
    files = sorted(trajectories_folder(root_dir).glob(f"*/{TRANSFORMS_NAME}"))
    return _own_trajectories(root_dir, tuple(file_sha256(path) for path in files))


@lru_cache(maxsize=8)
def _own_trajectories(root_dir: str, _digests: tuple[str, ...]) -> Mapping[str, Trajectory]:
    """Read once as long as the files stay what they are: every job asks for its settings several times."""
    return load_trajectories(trajectories_folder(root_dir))


def settings_basis(settings: TrajectorySettings) -> Mapping[str, Any]:
    """The settings that change results, as JSON values."""
    values = asdict(settings)
    del values["root_dir"]  # the trajectories' checksums count, not where they lie
    del values["scene_type"]  # what follows from it counts
    for name in _RECORDED_IF_CHOSEN:
        if not values[name]:
            del values[name]
    return values
