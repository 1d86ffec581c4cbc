"""single_image_hybrid: four views of one sampling, and corners that agree with them where both see the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import (
    SmallEngine,
    Workbench,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
    photo_sample,
)
from text_engine import Stopped, TextEngine
from tiny_engine import box_views

from worldexplorer import layout
from worldexplorer.engine import Images, InpaintRequest, NovelViewRequest
from worldexplorer.geometry.cameras import normalised_intrinsics
from worldexplorer.pictures import read_pictures
from worldexplorer.progress import Progress, silent
from worldexplorer.records import StageRecord
from worldexplorer.scaffold.corners import CARDINALS, CORNERS, corner_view
from worldexplorer.scaffold.poses import scaffold_poses
from worldexplorer.scaffold.scaffold_file import read_scaffold
from worldexplorer.scaffold.stage import SCAFFOLD


class HybridEngine(TextEngine):
    defaults = replace(SmallEngine.defaults, sampling_frames=21, joint_frames=24)

    def __init__(self) -> None:
        super().__init__()
        self.sampled: list[NovelViewRequest] = []

    def sample(self, requests: Sequence[NovelViewRequest], progress: Progress) -> list[Images]:
        self.sampled += requests
        return super().sample(requests, progress)


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


def stage_1(bench: Workbench, engine: HybridEngine, **changes: object) -> StageRecord:
    run = bench.config(scaffold_method="single_image_hybrid", **changes)
    return bench.runner(run, engine=engine).run(bench.job(), "scaffold", silent)


def final(bench: Workbench) -> np.ndarray:
    return read_pictures(sorted(bench.job_path(layout.SCAFFOLD_FINAL).iterdir()))


def test_the_views(bench: Workbench) -> None:
    engine = HybridEngine()
    record = stage_1(bench, engine, num_seva_frames=80)
    assert [len(request.given) for request in engine.sampled] == [24]
    views = final(bench)
    expected = box_views(scaffold_poses(), np.tile(normalised_intrinsics(), (8, 1, 1)))
    for view in CARDINALS[1:]:
        assert (np.abs(views[view].astype(int) - expected[view]) <= 1).all()
    assert [type(request) for request in engine.made] == [InpaintRequest] * 4
    assert len({request.seed for request in engine.made}) == 4
    cardinals = {view: views[view] for view in CARDINALS}
    for number, request in zip(CORNERS, engine.made, strict=True):
        assert isinstance(request, InpaintRequest)
        corner = corner_view(number, cardinals)
        assert (request.image == corner.image).all()
        assert (request.mask == corner.mask).all()
        far = slice(0, 1)  # the outermost column at either side is further from the hole than the band reaches
        assert (views[number][:, far] == corner.image[:, far]).all()
        assert not (views[number] == expected[number]).all()
    scaffold = read_scaffold(bench.job_path(layout.SCAFFOLD_JSON))
    assert [view.source for view in scaffold.views] == ["input", "inpainted", *["generated", "inpainted"] * 3]
    assert (scaffold.method, scaffold.prior) == ("single_image_hybrid", "pan-in-place")
    np.testing.assert_allclose(scaffold.poses(), scaffold_poses(), atol=1e-9)
    assert len(list(bench.job_path(layout.GENERATED_VIEWS).iterdir())) == 24
    assert len(record.metrics["overlap_psnr"]) == 8


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_kill_among_the_corners_costs_only_what_was_not_kept(bench: Workbench, tmp_path: Path, count: int) -> None:
    other = Workbench(tmp_path / "other")
    stage_1(other, HybridEngine())
    first = HybridEngine()
    first.stop_after = count
    with pytest.raises(Stopped):
        stage_1(bench, first)
    second = HybridEngine()
    stage_1(bench, second)
    assert second.sampled == []
    assert len(second.made) == 4 - count
    assert (final(bench) == final(other)).all()


def test_words_count_only_for_models_that_go_by_them(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, [photo_sample(0, theme="forest")])
    engine = HybridEngine()
    stage_1(bench, engine, inpaint="flux2-klein")
    assert {(request.prompt, request.guidance) for request in engine.made} == {("forest", 1.0)}
    for model, counts in (("sd2-inpainting", False), ("flux2-klein", True)):
        run = bench.config(scaffold_method="single_image_hybrid", inpaint=model)
        basis = SCAFFOLD.basis(SCAFFOLD.settings(bench.job(), run, engine))
        assert ("theme" in basis) is counts
        assert basis["inpaint"] == model
        assert basis.get("guidances") == (None if counts else (7.0,))


def test_corners_agree_with_their_neighbours() -> None:
    """At a size where the band beside the hole is narrow against the overlap, whatever was made of the hole."""
    from worldexplorer.scaffold.acceptance import neighbour_psnr
    from worldexplorer.scaffold.corners import laid_over

    size = 144
    rows, columns = np.mgrid[0:size, 0:size] / size
    pictures = {
        view: np.rint(127 + 90 * np.sin(view + 5 * rows[..., None] + 4 * columns[..., None] + np.arange(3))).astype(
            np.uint8
        )
        for view in CARDINALS
    }
    for number in CORNERS:
        corner = corner_view(number, pictures)
        pictures[number] = laid_over(corner.image, corner.mask, np.full((size, size, 3), 127, dtype=np.uint8))
    images = np.stack([pictures[view] for view in range(8)])
    assert neighbour_psnr(images, scaffold_poses(), normalised_intrinsics()).min() > 20.0


def test_the_preview_engine_says_that_it_cannot() -> None:
    from worldexplorer.preview.engine import PreviewEngine

    problems = PreviewEngine("smoke", 0).check([1], "single_image_hybrid", "pan-in-place")
    assert any("needs an inpainting model" in problem for problem in problems)
    assert not any("inpainting" in problem for problem in PreviewEngine("smoke", 0).check([1], "single_image", "orbit"))
