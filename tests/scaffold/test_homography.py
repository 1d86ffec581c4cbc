"""A turned view against rays followed one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldexplorer.errors import DefectError
from worldexplorer.geometry.cameras import normalised_intrinsics, pitch_matrix, pose, yaw_matrix
from worldexplorer.scaffold.homography import turn_homography, turned_view
from worldexplorer.scaffold.poses import scaffold_poses

K = normalised_intrinsics()
FOCAL = K[0, 0]


def by_rays(picture: np.ndarray, turn: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Every pixel's ray, turned by `turn` into the source camera's OpenGL axes, and what it hits there."""
    side = len(picture)
    values, covered = np.zeros((size, size, 3)), np.zeros((size, size), dtype=bool)
    for row in range(size):
        for column in range(size):
            ray = (((column + 0.5) / size - 0.5) / FOCAL, (0.5 - (row + 0.5) / size) / FOCAL, -1.0)
            x, y, z = (sum(turn[axis][k] * ray[k] for k in range(3)) for axis in range(3))
            if z >= 0.0:
                continue
            across, down = 0.5 - FOCAL * x / z, 0.5 + FOCAL * y / z
            if not (0.0 <= across <= 1.0 and 0.0 <= down <= 1.0):
                continue
            covered[row, column] = True
            values[row, column] = between(picture, across * side - 0.5, down * side - 0.5)
    return values, covered


def between(picture: np.ndarray, x: float, y: float) -> np.ndarray:
    side = len(picture)
    x, y = min(max(x, 0.0), side - 1.0), min(max(y, 0.0), side - 1.0)
    total = np.zeros(3)
    for row in {math.floor(y), math.ceil(y)}:
        for column in {math.floor(x), math.ceil(x)}:
            total += (1.0 - abs(x - column)) * (1.0 - abs(y - row)) * picture[row, column]
    return total


def random_picture(size: int) -> np.ndarray:
    return np.random.default_rng(size).integers(0, 256, (size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("corner", [1, 3, 5, 7])
@pytest.mark.parametrize("side", [1, -1])
def test_a_corner_equals_its_rays(corner: int, side: int) -> None:
    ring, picture = scaffold_poses(), random_picture(40)
    source = (corner + side) % 8
    values, covered = turned_view(picture, ring[source], ring[corner], K, 48)
    # Turned so far to the left of the source camera.
    expected, expected_covered = by_rays(picture, yaw_matrix(45.0 * (corner - source)), 48)
    assert (covered == expected_covered).all()
    assert np.abs(values - expected).max() < 1e-6
    assert covered.any()


@settings(max_examples=25, deadline=None)
@given(yaw=st.floats(-180, 180), pitch=st.floats(-80, 80), seed=st.integers(8, 12))
def test_any_turn_equals_its_rays(yaw: float, pitch: float, seed: int) -> None:
    turn = yaw_matrix(yaw) @ pitch_matrix(pitch)
    picture = random_picture(seed)
    origin = np.zeros(3)
    values, covered = turned_view(picture, pose(np.eye(3), origin), pose(turn, origin), K, 13)
    expected, expected_covered = by_rays(picture, turn, 13)
    assert (covered != expected_covered).sum() <= 1  # a centre that falls on the border within rounding
    both = covered & expected_covered
    assert np.abs(values[both] - expected[both]).max(initial=0.0) < 1e-6
    assert (values[~covered] == 0).all()


def test_no_turn_is_the_picture_itself() -> None:
    here, picture = scaffold_poses()[3], random_picture(31)
    values, covered = turned_view(picture, here, here, K, 31)
    assert covered.all()
    np.testing.assert_allclose(values, picture, atol=1e-9)


def test_behind_is_nothing() -> None:
    ring = scaffold_poses()
    values, covered = turned_view(random_picture(16), ring[0], ring[4], K, 16)
    assert not covered.any()
    assert (values == 0).all()


def test_centres_apart_are_refused() -> None:
    here, there = scaffold_poses()[0], scaffold_poses()[1].copy()
    there[:3, 3] = (0.1, 0.0, 0.0)
    with pytest.raises(DefectError, match=r"0\.1 apart"):
        turn_homography(here, there, K)
