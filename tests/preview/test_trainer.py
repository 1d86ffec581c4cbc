"""Training on a small painted sphere: it fits, it goes on where it was stopped, and it always gives the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from worldexplorer.engine import SplatScene, TrainingResult, Views
from worldexplorer.errors import Cancelled, DefectError
from worldexplorer.geometry.cameras import camera_rays, normalised_intrinsics, pitch_matrix, pose, yaw_matrix
from worldexplorer.preview.checkpoint import FILE_NAME
from worldexplorer.preview.trainer import CURVE_STEP, PreviewTrainer, view_of_iteration
from worldexplorer.preview.trainer_settings import TrainerSettings
from worldexplorer.progress import silent

RADIUS = 2.0
SETTINGS = TrainerSettings(gaussians=700, iterations_half=30, iterations_full=45, checkpoint_interval=10)


def paint(directions: NDArray[np.floating]) -> NDArray[np.uint8]:
    """The colour of the sphere in directions [..., 3]."""
    x, y, z = np.moveaxis(directions, -1, 0)
    waves = np.stack([np.sin(5 * x + 2 * y), np.cos(4 * z), np.sin(6 * y * x)], axis=-1)
    return np.asarray(127.5 + 100.0 * waves, dtype=np.uint8)


def photographs(c2w: NDArray[np.float64], height: int, width: int) -> Views:
    """What cameras inside the sphere see."""
    intrinsics = normalised_intrinsics()
    images = np.empty((len(c2w), height, width, 3), np.uint8)
    for image, camera in zip(images, c2w, strict=True):
        rays = camera_rays(intrinsics, width, height) @ camera[:3, :3].T
        towards = rays @ camera[:3, 3]
        reach = -towards + np.sqrt(towards**2 + RADIUS**2 - camera[:3, 3] @ camera[:3, 3])
        image[...] = paint((camera[:3, 3] + rays * reach[..., None]) / RADIUS)
    return Views(images, c2w, np.tile(intrinsics, (len(c2w), 1, 1)))


def looks(count: int, seed: int) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    turns = yaw_matrix(360.0 * np.arange(count) / count) @ pitch_matrix(random.uniform(-60.0, 60.0, count))
    return pose(turns, random.uniform(-0.2, 0.2, (count, 3)))


def a_scene(count: int = 900, views: int = 14, height: int = 36, width: int = 36) -> SplatScene:
    directions = np.random.default_rng(1).normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return SplatScene(
        train=photographs(looks(views, 2), height, width),
        points=(directions * RADIUS).astype(np.float32),
        normals=(-directions).astype(np.float32),
        colours=paint(directions),
    )


def content(result: TrainingResult) -> dict[str, bytes]:
    gaussians = result.gaussians
    arrays = ("means", "log_scales", "quaternions", "opacity_logits", "sh")
    return {name: getattr(gaussians, name).tobytes() for name in arrays} | {"log": repr(result.log).encode()}


def stop_at(iteration: int) -> Callable[[int, int, str], None]:
    """A listener that stops the training once `iteration` iterations are done."""

    def listen(done: int, total: int, what: str) -> None:
        if what == "training" and done >= round(1000 * 0.97 * iteration / SETTINGS.iterations):
            raise Cancelled

    return listen


@pytest.fixture(scope="module")
def scene() -> SplatScene:
    return a_scene()


@pytest.fixture(scope="module")
def expected(scene: SplatScene, tmp_path_factory: pytest.TempPathFactory) -> TrainingResult:
    """The training without any interruption, on one thread."""
    return PreviewTrainer(SETTINGS, threads=1).train(scene, 5, tmp_path_factory.mktemp("whole"), silent)


def test_training_fits_views_that_it_has_not_seen(tmp_path: Path) -> None:
    trainer = PreviewTrainer(replace(SETTINGS, gaussians=1500, iterations_half=100, iterations_full=200))
    result = trainer.train(a_scene(1500, views=30), 0, tmp_path, silent)
    new = photographs(looks(5, 77), 36, 36)
    seen = trainer.render(result.gaussians, new.c2w, new.intrinsics, 36)
    error = np.mean((seen.astype(float) - new.images) ** 2)
    assert 10 * np.log10(255**2 / error) > 26.0
    assert result.log["psnr_train"] > 31.5
    curve = result.log["loss_curve"]
    assert len(curve) == 300 // CURVE_STEP
    assert curve[1] < 0.75 * curve[0]
    assert curve[-1] < 0.6 * curve[0]


def test_gaussians_are_well_formed(expected: TrainingResult) -> None:
    gaussians = expected.gaussians
    assert gaussians.count == expected.log["gaussians"]
    assert gaussians.count + expected.log["pruned"] == SETTINGS.gaussians
    assert gaussians.sh.shape == (gaussians.count, 1, 3)
    for array in (gaussians.means, gaussians.log_scales, gaussians.quaternions, gaussians.opacity_logits, gaussians.sh):
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        assert np.isfinite(array).all()
    np.testing.assert_allclose(np.linalg.norm(gaussians.quaternions, axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_byte(scene: SplatScene, expected: TrainingResult, tmp_path: Path, threads: int) -> None:
    assert content(PreviewTrainer(SETTINGS, threads).train(scene, 5, tmp_path, silent)) == content(expected)


def test_another_seed_gives_other_gaussians(scene: SplatScene, expected: TrainingResult, tmp_path: Path) -> None:
    other = PreviewTrainer(SETTINGS).train(scene, 6, tmp_path, silent)
    assert content(other)["means"] != content(expected)["means"]


def test_a_stopped_training_goes_on_to_the_same_bytes(
    scene: SplatScene, expected: TrainingResult, tmp_path: Path
) -> None:
    trainer = PreviewTrainer(SETTINGS, threads=2)
    for iteration in (1, 13, 20, 21, 38, 71, 75):
        with pytest.raises(Cancelled):
            trainer.train(scene, 5, tmp_path, stop_at(iteration))
    assert content(trainer.train(scene, 5, tmp_path, silent)) == content(expected)
    assert content(trainer.train(scene, 5, tmp_path, silent)) == content(expected), "from a finished training"


def test_a_stopped_training_does_no_more_than_one_interval_again(scene: SplatScene, tmp_path: Path) -> None:
    trainer = PreviewTrainer(SETTINGS)
    with pytest.raises(Cancelled):
        trainer.train(scene, 5, tmp_path, stop_at(48))
    reported: list[int] = []
    trainer.train(scene, 5, tmp_path, lambda done, total, what: reported.append(done) if what == "training" else None)
    assert len(reported) == SETTINGS.iterations - 40


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "text", "pickle"])
def test_a_damaged_checkpoint_is_said_and_costs_only_time(
    scene: SplatScene, expected: TrainingResult, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = PreviewTrainer(SETTINGS)
    with pytest.raises(Cancelled):
        trainer.train(scene, 5, tmp_path, stop_at(25))
    path = tmp_path / FILE_NAME
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(
        {
            "cut": whole[:middle],
            "changed": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "empty": b"",
            "text": b"not a checkpoint",
            "pickle": b"\x80\x04cos\nabort\n.",
        }[damage]
    )
    (tmp_path / (FILE_NAME + ".partial")).write_bytes(whole[:100])
    assert content(trainer.train(scene, 5, tmp_path, silent)) == content(expected)
    assert "damaged" in caplog.text
    assert [entry.name for entry in tmp_path.iterdir()] == [FILE_NAME]


def test_a_checkpoint_of_another_training_is_not_used(
    scene: SplatScene, expected: TrainingResult, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Cancelled):
        PreviewTrainer(SETTINGS).train(scene, 6, tmp_path, stop_at(25))
    assert content(PreviewTrainer(SETTINGS).train(scene, 5, tmp_path, silent)) == content(expected)
    assert "another training" in caplog.text


def test_how_often_checkpoints_are_written_changes_nothing(
    scene: SplatScene, expected: TrainingResult, tmp_path: Path
) -> None:
    with pytest.raises(Cancelled):
        PreviewTrainer(SETTINGS).train(scene, 5, tmp_path, stop_at(25))
    rarely = PreviewTrainer(replace(SETTINGS, checkpoint_interval=1000))
    assert content(rarely.train(scene, 5, tmp_path, silent)) == content(expected)


@pytest.mark.parametrize(("setting", "what"), [("colour_rate", "the loss is"), ("opacity_rate", "Gaussians are")])
def test_numbers_that_are_not_finite_are_a_defect(scene: SplatScene, tmp_path: Path, setting: str, what: str) -> None:
    trainer = PreviewTrainer(replace(SETTINGS, **{setting: 3e38}))
    with pytest.raises(DefectError, match=f"{what} not finite .*iteration [0-9]+"):
        trainer.train(scene, 5, tmp_path, silent)
    assert not (tmp_path / FILE_NAME).exists()


def test_nearly_transparent_gaussians_are_left_out(scene: SplatScene, tmp_path: Path) -> None:
    result = PreviewTrainer(replace(SETTINGS, least_opacity=0.8)).train(scene, 5, tmp_path, silent)
    assert result.log["pruned"] > 0
    assert result.gaussians.count + result.log["pruned"] == SETTINGS.gaussians
    opacity = 1 / (1 + np.exp(-result.gaussians.opacity_logits.astype(float)))
    assert opacity.min() >= 0.8 - 1e-6


def test_views_of_any_shape_can_be_trained_on(tmp_path: Path) -> None:
    settings = replace(SETTINGS, gaussians=200, iterations_half=6, iterations_full=6)
    result = PreviewTrainer(settings).train(a_scene(200, 3, height=19, width=27), 0, tmp_path, silent)
    assert np.isfinite(result.log["psnr_train"])


@pytest.mark.parametrize("count", [1, 4, 7])
def test_every_view_comes_once_an_epoch(count: int) -> None:
    epochs = [[view_of_iteration(3, epoch * count + place, count) for place in range(count)] for epoch in range(6)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    assert count == 1 or len({tuple(epoch) for epoch in epochs}) > 1


def test_rates_fall_from_the_first_to_the_last_iteration() -> None:
    first, last = SETTINGS.rates(0), SETTINGS.rates(SETTINGS.iterations)
    np.testing.assert_allclose(last[:3] / first[:3], SETTINGS.mean_rate_end, rtol=1e-5)
    np.testing.assert_allclose(last[3:] / first[3:], SETTINGS.rate_end, rtol=1e-5)


@pytest.mark.parametrize(
    "broken",
    [
        lambda views: Views(views.images[:0], views.c2w[:0], views.intrinsics[:0]),
        lambda views: Views(views.images, views.c2w[:3], views.intrinsics),
        lambda views: Views(views.images, views.c2w * np.nan, views.intrinsics),
        lambda views: Views(views.images.astype(np.float32), views.c2w, views.intrinsics),
    ],
)
def test_views_that_cannot_be_trained_on_are_a_defect(
    scene: SplatScene, tmp_path: Path, broken: Callable[[Views], Views]
) -> None:
    with pytest.raises(DefectError):
        PreviewTrainer(SETTINGS).train(replace(scene, train=broken(scene.train)), 0, tmp_path, silent)


def test_pictures_have_the_size_that_is_asked_for(expected: TrainingResult, scene: SplatScene) -> None:
    trainer = PreviewTrainer(SETTINGS)
    pictures = trainer.render(expected.gaussians, scene.train.c2w[:2], scene.train.intrinsics[:2], 50)
    assert pictures.shape == (2, 50, 50, 3)
    assert pictures.dtype == np.uint8
    assert pictures.mean() > 60.0
