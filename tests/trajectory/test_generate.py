"""Shots of the box that the tiny engine shows: every frame is what a camera at its pose sees, made once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
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

from worldexplorer.engine import Images, NovelViewRequest, StageDefaults, Views
from worldexplorer.errors import DefectError
from worldexplorer.geometry.cameras import normalised_intrinsics, opencv_to_opengl
from worldexplorer.pictures import read_picture
from worldexplorer.progress import Progress, silent
from worldexplorer.scaffold.poses import scaffold_poses
from worldexplorer.trajectory.collision import CollisionVerdict
from worldexplorer.trajectory.generate import ShotGenerator, planned_samplings
from worldexplorer.trajectory.paths import (
    Trajectory,
    published_trajectories,
    relative,
    target_parameters,
    trajectory_poses,
)
from worldexplorer.trajectory.sampling_requests import FIRST_PASS_CFG, SECOND_PASS_CFG
from worldexplorer.trajectory.scene_work import SceneWork
from worldexplorer.trajectory.shots import Shot
from worldexplorer.trajectory.walks import Walk, scene_walks
from worldexplorer.trajectory.writing import BackgroundWriter

SCALE = 3.0
NEVER = 0.0
"""A clearance that nothing is closer than."""
TRAJECTORIES = published_trajectories()
LIMIT = 21


def lenses(count: int) -> np.ndarray:
    return np.tile(normalised_intrinsics(), (count, 1, 1))


def scaffold() -> Views:
    poses = scaffold_poses()
    return Views(box_views(poses, lenses(8)), poses, lenses(8))


class RecordingEngine(TinyEngine):
    """Keeps every request; `frames` and `limit` as in the defaults of an engine."""

    def __init__(self, frames: int | None, limit: int | None = None) -> None:
        super().__init__()
        self.defaults = StageDefaults(8, frames, 64, 2, sampling_frames=limit)
        self.requests: list[NovelViewRequest] = []

    def sample(self, requests: Any, progress: Any) -> Any:
        self.requests.extend(requests)
        return super().sample(requests, progress)


class Rig:
    """Generators over the same folders, as an interrupted run and the next one have them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keeps = 0

    def walks(self, engine: RecordingEngine, order: Sequence[str], anchors: int | None = None) -> list[Walk]:
        return scene_walks(scaffold_poses(), TRAJECTORIES, order, engine.defaults.frames_per_trajectory, anchors)

    def run(
        self,
        engine: RecordingEngine,
        walks: Sequence[Walk],
        clearance: float | None = NEVER,
        progress: Progress = silent,
        finished: Callable[[Path, Images], None] = lambda folder, frames: None,
    ) -> list[Shot]:
        """The shots of these trajectories."""
        with self.generator(engine, clearance, finished) as (generator, _):
            verdicts = generator.first_passes(walks, progress)
            return generator.second_passes(walks, verdicts, progress)

    @contextmanager
    def generator(
        self,
        engine: RecordingEngine,
        clearance: float | None = NEVER,
        finished: Callable[[Path, Images], None] = lambda folder, frames: None,
    ) -> Iterator[tuple[ShotGenerator, BackgroundWriter]]:
        (self.folder / "scene").mkdir(exist_ok=True)
        with BackgroundWriter() as writer:
            shared = SceneWork(
                engine, scaffold(), None, SCALE, None, clearance, 0, self.folder / "work", writer, self._keep
            )
            yield ShotGenerator(shared, self.folder / "scene", finished), writer

    def _keep(self) -> None:
        self.keeps += 1

    def frames(self, folder: str = "003_left") -> Path:
        return self.folder / "scene" / folder / "samples-rgb"

    def mark(self, folder: str = "003_left") -> Path:
        return self.folder / "work" / "marks" / f"{folder}.json"

    def first_mark(self, folder: str = "003_left") -> Path:
        return self.folder / "work" / "first_passes" / f"{folder}.json"


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def pictures(shot: Shot) -> np.ndarray:
    return shot.pictures(range(len(shot)))


class TestFrames:
    @pytest.mark.parametrize("frames", [1, 4, 7])
    def test_shortened(self, rig: Rig, frames: int) -> None:
        """Every frame is an anchor: one sampling from the views alone, and nothing to fill in."""
        engine = RecordingEngine(frames)
        walks = rig.walks(engine, tuple(TRAJECTORIES))
        for walk, shot in zip(walks, rig.run(engine, walks), strict=True):
            targets = target_parameters(walk.trajectory, frames)
            expected = trajectory_poses(scaffold_poses()[walk.view], walk.trajectory, targets)
            assert shot.folder == walk.folder
            np.testing.assert_allclose(shot.c2w, expected, atol=1e-12)
            assert (pictures(shot) == box_views(expected, lenses(frames))).all()
        assert engine.calls == [f"sample {frames}"] * 32
        assert not list((rig.folder / "work" / "first_passes").iterdir())

    def test_at_full_length(self, rig: Rig) -> None:
        """Anchors from views and memory, all frames from the anchors; all of the same world."""
        engine = RecordingEngine(None, LIMIT)
        walks = rig.walks(engine, ("in", "left"))[:3]
        shots = rig.run(engine, walks)
        for walk, shot in zip(walks, shots, strict=True):
            expected = walk.poses(np.arange(walk.trajectory.count))
            np.testing.assert_allclose(shot.c2w, expected, atol=1e-12)
            differences = np.abs(pictures(shot).astype(int) - box_views(expected, lenses(len(expected))))
            assert differences.max() <= 1  # poses went through a scaling and back
        first, second = engine.requests[:5], engine.requests[5:]
        assert [int((~request.given).sum()) for request in first] == [13, 8, 5, 8, 5]
        assert [len(request.given) for request in first] == [21, 21, 18, 21, 18]
        assert sum(int((~request.given).sum()) for request in second) == 45 + 135 + 45
        assert len(second) == 3 + 12 + 3
        assert max(len(request.given) for request in engine.requests) <= LIMIT
        assert planned_samplings(walks, LIMIT) == (5, 18)

    def test_what_a_request_says(self, rig: Rig) -> None:
        engine = RecordingEngine(None, LIMIT)
        walks = rig.walks(engine, ("in",))[:2]
        rig.run(engine, walks)
        first, second = engine.requests[:3], engine.requests[3:]
        for request in first:
            assert (request.images[:8] == scaffold().images).all()
            back = opencv_to_opengl(request.c2w)
            back[:, :3, 3] /= SCALE
            np.testing.assert_allclose(back[:8], scaffold_poses(), atol=1e-12)
        for request in engine.requests:
            assert request.translation_scaling_factor == SCALE
            assert (request.steps, request.cfg_min, request.world) == (50, 1.2, None)
            assert request.guider == "multiview"
            np.testing.assert_array_equal(request.intrinsics, lenses(len(request.given)))
            assert not request.images[~request.given].any()
        assert {request.cfg for request in first} == {FIRST_PASS_CFG}
        assert {request.cfg for request in second} == {SECOND_PASS_CFG}
        assert len({request.seed for request in engine.requests}) == len(engine.requests)

    def test_the_second_first_pass_is_given_what_the_first_has_made(self, rig: Rig) -> None:
        engine = RecordingEngine(None, LIMIT)
        walks = rig.walks(engine, ("in",))[:2]
        rig.run(engine, walks)
        given = engine.requests[1]
        kept = sorted((rig.folder / "work" / "first_passes" / "000_in").iterdir())
        assert len(kept) == 13
        remembered = [read_picture(path) for path in kept[2:]]
        for picture in given.images[8:13]:
            assert any((picture == one).all() for one in remembered)

    def test_second_passes_are_given_the_anchors_around_their_frames(self, rig: Rig) -> None:
        engine = RecordingEngine(None, LIMIT)
        (walk,) = rig.walks(engine, ("up",))[:1]
        rig.run(engine, [walk])
        request = engine.requests[1]
        anchors = {0.0: 0, 11 / 3: 4, 22 / 3: 7, 11.0: 11, 44 / 3: 15}  # place among the frames, and whose camera
        places = sorted([(place, 0, k) for place, k in anchors.items()] + [(k, 1, k) for k in range(15)])
        order = [(k, made) for _, made, k in places]
        assert request.given.tolist() == [made == 0 for _, made in order]
        back = opencv_to_opengl(request.c2w)
        back[:, :3, 3] /= SCALE
        np.testing.assert_allclose(back, walk.poses([float(k) for k, _ in order]), atol=1e-12)
        kept = [read_picture(path) for path in sorted((rig.folder / "work/first_passes/000_up").iterdir())]
        assert (request.images[request.given] == np.stack(kept[:5])).all()

    def test_seeds_belong_to_the_work_and_not_to_its_order(self, rig: Rig, tmp_path: Path) -> None:
        def seeds(name: str, order: tuple[int, ...]) -> dict[int, int]:
            engine = RecordingEngine(4)
            walks = rig.walks(engine, ("in",))
            Rig(_made(tmp_path / name)).run(engine, [walks[view] for view in order])
            return dict(zip(order, [request.seed for request in engine.requests], strict=True))

        forwards, backwards = seeds("one", (0, 1, 2)), seeds("other", (2, 1, 0))
        assert forwards == backwards
        assert len(set(forwards.values())) == 3

    def test_views_at_given_poses(self, rig: Rig) -> None:
        engine = RecordingEngine(4)
        with rig.generator(engine) as (generator, writer):
            shot = generator.views("caps", scaffold_poses()[2:5], silent)
            writer.wait()
            assert (pictures(shot) == box_views(scaffold_poses()[2:5], lenses(3))).all()
            assert shot.verdict is None
            assert (generator.sample("heldout", scaffold_poses()[:2], silent) == scaffold().images[:2]).all()
        assert engine.calls == ["sample 3", "sample 2"]

    def test_views_at_given_poses_keep_to_the_limit(self, rig: Rig) -> None:
        engine = RecordingEngine(4, 13)
        with rig.generator(engine) as (generator, _):
            assert (generator.sample("heldout", scaffold_poses(), silent) == scaffold().images).all()
        assert engine.calls == ["sample 5", "sample 3"]

    def test_a_limit_and_shortened_trajectories(self, rig: Rig) -> None:
        engine = RecordingEngine(6, 13)
        walks = rig.walks(engine, ("left",))
        for walk, shot in zip(walks, rig.run(engine, walks), strict=True):
            expected = box_views(walk.poses(walk.targets), lenses(6))
            assert np.abs(pictures(shot).astype(int) - expected).max() <= 1
        assert max(len(request.given) for request in engine.requests) <= 13
        resumed = RecordingEngine(6, 13)
        rig.mark("007_left").unlink()
        rig.run(resumed, walks)
        for one, other in zip(engine.requests[-len(resumed.requests) :], resumed.requests, strict=True):
            assert (one.images == other.images).all()
            assert one.seed == other.seed

    def test_fewer_anchors(self, rig: Rig) -> None:
        engine = RecordingEngine(None, LIMIT)
        walks = rig.walks(engine, ("left",), anchors=9)[:2]
        shots = rig.run(engine, walks)
        assert [len(shot) for shot in shots] == [135, 135]
        assert [int((~request.given).sum()) for request in engine.requests[:2]] == [9, 9]
        assert len(engine.requests) == 2 + 2 * 8

    def test_own_trajectories_go_the_same_way(self, rig: Rig) -> None:
        """One shorter than its anchors would be, one with more frames between two anchors than a sampling holds."""
        known = {
            "few": Trajectory("few", 5, lambda k: relative(TRAJECTORIES["in"], 11 * k)),
            "many": Trajectory("many", 400, lambda k: relative(TRAJECTORIES["in"], 0.11 * k)),
        }
        walks = scene_walks(scaffold_poses(), known, ("many", "few"), None)[:2]
        engine = RecordingEngine(None, LIMIT)
        many, few = rig.run(engine, walks)
        assert (len(few), len(many)) == (5, 400)
        assert [int((~request.given).sum()) for request in engine.requests[:2]] == [13, 5]
        assert max(len(request.given) for request in engine.requests) <= LIMIT
        for shot in (few, many):
            assert np.abs(pictures(shot).astype(int) - box_views(shot.c2w, lenses(len(shot)))).max() <= 1


class TestCollision:
    @staticmethod
    def clearance(units: float) -> float:
        """So many trajectory units in front of the camera, in the engine's metres."""
        return units * METRES_A_UNIT * SCALE

    def test_a_trajectory_stops_in_front_of_a_wall(self, rig: Rig) -> None:
        """Walking straight at a wall 3 units away, 1.0403 units far in all."""
        engine = RecordingEngine(None, LIMIT)
        (shot,) = rig.run(engine, rig.walks(engine, ("in",))[:1], self.clearance(HALF_WIDTH - 0.6))
        assert shot.verdict is not None
        assert shot.verdict.collided
        assert 0 < len(shot) < 45
        assert len(shot) == len(shot.c2w) == len(shot.verdict.kept_targets) == len(list(shot.paths[0].parent.iterdir()))
        assert -0.6 <= shot.c2w[-1, 2, 3] < -0.4
        kept = list((rig.folder / "work" / "first_passes" / "000_in").iterdir())
        assert len(kept) == shot.verdict.kept_anchors

    def test_the_legacy_rule_is_asked_where_no_clearance_is_given(self, rig: Rig) -> None:
        engine = RecordingEngine(None, LIMIT)
        (shot,) = rig.run(engine, rig.walks(engine, ("in",))[3:4], None)
        assert shot.verdict is not None
        assert (shot.verdict.rule, shot.verdict.threshold) == ("legacy", 120 / 255)
        assert len(shot) == len(shot.verdict.kept_targets)

    @pytest.mark.parametrize("frames", [4, None])
    def test_no_room_at_all_leaves_no_frames(self, rig: Rig, frames: int | None) -> None:
        engine = RecordingEngine(frames, LIMIT)
        walks = rig.walks(engine, ("in",))[:2]
        shots = rig.run(engine, walks, 100.0)
        assert [len(shot) for shot in shots] == [0, 0]
        assert shots[0].c2w.shape == (0, 4, 4)
        assert not (rig.folder / "scene" / "000_in").exists()
        assert not (rig.folder / "work" / "first_passes" / "000_in").exists()
        idle = RecordingEngine(frames, LIMIT)
        for one, other in zip(rig.run(idle, walks, 100.0), shots, strict=True):
            assert_same(one, other)
        assert idle.calls == []

    def test_depth_that_failed_is_an_error(self, rig: Rig) -> None:
        class NoDepth:
            def depth(self, views: Views, world: Any, scale: float) -> np.ndarray:
                return np.full((len(views.images), SIZE, SIZE), np.nan)

        class Blind(RecordingEngine):
            def depth(self, scene_type: str | None = None) -> Any:
                return NoDepth()

        engine = Blind(None, LIMIT)
        with pytest.raises(DefectError, match="not positive numbers"):
            rig.run(engine, rig.walks(engine, ("in",))[:1], 0.4)
        assert not rig.first_mark("000_in").exists()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def assert_same(one: Shot, two: Shot) -> None:
    assert (one.folder, one.paths, one.verdict) == (two.folder, two.paths, two.verdict)
    np.testing.assert_array_equal(one.c2w, two.c2w)


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestResume:
    @pytest.mark.parametrize("frames", [4, None])
    def test_what_is_made_is_taken(self, rig: Rig, frames: int | None) -> None:
        first = RecordingEngine(frames, LIMIT)
        walks = rig.walks(first, ("in", "up"))[:4]
        shots = rig.run(first, walks, 2.0)
        keeps = rig.keeps
        assert keeps == (4 if frames else 2 * 4)  # after every pass of every trajectory
        second = RecordingEngine(frames, LIMIT)
        for one, two in zip(shots, rig.run(second, walks, 2.0), strict=True):
            assert_same(one, two)
        assert second.calls == []
        assert rig.keeps == keeps

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
    def test_what_is_not_whole_is_made_again(self, rig: Rig, spoil: Callable[[Path, Path], Any]) -> None:
        engine = RecordingEngine(4)
        walks = rig.walks(engine, ("left", "right"))[6:8]
        rig.run(engine, walks)
        whole = content(rig.folder)
        spoil(rig.frames(), rig.mark())
        again = RecordingEngine(4)
        rig.run(again, walks)
        assert again.calls == ["sample 4"]
        assert content(rig.folder) == whole
        idle = RecordingEngine(4)
        rig.run(idle, walks)
        assert idle.calls == []

    def test_a_first_pass_that_is_not_whole_is_made_again_from_the_same_memory(self, rig: Rig) -> None:
        engine = RecordingEngine(None, LIMIT)
        walks = rig.walks(engine, ("in",))[:3]
        rig.run(engine, walks)
        whole = content(rig.folder)
        rig.first_mark("001_in").unlink()
        rig.mark("002_in").unlink()
        again = RecordingEngine(None, LIMIT)
        rig.run(again, walks)
        assert [int((~request.given).sum()) for request in again.requests] == [8, 5, 15, 15, 15]
        assert content(rig.folder) == whole
        for one, other in zip(again.requests, [*engine.requests[1:3], *engine.requests[-3:]], strict=True):
            assert one.seed == other.seed
            assert (one.images == other.images).all()

    def test_frames_from_anchors_that_were_cut_elsewhere_since_do_not_count(self, rig: Rig) -> None:
        """Another kind of GPU goes on, has to make the anchors again, and its depth says something else."""
        engine = RecordingEngine(None, LIMIT)
        walks = rig.walks(engine, ("in",))[:1]
        (whole,) = rig.run(engine, walks)
        rig.first_mark("000_in").unlink()
        (cut,) = rig.run(RecordingEngine(None, LIMIT), walks, TestCollision.clearance(HALF_WIDTH - 0.6))
        assert 0 < len(cut) == len(cut.c2w) < len(whole)
        assert sorted(path.name for path in rig.frames("000_in").iterdir()) == [path.name for path in cut.paths]
        rig.first_mark("000_in").unlink()
        (nothing,) = rig.run(RecordingEngine(None, LIMIT), walks, 100.0)
        assert len(nothing) == 0
        assert not rig.frames("000_in").exists()

    def test_a_strange_file_is_no_frame(self, rig: Rig) -> None:
        engine = RecordingEngine(4)
        walks = rig.walks(engine, ("left",))[3:4]
        (shot,) = rig.run(engine, walks)
        (rig.frames() / "004.png").write_bytes((rig.frames() / "003.png").read_bytes())
        assert_same(rig.run(RecordingEngine(4), walks)[0], shot)

    def test_the_mark_names_every_frame_and_says_what_was_found(self, rig: Rig) -> None:
        engine = RecordingEngine(4)
        (shot,) = rig.run(engine, rig.walks(engine, ("left",))[3:4])
        mark = json.loads(rig.mark().read_bytes())
        assert sorted(mark["frames"]) == ["000.png", "001.png", "002.png", "003.png"]
        assert CollisionVerdict.from_json(mark["facts"]["verdict"]) == shot.verdict

    def test_what_was_made_together_is_known_after_a_resume_too(self, rig: Rig) -> None:
        engine = RecordingEngine(None, LIMIT)
        walks = rig.walks(engine, ("in",))[:2]
        found = []
        for _ in range(2):
            with rig.generator(engine) as (generator, _writer):
                generator.first_passes(walks, silent)
                found.append(generator.samplings)
        assert found[0] == found[1]
        assert [len(one) for one in found[0]["001_in"]] == [21, 18]
        assert found[0]["001_in"][0][8] == "memory:000_in#2"


def test_results_may_arrive_in_any_order(rig: Rig, tmp_path: Path) -> None:
    class Shuffled(RecordingEngine):
        def sample_each(self, requests: Any, progress: Any) -> Any:
            made = dict(super().sample_each(requests, progress))
            order = np.random.default_rng(0).permutation(len(requests))
            yield from ((int(number), made[number]) for number in order)

    walks = rig.walks(RecordingEngine(None, LIMIT), ("in",))[:3]
    rig.run(Shuffled(None, LIMIT), walks)
    other = Rig(_made(tmp_path / "other"))
    other.run(RecordingEngine(None, LIMIT), walks)
    assert content(rig.folder / "scene") == content(other.folder / "scene")


def test_a_trajectory_is_written_before_the_next_is_sampled_to_its_end(rig: Rig) -> None:
    """The last sampling of the first trajectory has come long before the last of all."""
    seen = []

    class Looking(RecordingEngine):
        def sample_each(self, requests: Any, progress: Any) -> Any:
            for number, frames in super().sample_each(requests, progress):
                if number == len(requests) - 1:
                    deadline = 200
                    while not rig.mark("000_in").exists() and deadline:
                        deadline -= 1
                        time.sleep(0.05)
                    seen.append(rig.mark("000_in").exists())
                yield number, frames

    engine = Looking(None, LIMIT)
    rig.run(engine, rig.walks(engine, ("in",))[:2])
    assert seen == [True]


@pytest.mark.parametrize("frames", [4, None])
def test_frames_that_show_nothing_are_refused_and_not_marked(rig: Rig, frames: int | None) -> None:
    class Blind(RecordingEngine):
        def sample(self, requests: Any, progress: Any) -> Any:
            frames = super().sample(requests, progress)
            if requests[0].cfg == (FIRST_PASS_CFG if self.defaults.frames_per_trajectory else SECOND_PASS_CFG):
                frames[0][~requests[0].given] = 7
            return frames

    engine = Blind(frames, LIMIT)
    with pytest.raises(DefectError, match="of one colour") as caught:
        rig.run(engine, rig.walks(engine, ("left",))[3:4])
    assert caught.value.where == "003_left"
    assert not rig.mark().exists()


def test_a_trajectory_is_told_of_when_it_counts(rig: Rig) -> None:
    told = []

    def finished(folder: Path, frames: Images) -> None:
        assert rig.mark(folder.name).exists()
        told.append((folder.name, len(frames)))

    engine = RecordingEngine(None, LIMIT)
    rig.run(engine, rig.walks(engine, ("in",))[:2], finished=finished)
    assert told == [("000_in", 45), ("001_in", 45)]


def test_what_goes_wrong_beside_the_sampling_fails_it(rig: Rig) -> None:
    def finished(folder: Path, frames: Images) -> None:
        raise OSError("the disk is full")

    engine = RecordingEngine(None, LIMIT)
    walks = rig.walks(engine, ("in",))
    with pytest.raises(OSError, match="the disk is full"):
        rig.run(engine, walks, finished=finished)
    total = sum(planned_samplings(walks, LIMIT))
    assert len(engine.requests) < total
    resumed = RecordingEngine(None, LIMIT)
    assert len(rig.run(resumed, walks)) == 8
    assert len(resumed.requests) < total


def test_progress_goes_by_samplings_and_names_the_trajectory(rig: Rig) -> None:
    told: list[tuple[float, str]] = []
    engine = RecordingEngine(None, LIMIT)
    walks = rig.walks(engine, ("in",))[:2]
    with rig.generator(engine) as (generator, _):
        verdicts = generator.first_passes(walks, lambda done, total, what: told.append((done / total, what)))
        assert [share for share, _ in told] == sorted(share for share, _ in told)
        assert {what for _, what in told} == {"000 in", "001 in"}
        assert min(share for share, what in told if what == "001 in") == pytest.approx(1 / 3, abs=1e-3)
        told.clear()
        generator.second_passes(walks, verdicts, lambda done, total, what: told.append((done / total, what)))
        assert [share for share, _ in told] == sorted(share for share, _ in told)
        assert [what for _, what in told] == sorted(what for _, what in told)
        assert min(share for share, what in told if what == "001 in") >= 0.5 - 1e-3


def test_a_scaffold_with_lenses_of_its_own(rig: Rig) -> None:
    engine = RecordingEngine(None, LIMIT)
    other = replace(scaffold(), intrinsics=scaffold().intrinsics * np.array([[1.1, 1, 1], [1, 1.1, 1], [1, 1, 1]]))
    with BackgroundWriter() as writer:
        shared = SceneWork(engine, other, None, SCALE, None, NEVER, 0, rig.folder / "work", writer)
        generator = ShotGenerator(shared, rig.folder / "scene")
        generator.first_passes(rig.walks(engine, ("in",))[:1], silent)
    np.testing.assert_array_equal(engine.requests[0].intrinsics[:8], other.intrinsics)
    np.testing.assert_array_equal(engine.requests[0].intrinsics[8:], lenses(13))


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

    @pytest.mark.slow
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
