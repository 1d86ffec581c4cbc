"""Which Gaussians go: planted floaters, and those that show least."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldexplorer.geometry.cameras import pose, yaw_matrix
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.splat.thinning import LEAST_TOUCHING, NEIGHBOURS, REACH, chosen, floaters, most_seen


def blobs(means: np.ndarray, size: float | np.ndarray) -> Gaussians:
    count = len(means)
    turned = np.zeros((count, 4), dtype=np.float32)
    turned[:, 0] = 1.0
    return Gaussians(
        means=means.astype(np.float32),
        log_scales=np.broadcast_to(np.log(size), (count, 3)).astype(np.float32),
        quaternions=turned,
        opacity_logits=np.linspace(-2, 2, count).astype(np.float32),
        sh=np.arange(count * 3, dtype=np.float32).reshape(count, 1, 3),
    )


def wall(step: float = 0.1) -> np.ndarray:
    """A wall ten units ahead, points in a grid."""
    side = np.arange(-3.0, 3.0, step)
    x, y = np.meshgrid(side, side)
    return np.stack([x.ravel(), y.ravel(), np.full(x.size, -10.0)], axis=1)


CAMERAS = pose(yaw_matrix(np.zeros(2)), np.array([[0.0, 0, 0], [0, 0, -1.0]]))


def test_planted_floaters_are_found_and_nothing_else_is() -> None:
    surface = wall()
    alone = np.array([[0.0, 0.0, -7.0], [1.5, 1.0, -6.0]])
    before_the_camera = np.array([[0.1, 0.0, -1.2 - 0.01 * k] for k in range(12)])  # touching each other
    means = np.concatenate([surface[:1000], alone, surface[1000:], before_the_camera])
    planted = np.zeros(len(means), dtype=bool)
    planted[1000:1002] = planted[-12:] = True
    found = floaters(blobs(means, 0.05), CAMERAS, surface.astype(np.float32))
    np.testing.assert_array_equal(found, planted)


def test_what_touches_its_neighbours_or_lies_beyond_the_cloud_stays() -> None:
    """A far background that no point of the cloud stands for, made of few large Gaussians."""
    far = wall(1.0) * [30, 30, 20]
    means = np.concatenate([wall(), far])
    sizes = np.concatenate([np.full(len(wall()), 0.05), np.full(len(far), 10.0)])[:, None]
    assert not floaters(blobs(means, sizes), CAMERAS, wall().astype(np.float32)).any()


def test_the_reach_is_that_of_both() -> None:
    """A small one next to large ones belongs to them as long as their sizes together bridge the gap."""
    surface = wall(0.5)
    gap = REACH * (0.3 + 0.01)
    for distance, hangs in ((0.7 * gap, False), (1.2 * gap, True)):
        speck = np.array([[0.0, 0.0, -10.0 + distance]])
        sizes = np.concatenate([np.full(len(surface), 0.3), [0.01]])[:, None]
        found = floaters(blobs(np.concatenate([surface, speck]), sizes), CAMERAS, surface.astype(np.float32))
        assert found[-1] == hangs
        assert not found[:-1].any()


def by_pairs(world: Gaussians) -> np.ndarray:
    size = np.exp(world.log_scales.max(axis=1).astype(float))
    distance = np.linalg.norm(world.means[:, None].astype(float) - world.means, axis=2)
    hanging = []
    for i in range(world.count):
        others = np.argsort(distance[i], kind="stable")
        others = others[others != i][: min(NEIGHBOURS, world.count - 1)]
        hanging.append((distance[i, others] <= REACH * (size[i] + size[others])).sum() < LEAST_TOUCHING)
    return np.array(hanging)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(3, 40), st.integers(0, 1000))
def test_isolation_is_that_of_its_definition(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    world = blobs(random.normal(size=(count, 3)), np.exp(random.normal(-2.5, 1.0, (count, 3))))
    np.testing.assert_array_equal(floaters(world, CAMERAS + 100.0, np.empty((0, 3), np.float32)), by_pairs(world))


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_to_have_neighbours_are_left_alone(count: int) -> None:
    assert not floaters(blobs(wall()[:count], 0.05), CAMERAS, wall().astype(np.float32)).any()


def test_chosen_takes_the_same_rows_of_everything() -> None:
    world = blobs(wall(), 0.05)
    rows = np.array([3, 7, 700])
    mask = np.zeros(world.count, dtype=bool)
    mask[rows] = True
    for found in (chosen(world, rows), chosen(world, mask)):
        for field in fields(world):
            np.testing.assert_array_equal(getattr(found, field.name), getattr(world, field.name)[rows])
            assert getattr(found, field.name).flags.c_contiguous


def test_the_most_seen_come_in_their_order_and_of_equals_the_first() -> None:
    np.testing.assert_array_equal(most_seen(np.array([1.0, 5.0, 0.0, 5.0, 5.0, 2.0]), 2), [1, 3])
    np.testing.assert_array_equal(most_seen(np.array([1.0, 5.0, 0.0]), 9), [0, 1, 2])
