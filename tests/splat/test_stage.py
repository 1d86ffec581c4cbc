"""Stage 3: what the trainer is given, what is measured, what is left."""

from __future__ import annotations

import json
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

from worldexplorer.engine import SplatScene, TrainingResult
from worldexplorer.geometry.cameras import normalised_intrinsics, yaw_degrees
from worldexplorer.geometry.ply import read_gaussians, read_points
from worldexplorer.geometry.transforms import read_transforms
from worldexplorer.pictures import read_pictures
from worldexplorer.progress import silent
from worldexplorer.records import StageRecord
from worldexplorer.scaffold.poses import scaffold_poses
from worldexplorer.seeds import derive_seed
from worldexplorer.splat.metrics import psnr
from worldexplorer.splat.stage import TURNTABLE_FRAMES, keeping, turntable
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
    expected = {"splat.ply", "splat_rotated.ply", "splat.json", "turntable.mp4"}
    expected |= {f"renders/{view:03d}.png" for view in range(8)}
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
    assert document["lpips"] == "not computed"


def test_renders_are_those_of_the_scaffold_views(finished: Finished) -> None:
    found = read_pictures(sorted((finished.folder / "renders").iterdir()))
    expected = box_views(scaffold_poses(), np.tile(normalised_intrinsics(), (8, 1, 1)))
    assert (np.abs(found.astype(int) - expected) <= 1).all()


def test_the_turntable_turns_once_to_the_left() -> None:
    class Trainer(SmallEngine):
        def render(self, gaussians: Any, c2w: np.ndarray, intrinsics: np.ndarray, size: int) -> np.ndarray:
            self.c2w = c2w
            return super().render(gaussians, c2w, intrinsics, size)

    trainer = Trainer()
    frames = turntable(trainer, None, SIZE)  # type: ignore[arg-type]
    assert frames.shape == (TURNTABLE_FRAMES, SIZE, SIZE, 3)
    yaws = np.unwrap(yaw_degrees(trainer.c2w[:, :3, :3]), period=360)
    np.testing.assert_allclose(yaws, np.arange(TURNTABLE_FRAMES) * 360 / TURNTABLE_FRAMES, atol=1e-9)
    assert (trainer.c2w[:, :3, 3] == 0).all()


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


def test_every_checkpoint_is_kept_before_its_progress_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    report = keeping(lambda done, total, what: told.append(str(done)), tmp_path, lambda: told.append("keep"))
    for step in range(1, 6):
        with (tmp_path / "log").open("a") as file:
            file.write("step")
        if step % 2 == 0:
            (tmp_path / "partial").write_text("state")
            (tmp_path / "partial").replace(tmp_path / "checkpoint")
        report(step, 5, "training")
    # The first step makes the log.
    assert told == ["keep", "1", "keep", "2", "3", "keep", "4", "5"]
