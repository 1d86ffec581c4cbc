"""An engine for tests of everything around engines: real shapes, real poses, made in milliseconds.

Its world is a textured box around the origin, so that geometry, alignment and collision have something true to work on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from worldexplorer.engine import (
    Images,
    NotMeasured,
    NovelViewRequest,
    PointMaps,
    Poses,
    SplatScene,
    StageDefaults,
    TrainingResult,
    Views,
    World,
)
from worldexplorer.errors import UsageError
from worldexplorer.geometry.cameras import camera_rays, normalised_intrinsics, opencv_to_opengl, opengl_to_opencv
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.progress import Progress, part

SIZE = 16
HALF_WIDTH = 3.0
"""Of the box, in trajectory units."""
METRES_A_UNIT = 0.5


class TinyEngine:
    name = "preview"
    label = "tiny test engine"
    licence = "MIT"
    remedy = "nothing"
    image_size = SIZE
    stage_weights = (1.0, 1.0, 1.0)
    defaults = StageDefaults(num_images_for_vggt=8, frames_per_trajectory=4, point_count=64, heldout_views=2)

    def __init__(self) -> None:
        self.calls: list[str] = []
        """What was computed, in order: `sample N` and `train`."""
        self.missing: list[str] = []

    def describe(self) -> dict[str, Any]:
        return {"name": "tiny"}

    def check(self, stages: Sequence[int], scaffold_method: str, traj_prior: str) -> list[str]:
        return self.missing

    def build_world(self, photo: Images, hfov_deg: float, scene_type: str | None, progress: Progress) -> World | None:
        return None

    def load_world(self, folder: Path | None, scaffold: Views) -> World | None:
        return None

    def extra_trajectories(self, translation_scaling_factor: float) -> Mapping[str, Poses]:
        return {}

    def scene_models(self, scene_type: str | None) -> Mapping[str, str]:
        return {}

    def novel_views(self) -> TinyEngine:
        return self

    def depth(self, scene_type: str | None = None) -> TinyDepth:
        return TinyDepth()

    def geometry(self) -> TinyEngine:
        return self

    def splat_trainer(self) -> TinyEngine:
        return self

    def text_to_image(self, name: str) -> NoReturn:
        raise UsageError("the tiny engine makes nothing from text", remedy="take --scaffold_method single_image")

    def inpaint(self, name: str) -> NoReturn:
        raise UsageError("the tiny engine fills in nothing", remedy="take --scaffold_method single_image")

    def prompt_scorer(self) -> NoReturn:
        raise UsageError("the tiny engine does not read", remedy="take --scaffold_method single_image")

    def sample_each(self, requests: Sequence[NovelViewRequest], progress: Progress) -> Iterator[tuple[int, Images]]:
        """One after the other through `sample`, so that who replaces that one replaces both."""
        for number, request in enumerate(requests):
            share = part(progress, number / len(requests), (number + 1) / len(requests))
            yield number, self.sample([request], share)[0]

    def sample(self, requests: Sequence[NovelViewRequest], progress: Progress) -> list[Images]:
        results = []
        for request in requests:
            self.calls.append(f"sample {int((~request.given).sum())}")
            c2w = opencv_to_opengl(request.c2w)
            c2w[:, :3, 3] /= request.translation_scaling_factor
            frames = request.images.copy()
            for frame in np.flatnonzero(~request.given):
                frames[frame] = _colours(_hits(c2w[frame], request.intrinsics[frame])[0])
                progress(int(frame), len(frames), "sampling")
            results.append(frames)
        return results

    def points(self, views: Views, world: World | None, translation_scaling_factor: float) -> PointMaps:
        hits = np.stack([_hits(pose, K)[0] for pose, K in zip(views.c2w, views.intrinsics, strict=True)])
        into_first = np.linalg.inv(opengl_to_opencv(views.c2w)[0])
        points = hits @ into_first[:3, :3].T + into_first[:3, 3]
        return PointMaps(
            points=points.astype(np.float32),
            confidence=np.ones(points.shape[:3], dtype=np.float32),
            c2w=into_first @ opengl_to_opencv(views.c2w),
        )

    def train(self, scene: SplatScene, seed: int, checkpoint: Path, progress: Progress) -> TrainingResult:
        self.calls.append("train")
        progress(1, 1, "training")
        count = len(scene.points)
        turned = np.zeros((count, 4), dtype=np.float32)
        turned[:, 0] = 1.0
        return TrainingResult(
            Gaussians(
                means=scene.points,
                log_scales=np.full((count, 3), -3.0, dtype=np.float32),
                quaternions=turned,
                opacity_logits=np.full(count, 2.0, dtype=np.float32),
                sh=((scene.colours[:, None, :] / 255 - 0.5) / 0.28209479).astype(np.float32),
            ),
            {"psnr_train": 20.0},
        )

    def render(self, gaussians: Gaussians, c2w: Poses, intrinsics: Poses, size: int) -> Images:
        return box_views(c2w, intrinsics, size)

    def render_depth(self, gaussians: Gaussians, c2w: Poses, intrinsics: Poses, size: int) -> np.ndarray:
        depths = [_hits(pose, K, size, size)[1] for pose, K in zip(c2w, intrinsics, strict=True)]
        return np.stack(depths).astype(np.float32)

    def contributions(
        self, gaussians: Gaussians, c2w: Poses, intrinsics: Poses, size: int, progress: Progress
    ) -> np.ndarray:
        progress(len(c2w), len(c2w), "contributions")
        return np.arange(gaussians.count, dtype=np.float64)

    def lpips(self, gaussians: Gaussians, views: Views) -> float | NotMeasured:
        return NotMeasured("the tiny engine has no networks")


class TinyDepth:
    def depth(self, views: Views, world: World | None, translation_scaling_factor: float) -> np.ndarray:
        metres = METRES_A_UNIT * translation_scaling_factor
        return np.stack(
            [metres * _hits(pose, K)[1] for pose, K in zip(views.c2w, views.intrinsics, strict=True)]
        ).astype(np.float32)


def box_views(c2w: Poses, intrinsics: Poses, size: int = SIZE) -> Images:
    """What cameras inside the box see: [N, size, size, 3] uint8."""
    return np.stack([_colours(_hits(pose, K, size, size)[0]) for pose, K in zip(c2w, intrinsics, strict=True)])


def box_photo(width: int, height: int) -> Images:
    """What a photo from the middle of the box shows, its square middle being view 000: [height, width, 3] uint8."""
    side = min(width, height)
    intrinsics = normalised_intrinsics()
    intrinsics[0, 0] *= side / width
    intrinsics[1, 1] *= side / height
    return _colours(_hits(np.eye(4), intrinsics, width, height)[0])


def _hits(c2w: Poses, intrinsics: Poses, width: int = SIZE, height: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Where the rays of a camera inside the box meet it, and their z-depth."""
    local = camera_rays(intrinsics, width, height)
    rays = local @ c2w[:3, :3].T
    origin = c2w[:3, 3]
    with np.errstate(divide="ignore"):
        reach = (np.where(rays > 0, HALF_WIDTH, -HALF_WIDTH) - origin) / rays
    distance = np.where(np.isfinite(reach), reach, np.inf).min(axis=-1)
    return origin + rays * distance[..., None], distance * -local[..., 2]


def _colours(points: np.ndarray) -> Images:
    return np.clip(127 + 100 * np.sin(2.0 * points + np.array([0.0, 1.0, 2.0])), 0, 255).astype(np.uint8)
