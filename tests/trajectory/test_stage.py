"""Stage 2 in the tiny engine's box: walls 3 units away, so that every point has a place to be in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import (
    SmallEngine,
    Workbench,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
    photo_sample,
)
from tiny_engine import HALF_WIDTH, SIZE, TinyEngine, box_views

from worldexplorer import layout
from worldexplorer.engine import Poses, StageDefaults, Views
from worldexplorer.errors import UsageError
from worldexplorer.geometry.cameras import normalised_intrinsics
from worldexplorer.geometry.ply import read_points
from worldexplorer.geometry.transforms import read_transforms
from worldexplorer.pictures import read_picture, read_pictures
from worldexplorer.progress import silent
from worldexplorer.records import StageRecord
from worldexplorer.scaffold.poses import scaffold_poses
from worldexplorer.stage import StageFailedError
from worldexplorer.trajectory.paths import published_trajectories, target_parameters, trajectory_poses
from worldexplorer.trajectory.settings import TrajectorySettings, fewer_images
from worldexplorer.trajectory.stage import TRAJECTORY

FRAMES = TinyEngine.defaults.frames_per_trajectory
ORDER = ("in", "left", "right", "up")


def stage_2(bench: Workbench, engine: TinyEngine | None = None, **settings: Any) -> StageRecord:
    run = bench.config(**({"trajectory_order": None} | settings))
    runner = bench.runner(run, engine=engine or TinyEngine())
    for stage in ("scaffold", "trajectory"):
        record = runner.run(bench.job(), stage, silent)
    return record


class Scene:
    """A finished scene of all four trajectories."""

    def __init__(self, folder: Path) -> None:
        self.bench = Workbench(folder)
        self.record = stage_2(self.bench)
        self.folder = self.bench.job_path(self.record.outputs["scene_path"])

    def document(self, name: str) -> Any:
        return json.loads((self.folder / name).read_bytes())


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


class TestScene:
    def test_its_place_names_sample_and_scale(self, scene: Scene) -> None:
        assert scene.record.outputs == {"scene_path": layout.scene_folder(0, 3.0)}
        assert scene.folder.parts[-3:] == ("scenes", "index_0000_3.0", "img2trajvid")

    def test_transforms_list_every_view_with_its_pose(self, scene: Scene) -> None:
        transforms = read_transforms(scene.folder / "transforms.json")
        assert transforms.ply_file_path == "vggt_pcl.ply"
        names = [f"input/{view:03d}.png" for view in range(8)]
        poses = [scaffold_poses()]
        for view in range(8):
            for name in ORDER:
                trajectory = published_trajectories()[name]
                targets = target_parameters(trajectory, FRAMES)
                poses.append(trajectory_poses(scaffold_poses()[view], trajectory, targets))
                names += [f"{view:03d}_{name}/samples-rgb/{frame:03d}.png" for frame in range(len(targets))]
        assert list(transforms.file_paths) == names
        np.testing.assert_allclose(transforms.c2w, np.concatenate(poses), atol=1e-9)
        assert scene.record.metrics["frames"] == len(names)

    def test_frames_show_what_their_cameras_see(self, scene: Scene) -> None:
        transforms = read_transforms(scene.folder / "transforms.json")
        pictures = read_pictures([scene.folder / name for name in transforms.file_paths[8:]])
        expected = box_views(transforms.c2w[8:], transforms.intrinsics[8:])
        # Poses in the file are rounded, which may tip a colour at an edge.
        assert (np.abs(pictures.astype(int) - expected) <= 1).all()

    def test_input_views_are_the_scaffold(self, scene: Scene) -> None:
        for view in range(8):
            name = f"{view:03d}.png"
            scaffold = read_picture(scene.bench.job_path(f"scaffold/final/{name}"))
            assert (read_picture(scene.folder / "input" / name) == scaffold).all()

    def test_points_lie_on_the_walls(self, scene: Scene) -> None:
        cloud = read_points(scene.folder / "vggt_pcl.ply")
        assert len(cloud.points) == scene.record.metrics["points"] == TinyEngine.defaults.point_count
        np.testing.assert_allclose(np.abs(cloud.points).max(axis=1), HALF_WIDTH, atol=1e-4)
        assert np.allclose(np.linalg.norm(cloud.normals, axis=1), 1, atol=1e-3)

    def test_the_alignment_is_written_down(self, scene: Scene) -> None:
        assert scene.record.metrics["alignment_median_units"] == pytest.approx(0, abs=1e-6)
        assert scene.record.metrics["alignment_median_deg"] == pytest.approx(0, abs=1e-4)
        assert scene.document("alignment.json")
        assert scene.record.metrics["point_views"] == 8 + TinyEngine.defaults.num_images_for_vggt

    def test_held_out_views_are_listed_apart(self, scene: Scene) -> None:
        heldout = read_transforms(scene.folder / "heldout.json")
        assert heldout.file_paths == ("heldout/000.png", "heldout/001.png")
        train = read_transforms(scene.folder / "transforms.json")
        assert not set(heldout.file_paths) & set(train.file_paths)
        pictures = read_pictures([scene.folder / name for name in heldout.file_paths])
        assert (np.abs(pictures.astype(int) - box_views(heldout.c2w, heldout.intrinsics)) <= 1).all()
        distances = np.linalg.norm(heldout.c2w[:, None] - train.c2w[None], axis=(-2, -1))
        assert distances.min() > 1e-3

    def test_collisions_are_told_of_every_trajectory(self, scene: Scene) -> None:
        verdicts = scene.document("collision.json")
        assert len(verdicts) == 32
        assert all(one["kept_anchors"] == len(one["anchors"]) for one in verdicts.values())
        assert scene.record.metrics["trajectories_cut"] == scene.record.metrics["trajectories_empty"] == 0
        assert scene.record.notes == []

    def test_samplings_are_told_of_every_trajectory(self, scene: Scene) -> None:
        samplings = scene.document("samplings.json")
        assert len(samplings) == 32
        expected = [*(f"view:{view}" for view in range(8)), *(f"new:{anchor}" for anchor in range(1, FRAMES + 1))]
        assert samplings["007_up"] == [expected]

    def test_nothing_else_is_committed(self, scene: Scene) -> None:
        train = read_transforms(scene.folder / "transforms.json").file_paths
        heldout = read_transforms(scene.folder / "heldout.json").file_paths
        others = (
            *("transforms.json", "heldout.json", "vggt_pcl.ply"),
            *("alignment.json", "collision.json", "samplings.json"),
        )
        prefix = scene.record.outputs["scene_path"]
        assert {entry.path for entry in scene.record.files} == {f"{prefix}/{name}" for name in train + heldout + others}

    def test_progress_goes_forward(self, tmp_path: Path) -> None:
        bench = Workbench(tmp_path)
        runner = bench.runner(engine=SmallEngine())
        runner.run(bench.job(), "scaffold", silent)
        shares: list[float] = []
        runner.run(bench.job(), "trajectory", lambda done, total, what: shares.append(done / total))
        assert shares == sorted(shares)
        assert 0 <= shares[0] <= shares[-1] <= 1


@pytest.mark.slow
def test_a_scene_of_full_length_is_made_the_published_way(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    class Engine(TinyEngine):
        defaults = StageDefaults(8, None, 64, 0, sampling_frames=21)

    monkeypatch.setattr("worldexplorer.trajectory.stage._makes_films", lambda engine: False)
    engine = Engine()
    record = stage_2(bench, engine)
    published = json.loads((Path(__file__).parent / "fixtures" / "first_pass_plan.json").read_bytes())
    folder = bench.job_path(record.outputs["scene_path"])
    samplings = json.loads((folder / "samplings.json").read_bytes())
    assert {name: [" ".join(words[8:]) for words in one] for name, one in samplings.items()} == {
        name: one["chunks"] for name, one in published.items()
    }
    assert len(engine.calls) == 1 + 63 + 240  # with stage 1's
    assert record.metrics["frames"] == 8 + 2880
    transforms = read_transforms(folder / "transforms.json")
    some = list(range(8, len(transforms.file_paths), 97))
    found = read_pictures([folder / transforms.file_paths[frame] for frame in some])
    expected = box_views(transforms.c2w[some], transforms.intrinsics[some])
    assert (np.abs(found.astype(int) - expected) <= 1).all()


class TestObstacles:
    def test_some_trajectories_come_out_empty_and_are_named(self, bench: Workbench) -> None:
        class Hedge:
            """Close in front of every moved camera that does not look ahead."""

            def depth(self, views: Views, world: Any, scale: float) -> np.ndarray:
                looks_ahead = views.c2w[:, 0, 0] > 0.9
                moved = np.linalg.norm(views.c2w[:, :3, 3], axis=1) > 1e-9
                values = np.where(looks_ahead | ~moved, 5.0, 0.2).astype(np.float32)
                return np.broadcast_to(values[:, None, None], (len(values), SIZE, SIZE)).copy()

        class Engine(TinyEngine):
            def depth(self, scene_type: str | None = None) -> Any:
                return Hedge()

        record = stage_2(bench, Engine(), trajectory_order=("in",))
        assert record.metrics["trajectories_empty"] == 7
        assert record.metrics["trajectories_cut"] == 7
        assert record.metrics["frames"] == 8 + FRAMES
        (note,) = record.notes
        assert "001_in" in note
        assert "000_in" not in note

    def test_no_room_anywhere_is_the_persons_to_change(self, bench: Workbench) -> None:
        class Wall:
            def depth(self, views: Views, world: Any, scale: float) -> np.ndarray:
                return np.full((len(views.c2w), SIZE, SIZE), 0.1, dtype=np.float32)

        class Engine(TinyEngine):
            def depth(self, scene_type: str | None = None) -> Any:
                return Wall()

        engine = Engine()
        with pytest.raises(StageFailedError) as caught:
            stage_2(bench, engine, trajectory_order=("in",))
        assert len(engine.calls) == 9  # stage 1's and eight first passes, nothing after them
        error = caught.value.record.error
        assert error is not None
        assert error.error_class.value == "user"
        assert "all 8 trajectories were cut to nothing" in error.message
        assert "translation_scaling_factor" in error.remedy


def test_views_that_an_engine_adds_are_trained_on_and_feed_the_points(bench: Workbench) -> None:
    caps = np.tile(np.eye(4), (3, 1, 1))
    angles = np.radians([80, 85, 90])
    caps[:, 1, 1] = caps[:, 2, 2] = np.cos(angles)
    caps[:, 1, 2], caps[:, 2, 1] = -np.sin(angles), np.sin(angles)

    class Engine(SmallEngine):
        def extra_trajectories(self, translation_scaling_factor: float) -> Mapping[str, Poses]:
            return {"caps": caps}

    record = stage_2(bench, Engine(), trajectory_order=("in",))
    folder = bench.job_path(record.outputs["scene_path"])
    transforms = read_transforms(folder / "transforms.json")
    assert transforms.file_paths[-3:] == tuple(f"caps/samples-rgb/{frame:03d}.png" for frame in range(3))
    np.testing.assert_allclose(transforms.c2w[-3:], caps, atol=1e-9)
    assert record.metrics["point_views"] == 8 + 8 + 3
    assert "caps" not in json.loads((folder / "collision.json").read_bytes())


def test_without_held_out_views_there_is_no_list_of_them(bench: Workbench) -> None:
    class Engine(SmallEngine):
        defaults = StageDefaults(8, 1, 16, heldout_views=0)

    record = stage_2(bench, Engine(), trajectory_order=("in",))
    assert not any("heldout" in entry.path for entry in record.files)


class TestSettings:
    def settings(self, bench: Workbench, **changes: Any) -> TrajectorySettings:
        settings: TrajectorySettings = TRAJECTORY.settings(bench.job(), bench.config(**changes), TinyEngine())
        return settings

    def test_the_sample_wins(self, tmp_path: Path) -> None:
        expansion = {"translation_scaling_factor": 7.0, "trajectory_order": "up in", "num_images_for_vggt": 20}
        bench = Workbench(tmp_path, [photo_sample(0, expansion=expansion)])
        settings = self.settings(bench, translation_scaling_factor=2.0, num_images_for_vggt=4)
        assert settings == TrajectorySettings(7.0, ("up", "in"), 20, "clearance", None, None, None, None, {})

    def test_anchors_count_where_trajectories_have_their_full_length(self, bench: Workbench) -> None:
        class Long(TinyEngine):
            defaults = StageDefaults(8, None, 16, 0, sampling_frames=21)

        with pytest.raises(UsageError, match="the preview engine makes 4 frames of each"):
            self.settings(bench, anchors=9)
        settings = TRAJECTORY.settings(bench.job(), bench.config(anchors=9), Long())
        assert settings.anchors == TRAJECTORY.basis(settings)["anchors"] == 9

    def test_a_choice_of_models_counts_and_where_there_is_none_nothing_is_added(self, bench: Workbench) -> None:
        class Choosing(TinyEngine):
            def scene_models(self, scene_type: str | None) -> Mapping[str, str]:
                return {"depth": str(scene_type)}

        outdoors = replace(bench.job(), scene_type="outdoor")
        chosen = TRAJECTORY.settings(outdoors, bench.config(), Choosing())
        assert TRAJECTORY.basis(chosen)["models"] == {"depth": "outdoor"}
        plain = TRAJECTORY.basis(TRAJECTORY.settings(outdoors, bench.config(), TinyEngine()))
        assert not {"models", "anchors", "scene_type"} & set(plain)

    @pytest.mark.parametrize("anchors", [2, 46, -1])
    def test_a_number_of_anchors_that_cannot_be(self, bench: Workbench, anchors: int) -> None:
        with pytest.raises(UsageError, match="give a number from 3 to 45"):
            bench.config(anchors=anchors)

    def test_all_trajectories_where_nothing_is_said(self, bench: Workbench) -> None:
        assert self.settings(bench, trajectory_order=None).trajectory_order == ORDER

    @pytest.mark.parametrize(("now", "less"), [(40, 20), (9, 4), (8, 4), (7, None), (1, None)])
    def test_less_memory(self, bench: Workbench, now: int, less: int | None) -> None:
        found = fewer_images(self.settings(bench, num_images_for_vggt=now))
        assert (found is None) == (less is None)
        if found is not None:
            assert found[0].num_images_for_vggt == less
            assert found[1] == f"num_images_for_vggt {less}"


class TestOwnTrajectories:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        self.write(tmp_path / "own", 0.5)
        return tmp_path / "own"

    @staticmethod
    def write(root: Path, reach: float) -> None:
        """A walk straight ahead, so far."""
        poses = np.concatenate([scaffold_poses(), np.tile(np.eye(4), (5, 1, 1))])
        poses[8:, 2, 3] = -np.linspace(0, reach, 5)
        frames = [
            {"file_path": f"./{number:03d}.png", "transform_matrix": pose.tolist()} for number, pose in enumerate(poses)
        ]
        (root / "ahead").mkdir(parents=True, exist_ok=True)
        (root / "ahead" / "transforms.json").write_text(json.dumps({"frames": frames}))

    def test_they_are_walked(self, bench: Workbench, root: Path) -> None:
        record = stage_2(bench, SmallEngine(), root_dir=str(root))
        transforms = read_transforms(bench.job_path(record.outputs["scene_path"]) / "transforms.json")
        assert transforms.file_paths[8] == "000_ahead/samples-rgb/000.png"
        np.testing.assert_allclose(transforms.c2w[8][:3, 3], [0, 0, -0.5], atol=1e-9)

    def test_where_they_lie_does_not_count_but_what_they_are(
        self, bench: Workbench, root: Path, tmp_path: Path
    ) -> None:
        stage_2(bench, SmallEngine(), root_dir=str(root))
        root.rename(tmp_path / "moved")
        first = stage_2(bench, SmallEngine(), root_dir=str(tmp_path / "moved"))
        self.write(tmp_path / "moved", 0.25)
        with pytest.raises(StageFailedError, match=r"own_trajectories\.ahead"):
            stage_2(bench, SmallEngine(), root_dir=str(tmp_path / "moved"))
        forced = stage_2(bench, SmallEngine(), root_dir=str(tmp_path / "moved"), force=True)
        transforms = read_transforms(bench.job_path(forced.outputs["scene_path"]) / "transforms.json")
        assert first.content != forced.content
        np.testing.assert_allclose(transforms.c2w[8][:3, 3], [0, 0, -0.25], atol=1e-9)


def test_lenses_are_the_scaffolds(scene: Scene) -> None:
    transforms = read_transforms(scene.folder / "transforms.json")
    np.testing.assert_allclose(
        transforms.intrinsics, np.tile(normalised_intrinsics(), (8 + 32 * FRAMES, 1, 1)), atol=1e-9
    )
