"""Stage 1 of one job: the photo becomes eight views around the camera.

The method decides where the views come from; everything after it (which frames are the views, their poses, the files)
is the same. A scaffold that the data set brings is taken in here too, so that stage 2 finds every scaffold alike.

Files, relative to the job's folder:

    scaffold/generated_views/NNN.png      single_image: every frame of the camera path, the photo's view first;
                                          scaffold_gen: the cardinal views, what they show of the corner views
                                          (NNN_given.png) and what was to be made of those (NNN_mask.png)
    scaffold/corners.json                 scaffold_gen: every variant of each corner view, its score, the one taken
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
from worldexplorer.config import PAN_GROWTHS, SCAFFOLD_GEN, STAGE_NAMES, RunConfig, ScaffoldConfig
from worldexplorer.context import Outcome, Question, StageContext, StageDefinition
from worldexplorer.dataset import Job
from worldexplorer.engine import Engine
from worldexplorer.errors import UsageError
from worldexplorer.photo import check_header
from worldexplorer.records import InputEntry
from worldexplorer.scaffold.acceptance import DEFAULT_OVERLAP_DB
from worldexplorer.scaffold.hybrid import METHOD as HYBRID
from worldexplorer.scaffold.hybrid import single_image_hybrid_views
from worldexplorer.scaffold.poses import DEFAULT_PRIOR, canonical_prior, prior_warning
from worldexplorer.scaffold.prompts import inpaint_prompt, require_texts
from worldexplorer.scaffold.provided import provided_files, provided_views
from worldexplorer.scaffold.scaffold_gen import scaffold_gen_views
from worldexplorer.scaffold.single_image import fewer_joint_frames, single_image_views
from worldexplorer.scaffold.variants import takes_guidance
from worldexplorer.scaffold.views import ScaffoldViews, write_views

PROVIDED = "provided"


@dataclass(frozen=True)
class ScaffoldSettings:
    """What a job's scaffold depends on besides its photo and the engine.

    None is what the method does not use, or leaves as it is without a flag (`growth`, `overlap_psnr`).
    """

    method: str
    traj_prior: str | None = None
    num_frames: int | None = None
    cfg: tuple[float, ...] | None = None
    growth: str | None = None
    overlap_psnr: float | None = None
    sampling_frames: int | None = None
    joint_frames: int | None = None
    hfov: float | None = None
    scene_type: str | None = None
    translation_scaling_factor: float | None = None
    mode: str | None = None
    prompts: tuple[str, ...] | None = None
    theme: str | None = None
    text_to_image: str | None = None
    inpaint: str | None = None
    guidances: tuple[float, ...] | None = None
    corner_seeds: int | None = None


def scaffold_settings(job: Job, run: RunConfig, engine: Engine) -> ScaffoldSettings:
    """The settings of one job; UsageError where they cannot be."""
    config = run.scaffold
    if job.scaffold_path is not None:
        return ScaffoldSettings(PROVIDED)
    if config.scaffold_method == SCAFFOLD_GEN:
        return _text_settings(job, config)
    return _photo_settings(job, run, engine)


def _photo_settings(job: Job, run: RunConfig, engine: Engine) -> ScaffoldSettings:
    config = run.scaffold
    prior = canonical_prior(config.traj_prior)
    turning = prior == DEFAULT_PRIOR
    hybrid = config.scaffold_method == HYBRID
    if not turning:
        _require_turning(prior, config)
    return ScaffoldSettings(
        config.scaffold_method,
        traj_prior=prior,
        num_frames=config.num_seva_frames,
        cfg=config.cfg,
        growth=config.pan_growth if config.pan_growth != PAN_GROWTHS[0] else None,
        overlap_psnr=config.overlap_psnr if config.overlap_psnr != DEFAULT_OVERLAP_DB else None,
        sampling_frames=engine.defaults.sampling_frames,
        joint_frames=engine.defaults.joint_frames,
        hfov=config.hfov,
        scene_type=job.scene_type,
        # Only a prior that moves has a length to scale.
        translation_scaling_factor=None if turning else overrides.translation_scaling(job, run.trajectory),
        inpaint=config.inpaint if hybrid else None,
        guidances=config.corner_guidances[:1] if hybrid and takes_guidance(config.inpaint) else None,
        theme=_corner_subject(job, config) if hybrid else None,
    )


def _corner_subject(job: Job, config: ScaffoldConfig) -> str | None:
    """What the corner views of a hybrid show, where the inpainting model goes by words and there are any."""
    theme = overrides.theme(job, config)
    return theme if theme is not None and inpaint_prompt(config.inpaint, (theme,)) == theme else None


def _require_turning(prior: str, config: ScaffoldConfig) -> None:
    """Refuse what only a turn on the spot can have; UsageError."""
    asked = [
        (f"--scaffold_method {HYBRID}", config.scaffold_method == HYBRID),
        (f"--pan_growth {config.pan_growth}", config.pan_growth != PAN_GROWTHS[0]),
        (f"--overlap_psnr {config.overlap_psnr}", config.overlap_psnr is not None),
    ]
    for flag, given in asked:
        if given:
            raise UsageError(
                f"the trajectory prior {prior!r} does not turn on the spot, which {flag.split()[0]} is about",
                where=flag,
                remedy=f"leave it out, or take --traj_prior {DEFAULT_PRIOR}",
            )


def _text_settings(job: Job, config: ScaffoldConfig) -> ScaffoldSettings:
    mode, prompts = overrides.scaffold_mode(job, config), overrides.prompts(job)
    fast = mode == "fast"
    guidances = config.corner_guidances[:1] if fast else config.corner_guidances
    return ScaffoldSettings(
        SCAFFOLD_GEN,
        hfov=config.hfov if job.image is not None else None,
        mode=mode,
        prompts=prompts,
        theme=overrides.theme(job, config) if prompts is None else None,
        text_to_image=config.text_to_image,
        inpaint=config.inpaint,
        guidances=guidances if takes_guidance(config.inpaint) else None,
        corner_seeds=1 if fast else config.corner_seeds,
    )


def scaffold_source(job: Job, settings: ScaffoldSettings) -> InputEntry:
    """What the scaffold is made from: the photo's bytes, or those of the views the data set brings."""
    if job.unfetched is not None:
        raise job.unfetched
    if settings.method == PROVIDED:
        assert job.scaffold_path is not None
        digests = [file_sha256(path) for path in provided_files(job.scaffold_path)]
        return InputEntry(stage=PROVIDED, fingerprint=hashlib.sha256("".join(digests).encode()).hexdigest())
    if settings.method == SCAFFOLD_GEN:
        require_texts(job, settings.prompts, settings.theme)
    if job.image is None:
        return InputEntry(stage="prompts", fingerprint="")
    check_header(job.image)
    return InputEntry(stage="photo", fingerprint=file_sha256(job.image))


def produce_scaffold(context: StageContext[ScaffoldSettings]) -> Outcome | Question:
    """Make the views and write the stage's files, or ask a person about them."""
    settings = context.settings
    views: ScaffoldViews
    if settings.method == PROVIDED:
        views = provided_views(context)
    elif settings.method == "single_image":
        views = single_image_views(context)
    elif settings.method == HYBRID:
        views = single_image_hybrid_views(context)
    else:
        made = scaffold_gen_views(context)
        if isinstance(made, Question):
            return made
        views = made
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
        quality=views.quality if deviation.is_ring else "degraded",
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
    smaller=fewer_joint_frames,
    implied={"overlap_psnr": DEFAULT_OVERLAP_DB},
)
