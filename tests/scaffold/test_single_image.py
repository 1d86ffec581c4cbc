"""Samplings of stage 1 on an engine that makes a limited number of frames at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import (
    SmallEngine,
    Workbench,
    canonical_tree,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
)
from tiny_engine import SIZE, TinyEngine, box_views

from worldexplorer import layout
from worldexplorer.context import StageContext
from worldexplorer.engine import Images, NovelViewRequest
from worldexplorer.errors import DefectError, OutOfMemoryError, UsageError
from worldexplorer.geometry.cameras import (
    FOCAL_NORMALISED,
    focal_of_horizontal_fov,
    normalised_intrinsics,
    opencv_to_opengl,
    yaw_degrees,
)
from worldexplorer.photo import load_photo, view_zero
from worldexplorer.pictures import read_picture
from worldexplorer.progress import Progress, silent
from worldexplorer.records import StageRecord
from worldexplorer.scaffold.poses import prior_path
from worldexplorer.scaffold.single_image import single_image_views
from worldexplorer.scaffold.stage import SCAFFOLD
from worldexplorer.scaffold.views import ScaffoldViews


class PowerFailure(BaseException):
    """What no stage can catch."""


class WindowedEngine(SmallEngine):
    """Makes 21 frames at a time, 24 in the joint sampling; notes by its seed what each sampling was asked."""

    defaults = replace(SmallEngine.defaults, sampling_frames=21, joint_frames=24)

    def __init__(self, dies_at_call: int | None = None) -> None:
        super().__init__()
        self.handed: list[int] = []
        """Requests of each call."""
        self.requests: list[NovelViewRequest] = []
        self.results: list[Images] = []
        self._dies_at_call = dies_at_call

    def sample(self, requests: Sequence[NovelViewRequest], progress: Progress) -> list[Images]:
        if len(self.handed) == self._dies_at_call:
            raise PowerFailure
        results = super().sample(requests, progress)
        # A network's frames depend on the noise: here they are a little brighter or darker by the seed.
        for request, frames in zip(requests, results, strict=True):
            frames[~request.given] ^= np.uint8(request.seed % 4)
        self.handed.append(len(requests))
        self.requests += requests
        self.results += [frames.copy() for frames in results]
        return results


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


def context(bench: Workbench, engine: TinyEngine, folder: Path, **changes: Any) -> StageContext[Any]:
    kept: list[None] = []
    folder.mkdir(exist_ok=True)
    for name in ("out", "work"):
        (folder / name).mkdir(exist_ok=True)
    return StageContext(
        job=bench.job(),
        settings=SCAFFOLD.settings(bench.job(), bench.config(**changes), engine),
        engine=engine,
        seed=3,
        inputs=None,
        attempt="attempt",
        out=folder / "out",
        work=folder / "work",
        progress=silent,
        keep=lambda: kept.append(None),
    )


def views(bench: Workbench, engine: TinyEngine, folder: Path, **changes: Any) -> ScaffoldViews:
    return single_image_views(context(bench, engine, folder, **changes))


def asked(engine: WindowedEngine) -> Iterator[tuple[NovelViewRequest, np.ndarray, np.ndarray]]:
    """Every request with the yaws of its frames in degrees to the left, 0 to 360, and its result."""
    for request, result in zip(engine.requests, engine.results, strict=True):
        yaws = yaw_degrees(opencv_to_opengl(request.c2w)[:, :3, :3]) % 360.0
        yield request, np.where(np.isclose(yaws, 360.0), 0.0, yaws), result


class TestThePan:
    def test_counts_of_the_default(self, bench: Workbench, tmp_path: Path) -> None:
        engine = WindowedEngine()
        made = views(bench, engine, tmp_path / "a", num_seva_frames=80)
        assert engine.handed == [1] * 5
        assert [len(request.given) for request in engine.requests] == [24, 21, 21, 21, 21]
        assert sum(int((~request.given).sum()) for request in engine.requests) == 79
        assert made.metrics["samplings"] == [24, 21, 21, 21, 21]
        assert made.frames is not None
        assert len(made.frames) == 80

    @pytest.mark.parametrize("growth", ["joint", "two-step"])
    @pytest.mark.parametrize("count", [8, 24, 32, 80])
    def test_given_frames_are_those_made_before(
        self, bench: Workbench, tmp_path: Path, growth: str, count: int
    ) -> None:
        engine = WindowedEngine()
        made = views(bench, engine, tmp_path / "a", num_seva_frames=count, pan_growth=growth)
        assert made.frames is not None
        found = {0.0: made.frames[0]}
        for request, yaws, result in asked(engine):
            for place, yaw in enumerate(yaws.round(6)):
                if request.given[place]:
                    assert (request.images[place] == found[yaw]).all()
                else:
                    assert yaw not in found
                    found[yaw] = result[place]
        expected = [found[yaw] for yaw in (np.arange(count) * 360.0 / count).round(6)]
        assert (made.frames == np.stack(expected)).all()

    def test_cameras_turn_and_do_nothing_else(self, bench: Workbench, tmp_path: Path) -> None:
        engine = WindowedEngine()
        made = views(bench, engine, tmp_path / "a", num_seva_frames=80, translation_scaling_factor=10.0)
        for request in engine.requests:
            assert not request.c2w[:, :3, 3].any()
            assert (request.intrinsics == normalised_intrinsics()).all()
        assert not made.c2w[:, :3, 3].any()
        first, _ = view_zero(load_photo(bench.data / "0.png"), None, SIZE)
        assert (made.images[0] == first).all()

    def test_guidance(self, bench: Workbench, tmp_path: Path) -> None:
        engine = WindowedEngine()
        views(bench, engine, tmp_path / "a", num_seva_frames=80, cfg=(5.0, 2.5))
        joint, *between = engine.requests
        assert (joint.cfg, joint.cfg_min, joint.steps, joint.guider) == (5.0, 1.2, 50, "multiview")
        assert {(one.cfg, one.cfg_min, one.steps, one.guider) for one in between} == {(2.5, 1.2, 50, "temporal")}
        assert len({request.seed for request in engine.requests}) == 5

    def test_two_steps_have_the_guidance_of_the_first_pass(self, bench: Workbench, tmp_path: Path) -> None:
        engine = WindowedEngine()
        made = views(bench, engine, tmp_path / "a", num_seva_frames=24, pan_growth="two-step")
        assert [int(request.given.sum()) for request in engine.requests] == [1, 5]
        assert {(request.cfg, request.guider) for request in engine.requests} == {(4.0, "multiview")}
        assert made.metrics["samplings"] == [13, 16]
        (ahead, behind) = [yaws[~request.given] for request, yaws, _ in asked(engine)]
        assert sorted(np.minimum(ahead, 360.0 - ahead).round().tolist()) == sorted([15, 30, 45, 60, 75, 90] * 2)
        assert behind.min() == pytest.approx(105.0)
        assert behind.max() == pytest.approx(255.0)

    def test_a_narrow_photo_stands_beside_frame_0_with_its_own_lens(self, bench: Workbench, tmp_path: Path) -> None:
        engine = WindowedEngine()
        made = views(bench, engine, tmp_path / "a", num_seva_frames=24, hfov=40.0)
        joint = engine.requests[0]
        photo = load_photo(bench.data / "0.png")
        assert joint.given.tolist() == [True] + [False] * 16
        assert (joint.images[0] == view_zero(photo, None, SIZE)[0]).all()
        # 96 x 72 pixels, 40 degrees across: the square middle is 72 of 96 wide.
        assert joint.intrinsics[0, 0, 0] == pytest.approx(focal_of_horizontal_fov(40.0) * 96 / 72)
        assert (joint.c2w[0] == joint.c2w[1]).all()
        assert (joint.intrinsics[1:, 0, 0] == FOCAL_NORMALISED).all()
        first, covered = view_zero(photo, 40.0, SIZE)
        assert (made.images[0][covered] == first[covered]).all()
        assert (made.images[0][~covered] == engine.results[0][1][~covered]).all()
        assert made.sources[0] == "input+generated"
        for request, yaws, _ in asked(engine):
            for place in np.flatnonzero(request.given[1:] & (yaws[1:] == 0.0)) + 1:
                assert (request.images[place] == made.images[0]).all()


class TestOtherPriors:
    @pytest.mark.parametrize("prior", ["orbit", "move-left", "zoom-out", "roll"])
    def test_every_frame_has_its_own_camera(self, bench: Workbench, tmp_path: Path, prior: str) -> None:
        engine = WindowedEngine()
        made = views(
            bench, engine, tmp_path / "a", num_seva_frames=40, traj_prior=prior, translation_scaling_factor=5.0
        )
        path = prior_path(prior, 40, 5.0)
        cameras = np.concatenate([path.c2w[:, :3], path.intrinsics[:, :, :1]], axis=2)
        counts = np.zeros(40, dtype=int)
        for request in engine.requests:
            c2w = opencv_to_opengl(request.c2w)
            c2w[:, :3, 3] /= 5.0
            for place in np.flatnonzero(~request.given):
                camera = np.concatenate([c2w[place, :3], request.intrinsics[place, :, :1]], axis=1)
                counts += np.isclose(cameras, camera, atol=1e-9).all(axis=(1, 2))
        assert counts.tolist() == [0] + [1] * 39
        assert "overlap_psnr" not in made.metrics

    @pytest.mark.parametrize("prior", ["orbit", "zoom-in"])
    def test_view_000_is_the_photo_through_the_paths_own_lens(
        self, bench: Workbench, tmp_path: Path, prior: str
    ) -> None:
        """These paths begin at 54 degrees: the photo's square, 60.08 degrees wide, is cut to that."""
        made = views(bench, WindowedEngine(), tmp_path / "a", num_seva_frames=8, traj_prior=prior)
        assert made.intrinsics[0, 0, 0] == focal_of_horizontal_fov(54.0)
        assert made.sources[0] == "input"
        (through_own,) = box_views(np.eye(4)[None], made.intrinsics[:1])
        (through_other,) = box_views(np.eye(4)[None], normalised_intrinsics()[None])
        off, other_off = (np.abs(made.images[0].astype(float) - one).mean() for one in (through_own, through_other))
        assert off < other_off / 2

    @pytest.mark.parametrize(
        "change", [{"pan_growth": "two-step"}, {"overlap_psnr": 25.0}, {"scaffold_method": "single_image_hybrid"}]
    )
    def test_what_only_a_turn_on_the_spot_has(self, bench: Workbench, change: dict[str, Any]) -> None:
        with pytest.raises(UsageError, match="does not turn on the spot"):
            SCAFFOLD.settings(bench.job(), bench.config(traj_prior="orbit", **change), SmallEngine())


class TestResuming:
    @pytest.mark.parametrize("dies_at_call", [0, 1, 2, 4])
    @pytest.mark.parametrize("settings", [{}, {"hfov": 40.0}, {"pan_growth": "two-step"}])
    def test_a_resumed_path_equals_an_uninterrupted_one(
        self, bench: Workbench, tmp_path: Path, dies_at_call: int, settings: dict[str, Any]
    ) -> None:
        settings = {"num_seva_frames": 80, **settings}
        whole = WindowedEngine()
        expected = views(bench, whole, tmp_path / "whole", **settings)
        assert dies_at_call < len(whole.handed)
        first = WindowedEngine(dies_at_call)
        with pytest.raises(PowerFailure):
            views(bench, first, tmp_path / "cut", **settings)
        second = WindowedEngine()
        found = views(bench, second, tmp_path / "cut", **settings)
        assert first.handed + second.handed == whole.handed
        assert expected.frames is not None
        assert found.frames is not None
        assert (found.frames == expected.frames).all()
        assert found.metrics == expected.metrics

    def test_a_frame_that_was_damaged_is_made_again(self, bench: Workbench, tmp_path: Path) -> None:
        expected = views(bench, WindowedEngine(), tmp_path / "a", num_seva_frames=80)
        kept = tmp_path / "a" / "work" / "frames" / "001.png"
        kept.write_bytes(kept.read_bytes()[:-10])
        engine = WindowedEngine()
        found = views(bench, engine, tmp_path / "a", num_seva_frames=80)
        assert engine.handed == [1]
        assert expected.frames is not None
        assert found.frames is not None
        assert (found.frames == expected.frames).all()

    def test_every_call_is_kept_for_other_machines(self, bench: Workbench, tmp_path: Path) -> None:
        calls: list[int] = []
        here = context(bench, engine := WindowedEngine(), tmp_path / "a", num_seva_frames=80)
        single_image_views(replace(here, keep=lambda: calls.append(len(engine.handed))))
        assert calls == [1, 2, 3, 4, 5]

    def test_a_blank_frame_is_not_kept(self, bench: Workbench, tmp_path: Path) -> None:
        class Blind(WindowedEngine):
            def sample(self, requests: Sequence[NovelViewRequest], progress: Progress) -> list[Images]:
                results = super().sample(requests, progress)
                if len(self.handed) == 2:
                    results[0][1] = 7
                return results

        with pytest.raises(DefectError, match="frame 001 of the camera path is of one colour"):
            views(bench, Blind(), tmp_path / "a", num_seva_frames=80)
        engine = WindowedEngine()
        views(bench, engine, tmp_path / "a", num_seva_frames=80)
        assert engine.handed == [1] * 4

    def test_memory_that_ran_out_in_the_joint_sampling(self, bench: Workbench) -> None:
        class Small(WindowedEngine):
            def sample(self, requests: Sequence[NovelViewRequest], progress: Progress) -> list[Images]:
                if len(requests[0].given) > 21:
                    raise OutOfMemoryError("the GPU's memory ran out")
                return super().sample(requests, progress)

        engine = Small()
        record = bench.runner(bench.config(num_seva_frames=80), engine=engine).run(bench.job(), "scaffold", silent)
        assert [retry.adjustment for retry in record.retries] == ["joint_frames 21"]
        assert len(engine.requests[0].given) == 16
        assert record.metrics["samplings"][0] == 16
        assert max(record.metrics["samplings"]) <= 21
        assert record.quality == "ok"

    def test_an_engine_that_renders_keeps_nothing(self, bench: Workbench, tmp_path: Path) -> None:
        engine = SmallEngine()
        views(bench, engine, tmp_path / "a", num_seva_frames=80)
        assert engine.calls == ["sample 79"]
        assert list((tmp_path / "a" / "work").iterdir()) == []


class TestTheRecord:
    def run(self, bench: Workbench, engine: TinyEngine, **changes: Any) -> StageRecord:
        return bench.runner(bench.config(**changes), engine=engine).run(bench.job(), "scaffold", silent)

    def test_what_it_says(self, bench: Workbench) -> None:
        record = self.run(bench, WindowedEngine(), num_seva_frames=32, pan_growth="two-step")
        assert record.quality == "ok"
        assert len(record.metrics["overlap_psnr"]) == 8
        assert record.metrics["overlap_psnr_min"] == min(record.metrics["overlap_psnr"])
        basis = record.basis["settings"]
        assert basis["growth"] == "two-step"
        assert (basis["sampling_frames"], basis["joint_frames"]) == (21, 24)
        assert {entry.path for entry in record.files} >= {f"{layout.GENERATED_VIEWS}/{n:03d}.png" for n in range(32)}

    def test_frames_that_are_moved_on_by_one_are_degraded(self, bench: Workbench) -> None:
        class MovedOn(WindowedEngine):
            def sample(self, requests: Sequence[NovelViewRequest], progress: Progress) -> list[Images]:
                return [
                    np.concatenate([one[:1], np.roll(one[1:], 1, axis=0)]) for one in super().sample(requests, progress)
                ]

        record = self.run(bench, MovedOn(), num_seva_frames=8)
        assert record.quality == "degraded"
        assert any("do not show one place" in note and "0-1" in note for note in record.notes)

    def test_the_threshold_can_be_chosen(self, bench: Workbench, tmp_path: Path) -> None:
        first = self.run(bench, SmallEngine())
        assert first.quality == "ok"
        other = Workbench(tmp_path / "other")
        strict = self.run(other, SmallEngine(), overlap_psnr=first.metrics["overlap_psnr_min"] + 0.1)
        assert strict.quality == "degraded"
        assert strict.metrics["overlap_psnr"] == first.metrics["overlap_psnr"]
        assert strict.fingerprint != first.fingerprint

    @pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
    def test_a_threshold_that_is_none(self, bench: Workbench, value: float) -> None:
        with pytest.raises(UsageError, match="overlap_psnr"):
            bench.config(overlap_psnr=value)

    def test_the_same_seed_gives_the_same_files(self, bench: Workbench, tmp_path: Path) -> None:
        other = Workbench(tmp_path / "other")
        for one in (bench, other):
            self.run(one, WindowedEngine(), num_seva_frames=32)
        trees = [canonical_tree(one.output) for one in (bench, other)]
        assert trees[0].keys() == trees[1].keys()
        assert all(trees[0][name] == trees[1][name] for name in trees[0] if name.endswith(".png"))
        frame = bench.job_path(f"{layout.GENERATED_VIEWS}/000.png")
        assert (read_picture(frame) == view_zero(load_photo(bench.data / "0.png"), None, SIZE)[0]).all()
