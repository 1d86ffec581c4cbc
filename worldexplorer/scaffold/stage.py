"""Stage 1 of one job: the photo becomes eight views around the camera.

The method decides where the views come from; everything after it (which frames are the views, their poses, the files)
is the same. A scaffold that the data set brings is taken in here too, so that stage 2 finds every scaffold alike.

Files, relative to the job's folder:

    scaffold/generated_views/NNN.png      every frame of the camera path, the photo's view first
    scaffold/scaffold/                    the eight views as a nerfstudio folder: images/, transforms.json
    scaffold/final/000.png ... 007.png    the eight views
    scaffold/scaffold.json                their poses and sources
    scaffold/world/                       what the engine keeps for its later stages (preview engine only)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from worldexplorer import layout, overrides
from worldexplorer.checksum import file_sha256
from worldexplorer.config import STAGE_NAMES, RunConfig
from worldexplorer.context import Outcome, StageContext, StageDefinition
from worldexplorer.dataset import Job
from worldexplorer.engine import Engine
from worldexplorer.errors import UsageError
from worldexplorer.photo import check_header
from worldexplorer.records import InputEntry
from worldexplorer.scaffold.poses import DEFAULT_PRIOR, canonical_prior, prior_warning
from worldexplorer.scaffold.provided import provided_files, provided_views
from worldexplorer.scaffold.single_image import single_image_views
from worldexplorer.scaffold.views import ScaffoldViews, write_views

PROVIDED = "provided"


@dataclass(frozen=True)
class ScaffoldSettings:
    """What a job's scaffold depends on besides its photo and the engine; None where the method does not use it."""

    method: str
    traj_prior: str | None = None
    num_frames: int | None = None
    cfg: tuple[float, ...] | None = None
    hfov: float | None = None
    scene_type: str | None = None
    translation_scaling_factor: float | None = None
    mode: str | None = None
    prompts: tuple[str, ...] | None = None
    theme: str | None = None


def scaffold_settings(job: Job, run: RunConfig, _engine: Engine) -> ScaffoldSettings:
    """The settings of one job; UsageError where they cannot be."""
    config = run.scaffold
    if job.scaffold_path is not None:
        return ScaffoldSettings(PROVIDED)
    if config.scaffold_method == "scaffold_gen":
        return ScaffoldSettings(
            config.scaffold_method,
            mode=overrides.scaffold_mode(job, config),
            prompts=job.scaffold.prompts,
            theme=overrides.theme(job, config),
        )
    prior = canonical_prior(config.traj_prior)
    turning = prior == DEFAULT_PRIOR
    return ScaffoldSettings(
        config.scaffold_method,
        traj_prior=prior,
        num_frames=config.num_seva_frames,
        cfg=config.cfg,
        hfov=config.hfov,
        scene_type=job.scene_type,
        # Only a prior that moves has a length to scale.
        translation_scaling_factor=None if turning else overrides.translation_scaling(job, run.trajectory),
    )


def scaffold_source(job: Job, settings: ScaffoldSettings) -> InputEntry:
    """What the scaffold is made from: the photo's bytes, or those of the views the data set brings."""
    if job.unfetched is not None:
        raise job.unfetched
    if settings.method == PROVIDED:
        assert job.scaffold_path is not None
        digests = [file_sha256(path) for path in provided_files(job.scaffold_path)]
        return InputEntry(stage=PROVIDED, fingerprint=hashlib.sha256("".join(digests).encode()).hexdigest())
    if job.image is None:
        return InputEntry(stage="prompts", fingerprint="")
    check_header(job.image)
    return InputEntry(stage="photo", fingerprint=file_sha256(job.image))


def produce_scaffold(context: StageContext[ScaffoldSettings]) -> Outcome:
    """Make the views and write the stage's files."""
    settings = context.settings
    views: ScaffoldViews
    if settings.method == PROVIDED:
        views = provided_views(context)
    elif settings.method == "single_image":
        views = single_image_views(context)
    else:
        raise UsageError(
            f"the {context.engine.name} engine has no text-to-image model, which scaffold_gen needs",
            where="--scaffold_method scaffold_gen",
            remedy="take --scaffold_method single_image",
        )
    deviation = write_views(context, views)
    notes = list(views.notes)
    warning = prior_warning(settings.traj_prior) if settings.traj_prior is not None else None
    if warning is not None:
        notes.append(warning)
    if not deviation.is_ring:
        notes.append(
            "the eight views are not a ring around one point: largest distance "
            f"{deviation.centre_distance:.3f}, yaw {deviation.yaw_deg:.1f} and tilt {deviation.tilt_deg:.1f} degrees"
        )
    return Outcome(
        metrics=dict(views.metrics),
        quality="ok" if deviation.is_ring else "degraded",
        notes=tuple(notes),
        outputs={"scaffold_path": layout.SCAFFOLD_FINAL},
    )


def _basis(settings: ScaffoldSettings) -> Mapping[str, Any]:
    return {name: value for name, value in asdict(settings).items() if value is not None}


SCAFFOLD: StageDefinition[ScaffoldSettings] = StageDefinition(
    number=1,
    name=STAGE_NAMES[1],
    settings=scaffold_settings,
    basis=_basis,
    produce=produce_scaffold,
    source=scaffold_source,
)
