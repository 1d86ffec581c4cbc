"""Stage 2's passes through SEVA itself, at the tiny size on a CPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_seva import SIZE, save_tiny_weights

from worldexplorer.engine import Images, NovelViewRequest, StageDefaults, Views
from worldexplorer.geometry.cameras import normalised_intrinsics
from worldexplorer.models.seva.model import SevaModel
from worldexplorer.models.seva.settings import SevaSettings
from worldexplorer.progress import Progress, silent
from worldexplorer.scaffold.poses import scaffold_poses
from worldexplorer.trajectory.generate import ShotGenerator
from worldexplorer.trajectory.paths import published_trajectories
from worldexplorer.trajectory.scene_work import SceneWork
from worldexplorer.trajectory.walks import scene_walks
from worldexplorer.trajectory.writing import BackgroundWriter

pytestmark = pytest.mark.slow


class Engine:
    """SEVA in one step instead of fifty, which may be interrupted; nothing is in the way of its cameras."""

    image_size = SIZE
    defaults = StageDefaults(8, None, 64, 0, sampling_frames=21)

    def __init__(self, model: SevaModel, samplings: int | None = None) -> None:
        self._model = model
        self._left = samplings
        self.made = 0

    def novel_views(self) -> Engine:
        return self

    def depth(self, scene_type: str | None = None) -> Any:
        class Far:
            def depth(self, views: Views, world: object, scale: float) -> np.ndarray:
                return np.full((len(views.images), 8, 8), 5.0, dtype=np.float32)

        return Far()

    def sample(self, requests: Sequence[NovelViewRequest], progress: Progress) -> list[Images]:
        return [frames for _, frames in self.sample_each(requests, progress)]

    def sample_each(self, requests: Sequence[NovelViewRequest], progress: Progress) -> Iterator[tuple[int, Images]]:
        for number, request in enumerate(requests):
            if self.made == self._left:
                raise KeyboardInterrupt
            self.made += 1
            (frames,) = self._model.sample([dataclasses.replace(request, steps=1)], progress)
            yield number, frames


def make(folder: Path, engine: Any) -> dict[str, bytes]:
    """The frames of the first view's `in` and of the second one's."""
    pictures = np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3), dtype=np.uint8)
    scaffold = Views(pictures, scaffold_poses(), np.tile(normalised_intrinsics(), (8, 1, 1)))
    walks = scene_walks(scaffold.c2w, published_trajectories(), ("in",), None)[:2]
    (folder / "scene").mkdir(parents=True, exist_ok=True)
    with BackgroundWriter() as writer:
        shared = SceneWork(engine, scaffold, None, 3.0, None, 0.4, 0, folder / "work", writer)
        generator = ShotGenerator(shared, folder / "scene")
        generator.second_passes(walks, generator.first_passes(walks, silent), silent)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


def test_a_resumed_scene_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    model = SevaModel(save_tiny_weights(tmp_path / "weights"), SevaSettings(precision="float32"), torch.device("cpu"))
    whole = Engine(model)
    expected = make(tmp_path / "whole", whole)
    assert whole.made == 3 + 6
    assert len(expected) == 2 * (13 + 45)
    for samplings, again in ((2, 8), (4, 6), (7, 3)):
        folder = tmp_path / str(samplings)
        with pytest.raises(KeyboardInterrupt):
            make(folder, Engine(model, samplings))
        resumed = Engine(model)
        assert make(folder, resumed) == expected
        assert resumed.made == again  # at most one first pass, and what was not finished of the second passes
