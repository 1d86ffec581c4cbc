"""single_image_hybrid: the photo and three views grown from it, and the corners between them filled in.

The views 000, 002, 004 and 006 are frames of a joint sampling as single_image makes it; each corner view takes
from its two neighbours what they show of it, and an inpainting model makes the rest
(:mod:`worldexplorer.scaffold.corners`). So no two neighbours contradict each other where they overlap, at the price of
corners that know nothing of each other.

Every frame and every corner is kept as soon as it is made.

Example:
    >>> single_image_hybrid_views(context).sources
    ('input', 'inpainted', 'generated', 'inpainted', 'generated', 'inpainted', 'generated', 'inpainted')
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from worldexplorer.context import StageContext
from worldexplorer.engine import Picture
from worldexplorer.progress import part
from worldexplorer.scaffold.corners import CARDINALS, CORNERS, corner_view
from worldexplorer.scaffold.kept_pictures import KeptPictures
from worldexplorer.scaffold.poses import VIEW_COUNT, key_frame_indices
from worldexplorer.scaffold.prompts import inpaint_prompt
from worldexplorer.scaffold.scaffold_file import Source
from worldexplorer.scaffold.single_image import photo_path, tested
from worldexplorer.scaffold.variants import kept_name, make_variants, variants_of
from worldexplorer.scaffold.views import ScaffoldViews

if TYPE_CHECKING:
    from worldexplorer.scaffold.stage import ScaffoldSettings

METHOD = "single_image_hybrid"
_SAME_PLACE = "the same place"
"""What a corner shows, where the sample has no theme."""
_PATH_SHARE = 0.6


def single_image_hybrid_views(context: StageContext[ScaffoldSettings]) -> ScaffoldViews:
    """Grow four views from the job's photo and fill in the four between.

    Raises:
        UserError: the photo cannot be used, or the engine has no inpainting model of that name.
    """
    settings = context.settings
    assert settings.inpaint is not None
    made = photo_path(context, part(context.progress, 0.0, _PATH_SHARE), joint_only=True)
    keys = key_frame_indices(len(made.frames))
    pictures: dict[int, Picture] = {view: made.frames[keys[view]] for view in CARDINALS}
    kept = KeptPictures(context.work / "corners", context.work / "corner_marks", context.keep)
    variants = variants_of(settings.guidances, 1)[:1]
    prompt = inpaint_prompt(settings.inpaint, (settings.theme or _SAME_PLACE,))
    for place, number in enumerate(CORNERS):
        corner = corner_view(number, pictures)
        start, end = (_PATH_SHARE + (0.95 - _PATH_SHARE) * step / len(CORNERS) for step in (place, place + 1))
        make_variants(
            context.engine,
            settings.inpaint,
            kept,
            corner,
            variants,
            prompt,
            context.seed,
            part(context.progress, start, end),
        )
        pictures[number] = kept.read(kept_name(number, variants[0]))
    sources: list[Source] = ["inpainted" if view in CORNERS else "generated" for view in range(VIEW_COUNT)]
    sources[0] = made.first_source
    views = ScaffoldViews(
        images=np.stack([pictures[view] for view in range(VIEW_COUNT)]),
        c2w=made.path.c2w[keys],
        intrinsics=made.path.intrinsics[keys],
        sources=tuple(sources),
        method=settings.method,
        prior=settings.traj_prior,
        frames=np.stack([made.frames[frame] for frame in sorted(made.frames)]),
        world=made.world,
        metrics=made.metrics,
    )
    return tested(views, settings)
