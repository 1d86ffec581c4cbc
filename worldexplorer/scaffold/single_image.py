"""single_image: the photo is view 000, the novel-view model makes the frames around it, every eighth part is a view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from worldexplorer.context import StageContext
from worldexplorer.engine import NovelViewRequest
from worldexplorer.geometry.cameras import opengl_to_opencv
from worldexplorer.photo import load_photo, photo_hfov, view_zero
from worldexplorer.progress import part
from worldexplorer.scaffold.poses import VIEW_COUNT, key_frame_indices, prior_path
from worldexplorer.scaffold.scaffold_file import Source
from worldexplorer.scaffold.views import ScaffoldViews
from worldexplorer.seeds import derive_seed

if TYPE_CHECKING:
    from worldexplorer.scaffold.stage import ScaffoldSettings

NEAR_INPUT_CFG = 1.2
"""Guidance scale of frames next to a given one."""
STEPS = 50
_UNSCALED = 1.0


def single_image_views(context: StageContext[ScaffoldSettings]) -> ScaffoldViews:
    """Grow the views from the job's photo.

    Raises:
        UserError: the photo cannot be read, or is too small or too large.
    """
    settings, engine = context.settings, context.engine
    assert context.job.image is not None, "single_image is chosen only for jobs with a photo"
    assert settings.num_frames is not None
    assert settings.traj_prior is not None
    assert settings.cfg is not None
    photo = load_photo(context.job.image)
    size = engine.image_size
    first, covered = view_zero(photo, settings.hfov, size)
    hfov = photo_hfov(photo.shape[1], photo.shape[0], settings.hfov)
    world = engine.build_world(photo, hfov, settings.scene_type, part(context.progress, 0.0, 0.4))
    scale = settings.translation_scaling_factor or _UNSCALED
    path = prior_path(settings.traj_prior, settings.num_frames, scale)
    images = np.zeros((settings.num_frames, size, size, 3), dtype=np.uint8)
    images[0] = first
    c2w = opengl_to_opencv(path.c2w)
    c2w[:, :3, 3] *= scale
    request = NovelViewRequest(
        images=images,
        # A first view that the photo does not fill is made like the others, and the photo laid over it.
        given=np.arange(settings.num_frames) < int(covered.all()),
        c2w=c2w,
        intrinsics=path.intrinsics,
        translation_scaling_factor=scale,
        cfg=settings.cfg[0],
        cfg_min=NEAR_INPUT_CFG,
        steps=STEPS,
        seed=derive_seed(context.seed, "scaffold", "views"),
        world=world,
    )
    frames = engine.novel_views().sample([request], part(context.progress, 0.4, 0.95))[0]
    frames[0] = np.where(covered[..., None], first, frames[0])
    keys = key_frame_indices(settings.num_frames)
    first_source: Source = "input" if covered.all() else "input+generated"
    other_sources: list[Source] = ["generated"] * (VIEW_COUNT - 1)
    return ScaffoldViews(
        images=frames[keys],
        c2w=path.c2w[keys],
        intrinsics=path.intrinsics[keys],
        sources=(first_source, *other_sources),
        method=settings.method,
        prior=settings.traj_prior,
        frames=frames,
        world=world,
        metrics={"photo_hfov_deg": round(hfov, 4), "photo_coverage": round(float(covered.mean()), 4)},
    )
