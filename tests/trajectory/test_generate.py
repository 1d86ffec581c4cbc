"""Shots of the box that the tiny engine shows: every frame is what a camera at its pose sees, made once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import (
    SmallEngine,
    Workbench,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
)
from tiny_engine import HALF_WIDTH, METRES_A_UNIT, SIZE, TinyEngine, box_views

from worldexplorer.engine import NovelViewRequest, StageDefaults, Views
from worldexplorer.errors import DefectError
from worldexplorer.geometry.cameras import normalised_intrinsics, opencv_to_opengl
from worldexplorer.progress import silent
from worldexplorer.scaffold.poses import scaffold_poses
from worldexplorer.trajectory.generate import (
    CFG_MIN,
    FIRST_PASS_CFG,
    SECOND_PASS_CFG,
    STEPS,
    Shot,
    ShotGenerator,
)
from worldexplorer.trajectory.paths import published_trajectories, target_parameters, trajectory_poses

SCALE = 3.0
NEVER = 0.0
"""A clearance that nothing is closer than."""
TRAJECTORIES = published_trajectories()


def lenses(count: int) -> np.ndarray:
    return np.tile(normalised_intrinsics(), (count, 1, 1))


def scaffold() -> Views:
    poses = scaffold_poses()
    return Views(box_views(poses, lenses(8)), poses, lenses(8))


class RecordingEngine(TinyEngine):
    """Keeps every request; `frames` as in the defaults of an engine."""

    def __init__(self, frames: int | None) -> None:
        super().__init__()
        self.defaults = StageDefaults(8, frames, 64, 2)
        self.requests: list[NovelViewRequest] = []
        self.batches: list[int] = []

    def sample(self, requests: Any, progress: Any) -> Any:
        self.requests.extend(requests)
        self.batches.append(len(requests))
        return super().sample(requests, progress)


Make = Callable[..., tuple[ShotGenerator, RecordingEngine]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Generators over the same folders, as an interrupted run and the next one have them."""

    def generator(
        frames: int | None = 4, clearance: float | None = NEVER, engine: RecordingEngine | None = None
    ) -> tuple[ShotGenerator, RecordingEngine]:
        engine = engine or RecordingEngine(frames)
        (tmp_path / "scene").mkdir(exist_ok=True)
        (tmp_path / "marks").mkdir(exist_ok=True)
        return (
            ShotGenerator(engine, scaffold(), None, SCALE, clearance, 0, tmp_path / "scene", tmp_path / "marks"),
            engine,
        )

    return generator


def frames_folder(tmp_path: Path, folder: str = "003_left") -> Path:
    return tmp_path / "scene" / folder / "samples-rgb"


class TestFrames:
    @pytest.mark.parametrize("frames", [1, 4, 7])
    @pytest.mark.parametrize("name", list(TRAJECTORIES))
    def test_shortened(self, make: Make, name: str, frames: int) -> None:
        generator, engine = make(frames)
        shot = generator.trajectory(3, TRAJECTORIES[name], silent)
        expected = trajectory_poses(
            scaffold_poses()[3], TRAJECTORIES[name], target_parameters(TRAJECTORIES[name], frames)
        )
        assert shot.folder == f"003_{name}"
        np.testing.assert_allclose(shot.c2w, expected, atol=1e-12)
        assert (shot.frames == box_views(expected, lenses(frames))).all()
        assert engine.calls == [f"sample {frames}"]

    @pytest.mark.parametrize("name", list(TRAJECTORIES))
    def test_at_full_length(self, make: Make, name: str) -> None:
        """Anchors from the scaffold, the frames between from the anchors; all of the same world."""
        generator, engine = make(None)
        shot = generator.trajectory(5, TRAJECTORIES[name], silent)
        count = TRAJECTORIES[name].count
        expected = trajectory_poses(scaffold_poses()[5], TRAJECTORIES[name], np.arange(count))
        np.testing.assert_allclose(shot.c2w, expected, atol=1e-12)
        differences = np.abs(shot.frames.astype(int) - box_views(expected, lenses(count)))
        assert differences.max() <= 1  # poses went through a scaling and back
        first, *second = engine.requests
        assert int((~first.given).sum()) == 13
        assert sum(int((~request.given).sum()) for request in second) == count - 13
        assert max(len(request.given) for request in engine.requests) <= 21
        assert engine.batches == [1, len(second)]

    def test_what_a_request_says(self, make: Make) -> None:
        generator, engine = make(None)
        generator.trajectory(2, TRAJECTORIES["in"], silent)
        first, *second = engine.requests
        assert first.given.tolist() == [True] * 8 + [False] * 13
        assert (first.images[:8] == scaffold().images).all()
        back = opencv_to_opengl(first.c2w)
        back[:, :3, 3] /= SCALE
        np.testing.assert_allclose(back[:8], scaffold_poses(), atol=1e-12)
        for request in engine.requests:
            assert request.translation_scaling_factor == SCALE
            assert (request.steps, request.cfg_min, request.world) == (STEPS, CFG_MIN, None)
            np.testing.assert_array_equal(request.intrinsics, lenses(len(request.given)))
        assert first.cfg == FIRST_PASS_CFG
        assert {request.cfg for request in second} == {SECOND_PASS_CFG}
        assert len({request.seed for request in engine.requests}) == len(engine.requests)

    def test_seeds_belong_to_the_work_and_not_to_its_order(self, make: Make, tmp_path: Path) -> None:
        def seeds(order: list[int]) -> dict[int, list[int]]:
            found = {}
            for view in order:
                generator, engine = make()
                (tmp_path / "marks" / f"{view:03d}_in.json").unlink(missing_ok=True)
                generator.trajectory(view, TRAJECTORIES["in"], silent)
                found[view] = [request.seed for request in engine.requests]
            return found

        forwards, backwards = seeds([0, 1, 2]), seeds([2, 1, 0])
        assert forwards == backwards
        assert len({seed for one in forwards.values() for seed in one}) == 3

    def test_views_at_given_poses(self, make: Make) -> None:
        generator, engine = make()
        shot = generator.views("caps", scaffold_poses()[2:5], silent)
        assert (shot.frames == box_views(scaffold_poses()[2:5], lenses(3))).all()
        assert shot.verdict is None
        assert (generator.sample("heldout", scaffold_poses()[:2], silent) == scaffold().images[:2]).all()
        assert engine.calls == ["sample 3", "sample 2"]


class TestCollision:
    @staticmethod
    def clearance(units: float) -> float:
        """So many trajectory units in front of the camera, in the engine's metres."""
        return units * METRES_A_UNIT * SCALE

    def test_a_trajectory_stops_in_front_of_a_wall(self, make: Make) -> None:
        """Walking straight at a wall 3 units away, 1.0403 units far in all."""
        generator, _ = make(None, clearance=self.clearance(HALF_WIDTH - 0.6))
        shot = generator.trajectory(0, TRAJECTORIES["in"], silent)
        assert shot.verdict is not None
        assert shot.verdict.collided
        assert 0 < len(shot.frames) < 45
        assert len(shot.frames) == len(shot.c2w) == len(shot.verdict.kept_targets)
        assert -0.6 <= shot.c2w[-1, 2, 3] < -0.4

    def test_the_legacy_rule_is_asked_where_no_clearance_is_given(self, make: Make) -> None:
        generator, _ = make(None, clearance=None)
        shot = generator.trajectory(3, TRAJECTORIES["in"], silent)
        assert shot.verdict is not None
        assert (shot.verdict.rule, shot.verdict.threshold) == ("legacy", 120 / 255)
        assert len(shot.frames) == len(shot.verdict.kept_targets)

    def test_no_room_at_all_leaves_no_frames(self, make: Make, tmp_path: Path) -> None:
        generator, _ = make(4, clearance=100.0)
        shot = generator.trajectory(0, TRAJECTORIES["in"], silent)
        assert shot.frames.shape == (0, SIZE, SIZE, 3)
        assert shot.c2w.shape == (0, 4, 4)
        assert not (tmp_path / "scene" / "000_in").exists()
        again, idle = make(4, clearance=100.0)
        assert_same(again.trajectory(0, TRAJECTORIES["in"], silent), shot)
        assert idle.calls == []


def assert_same(one: Shot, two: Shot) -> None:
    assert one.folder == two.folder
    assert one.frames.dtype == two.frames.dtype == np.uint8
    np.testing.assert_array_equal(one.frames, two.frames)
    np.testing.assert_array_equal(one.c2w, two.c2w)
    assert one.verdict == two.verdict


class TestResume:
    @pytest.mark.parametrize("frames", [4, None])
    def test_what_is_made_is_taken(self, make: Make, frames: int | None) -> None:
        first, _ = make(frames, clearance=2.0)
        shots = [first.trajectory(3, TRAJECTORIES[name], silent) for name in TRAJECTORIES]
        shots.append(first.views("caps", scaffold_poses()[:2], silent))
        second, engine = make(frames, clearance=2.0)
        again = [second.trajectory(3, TRAJECTORIES[name], silent) for name in TRAJECTORIES]
        again.append(second.views("caps", scaffold_poses()[:2], silent))
        assert engine.calls == []
        for one, two in zip(shots, again, strict=True):
            assert_same(one, two)

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda frames, mark: (frames / "002.png").unlink(),
            lambda frames, mark: (frames / "002.png").write_bytes(b""),
            lambda frames, mark: (frames / "002.png").write_bytes((frames / "001.png").read_bytes()),
            lambda frames, mark: mark.unlink(),
            lambda frames, mark: mark.write_bytes(b""),
            lambda frames, mark: mark.write_bytes(mark.read_bytes()[:50]),
        ],
    )
    def test_what_is_not_whole_is_made_again(
        self, make: Make, tmp_path: Path, spoil: Callable[[Path, Path], Any]
    ) -> None:
        first, _ = make()
        left, right = (first.trajectory(3, TRAJECTORIES[name], silent) for name in ("left", "right"))
        spoil(frames_folder(tmp_path), tmp_path / "marks" / "003_left.json")
        second, engine = make()
        assert_same(second.trajectory(3, TRAJECTORIES["left"], silent), left)
        assert_same(second.trajectory(3, TRAJECTORIES["right"], silent), right)
        assert engine.calls == ["sample 4"]
        third, engine = make()
        assert_same(third.trajectory(3, TRAJECTORIES["left"], silent), left)
        assert engine.calls == []

    def test_a_strange_file_is_no_frame(self, make: Make, tmp_path: Path) -> None:
        first, _ = make()
        shot = first.trajectory(3, TRAJECTORIES["left"], silent)
        (frames_folder(tmp_path) / "004.png").write_bytes((frames_folder(tmp_path) / "003.png").read_bytes())
        assert_same(make()[0].trajectory(3, TRAJECTORIES["left"], silent), shot)

    def test_the_mark_names_every_frame(self, make: Make, tmp_path: Path) -> None:
        make()[0].trajectory(3, TRAJECTORIES["left"], silent)
        mark = json.loads((tmp_path / "marks" / "003_left.json").read_bytes())
        assert sorted(mark["frames"]) == ["000.png", "001.png", "002.png", "003.png"]


def test_frames_that_show_nothing_are_refused_and_not_marked(make: Make, tmp_path: Path) -> None:
    class Blind(RecordingEngine):
        def sample(self, requests: Any, progress: Any) -> Any:
            frames = super().sample(requests, progress)
            frames[0][8:] = 7
            return frames

    generator, _ = make(engine=Blind(4))
    with pytest.raises(DefectError, match="of one colour") as caught:
        generator.trajectory(3, TRAJECTORIES["left"], silent)
    assert caught.value.where == "003_left"
    assert list((tmp_path / "marks").iterdir()) == []


class TestCrashInTheMiddleOfAScene:
    """Wherever a run dies in stage 2, the next one makes at most one trajectory again."""

    class Dying(SmallEngine):
        def __init__(self, calls: int) -> None:
            super().__init__()
            self._left = calls

        def sample(self, requests: Any, progress: Any) -> Any:
            if self._left == 0:
                raise KeyboardInterrupt
            self._left -= 1
            return super().sample(requests, progress)

    def test_at_every_sampling(self, tmp_path: Path) -> None:
        bench = Workbench(tmp_path)
        bench.runner().run(bench.job(), "scaffold", silent)
        run = bench.config(only_stages=(2,), force=True)

        def make(engine: SmallEngine) -> str:
            return bench.runner(run, engine=engine).run(bench.job(), "trajectory", silent).content

        whole = SmallEngine()
        content = make(whole)
        total = len(whole.calls)
        assert total == 9  # eight trajectories and the held-out views
        for calls in range(total):
            dying, resumed = self.Dying(calls), SmallEngine()
            with pytest.raises(KeyboardInterrupt):
                make(dying)
            assert make(resumed) == content
            assert len(dying.calls) == calls
            assert len(resumed.calls) == total - calls
            assert bench.leftovers() == []
