"""The preview engine: a whole world from one photo on a CPU, without weights.

Stage 1 builds a panorama with ranges around the photo (:mod:`worldexplorer.preview.world`); the models of stages 2 and
3 look at that world, or fit Gaussians to views of it. Everything it makes is synthesised, and labelled so.

Example:
    >>> engine = PreviewEngine(preset="smoke", seed=0)
    >>> world = engine.build_world(photo, 60.08, "outdoor", silent)
    >>> depth = engine.depth().depth(views, world, translation_scaling_factor=10.0)
"""

from __future__ import annotations

import importlib.util
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from worldexplorer.engine import Images, Poses, StageDefaults, Views
from worldexplorer.errors import UsageError
from worldexplorer.preview.presets import PRESETS
from worldexplorer.preview.trainer_settings import TrainerSettings
from worldexplorer.preview.versions import ALGORITHM_VERSIONS
from worldexplorer.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from worldexplorer.preview.models import PreviewDepth, PreviewGeometry, PreviewNovelViews, WorldRenderers
    from worldexplorer.preview.trainer import PreviewTrainer
    from worldexplorer.preview.world import World

_PACKAGES = {
    "cv2": "opencv-python-headless",
    "imageio": "imageio",
    "imageio_ffmpeg": "imageio-ffmpeg",
    "numba": "numba",
    "patchmatch": "pypatchmatch",
    "scipy": "scipy",
    "skimage": "scikit-image",
}
"""What the engine imports, and the package it comes with."""
_NO_INPAINTING = "stage 1 by single_image_hybrid needs an inpainting model, and the preview engine has none"
_NO_TEXT_TO_IMAGE = "stage 1 by scaffold_gen needs a text-to-image model, and the preview engine has none"

CAPS = "caps"
"""The trajectory of the views above and below the scaffold's ring."""


class PreviewEngine:
    """The preview engine (:class:`worldexplorer.engine.Engine`).

    Its models are imported when they are asked for: numba and OpenCV take over a second to load, and neither a plan nor
    a run that reuses everything needs them.

    Args:
        preset: a name in :data:`worldexplorer.preview.presets.PRESETS`.
        seed: of the world's synthesis.

    Raises:
        UsageError: there is no such preset.
    """

    name = "preview"
    label = "synthesised preview"
    remedy = (
        'install missing packages with: pip install "worldexplorer[preview]" (in a checkout: pip install -e '
        '".[preview]"); for views made from text take --engine full'
    )
    stage_weights = (8.0, 8.0, 60.0)
    licence = "No model weights: the engine is part of this program (MIT); its pictures derive from your photo alone."

    def __init__(self, preset: str, seed: int) -> None:
        if preset not in PRESETS:
            raise UsageError(
                f"there is no preset named {preset!r}", where="--preset", remedy=f"choose from: {', '.join(PRESETS)}"
            )
        self._preset = PRESETS[preset]
        self._seed = seed
        self._training = TrainerSettings(
            gaussians=self._preset.gaussians,
            iterations_half=self._preset.iterations_half,
            iterations_full=self._preset.iterations_full,
        )
        self.image_size = self._preset.image_size
        self.defaults = StageDefaults(
            num_images_for_vggt=self._preset.num_images_for_vggt,
            frames_per_trajectory=self._preset.frames_per_trajectory,
            point_count=self._preset.point_count,
            heldout_views=self._preset.heldout_views,
        )

    def describe(self) -> dict[str, Any]:
        """The preset and the trainer's settings with all their values, the seed, the versions of the algorithms."""
        return {
            "preset": asdict(self._preset),
            "training": asdict(self._training),
            "seed": self._seed,
            "algorithms": dict(ALGORITHM_VERSIONS),
        }

    def check(self, stages: Sequence[int], scaffold_method: str, traj_prior: str) -> list[str]:
        """Packages that are not installed, and views from text. Every prior can be rendered: it is but a path."""
        missing = [f"the package {package} is not installed" for name, package in _PACKAGES.items() if not _found(name)]
        if 1 in stages and scaffold_method == "scaffold_gen":
            missing.append(_NO_TEXT_TO_IMAGE)
        if 1 in stages and scaffold_method == "single_image_hybrid":
            missing.append(_NO_INPAINTING)
        return missing

    def build_world(self, photo: Images, hfov_deg: float, scene_type: str | None, progress: Progress) -> World:
        """The world around one photo ([H, W, 3] uint8, its true horizontal field of view)."""
        from worldexplorer.preview.panorama import build_world

        return build_world(
            photo,
            hfov_deg=hfov_deg,
            scene_type=scene_type,
            seed=self._seed,
            pixels_per_degree=self._preset.pixels_per_degree,
            progress=progress,
        )

    def load_world(self, folder: Path | None, scaffold: Views) -> World:
        """The world in `folder`, or one stitched from the eight views where there is no folder."""
        from worldexplorer.preview.panorama import stitch_world
        from worldexplorer.preview.world import World

        if folder is not None:
            return World.load(folder)
        return stitch_world(
            scaffold,
            scene_type=None,
            seed=self._seed,
            pixels_per_degree=self._preset.pixels_per_degree,
            progress=silent,
        )

    def extra_trajectories(self, translation_scaling_factor: float) -> Mapping[str, Poses]:
        """The cap views; at the origin, whatever the scale."""
        from worldexplorer.preview.models import cap_views

        return {CAPS: cap_views()}

    def scene_models(self, scene_type: str | None) -> Mapping[str, str]:
        """See Engine; there is one model each."""
        return {}

    def novel_views(self) -> PreviewNovelViews:
        """Renders new views of the world."""
        from worldexplorer.preview.models import PreviewNovelViews

        return PreviewNovelViews(self._renderers)

    def depth(self, scene_type: str | None = None) -> PreviewDepth:
        """Renders the world's depth."""
        from worldexplorer.preview.models import PreviewDepth

        return PreviewDepth(self._renderers)

    def geometry(self) -> PreviewGeometry:
        """Gives points on the world's surfaces."""
        from worldexplorer.preview.models import PreviewGeometry

        return PreviewGeometry(self._renderers)

    def splat_trainer(self) -> PreviewTrainer:
        """Fits Gaussians, as many and for as long as the preset says."""
        from worldexplorer.preview.trainer import PreviewTrainer

        return PreviewTrainer(self._training)

    def text_to_image(self, name: str) -> NoReturn:
        """UsageError: the preview engine has no such model."""
        _refuse_text()

    def inpaint(self, name: str) -> NoReturn:
        """UsageError: the preview engine has no such model."""
        _refuse_text()

    def prompt_scorer(self) -> NoReturn:
        """UsageError: the preview engine has no such model."""
        _refuse_text()

    @cached_property
    def _renderers(self) -> WorldRenderers:
        from worldexplorer.preview.models import WorldRenderers

        return WorldRenderers()


def _refuse_text() -> NoReturn:
    raise UsageError(
        _NO_TEXT_TO_IMAGE,
        where="--scaffold_method scaffold_gen",
        remedy="take --scaffold_method single_image, or --engine full",
    )


def _found(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
