"""What a sample says wins over what the command says; what neither says, the scene type or the engine does.

Example:
    >>> translation_scaling(outdoor_job, TrajectoryConfig())
    10.0
"""

from __future__ import annotations

from worldexplorer.config import TRANSLATION_SCALING, ScaffoldConfig, TrajectoryConfig
from worldexplorer.dataset import Job
from worldexplorer.engine import Engine


def translation_scaling(job: Job, config: TrajectoryConfig) -> float:
    """How far the trajectories of a job reach, as the novel-view model sees it."""
    own = job.expansion.translation_scaling_factor
    said = own if own is not None else config.translation_scaling_factor
    return said if said is not None else TRANSLATION_SCALING.get(job.scene_type, TRANSLATION_SCALING[None])


def trajectory_order(job: Job, config: TrajectoryConfig) -> tuple[str, ...] | None:
    """The trajectories of a job; None for all there are."""
    return job.expansion.trajectory_order or config.trajectory_order


def num_images_for_vggt(job: Job, config: TrajectoryConfig, engine: Engine) -> int:
    """How many frames feed the point cloud of a job."""
    own = job.expansion.num_images_for_vggt
    said = own if own is not None else config.num_images_for_vggt
    return said if said is not None else engine.defaults.num_images_for_vggt


def scaffold_mode(job: Job, config: ScaffoldConfig) -> str:
    """How scaffold_gen picks the corner views of a job."""
    return job.scaffold.mode or config.scaffold_mode


def prompts(job: Job) -> tuple[str, ...] | None:
    """A job's own four prompts; None where it has none, or says that they are not to be used."""
    return None if job.scaffold.custom is False else job.scaffold.prompts


def theme(job: Job, config: ScaffoldConfig) -> str | None:
    """The theme of a job's prompts."""
    return job.theme or config.default_theme
