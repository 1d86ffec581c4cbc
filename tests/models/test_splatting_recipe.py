"""The recipe's values and schedules, its profiles, and its frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_splats import cameras, gaussians

from worldexplorer.config import SplatConfig
from worldexplorer.errors import DefectError
from worldexplorer.geometry.cameras import normalised_intrinsics
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.models.splatting.drawing import draw
from worldexplorer.models.splatting.frame import TrainingFrame
from worldexplorer.models.splatting.initial import initial_values
from worldexplorer.models.splatting.pictures import PictureOrder, smaller
from worldexplorer.models.splatting.plain_rasterizer import rasterization
from worldexplorer.models.splatting.recipe import Recipe, named_recipe, shortened
from worldexplorer.models.splatting.settings import SplatTraining


def test_the_published_schedules() -> None:
    recipe = named_recipe("published", None)
    assert (recipe.steps, recipe.batch, recipe.cap) == (30_000, 1, 1_000_000)
    assert [recipe.downscale_at(image) for image in (0, 2999, 3000, 5999, 6000, 29_999)] == [4, 4, 2, 2, 1, 1]
    assert [recipe.sh_degree_at(image) for image in (0, 999, 1000, 2000, 3000, 29_999)] == [0, 0, 1, 2, 3, 3]
    assert recipe.means_rate_at(0) == pytest.approx(1.6e-4)
    assert recipe.means_rate_at(15_000) == pytest.approx(1.6e-5)
    assert recipe.means_rate_at(30_000) == pytest.approx(1.6e-6)
    assert sum(recipe.due(image, 100) for image in range(30_000)) == 300


def test_the_fast_profile_sees_as_many_images_in_a_quarter_of_the_steps() -> None:
    recipe = named_recipe("fast", None)
    assert (recipe.steps, recipe.batch, recipe.images) == (7_500, 4, 30_000)
    assert recipe.decays == pytest.approx((0.6, 0.996))
    assert recipe.batch_factor == 2.0
    assert sum(recipe.due(image, 100) for image in range(0, 30_000, 4)) == 300


def test_a_shorter_training_has_its_schedules_in_proportion() -> None:
    recipe = named_recipe("published", 3000)
    assert (recipe.sh_interval, recipe.downscale_interval, recipe.refine_until) == (100, 300, 1500)
    assert recipe.means_rate_at(3000) == pytest.approx(1.6e-6)
    assert (recipe.refine_interval, recipe.ratio_steps) == (100, 10)
    assert shortened(Recipe(), 30_000) == Recipe()


def test_a_recipe_without_images_is_refused() -> None:
    with pytest.raises(DefectError, match="0 images"):
        Recipe(images=0)


def test_a_recipe_whose_averages_would_forget_more_than_all_is_refused() -> None:
    assert min(Recipe(batch=10).decays) >= 0.0
    with pytest.raises(DefectError, match="11 images a step"):
        Recipe(batch=11)


@pytest.mark.parametrize("images", [None, 3000])
def test_the_scale_regularisation_weighs_as_much_a_step_in_either_profile(images) -> None:
    for profile in ("published", "fast"):
        recipe = named_recipe(profile, images)
        weights = [recipe.ratio_weight_at(image) for image in range(0, recipe.images, recipe.batch)]
        assert len(weights) == recipe.steps
        assert sum(weights) / recipe.steps == pytest.approx(0.01)


def test_what_a_command_says_reaches_the_recipe() -> None:
    training = SplatTraining.of(
        SplatConfig(splat_profile="fast", splat_steps=3000, splat_heldout_every=8, splat_stop_psnr=30.0)
    )
    assert training.recipe() == named_recipe("fast", 3000)
    assert training.described()["heldout_every"] == 8
    assert training.described()["stop_psnr"] == 30.0
    assert SplatTraining.of(SplatConfig()).recipe() == Recipe()


def test_the_training_frame_is_the_published_one_and_is_undone() -> None:
    c2w = cameras(12)
    c2w[:, :3, 3] = 5.0 * c2w[:, :3, 3] + [3.0, -2.0, 7.0]
    frame = TrainingFrame.around(c2w)
    places = frame.points(c2w[:, :3, 3])
    assert np.abs(places).max() == pytest.approx(1.0)
    np.testing.assert_allclose(places.mean(axis=0), 0.0, atol=1e-6)
    values = gaussians(50)
    values["means"] = values["means"] * 2 + torch.tensor([3.0, -2.0, 7.0])
    scene = Gaussians(
        values["means"].numpy(),
        np.log(values["scales"].numpy()),
        torch.nn.functional.normalize(values["quaternions"], dim=-1).numpy(),
        torch.logit(values["opacities"]).numpy(),
        values["sh"].numpy(),
    )
    inside = replace(
        scene, means=frame.points(scene.means), log_scales=(scene.log_scales + np.log(frame.scale)).astype(np.float32)
    )
    back = frame.undone(inside)
    np.testing.assert_allclose(back.means, scene.means, atol=2e-6)
    np.testing.assert_allclose(back.log_scales, scene.log_scales, atol=1e-6)
    pictures = [
        next(draw(rasterization, of(one), torch.from_numpy(seen.cameras(c2w[:1])), LENS, (24, 24), **HOW))
        for one, seen in ((scene, TrainingFrame(np.zeros(3), 1.0)), (inside, frame))
    ]
    torch.testing.assert_close(*pictures, atol=1e-4, rtol=0)


LENS = normalised_intrinsics()[None]
HOW = {"near": 0.001, "antialiased": True}


def of(world: Gaussians) -> dict[str, torch.Tensor]:
    arrays = {
        "means": world.means,
        "quaternions": world.quaternions,
        "scales": np.exp(world.log_scales),
        "opacities": 1 / (1 + np.exp(-world.opacity_logits)),
        "sh": world.sh,
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def test_cameras_on_one_spot_keep_the_scale() -> None:
    c2w = cameras(4)
    c2w[:, :3, 3] = [1.0, 2.0, 3.0]
    assert TrainingFrame.around(c2w).scale == 1.0


def test_gaussians_start_round_on_their_points() -> None:
    random = np.random.default_rng(0)
    points = random.standard_normal((40, 3)).astype(np.float32)
    colours = random.integers(0, 256, (40, 3), dtype=np.uint8)
    found = initial_values(points, colours, Recipe(), cap=1000, seed=0)
    distances = np.sort(np.linalg.norm(points[:, None] - points[None], axis=-1), axis=1)[:, 1:4].mean(axis=1)
    np.testing.assert_allclose(np.exp(found["log_scales"]), np.repeat(distances[:, None], 3, axis=1), rtol=1e-5)
    np.testing.assert_allclose(0.5 + 0.28209479 * found["sh"][:, 0], colours / 255, atol=1e-6)
    assert not found["sh"][:, 1:].any()
    np.testing.assert_allclose(1 / (1 + np.exp(-found["opacity_logits"])), 0.1, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found["quaternions"], axis=1), 1.0, atol=1e-6)


def test_points_on_one_spot_have_a_scale_that_can_train() -> None:
    found = initial_values(np.zeros((10, 3), np.float32), np.zeros((10, 3), np.uint8), Recipe(), 1000, 0)
    assert np.isfinite(found["log_scales"]).all()


def test_more_points_than_the_cap_are_drawn_by_the_seed() -> None:
    points = np.random.default_rng(0).standard_normal((300, 3)).astype(np.float32)
    colours = np.zeros((300, 3), np.uint8)
    one, again, other = (initial_values(points, colours, Recipe(), 100, seed)["means"] for seed in (1, 1, 2))
    assert one.shape == (100, 3)
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("points", [np.zeros((3, 3)), np.full((9, 3), np.nan)])
def test_unusable_points_are_refused(points) -> None:
    with pytest.raises(DefectError, match=r"training cannot start|not finite"):
        initial_values(points.astype(np.float32), np.zeros((len(points), 3), np.uint8), Recipe(), 100, 0)


def test_every_picture_comes_once_before_any_comes_again_whatever_the_batch() -> None:
    order = PictureOrder(10, seed=3)
    one_by_one = [number for image in range(30) for number in PictureOrder(10, seed=3).of(image, 1)]
    for start in (0, 10, 20):
        assert sorted(one_by_one[start : start + 10]) == list(range(10))
    assert one_by_one[:10] != one_by_one[10:20]
    assert [number for image in range(0, 28, 4) for number in order.of(image, 4)] == one_by_one[:28]


def test_smaller_pictures_are_means_of_blocks() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 9, 8, 3), dtype=np.uint8)
    found = smaller(torch.from_numpy(pictures), 4).numpy()
    assert found.shape == (2, 2, 2, 3)
    np.testing.assert_allclose(found[1, 1, 0], pictures[1, 4:8, 0:4].mean(axis=(0, 1)) / 255, atol=1e-6)
    np.testing.assert_allclose(smaller(torch.from_numpy(pictures), 1).numpy(), pictures / 255, atol=1e-6)
