"""single_image: the photo is view 000, the novel-view model makes the frames around it, every eighth part is a view.

Where the cameras turn on the spot, neighbouring views are tested for showing one place
(:mod:`worldexplorer.scaffold.acceptance`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from worldexplorer.config import PAN_GROWTHS
from worldexplorer.context import StageContext
from worldexplorer.engine import Picture, World
from worldexplorer.photo import load_photo, photo_hfov
from worldexplorer.progress import Progress, part
from worldexplorer.scaffold.acceptance import DEFAULT_OVERLAP_DB, accept_ring
from worldexplorer.scaffold.path_frames import PathFrames, start_view
from worldexplorer.scaffold.poses import DEFAULT_PRIOR, VIEW_COUNT, PriorPath, key_frame_indices, prior_path
from worldexplorer.scaffold.samplings import Step, Window, joint_frames, plan_samplings
from worldexplorer.scaffold.scaffold_file import Source
from worldexplorer.scaffold.views import ScaffoldViews

if TYPE_CHECKING:
    from worldexplorer.scaffold.stage import ScaffoldSettings

_WORLD_SHARE = 0.4
_UNSCALED = 1.0


@dataclass(frozen=True)
class PhotoPath:
    """A camera path that starts from a photo, and its frames.

    Attributes:
        path: the cameras.
        frames: [S, S, 3] uint8 each, by number.
        first_source: of view 000.
        world: what the engine made of the photo.
        metrics: of the photo.
    """

    path: PriorPath
    frames: dict[int, Picture]
    first_source: Source
    world: World | None
    metrics: dict[str, Any]


def single_image_views(context: StageContext[ScaffoldSettings]) -> ScaffoldViews:
    """Grow the views from the job's photo.

    Raises:
        UserError: the photo cannot be read, or is too small or too large.
    """
    settings = context.settings
    made = photo_path(context, part(context.progress, 0.0, 0.95))
    frames = np.stack([made.frames[number] for number in range(len(made.frames))])
    keys = key_frame_indices(len(frames))
    other_sources: list[Source] = ["generated"] * (VIEW_COUNT - 1)
    views = ScaffoldViews(
        images=frames[keys],
        c2w=made.path.c2w[keys],
        intrinsics=made.path.intrinsics[keys],
        sources=(made.first_source, *other_sources),
        method=settings.method,
        prior=settings.traj_prior,
        frames=frames,
        world=made.world,
        metrics=made.metrics,
    )
    return tested(views, settings) if settings.traj_prior == DEFAULT_PRIOR else views


def photo_path(context: StageContext[ScaffoldSettings], progress: Progress, *, joint_only: bool = False) -> PhotoPath:
    """Make the frames of the path that the settings name.

    Args:
        context: of the stage.
        progress: of this work.
        joint_only: follow the path in as many frames as are made together, if the settings ask for more.

    Raises:
        UserError: see :func:`single_image_views`.
    """
    settings, engine = context.settings, context.engine
    assert context.job.image is not None, "single_image is chosen only for jobs with a photo"
    assert settings.num_frames is not None
    assert settings.traj_prior is not None
    assert settings.cfg is not None
    photo = load_photo(context.job.image)
    scale = settings.translation_scaling_factor or _UNSCALED
    first_lens = float(prior_path(settings.traj_prior, VIEW_COUNT, scale).intrinsics[0, 0, 0])
    start = start_view(photo, settings.hfov, engine.image_size, first_lens)
    hfov = photo_hfov(photo.shape[1], photo.shape[0], settings.hfov)
    world = engine.build_world(photo, hfov, settings.scene_type, part(progress, 0.0, _WORLD_SHARE))
    window = sampling_window(settings)
    count = settings.num_frames
    if joint_only:
        count = len(joint_frames(count, closed=True, window=window, photo_fills_first=start.fills_first))
    path = prior_path(settings.traj_prior, count, scale)
    steps = plan_samplings(
        count,
        closed=path.closed,
        window=window,
        two_steps=settings.growth == PAN_GROWTHS[1],
        photo_fills_first=start.fills_first,
    )
    # An engine that makes any number of frames in one go has nothing to go on from in the middle.
    keeps = window is not None
    maker = PathFrames(context, path, start, steps, cfg=settings.cfg, world=world, scale=scale, keeps=keeps)
    return PhotoPath(
        path=path,
        frames=maker.make(part(progress, _WORLD_SHARE, 1.0)),
        first_source="input" if start.fills_first else "input+generated",
        world=world,
        metrics={
            "photo_hfov_deg": round(hfov, 4),
            "photo_coverage": round(float(start.covered.mean()), 4),
            **_samplings(steps, window),
        },
    )


def sampling_window(settings: ScaffoldSettings) -> Window | None:
    """How many frames are made in one sampling; None for any number."""
    if settings.sampling_frames is None:
        return None
    return Window(settings.joint_frames or settings.sampling_frames, settings.sampling_frames)


def fewer_joint_frames(settings: ScaffoldSettings) -> tuple[ScaffoldSettings, str] | None:
    """A joint sampling no larger than the others, where it was: it is what needs most memory."""
    window = sampling_window(settings)
    if window is None or window.joint <= window.between:
        return None
    return replace(settings, joint_frames=window.between), f"joint_frames {window.between}"


def tested(views: ScaffoldViews, settings: ScaffoldSettings) -> ScaffoldViews:
    """Views from one place, with what the acceptance test says of them."""
    threshold = DEFAULT_OVERLAP_DB if settings.overlap_psnr is None else settings.overlap_psnr
    found = accept_ring(views.images, views.c2w, views.intrinsics[0], threshold)
    return replace(
        views,
        metrics={**views.metrics, **found.metrics},
        quality=found.quality,
        notes=(*views.notes, *found.notes),
    )


def _samplings(steps: list[Step], window: Window | None) -> dict[str, Any]:
    """What of the samplings goes into the record; nothing where there is but one way."""
    if window is None:
        return {}
    return {"samplings": [len(sampling.frames) for step in steps for sampling in step]}
