"""The real training loop with 200 Gaussians at 32 pixels: it learns, goes on exactly, and says what went wrong."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tiny_splats import IMAGES, POINTS, SIDE, recipe, scene, training
from torch import Tensor

from worldexplorer.engine import SplatScene, Views
from worldexplorer.errors import Cancelled, DefectError, ErrorClass, OutOfMemoryError, UserError, classify
from worldexplorer.models.splatting import training as training_module
from worldexplorer.models.splatting.checkpoint import FILE_NAME
from worldexplorer.models.splatting.operations import PlainOperations, operations_for
from worldexplorer.models.splatting.plain_rasterizer import rasterization
from worldexplorer.models.splatting.rasterizer import Rasterizer
from worldexplorer.models.splatting.recipe import Recipe
from worldexplorer.models.splatting.settings import SplatTraining
from worldexplorer.models.splatting.trainer import GsplatTrainer
from worldexplorer.models.splatting.training import Training
from worldexplorer.models.splatting.views import check_views, split_views
from worldexplorer.progress import silent

ADC = {"strategy": "default", "growth_gradient": 1e-6, "reset_interval": 1000, "remove_scale": 100.0}

ADC_ONCE = ADC | {"growth_gradient": 2e-2, "radius_until": 0, "refine_interval": 20, "refine_until": 45}
"""A copy adds its opacity to the one's, which takes steps to make up for: sixty bear it once."""


def equal(one: Training, other: Training) -> bool:
    arrays = one.state.arrays(), other.state.arrays()
    return all(torch.equal(arrays[0][name], arrays[1][name]) for name in arrays[0]) and one.curve() == other.curve()


@pytest.mark.parametrize("changes", [{}, ADC_ONCE], ids=["mcmc", "default"])
def test_training_learns_and_densifies(tmp_path: Path, changes) -> None:
    of = scene()
    now = training(replace(recipe(), random_background=False, downscales=0, **changes), of)
    before = now.measure(of.train)
    now.run(tmp_path, silent)
    after = now.measure(of.train)
    assert after.psnr > before.psnr + 3
    assert after.ssim > before.ssim
    losses = now._losses  # an epoch has 16 pictures
    assert float(losses[-16:].mean()) < 0.85 * float(losses[:16].mean())
    assert now.state.count > POINTS


class Stopped:
    """A listener that ends the training at its n-th report, as a killed job would."""

    def __init__(self, reports: int) -> None:
        self._left = reports

    def __call__(self, done: int, total: int, what: str) -> None:
        self._left -= 1
        if not self._left:
            raise Cancelled


@pytest.mark.parametrize("changes", [{}, ADC, {"batch": 4}], ids=["mcmc", "default", "four images a step"])
def test_a_training_that_was_stopped_comes_out_the_same_to_the_bit(tmp_path: Path, changes) -> None:
    of = scene(8, 16)
    whole, stopped, resumed = (training(recipe(**changes), of) for _ in range(3))
    whole.run(tmp_path / "whole", silent)
    with pytest.raises(Cancelled):
        stopped.run(tmp_path / "stopped", Stopped(1 if "batch" in changes else 3))
    resumed.resume(tmp_path / "stopped")
    assert 0 < resumed.image < IMAGES
    resumed.run(tmp_path / "stopped", silent)
    assert resumed.image == whole.image
    assert equal(whole, resumed)
    again = training(recipe(**changes), of)
    again.resume(tmp_path / "stopped")
    assert again.image == whole.image
    assert equal(whole, again)


def test_another_seed_comes_out_otherwise(tmp_path: Path) -> None:
    of = scene(8, 16)
    one, other = training(recipe(), of), training(recipe(), of, seed=1)
    for number, now in enumerate((one, other)):
        now.run(tmp_path / str(number), silent, until=10)
    assert not torch.equal(one.state.values["means"], other.state.values["means"])


def test_a_checkpoint_is_one_file_that_says_what_it_is(tmp_path: Path) -> None:
    now = training(recipe(), scene(8, 16))
    now.run(tmp_path, silent, until=20)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [FILE_NAME]
    with safe_open(tmp_path / FILE_NAME, framework="pt") as file:
        header = json.loads(file.metadata()["training"])
        assert header["image"] == 20
        assert header["facts"]["steps"] == 20
        assert file.get_tensor("value.sh").shape[1:] == (16, 3)


@pytest.mark.parametrize("damage", ["cut", "garbage", "another seed", "another recipe", "other points"])
def test_what_cannot_be_gone_on_from_is_passed_over(tmp_path: Path, damage, caplog) -> None:
    of, how, seed = scene(8, 16), recipe(), 0
    training(how, of).run(tmp_path, silent, until=20)
    path = tmp_path / FILE_NAME
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "garbage":
        path.write_bytes(b"\0" * 1000)
    elif damage == "another seed":
        seed = 1
    elif damage == "another recipe":
        how = replace(how, means_rate=1e-3)
    else:
        of = replace(of, points=of.points + np.float32(0.01))
    now = training(how, of, seed=seed)
    now.resume(tmp_path)
    assert now.image == 0
    assert any(word in caplog.text for word in ("another training", "damaged"))


def test_the_interval_of_checkpoints_is_no_other_training(tmp_path: Path) -> None:
    of = scene(8, 16)
    training(recipe(), of).run(tmp_path, silent, until=20)
    now = training(replace(recipe(), checkpoint_interval=7), of)
    now.resume(tmp_path)
    assert now.image == 20


def test_every_checkpoint_changes_the_folder_once(tmp_path: Path) -> None:
    now = training(recipe(), scene(8, 16))
    seen: list[int] = []

    def watch(done: int, total: int, what: str) -> None:
        seen.append(tmp_path.stat().st_mtime_ns)

    now.run(tmp_path, watch)
    assert 1 <= len(set(seen)) <= 4


def test_no_more_gaussians_than_the_cap(tmp_path: Path) -> None:
    now = training(recipe(), scene(8, 16), cap=150)
    assert now.state.count == 150
    now.run(tmp_path, silent)
    assert now.state.count == 150


def test_a_checkpoint_above_the_cap_is_not_gone_on_from(tmp_path: Path, caplog) -> None:
    of = scene(8, 16)
    training(recipe(), of).run(tmp_path, silent, until=20)
    now = training(recipe(), of, cap=150)
    now.resume(tmp_path)
    assert now.image == 0
    assert "more than the 150 allowed now" in caplog.text


def failing(when: int, how: Callable[[Tensor], Tensor]) -> Rasterizer:
    """The plain rasteriser, whose n-th picture is spoilt."""
    calls = 0

    def draw(*arguments: Any, **named: Any) -> tuple[Tensor, Tensor, dict[str, Any]]:
        nonlocal calls
        calls += 1
        image, alpha, info = rasterization(*arguments, **named)
        return (how(image) if calls == when else image), alpha, info

    return draw


def test_a_loss_that_is_no_number_is_said_with_its_step(tmp_path: Path) -> None:
    now = training(recipe(), scene(8, 16), rasterize=failing(7, lambda image: image * torch.nan))
    with pytest.raises(DefectError, match="the loss is not a number in step 7"):
        now.run(tmp_path, silent)


def test_gaussians_that_are_no_numbers_are_not_kept(tmp_path: Path) -> None:
    now = training(recipe(), scene(8, 16))
    now.run(tmp_path, silent, until=17)
    before = (tmp_path / FILE_NAME).read_bytes()
    now.state.values["sh"][5, 8, 1] = torch.inf  # of a degree that is not drawn yet
    with pytest.raises(DefectError, match="Gaussians are not numbers after step 18"):
        now.run(tmp_path, silent, until=18)
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_a_world_without_visible_gaussians_is_refused() -> None:
    now = training(recipe(), scene(8, 16))
    now.state.values["opacity_logits"][:] = -20.0
    with pytest.raises(DefectError, match="transparent"):
        now.gaussians()


def tiny_trainer(
    rasterize: Rasterizer = rasterization, how: Recipe | None = None, **settings: Any
) -> tuple[GsplatTrainer, SplatScene]:
    class Short(SplatTraining):
        def recipe(self) -> Recipe:
            return how or recipe()

    return GsplatTrainer(Short(**settings), device="cpu", rasterizer=lambda: rasterize), scene(8, 16)


def out_of_memory(_image: Tensor) -> Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nand more")


def test_full_memory_is_our_error_and_is_tried_again(tmp_path: Path) -> None:
    trainer, of = tiny_trainer(failing(4, out_of_memory))
    with pytest.raises(OutOfMemoryError, match="too little memory to train up to 2,000 Gaussians") as caught:
        trainer.train(of, 0, tmp_path, silent)
    assert classify(caught.value) is ErrorClass.OUT_OF_MEMORY


def test_other_errors_of_torch_stay_what_they_are(tmp_path: Path) -> None:
    def broken(_image: Tensor) -> Tensor:
        raise RuntimeError("device-side assert")

    trainer, of = tiny_trainer(failing(2, broken))
    with pytest.raises(RuntimeError, match="device-side assert"):
        trainer.train(of, 0, tmp_path, silent)


def test_a_scene_made_smaller_halves_the_cap(tmp_path: Path) -> None:
    trainer, of = tiny_trainer(how=recipe())
    result = trainer.train(replace(of, made_smaller=4), 0, tmp_path, silent)
    assert result.log["recipe"]["cap"] == 125
    assert result.gaussians.count <= 125


def test_the_trainer_says_what_it_did_and_renders(tmp_path: Path) -> None:
    trainer, of = tiny_trainer(heldout_every=4)
    result = trainer.train(of, 0, tmp_path, silent)
    log = result.log
    json.dumps(log, allow_nan=False)
    assert (log["images"], log["stopped_early"], log["pictures"]) == (IMAGES, False, "device")
    assert log["gaussians"] == result.gaussians.count
    assert len(log["loss_curve"]) == 1
    assert log["psnr_heldout_frames"] > 8
    np.testing.assert_allclose(np.linalg.norm(result.gaussians.quaternions, axis=1), 1.0, atol=1e-5)
    assert result.gaussians.sh.shape[1:] == (16, 3)
    pictures = trainer.render(result.gaussians, of.train.c2w, of.train.intrinsics, 16)
    assert pictures.shape == of.train.images.shape
    error = ((pictures.astype(float) - of.train.images) ** 2).reshape(8, -1).mean(axis=1)
    found = float(np.mean(10 * np.log10(255**2 / error)))
    assert found == pytest.approx(log["psnr_train"], abs=1.0)  # transparent Gaussians are left out, frames kept out
    depths = trainer.render_depth(result.gaussians, of.train.c2w[:2], of.train.intrinsics[:2], 16)
    seen = depths[np.isfinite(depths)]
    assert depths.shape == (2, 16, 16)
    assert 1.0 < np.median(seen) < 5.0


def test_frames_kept_out_never_train(tmp_path: Path) -> None:
    of = scene(9, 16)
    spoilt = of.train.images.copy()
    spoilt[2::3] = 255
    trainings = [
        training(recipe(), replace(of, train=replace(of.train, images=images)), heldout_every=3)
        for images in (of.train.images, spoilt)
    ]
    for number, now in enumerate(trainings):
        assert now.heldout is not None
        assert len(now.heldout.images) == 3
        now.run(tmp_path / str(number), silent, until=12)
    assert torch.equal(trainings[0].state.values["means"], trainings[1].state.values["means"])


def test_views_are_split_so_that_the_first_always_trains() -> None:
    views = scene(9, 16).train
    train, out = split_views(views, 4)
    assert out is not None
    np.testing.assert_array_equal(out.c2w, views.c2w[[3, 7]])
    np.testing.assert_array_equal(train.c2w, views.c2w[[0, 1, 2, 4, 5, 6, 8]])
    assert split_views(views, None) == (views, None)
    assert split_views(views, 9)[1] is not None


@pytest.mark.parametrize(("heldout_every", "match"), [(10, "none of 9 frames"), (1, "all of 9 frames")])
def test_keeping_out_no_frame_or_every_frame_is_refused_before_training(tmp_path, heldout_every, match) -> None:
    def undrawn(*_arguments: Any, **_named: Any) -> Any:
        raise AssertionError("training began")

    of = scene(9, 16)
    trainer, _ = tiny_trainer(undrawn, heldout_every=heldout_every)
    with pytest.raises(UserError, match=match) as caught:
        trainer.train(of, 0, tmp_path / "run", silent)
    assert caught.value.where == "--splat_heldout_every"
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match=match):
        split_views(of.train, heldout_every)


@pytest.mark.parametrize(("batch", "due"), [(1, [0, 10, 20, 30, 40, 50]), (4, [0, 10])])
def test_the_scale_regularisation_acts_every_tenth_step(tmp_path: Path, batch, due) -> None:
    weights: list[float] = []

    class Noting(PlainOperations):
        def adam(self, state: Any, gradients: Any, rates: Any, decays: Any, epsilon: Any, regularisation: Any) -> None:
            weights.append(regularisation.ratio)
            super().adam(state, gradients, rates, decays, epsilon, regularisation)

    training(recipe(batch=batch), scene(8, 16), operations=Noting()).run(tmp_path, silent)
    assert [step for step, weight in enumerate(weights) if weight] == due
    assert {weight for weight in weights if weight} == {0.1}


def test_training_ends_when_it_is_good_enough(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(training_module, "QUALITY_INTERVAL", 10)
    of = scene(8, 16)
    now = training(recipe(), of, heldout_every=4, stop_psnr=5.0)
    now.run(tmp_path, silent)
    assert now.stopped_early
    assert now.image == 20  # the first time at full size
    again = training(recipe(), of, heldout_every=4, stop_psnr=5.0)
    again.resume(tmp_path)
    assert again.is_over
    again.run(tmp_path, silent)
    assert again.image == 20
    never = training(recipe(), of, heldout_every=4, stop_psnr=90.0)
    never.run(tmp_path / "never", silent)
    assert (never.stopped_early, never.image) == (False, IMAGES)


@pytest.mark.parametrize("stop_psnr", [None, 90.0])
def test_a_training_that_was_good_enough_goes_on_where_more_is_wanted(tmp_path: Path, monkeypatch, stop_psnr) -> None:
    monkeypatch.setattr(training_module, "QUALITY_INTERVAL", 10)
    trainer, of = tiny_trainer(heldout_every=4, stop_psnr=5.0)
    log = trainer.train(of, 0, tmp_path, silent).log
    assert (log["images"], log["stopped_early"]) == (20, True)
    trainer, _ = tiny_trainer(heldout_every=4, stop_psnr=stop_psnr)
    log = trainer.train(of, 0, tmp_path, silent).log
    assert (log["images"], log["stopped_early"]) == (IMAGES, False)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"images": np.zeros((0, 16, 16, 3), np.uint8)}, "must be"),
        ({"images": np.zeros((8, 16, 16, 3), np.float32)}, "must be"),
        ({"c2w": np.zeros((7, 4, 4))}, "8 views have poses"),
        ({"c2w": np.full((8, 4, 4), np.nan)}, "not finite"),
    ],
)
def test_views_that_cannot_be_trained_on_are_refused(changes, match) -> None:
    views: Views = replace(scene(8, 16).train, **changes)
    with pytest.raises(DefectError, match=match):
        check_views(views)


def test_a_gpu_without_room_keeps_pictures_in_host_memory(monkeypatch) -> None:
    places: list[str] = []

    class Host:
        def __init__(self, images: Any, device: torch.device) -> None:
            places.append("host")

    from worldexplorer.models.splatting import pictures

    monkeypatch.setattr(pictures, "HostPictures", Host)
    images = scene(8, 16).train.images
    pictures.stored(images, torch.device("cuda"), room=images.nbytes - 1)
    assert places == ["host"]
    assert pictures.stored(images, torch.device("cpu"), room=0).place == "device"


class Streams:
    """Streams of a GPU, of which a CPU has none: copies are made at once."""

    def __init__(self, *_arguments: object) -> None:
        self.waited = 0

    def wait_stream(self, _other: object) -> None:
        self.waited += 1


@pytest.mark.parametrize("batch", [1, 4])
def test_pictures_in_host_memory_train_as_those_on_the_device_do(tmp_path: Path, monkeypatch, batch) -> None:
    """The copies' order alone; that they are made beside a step is for tests/gpu."""
    from worldexplorer.models.splatting import pictures

    current = Streams()
    monkeypatch.setattr(torch.cuda, "Stream", Streams)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: current)
    monkeypatch.setattr(torch.cuda, "stream", lambda _stream: contextlib.nullcontext())
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(Tensor, "record_stream", lambda _tensor, _stream: None)
    of = scene(6, 16)  # an epoch ends in the middle of a step of four
    resident, host = (training(recipe(batch=batch), of) for _ in range(2))
    host._pictures = pictures.HostPictures(of.train.images, torch.device("cpu"))
    assert (resident.pictures_place, host.pictures_place) == ("device", "host")
    resident.run(tmp_path / "resident", silent)
    host.run(tmp_path / "host", silent)
    assert equal(resident, host)
    assert current.waited == IMAGES // batch


def test_operations_on_a_cpu_are_plain() -> None:
    assert type(operations_for(torch.device("cpu"))).__name__ == "PlainOperations"


def test_nothing_half_written_is_left(tmp_path: Path) -> None:
    now = training(recipe(), scene(4, SIDE))
    now.run(tmp_path, silent, until=10)
    assert [path.name for path in (tmp_path / "writing").iterdir()] == []
