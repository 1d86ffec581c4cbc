"""Stage 1's samplings through SEVA itself, at the tiny size on a CPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_seva import SIZE, request, save_tiny_weights

from worldexplorer.engine import Images, NovelViewRequest
from worldexplorer.models.seva.guidance import guidance_scales, multiview_scales, temporal_scales
from worldexplorer.models.seva.model import SevaModel
from worldexplorer.models.seva.settings import SevaSettings
from worldexplorer.progress import Progress, silent
from worldexplorer.scaffold.path_frames import PathFrames, start_view
from worldexplorer.scaffold.poses import prior_path
from worldexplorer.scaffold.samplings import Window, plan_samplings


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SevaModel:
    files = save_tiny_weights(tmp_path_factory.mktemp("weights"))
    return SevaModel(files, SevaSettings(precision="float32"), torch.device("cpu"))


class Hurried:
    """SEVA in two steps instead of fifty."""

    def __init__(self, model: SevaModel) -> None:
        self._model = model
        self.requests: list[NovelViewRequest] = []

    def sample_each(self, requests: list[NovelViewRequest], progress: Progress) -> Iterator[tuple[int, Images]]:
        self.requests += requests
        yield from self._model.sample_each([dataclasses.replace(one, steps=2) for one in requests], progress)


def test_a_guider_is_chosen_by_its_name(model: SevaModel) -> None:
    asked = request(frames=6, given=1)
    conditions = (torch.from_numpy(asked.c2w), torch.from_numpy(asked.intrinsics), torch.from_numpy(asked.given))
    for name, scales in (("multiview", multiview_scales), ("temporal", temporal_scales)):
        found = guidance_scales(name, *conditions, 3.0, 1.2)  # type: ignore[arg-type]
        assert torch.equal(found, scales(*conditions, 3.0, 1.2))
    both = [dataclasses.replace(asked, guider=name) for name in ("multiview", "temporal")]  # type: ignore[arg-type]
    one, other = (model.sample([single], silent)[0] for single in both)
    assert not np.array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("hfov", [None, 40.0])
def test_a_pan_of_32_frames(model: SevaModel, tmp_path: Path, hfov: float | None) -> None:
    """24 frames together, which is more than the network was trained for, and 8 between them."""

    class Engine:
        image_size = SIZE
        hurried = Hurried(model)

        def novel_views(self) -> Hurried:
            return self.hurried

    class Context:
        engine = Engine()
        seed = 0
        work = tmp_path

        @staticmethod
        def keep() -> None:
            pass

    rows, columns = np.mgrid[0:72, 0:96]
    photo = np.stack([rows * 3, columns * 2, rows + columns], axis=-1).astype(np.uint8)
    start = start_view(photo, hfov, SIZE)
    steps = plan_samplings(32, closed=True, window=Window(24, 21), photo_fills_first=start.fills_first)
    path = prior_path("pan-in-place", 32, 1.0)
    maker = PathFrames(Context(), path, start, steps, cfg=(4.0, 2.0), world=None, scale=1.0)  # type: ignore[arg-type]
    frames = maker.make(silent)
    assert sorted(frames) == list(range(32))
    assert np.array_equal(frames[0][start.covered], start.view[start.covered])
    assert all(frame.std() > 1 for frame in frames.values())
    assert max(len(one.given) for one in Context.engine.hurried.requests) == (24 if hfov is None else 21)
