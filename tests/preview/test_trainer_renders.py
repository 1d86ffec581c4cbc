"""Depths and contributions of the preview trainer, against closed forms and its own pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from worldexplorer.geometry.cameras import normalised_intrinsics, pitch_matrix, pose, yaw_matrix
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.preview.parameters import C0
from worldexplorer.preview.trainer import PreviewTrainer
from worldexplorer.preview.trainer_settings import TrainerSettings
from worldexplorer.progress import silent

SIZE = 40
LENS = normalised_intrinsics()
TRAINER = PreviewTrainer(TrainerSettings(), threads=1)


def discs(places: list[tuple[float, float, float]], size: float, opacity: float) -> Gaussians:
    """Flat discs that face the z axis."""
    count = len(places)
    turned = np.zeros((count, 4), dtype=np.float32)
    turned[:, 0] = 1.0
    return Gaussians(
        means=np.array(places, dtype=np.float32),
        log_scales=np.tile(np.log([size, size, 1e-3]), (count, 1)).astype(np.float32),
        quaternions=turned,
        opacity_logits=np.full(count, np.log(opacity / (1 - opacity)), dtype=np.float32),
        sh=np.random.default_rng(0).normal(size=(count, 1, 3)).astype(np.float32),
    )


def depth(world: Gaussians, c2w: np.ndarray) -> np.ndarray:
    return TRAINER.render_depth(world, c2w[None], LENS[None], SIZE)[0]


def test_the_depth_is_along_the_axis_whatever_the_camera() -> None:
    world = discs([(0.3, 0.2, -3.0)], 0.2, 0.98)
    for c2w in (np.eye(4), pose(yaw_matrix(3.0) @ pitch_matrix(-2.0), np.array([0.2, 0.3, 1.0]))):
        expected = -(np.linalg.inv(c2w) @ [0.3, 0.2, -3.0, 1.0])[2]
        found = depth(world, c2w)
        seen = np.isfinite(found)
        assert 4 < seen.sum() < found.size
        np.testing.assert_allclose(found[seen], expected, rtol=1e-5)
        assert (found[~seen] == np.inf).all()
        assert found.dtype == np.float32


def test_depths_of_several_are_weighed_as_their_colours_are() -> None:
    """In the middle the nearer one covers three quarters; of what is left the farther one takes three quarters."""
    world = discs([(0, 0, -2.0), (0, 0, -6.0)], 5.0, 0.75)
    middle = depth(world, np.eye(4))[SIZE // 2, SIZE // 2]
    assert middle == pytest.approx((0.75 * 2 + 0.25 * 0.75 * 6) / (0.75 + 0.25 * 0.75), rel=2e-3)


@pytest.mark.parametrize(("opacity", "seen"), [(0.45, False), (0.55, True)])
def test_less_than_half_a_cover_is_no_surface(opacity: float, seen: bool) -> None:
    middle = depth(discs([(0, 0, -2.0)], 9.0, opacity), np.eye(4))[SIZE // 2, SIZE // 2]
    assert np.isfinite(middle) == seen


def some_world() -> Gaussians:
    random = np.random.default_rng(3)
    places = [(float(x), float(y), float(z)) for x, y, z in random.uniform([-2, -2, -6], [2, 2, -2], (60, 3))]
    return discs(places, 0.3, 0.7)


def test_contributions_are_what_a_brighter_gaussian_adds() -> None:
    """Against differences of 8-bit pictures: one Gaussian turned white before all the others black."""
    world = some_world()
    cameras = pose(yaw_matrix(np.array([0.0, 10.0])), np.zeros((2, 3)))
    lenses = np.tile(LENS, (2, 1, 1))
    found = TRAINER.contributions(world, cameras, lenses, SIZE, silent)
    assert (found.shape, found.dtype) == ((60,), np.float64)
    black = np.full_like(world.sh, -0.5 / C0)
    for one in np.argsort(found)[[-1, -5, -20, 0]]:
        sh = black.copy()
        sh[one] = 0.5 / C0
        added = TRAINER.render(replace(world, sh=sh), cameras, lenses, SIZE)[..., 0].astype(float).sum() / 255
        assert found[one] == pytest.approx(added, abs=0.1 + 0.01 * added)  # small weights are rounded away in 8 bits


def test_contributions_are_shares_of_the_pixels() -> None:
    found = TRAINER.contributions(some_world(), np.eye(4)[None], LENS[None], SIZE, silent)
    white = replace(some_world(), sh=np.full((60, 1, 3), 0.5 / C0, dtype=np.float32))
    cover = TRAINER.render(white, np.eye(4)[None], LENS[None], SIZE)[..., 0].astype(float).sum() / 255
    assert found.sum() == pytest.approx(cover, rel=5e-3)
    assert (found >= 0).all()


def test_what_no_camera_sees_contributes_nothing() -> None:
    world = discs([(0, 0, -2.0), (0, 0, 2.0), (50.0, 0, -2.0)], 0.3, 0.9)
    told: list[tuple[int, int, str]] = []
    found = TRAINER.contributions(
        world, np.tile(np.eye(4), (2, 1, 1)), np.tile(LENS, (2, 1, 1)), SIZE, lambda *facts: told.append(facts)
    )
    assert found[0] > 1
    assert found[1:].tolist() == [0, 0]
    assert told == [(1, 2, "contributions"), (2, 2, "contributions")]
