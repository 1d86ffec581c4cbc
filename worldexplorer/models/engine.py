"""The full engine: the published models, on a GPU.

This version has the engine's name, its settings and its plans; the models themselves are not built in yet, and
:meth:`FullEngine.check` says so for every stage that needs one.

Example:
    >>> FullEngine().check([1], "single_image", "pan-in-place")
    ['stage 1 needs SEVA, which is not built into this version yet']
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from worldexplorer.config import DEFAULT_NUM_IMAGES_FOR_VGGT
from worldexplorer.engine import (
    DepthModel,
    GeometryModel,
    Images,
    NovelViewModel,
    Poses,
    SplatTrainer,
    StageDefaults,
    Views,
    World,
)
from worldexplorer.errors import UsageError
from worldexplorer.progress import Progress

_MODELS: Mapping[tuple[int, str], str] = {
    (1, "single_image"): "SEVA",
    (1, "scaffold_gen"): "FLUX and an inpainting model",
    (2, ""): "SEVA, a metric depth model and VGGT",
    (3, ""): "the splatfacto-big trainer",
}


class FullEngine:
    """SEVA, FLUX, VGGT and splatfacto-big behind the engine Protocols."""

    name = "full"
    label = "full engine"
    licence = "the licences of its models apply; SEVA, FLUX.1-dev and VGGT are for research and non-commercial use"
    remedy = "take --engine preview (CPU, no weights; a synthesised preview)"
    image_size = 576
    stage_weights = (3.0, 92.0, 5.0)
    defaults = StageDefaults(
        num_images_for_vggt=DEFAULT_NUM_IMAGES_FOR_VGGT,
        frames_per_trajectory=None,
        point_count=131_072,
        heldout_views=0,
    )

    def describe(self) -> dict[str, Any]:
        """See Engine."""
        return {"name": self.name}

    def check(self, stages: Sequence[int], scaffold_method: str, traj_prior: str) -> list[str]:
        """See Engine."""
        return [
            f"stage {number} needs {models}, which is not built into this version yet"
            for (number, method), models in _MODELS.items()
            if number in stages and method in ("", scaffold_method)
        ]

    def build_world(self, photo: Images, hfov_deg: float, scene_type: str | None, progress: Progress) -> World | None:
        """See Engine; the full engine needs no world."""
        return None

    def load_world(self, folder: Path | None, scaffold: Views) -> World | None:
        """See Engine; the full engine needs no world."""
        return None

    def extra_trajectories(self, translation_scaling_factor: float) -> Mapping[str, Poses]:
        """See Engine; the full engine needs none."""
        return {}

    def novel_views(self) -> NovelViewModel:
        """See Engine."""
        self._refuse()

    def depth(self) -> DepthModel:
        """See Engine."""
        self._refuse()

    def geometry(self) -> GeometryModel:
        """See Engine."""
        self._refuse()

    def splat_trainer(self) -> SplatTrainer:
        """See Engine."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise UsageError(
            "the full engine's models are not built into this version yet", where="--engine full", remedy=self.remedy
        )
