"""Stage 3: what the trainer is given, what is measured, what is left."""

from __future__ import annotations

import json
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
from tiny_engine import SIZE, box_views

from worldexplorer.engine import SplatScene, TrainingResult, Views
from worldexplorer.geometry.cameras import normalised_intrinsics
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.geometry.ply import read_comments, read_gaussians, read_points
from worldexplorer.geometry.transforms import read_transforms
from worldexplorer.pictures import read_pictures
from worldexplorer.progress import silent
from worldexplorer.records import StageRecord
from worldexplorer.scaffold.poses import scaffold_poses
from worldexplorer.seeds import derive_seed
from worldexplorer.splat.metrics import halved, psnr
from worldexplorer.splat.settings import SplatSettings
from worldexplorer.splat.stage import SPLAT, _heldout_by_size
from worldexplorer.stage import StageFailedError


class RecordingEngine(SmallEngine):
    """Keeps what the trainer was given."""

    def __init__(self) -> None:
        super().__init__()
        self.scene: SplatScene | None = None
        self.seed: int | None = None
        self.checkpoint: Path | None = None

    def train(self, scene: SplatScene, seed: int, checkpoint: Path, progress: Any) -> TrainingResult:
        self.scene, self.seed, self.checkpoint = scene, seed, checkpoint
        assert checkpoint.is_dir()
        (checkpoint / "log.txt").write_text("step 1")
        return super().train(scene, seed, checkpoint, progress)


def stage_3(bench: Workbench, engine: SmallEngine | None = None, **settings: Any) -> StageRecord:
    runner = bench.runner(bench.config(**settings), engine=engine or SmallEngine())
    for stage in ("scaffold", "trajectory", "splat"):
        record = runner.run(bench.job(), stage, silent)
    return record


class Finished:
    def __init__(self, folder: Path) -> None:
        self.bench = Workbench(folder)
        self.engine = RecordingEngine()
        self.record = stage_3(self.bench, self.engine)
        self.scene = self.bench.job_path(self.bench.record("trajectory").outputs["scene_path"])
        self.folder = self.bench.job_path("splat")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return Finished(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


def test_the_files(finished: Finished) -> None:
    expected = {"splat.ply", "splat_rotated.ply", "splat.json", "turntable.mp4", "walk.mp4"}
    expected |= {f"{folder}/{view:03d}.png" for folder in ("renders", "depth") for view in range(8)}
    assert {entry.path for entry in finished.record.files} == {f"splat/{name}" for name in expected}
    assert finished.record.outputs == {"export_path": "splat/splat.ply"}


def test_the_trainer_is_given_the_training_views_and_the_points(finished: Finished) -> None:
    scene = finished.engine.scene
    assert scene is not None
    transforms = read_transforms(finished.scene / "transforms.json")
    np.testing.assert_array_equal(scene.train.c2w, transforms.c2w)
    np.testing.assert_array_equal(scene.train.intrinsics, transforms.intrinsics)
    assert (scene.train.images == read_pictures([finished.scene / name for name in transforms.file_paths])).all()
    cloud = read_points(finished.scene / "vggt_pcl.ply")
    for name in ("points", "normals", "colours"):
        np.testing.assert_array_equal(getattr(scene, name), getattr(cloud, name))
    assert finished.engine.seed == derive_seed(0, "splat")


def test_what_describes_the_scene_is_read_once(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names every frame: megabytes of JSON for a scene of full length."""
    reads: list[str] = []

    def reading(path: Path) -> Any:
        reads.append(path.name)
        return read_transforms(path)

    monkeypatch.setattr("worldexplorer.splat.stage.read_transforms", reading)
    stage_3(bench)
    assert sorted(reads) == ["heldout.json", "transforms.json"]


def test_the_worlds_are_written(finished: Finished) -> None:
    plain, turned = (read_gaussians(finished.folder / name) for name in ("splat.ply", "splat_rotated.ply"))
    assert finished.engine.scene is not None
    np.testing.assert_array_equal(plain.means, finished.engine.scene.points)
    np.testing.assert_allclose(turned.means, plain.means * [1, -1, -1], atol=1e-6)
    assert finished.record.metrics["gaussians"] == plain.count


def test_what_is_measured(finished: Finished) -> None:
    """The tiny engine renders the box itself, so that only the photo's own view differs."""
    metrics = finished.record.metrics
    assert metrics["psnr_heldout"] > 60
    assert metrics["ssim_heldout"] == pytest.approx(1, abs=1e-3)
    assert metrics["gradient_energy_heldout"] == pytest.approx(1, abs=1e-2)
    assert metrics["psnr_train"] == 20.0
    photo = read_pictures([finished.scene / "input" / "000.png"])
    render = box_views(scaffold_poses()[:1], normalised_intrinsics()[None])
    assert metrics["psnr_input_view"] == pytest.approx(psnr(render, photo), abs=1e-3)


def test_the_document_repeats_it_with_the_trainers_own_words(finished: Finished) -> None:
    document = json.loads((finished.folder / "splat.json").read_bytes())
    assert document["metrics"] == finished.record.metrics
    assert document["training"] == {"psnr_train": 20.0}
    assert document["label"] == "tiny test engine"
    assert "y up" in document["frame"]
    assert document["lpips"] == "not computed: the tiny engine has no networks"


def test_the_perceptual_distance_is_recorded_where_it_is_measured(bench: Workbench) -> None:
    class Engine(RecordingEngine):
        def lpips(self, gaussians: Gaussians, views: Views) -> float:
            transforms = read_transforms(bench.job_path(self.scene_path) / "heldout.json")
            np.testing.assert_array_equal(views.c2w, transforms.c2w)
            return 0.12345678

        scene_path = ""

        def train(self, *arguments: Any) -> TrainingResult:
            self.scene_path = bench.record("trajectory").outputs["scene_path"]
            return super().train(*arguments)

    record = stage_3(bench, Engine())
    document = json.loads(bench.job_path("splat/splat.json").read_bytes())
    assert document["lpips"] == document["metrics"]["lpips_heldout"] == record.metrics["lpips_heldout"] == 0.123457


def test_renders_are_those_of_the_scaffold_views(finished: Finished) -> None:
    found = read_pictures(sorted((finished.folder / "renders").iterdir()))
    expected = box_views(scaffold_poses(), np.tile(normalised_intrinsics(), (8, 1, 1)))
    assert (np.abs(found.astype(int) - expected) <= 1).all()


def test_depths_are_those_of_the_scaffold_views(finished: Finished) -> None:
    found = read_pictures(sorted((finished.folder / "depth").iterdir()))
    depths = finished.engine.render_depth(None, scaffold_poses(), np.tile(normalised_intrinsics(), (8, 1, 1)), SIZE)  # type: ignore[arg-type]
    assert found.shape == (8, SIZE, SIZE, 3)
    order = np.argsort(depths.ravel(), kind="stable")
    assert (np.diff(found[..., 0].ravel()[order].astype(int)) <= 0).all()
    assert found[..., 0].max() == 255


def test_the_walk_is_a_video(finished: Finished) -> None:
    import imageio.v3

    found = imageio.v3.immeta(finished.folder / "walk.mp4")
    assert found["fps"] == 24
    assert found["source_size"] == (SIZE, SIZE)
    assert 3 < found["duration"] < 30


def test_held_out_views_are_measured_at_every_size_down_to_the_least(finished: Finished, monkeypatch: Any) -> None:
    sizes = json.loads((finished.folder / "splat.json").read_bytes())["heldout_by_size"]
    assert list(sizes) == [str(SIZE)]
    assert sizes[str(SIZE)]["psnr"] == finished.record.metrics["psnr_heldout"]
    monkeypatch.setattr("worldexplorer.splat.stage.LEAST_MEASURED_SIZE", 8)
    poses, lenses = scaffold_poses(), np.tile(normalised_intrinsics(), (8, 1, 1))
    truths = box_views(poses, lenses, 48)
    found = _heldout_by_size(finished.engine, None, Views(truths, poses, lenses))  # type: ignore[arg-type]
    assert list(found) == ["48", "24", "12"]
    assert found["48"]["psnr"] == 99.0
    expected = psnr(box_views(poses, lenses, 24), halved(truths))
    assert found["24"]["psnr"] == pytest.approx(expected, abs=1.0)  # the mean over views against that over all pixels


def test_run_data_stay_in_the_attempt_and_go_with_it(bench: Workbench) -> None:
    engine = RecordingEngine()
    stage_3(bench, engine)
    assert engine.checkpoint is not None
    assert engine.checkpoint.is_relative_to(bench.job_path(".attempts"))
    assert bench.leftovers() == []
    assert not bench.job_path("splat/training").exists()


def test_run_data_are_kept_on_request(bench: Workbench) -> None:
    record = stage_3(bench, RecordingEngine(), keep_training=True)
    assert bench.job_path("splat/training/log.txt").read_text() == "step 1"
    assert record.file("splat/training/log.txt") is not None


def test_run_data_go_where_the_person_says(bench: Workbench, tmp_path: Path) -> None:
    engine = RecordingEngine()
    stage_3(bench, engine, nerf_folder=str(tmp_path / "nerf"))
    assert engine.checkpoint is not None
    assert engine.checkpoint.is_relative_to(tmp_path / "nerf" / "photorealistic")
    assert (engine.checkpoint / "log.txt").exists()


@pytest.mark.parametrize("elsewhere", [False, True])
def test_an_interrupted_training_finds_its_checkpoint_again(bench: Workbench, tmp_path: Path, elsewhere: bool) -> None:
    class Stopped(RecordingEngine):
        def train(self, scene: SplatScene, seed: int, checkpoint: Path, progress: Any) -> TrainingResult:
            (checkpoint / "step").write_text("half")
            raise KeyboardInterrupt

    class GoingOn(RecordingEngine):
        def train(self, scene: SplatScene, seed: int, checkpoint: Path, progress: Any) -> TrainingResult:
            assert (checkpoint / "step").read_text() == "half"
            return super().train(scene, seed, checkpoint, progress)

    settings = {"nerf_folder": str(tmp_path / "nerf")} if elsewhere else {}
    with pytest.raises(KeyboardInterrupt):
        stage_3(bench, Stopped(), **settings)
    assert stage_3(bench, GoingOn(), **settings).status == "committed"


def test_a_scene_without_held_out_views_is_measured_without(bench: Workbench) -> None:
    class Engine(SmallEngine):
        defaults = SmallEngine.defaults.__class__(8, 1, 16, heldout_views=0)

    metrics = stage_3(bench, Engine()).metrics
    assert not any("heldout" in name for name in metrics)
    assert "psnr_input_view" in metrics


def test_a_training_log_that_holds_no_numbers_fails_the_stage(bench: Workbench) -> None:
    class Engine(SmallEngine):
        def train(self, *arguments: Any) -> TrainingResult:
            return TrainingResult(super().train(*arguments).gaussians, {"psnr_train": float("nan")})

    with pytest.raises(StageFailedError) as caught:
        stage_3(bench, Engine())
    assert caught.value.record.error is not None
    assert caught.value.record.error.error_class.value == "defect"
    assert not bench.job_path("records/splat.json").exists()


class TestMemory:
    """What is made smaller, step by step, when the trainer runs out of memory."""

    class Greedy(RecordingEngine):
        defaults = replace(SmallEngine.defaults, smaller_trainings=("half the room", "a quarter of the room"))

        def __init__(self, enough: int) -> None:
            super().__init__()
            self.enough = enough
            self.tried: list[int] = []

        def train(self, scene: SplatScene, seed: int, checkpoint: Path, progress: Any) -> TrainingResult:
            self.tried.append(scene.made_smaller)
            if scene.made_smaller < self.enough:
                raise MemoryError("no room")
            return super().train(scene, seed, checkpoint, progress)

    def test_each_try_changes_one_thing_more_and_the_record_says_so(self, bench: Workbench) -> None:
        engine = self.Greedy(enough=2)
        record = stage_3(bench, engine)
        assert engine.tried == [0, 1, 2]
        assert [retry.adjustment for retry in record.retries] == ["half the room", "a quarter of the room"]

    def test_it_fails_where_nothing_is_left_to_change(self, bench: Workbench) -> None:
        engine = self.Greedy(enough=3)
        with pytest.raises(StageFailedError) as caught:
            stage_3(bench, engine)
        assert engine.tried == [0, 1, 2]
        assert caught.value.record.error is not None
        assert caught.value.record.error.error_class.value == "out-of-memory"

    def test_an_engine_that_changes_nothing_is_not_tried_again(self, bench: Workbench) -> None:
        engine = self.Greedy(enough=1)
        engine.defaults = SmallEngine.defaults  # type: ignore[misc]
        with pytest.raises(StageFailedError):
            stage_3(bench, engine)
        assert engine.tried == [0]


class TestThinning:
    def test_the_most_seen_are_kept_and_all_is_counted(self, bench: Workbench) -> None:
        """The tiny engine says that a Gaussian shows the more the later it comes."""
        engine = RecordingEngine()
        record = stage_3(bench, engine, max_gaussians=5)
        assert engine.scene is not None
        found = read_gaussians(bench.job_path("splat/splat.ply"))
        np.testing.assert_array_equal(found.means, engine.scene.points[-5:])
        assert read_gaussians(bench.job_path("splat/splat_rotated.ply")).count == 5
        total = len(engine.scene.points)
        assert (record.metrics["gaussians"], record.metrics["least_seen_removed"]) == (5, total - 5)
        assert "floaters_removed" not in record.metrics
        assert "psnr_train" not in record.metrics  # the trainer measured it with all of them

    def test_fewer_than_the_most_stay_as_they_are(self, bench: Workbench) -> None:
        class Engine(RecordingEngine):
            def contributions(self, *arguments: Any) -> Any:
                raise AssertionError("nothing has to be ranked")

        engine = Engine()
        record = stage_3(bench, engine, max_gaussians=1_000_000)
        assert engine.scene is not None
        assert (record.metrics["gaussians"], record.metrics["least_seen_removed"]) == (len(engine.scene.points), 0)
        assert record.metrics["psnr_train"] == 20.0

    def test_floaters_go_first(self, bench: Workbench) -> None:
        class Engine(RecordingEngine):
            def train(self, scene: SplatScene, *arguments: Any) -> TrainingResult:
                result = super().train(scene, *arguments)
                means = scene.points.copy()
                means[-1] = 0.01  # before the cameras; the box is three units away
                wide = np.full_like(means, np.log(2.0))
                return TrainingResult(replace(result.gaussians, means=means, log_scales=wide), result.log)

        engine = Engine()
        record = stage_3(bench, engine, filter_floaters=True, max_gaussians=5)
        assert engine.scene is not None
        assert record.metrics["floaters_removed"] == 1
        assert record.metrics["least_seen_removed"] == len(engine.scene.points) - 6
        found = read_gaussians(bench.job_path("splat/splat.ply"))
        np.testing.assert_array_equal(found.means, engine.scene.points[-6:-1])

    def test_a_world_of_floaters_alone_is_an_error_that_names_the_flag(self, bench: Workbench) -> None:
        class Engine(SmallEngine):
            def train(self, scene: SplatScene, *arguments: Any) -> TrainingResult:
                result = super().train(scene, *arguments)
                result.gaussians.log_scales[:] = -12
                return result

        with pytest.raises(StageFailedError) as caught:
            stage_3(bench, Engine(), filter_floaters=True)
        assert caught.value.record.error is not None
        assert "--filter_floaters" in caught.value.record.error.remedy


class TestFormats:
    def test_a_missing_package_is_told_before_anything_is_trained(
        self, bench: Workbench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("worldexplorer.splat.formats.importlib.util.find_spec", lambda name: None)
        engine = RecordingEngine()
        with pytest.raises(StageFailedError) as caught:
            stage_3(bench, engine, export_formats=("spz",))
        assert engine.scene is None
        assert caught.value.record.error is not None
        assert caught.value.record.error.error_class.value == "user"
        assert "gsply" in caught.value.record.error.message

    @pytest.mark.requires_part("gsply")
    def test_the_files_are_in_the_record(self, bench: Workbench) -> None:
        record = stage_3(bench, export_formats=("ply", "spz", "compressed-ply"))
        said = json.loads(bench.job_path("splat/splat.json").read_bytes())["smaller_files"]
        for name in ("splat.spz", "splat.compressed.ply"):
            assert record.file(f"splat/{name}") is not None
            assert said[name]["bytes"] == bench.job_path(f"splat/{name}").stat().st_size
            assert said[name]["gaussians"] == record.metrics["gaussians"]


class TestBasis:
    def test_without_flags_it_is_what_it_was_before_there_were_any(self, bench: Workbench) -> None:
        settings = SPLAT.settings(bench.job(), bench.config(), SmallEngine())
        assert SPLAT.basis(settings) == {}

    def test_where_run_data_lie_and_how_memory_was_saved_change_nothing(self) -> None:
        assert SPLAT.basis(SplatSettings("/nerf", True, smaller_trainings=("a", "b"), made_smaller=2)) == {}

    def test_every_option_that_changes_files_is_in_it(self, bench: Workbench) -> None:
        run = bench.config(export_formats=("spz", "ply", "compressed-ply"), max_gaussians=7, filter_floaters=True)
        assert SPLAT.basis(SPLAT.settings(bench.job(), run, SmallEngine())) == {
            "export_formats": ["compressed-ply", "spz"],
            "max_gaussians": 7,
            "filter_floaters": True,
        }


@pytest.mark.parametrize("antialiased", [False, True])
def test_how_a_world_is_meant_to_be_rendered_is_in_its_files(bench: Workbench, antialiased: bool) -> None:
    class Engine(SmallEngine):
        def train(self, *arguments: Any) -> TrainingResult:
            return replace(super().train(*arguments), antialiased=antialiased)

    stage_3(bench, Engine())
    assert json.loads(bench.job_path("splat/splat.json").read_bytes())["antialiased"] is antialiased
    assert ("SplatRenderMode: mip" in read_comments(bench.job_path("splat/splat.ply"))) is antialiased


@pytest.mark.requires_part("gsply")
def test_smaller_files_say_how_they_are_meant_to_be_rendered(bench: Workbench) -> None:
    class Engine(SmallEngine):
        def train(self, *arguments: Any) -> TrainingResult:
            return replace(super().train(*arguments), antialiased=True)

    stage_3(bench, Engine(), export_formats=("compressed-ply",))
    assert b"\ncomment SplatRenderMode: mip\n" in bench.job_path("splat/splat.compressed.ply").read_bytes()
