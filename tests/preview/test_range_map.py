"""Ranges: a floor that is a plane, walls that are upright, a sky or a ceiling, and what is behind them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldexplorer.preview.equirectangular import directions, elevations
from worldexplorer.preview.layout_prior import Layout
from worldexplorer.preview.range_map import (
    CAMERA_HEIGHT,
    FARTHEST_WALL,
    NEAREST_WALL,
    SKY_RANGE,
    backdrop_layer,
    range_map,
    wall_distances,
)

HEIGHT, WIDTH = 180, 360


def layout(foot_deg: np.ndarray | float, top_deg: np.ndarray | float, is_outdoor: bool, seen: bool = True) -> Layout:
    whole = np.ones(WIDTH)
    return Layout(
        np.radians(foot_deg * whole).astype(np.float32),
        np.radians(top_deg * whole).astype(np.float32),
        np.full(WIDTH, seen),
        np.full(WIDTH, seen),
        is_outdoor,
    )


def points(ranges: np.ndarray) -> np.ndarray:
    return directions(HEIGHT) * ranges[..., None]


@settings(max_examples=12, deadline=None)
@given(
    feet=st.lists(st.floats(-60, -1), min_size=6, max_size=6),
    tops=st.lists(st.floats(1, 60), min_size=6, max_size=6),
    is_outdoor=st.booleans(),
    seen=st.booleans(),
)
def test_every_place_is_a_floor_with_upright_walls(
    feet: list[float], tops: list[float], is_outdoor: bool, seen: bool
) -> None:
    place = layout(np.repeat(feet, WIDTH // 6), np.repeat(tops, WIDTH // 6), is_outdoor, seen)
    ranges = range_map(place, HEIGHT)
    assert ranges.dtype == np.float32
    assert (ranges > 0).all()
    assert ranges.max() <= SKY_RANGE
    where = points(ranges)
    assert where[..., 1].min() > -CAMERA_HEIGHT - 1e-3  # nothing is below the floor
    horizontal = np.hypot(where[..., 0], where[..., 2])
    wall = wall_distances(place)
    assert wall.min() > NEAREST_WALL * 0.9999
    assert wall.max() < FARTHEST_WALL * 1.0001
    low = elevations(HEIGHT) < 0
    on_floor = np.abs(where[..., 1] + CAMERA_HEIGHT) < 1e-3
    on_wall = np.abs(horizontal - wall[None, :]) < 1e-3
    assert (on_floor | on_wall)[low].all()
    ratio = ranges[low] / np.roll(ranges[low], 1, axis=1)
    # Walls and floor hang together, sideways: half as much at two pixels a degree, where meshes are cut at 1.3.
    assert max(ratio.max(), 1 / ratio.min()) < 1.3**2
    backdrop, behind = backdrop_layer(np.zeros((HEIGHT, WIDTH, 3), np.uint8), ranges, place)
    assert backdrop.shape == (HEIGHT, WIDTH, 3)
    assert (behind >= ranges).all()


@pytest.mark.parametrize(("foot_deg", "distance"), [(-30, 1.5 / np.tan(np.radians(30))), (-1, 10.0), (-80, 1.4)])
def test_walls_stand_where_their_foot_is(foot_deg: float, distance: float) -> None:
    assert wall_distances(layout(foot_deg, 10, True)) == pytest.approx(distance, rel=1e-5)


def test_above_the_walls_of_a_place_outdoors_is_sky() -> None:
    ranges = range_map(layout(-15, 20, True), HEIGHT)
    up = np.degrees(elevations(HEIGHT))
    assert (ranges[up > 22] == SKY_RANGE).all()
    assert ranges[(up > 0) & (up < 19)].max() < 7


def test_a_room_has_one_flat_ceiling() -> None:
    place = layout(-15, 15, False)
    where = points(range_map(place, HEIGHT))
    ceiling = CAMERA_HEIGHT  # as high above the camera as the floor is below it, by the angles
    assert where[..., 1].max() == pytest.approx(ceiling, abs=0.02)
    high = np.degrees(elevations(HEIGHT)) > 16
    np.testing.assert_allclose(where[high][..., 1], ceiling, atol=0.02)


def test_behind_the_walls_outdoors_are_sky_and_floor_and_far_away_the_colour_of_the_walls_tops() -> None:
    up = np.degrees(elevations(HEIGHT))[:, None, None]
    panorama = np.where(up > 20, (100, 150, 250), np.where(up < -15, (120, 110, 90), (255, 0, 0)))
    panorama = np.broadcast_to(panorama, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    place = layout(-15, 20, True)
    ranges = range_map(place, HEIGHT)
    backdrop, behind = backdrop_layer(panorama, ranges, place)
    sky, ground, far = (backdrop[rows] for rows in (up[:, 0, 0] > 0, up[:, 0, 0] < -20, np.abs(up[:, 0, 0] + 3) < 2))
    np.testing.assert_allclose(sky, np.broadcast_to((100, 150, 250), sky.shape), atol=6)
    np.testing.assert_allclose(ground, np.broadcast_to((120, 110, 90), ground.shape), atol=6)
    np.testing.assert_allclose(far, np.broadcast_to((255, 0, 0), far.shape), atol=6)
    assert (behind[up[:, 0, 0] > 0] == SKY_RANGE).all()
    floor = directions(HEIGHT)[..., 1] * behind
    np.testing.assert_allclose(floor[up[:, 0, 0] < -5], -CAMERA_HEIGHT, atol=1e-3)


def test_what_is_visible_has_its_own_colour_in_the_backdrop() -> None:
    random = np.random.default_rng(0)
    panorama = random.integers(0, 256, size=(HEIGHT, WIDTH, 3), dtype=np.uint8)
    place = layout(-15, 20, True)
    backdrop, _ = backdrop_layer(panorama, range_map(place, HEIGHT), place)
    up = np.degrees(elevations(HEIGHT))
    inner = (up > 30) | (up < -20)
    assert np.abs(backdrop[inner].astype(int) - panorama[inner]).max() <= 1


def test_behind_a_near_wall_of_a_room_stands_the_far_one() -> None:
    foot = np.full(WIDTH, -10.0)
    foot[170:190] = -40  # a cupboard
    place = layout(foot, 20, False)
    ranges = range_map(place, HEIGHT)
    _, behind = backdrop_layer(np.full((HEIGHT, WIDTH, 3), 9, np.uint8), ranges, place)
    assert behind[91, 180] > 3 * ranges[91, 180]
