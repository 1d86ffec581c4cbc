"""Pictures and videos of a world.

Depths are shown in grey: the nearer the lighter, by the logarithm, from the 1st to the 99th percentile of what is seen;
what covers nothing is black.

Example:
    >>> write_video(path, frames(trainer, gaussians, c2w, intrinsics, 576), FRAME_RATE)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from worldexplorer.engine import Images, Poses, SplatTrainer
from worldexplorer.progress import Progress, silent

if TYPE_CHECKING:
    from worldexplorer.geometry.gaussians import Gaussians

FRAMES_AT_ONCE = 16
"""Rendered in one go: few enough that a video of any length fits into memory."""

_DARKEST = 32
"""Grey of what is furthest away, so that it differs from nothing at all."""
_PERCENTILES = (1.0, 99.0)


@dataclass(frozen=True)
class DepthRange:
    """Between which depths grey values run, in the world's units."""

    near: float
    far: float


def frames(
    trainer: SplatTrainer,
    gaussians: Gaussians,
    c2w: Poses,
    intrinsics: Poses,
    size: int,
    depths: DepthRange | None = None,
    progress: Progress = silent,
) -> Iterator[Images]:
    """[size, size, 3] uint8 pictures, one after the other; of depths where a range for them is given."""
    for start in range(0, len(c2w), FRAMES_AT_ONCE):
        span = slice(start, start + FRAMES_AT_ONCE)
        if depths is None:
            yield from trainer.render(gaussians, c2w[span], intrinsics[span], size)
        else:
            yield from depth_pictures(trainer.render_depth(gaussians, c2w[span], intrinsics[span], size), depths)
        progress(min(start + FRAMES_AT_ONCE, len(c2w)), len(c2w), "frames")


def depth_range(depths: NDArray[np.float32]) -> DepthRange:
    """The range of depths of any shape; one of no use where nothing is seen."""
    seen = depths[np.isfinite(depths)]
    if not seen.size:
        return DepthRange(1.0, 2.0)
    near, far = np.percentile(seen, _PERCENTILES)
    return DepthRange(float(near), float(max(far, near * (1.0 + 1e-6))))  # of one depth: all as light as can be


def depth_pictures(depths: NDArray[np.float32], limits: DepthRange) -> Images:
    """[N, H, W] depths in grey: [N, H, W, 3] uint8."""
    seen = np.isfinite(depths)
    place = np.log(np.where(seen, depths, limits.far) / limits.near) / np.log(limits.far / limits.near)
    grey = 255.0 - (255.0 - _DARKEST) * np.clip(place, 0.0, 1.0)
    return np.repeat(np.where(seen, np.round(grey), 0.0).astype(np.uint8)[..., None], 3, axis=-1)
