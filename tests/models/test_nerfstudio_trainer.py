"""The trainer around a nerfstudio that trains nothing, in real processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_nerfstudio import SCALE, SHIFT, a_scene, install, parameters, write_checkpoints

from worldexplorer.engine import SplatScene, TrainingResult
from worldexplorer.errors import Cancelled, DefectError, InfrastructureError, OutOfMemoryError, UserError
from worldexplorer.geometry.ply import read_points
from worldexplorer.geometry.transforms import read_transforms
from worldexplorer.models.nerfstudio.checkpoints import checkpoint_step
from worldexplorer.models.nerfstudio.command import checkpoint_folder, output_folder
from worldexplorer.models.nerfstudio.settings import NerfstudioSettings
from worldexplorer.models.nerfstudio.trainer import CHECKPOINT_NAME, LOG_NAME, NerfstudioTrainer
from worldexplorer.pictures import read_pictures
from worldexplorer.progress import Progress, silent
from worldexplorer.splat.stage import keeping

SETTINGS = NerfstudioSettings(steps=60, checkpoint_interval=20)


class Bench:
    """One run data folder, and calls of the trainer on it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run_data = folder / "run data"
        self._packages, self._patch = folder / "packages", monkeypatch
        self.values = parameters()
        self.checkpoints = write_checkpoints(folder / "checkpoints", self.values, 20, 29, 40, 59, 60, 79)

    def train(
        self,
        fails: str = "",
        progress: Progress = silent,
        scene: SplatScene | None = None,
        seed: int = 7,
        settings: NerfstudioSettings = SETTINGS,
    ) -> TrainingResult:
        command = install(self._packages, self._patch, self.checkpoints, fails)
        trainer = NerfstudioTrainer(settings, renderer=None, command=command, silence_limit=20.0)  # type: ignore[arg-type]
        return trainer.train(scene or a_scene(), seed, self.run_data, progress)

    def calls(self) -> list[str]:
        return (output_folder(self.run_data) / "calls.txt").read_text().splitlines()

    def kept(self) -> int | None:
        return checkpoint_step(self.run_data / CHECKPOINT_NAME)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_a_training(bench: Bench) -> None:
    bench.values["opacities"][3] = -9.0
    write_checkpoints(bench.checkpoints, bench.values, 59)
    told: list[tuple[int, int, str]] = []
    result = bench.train(progress=lambda *one: told.append(one))
    expected = np.delete(bench.values["means"].numpy(), 3, axis=0) / SCALE - SHIFT
    np.testing.assert_allclose(result.gaussians.means, expected, atol=1e-6)
    recipe = result.log.pop("recipe")
    assert result.antialiased
    assert recipe["flags"]["pipeline.model.rasterize-mode"] == "antialiased"
    assert recipe["flags"]["pipeline.model.strategy"] == "mcmc"
    assert result.log == {
        "trainer": "nerfstudio",
        "steps": 60,
        "resumed_at": 0,
        "gaussians": 19,
        "not_finite": 0,
        "transparent": 1,
    }
    json.dumps(result.log, allow_nan=False)
    shares = [done / total for done, total, _ in told]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(0.99)
    assert {what for _, _, what in told} == {"training", "reading Gaussians"}
    assert bench.kept() == 59
    assert "59 (98.33%)" in (bench.run_data / LOG_NAME).read_text()
    (call,) = bench.calls()
    assert "--machine.seed 7 " in call
    assert "\x1b" not in (bench.run_data / LOG_NAME).read_text()


def test_the_scene_is_written_as_it_is(bench: Bench) -> None:
    scene = a_scene()
    bench.train(scene=scene)
    transforms = read_transforms(bench.run_data / "scene" / "transforms.json")
    pictures = read_pictures([bench.run_data / "scene" / name for name in transforms.file_paths])
    np.testing.assert_array_equal(pictures, scene.train.images)
    np.testing.assert_allclose(transforms.c2w, scene.train.c2w, atol=1e-11)
    np.testing.assert_array_equal(read_points(bench.run_data / "scene" / "vggt_pcl.ply").points, scene.points)


def test_a_scene_on_disk_is_taken_from_there(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "on disk"
    folder.mkdir()
    (folder / "transforms.json").write_text("{}")
    bench.train(scene=replace(a_scene(), folder=folder))
    assert f"--data {folder} " in bench.calls()[0]
    assert not (bench.run_data / "scene").exists()


def test_a_killed_training_goes_on(bench: Bench) -> None:
    with pytest.raises(InfrastructureError, match="signal 9"):
        bench.train("killed@45")
    assert bench.kept() == 40
    result = bench.train()
    assert (result.log["resumed_at"], result.log["steps"]) == (41, 60)
    assert f"--load-checkpoint {bench.run_data}/checkpoint.ckpt" in bench.calls()[1]
    assert bench.kept() == 59
    again = bench.train("crash@0")  # there is nothing left to call it for
    assert again.log["resumed_at"] == 60
    np.testing.assert_array_equal(again.gaussians.means, result.gaussians.means)
    assert len(bench.calls()) == 2


def test_a_checkpoint_that_was_not_written_to_the_end_is_passed_over(bench: Bench) -> None:
    with pytest.raises(DefectError, match="exit code 137"):
        bench.train("torn@45")
    assert any(checkpoint_folder(bench.run_data).iterdir())
    assert bench.train().log["resumed_at"] == 41
    assert bench.kept() == 59


def test_a_damaged_checkpoint_means_a_start_from_the_beginning(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InfrastructureError):
        bench.train("killed@45")
    path = bench.run_data / CHECKPOINT_NAME
    path.write_bytes(path.read_bytes()[:-100])
    assert bench.train().log["resumed_at"] == 0
    assert "cannot be used" in caplog.text


def test_gaussians_of_an_unknown_frame_are_not_gone_on_with(bench: Bench) -> None:
    with pytest.raises(InfrastructureError):
        bench.train("killed@45")
    (output_folder(bench.run_data) / "dataparser_transforms.json").unlink()
    assert bench.train().log["resumed_at"] == 0


@pytest.mark.parametrize("other", ["seed", "points", "cap", "steps"])
def test_another_training_does_not_go_on_from_this_one(
    bench: Bench, other: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench.train()
    scene, seed, settings = a_scene(), 7, SETTINGS
    if other == "seed":
        seed = 8
    if other == "points":
        scene = a_scene(points=13)
    if other == "cap":
        scene = replace(scene, made_smaller=1)
    if other == "steps":
        settings = replace(SETTINGS, steps=80)
    result = bench.train(scene=scene, seed=seed, settings=settings)
    assert result.log["resumed_at"] == 0
    assert "another training" in caplog.text
    assert ("--pipeline.model.max-gs-num 500000" in bench.calls()[0]) == (other == "cap")


def test_a_training_in_parts(bench: Bench) -> None:
    assert bench.train(settings=replace(SETTINGS, until=30)).log["steps"] == 30
    result = bench.train()
    assert (result.log["resumed_at"], result.log["steps"]) == (30, 60)


def test_every_checkpoint_is_kept(bench: Bench) -> None:
    kept: list[int | None] = []
    bench.run_data.mkdir()
    bench.train(progress=keeping(silent, bench.run_data, lambda: kept.append(bench.kept())))
    assert kept[-1] == 59


@pytest.mark.parametrize(
    ("fails", "error"),
    [("crash@30", DefectError), ("oom@30", OutOfMemoryError), ("forget@0", DefectError)],
)
def test_failures(bench: Bench, fails: str, error: type[Exception]) -> None:
    with pytest.raises(error) as raised:
        bench.train(fails)
    assert LOG_NAME in str(raised.value)


def test_a_failure_is_that_of_the_last_call(bench: Bench) -> None:
    with pytest.raises(OutOfMemoryError):
        bench.train("oom@30")
    with pytest.raises(DefectError):
        bench.train("crash@50")
    assert "CUDA out of memory" in (bench.run_data / LOG_NAME).read_text()


def test_the_words_of_a_failure(bench: Bench) -> None:
    with pytest.raises(DefectError, match=r"exit code 1: .*RuntimeError: something that nobody knows"):
        bench.train("crash@3")
    with pytest.raises(DefectError, match="no checkpoint of step 59, but one of step 40"):
        bench.train("forget@0")


def test_a_cancelled_training_is_gone(bench: Bench) -> None:
    def stop(done: int, total: int, what: str) -> None:
        if (bench.run_data / "child").exists():
            raise Cancelled

    with pytest.raises(Cancelled):
        bench.train("hang@25", progress=stop)
    child = int((bench.run_data / "child").read_text())
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"
    assert bench.kept() == 20
    assert bench.train().log["resumed_at"] == 21


def test_drawing_is_the_renderers(bench: Bench) -> None:
    class Renderer:
        """Says what it is asked for."""

        def __getattr__(self, name: str) -> Callable[..., tuple[object, ...]]:
            return lambda *given: (name, *given)

    trainer = NerfstudioTrainer(SETTINGS, Renderer())  # type: ignore[arg-type]
    given = (object(), object(), object(), 64)
    assert trainer.render(*given) == ("render", *given)  # type: ignore[arg-type, comparison-overlap]
    assert trainer.render_depth(*given) == ("render_depth", *given)  # type: ignore[arg-type, comparison-overlap]
    assert trainer.contributions(*given, silent) == ("contributions", *given, silent)  # type: ignore[arg-type, comparison-overlap]


def test_a_missing_package(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def train_without(name: str, edit: Callable[[Path], None]) -> None:
        command = install(bench.run_data.parent / "packages", monkeypatch, bench.checkpoints)
        edit(bench.run_data.parent / "packages" / name)
        NerfstudioTrainer(SETTINGS, renderer=None, command=command).train(a_scene(), 0, bench.run_data, silent)  # type: ignore[arg-type]

    with pytest.raises(UserError, match="No module named 'nowhere'"):
        train_without("nerfstudio/engine/trainer.py", lambda path: path.write_text("import nowhere"))
