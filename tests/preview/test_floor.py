"""The synthesised floor: of the floor's own texture, on what is unknown only, the same every time."""

from __future__ import annotations

import numpy as np
import pytest

from worldexplorer.preview.equirectangular import azimuths, elevations
from worldexplorer.preview.floor import synthesise_floor
from worldexplorer.preview.layout_prior import Layout
from worldexplorer.preview.poles import fill_caps

pytestmark = pytest.mark.slow

HEIGHT, WIDTH = 360, 720
BLUE, TAN, RED = (60, 90, 200), (150, 130, 100), (220, 20, 20)


def place(foot_deg: float = -15.0, foot_seen: bool = True, noise: float = 8.0) -> tuple[np.ndarray, np.ndarray, Layout]:
    """A ring up to 28 degrees from the horizon: blue wall, tan floor with some texture."""
    random = np.random.default_rng(0)
    up = np.degrees(elevations(HEIGHT))[:, None]
    colours = np.where((up < foot_deg)[..., None], TAN, BLUE) + random.normal(scale=noise, size=(HEIGHT, WIDTH, 1))
    known = np.broadcast_to(np.abs(up) < 28, (HEIGHT, WIDTH))
    layout = Layout(
        np.full(WIDTH, np.radians(foot_deg), np.float32),
        np.full(WIDTH, np.radians(20), np.float32),
        np.full(WIDTH, foot_seen),
        np.ones(WIDTH, dtype=bool),
        False,
    )
    return (colours * known[..., None]).astype(np.float32), known, layout


def with_floor(colours: np.ndarray, known: np.ndarray, layout: Layout, seed: int = 0) -> np.ndarray:
    filled = fill_caps(colours, known, layout)
    return synthesise_floor(filled, known, layout, np.ones(WIDTH, dtype=bool), seed)


def below(degrees: float) -> slice:
    return slice(int(np.argmax(np.degrees(elevations(HEIGHT)) < degrees)), HEIGHT)


def test_the_floor_is_of_floor_and_known_pixels_stay() -> None:
    colours, known, layout = place()
    result = with_floor(colours, known, layout)
    np.testing.assert_array_equal(result[known], colours[known])
    np.testing.assert_allclose(result[below(-29)].mean(axis=(0, 1)), TAN, atol=3)
    assert np.std(result[below(-29)][: HEIGHT // 8, :, 0]) > 2  # not just one colour


def test_walls_cut_off_by_the_photo_do_not_bleed_into_the_floor() -> None:
    colours, known, layout = place()
    wall = np.abs(azimuths(WIDTH)) < np.radians(40)
    colours[np.ix_(range(HEIGHT), np.flatnonzero(wall))] = np.array(RED, np.float32)
    colours = (colours * known[..., None]).astype(np.float32)
    foot = layout.foot.copy()
    foot[wall] = np.radians(-28)
    layout = Layout(foot, layout.top, layout.foot_seen & ~wall, layout.top_seen, False)
    result = with_floor(colours, known, layout)
    assert np.abs(result[below(-34)].mean(axis=(0, 1)) - TAN).max() < 8


def test_things_on_the_floor_are_not_copied() -> None:
    colours, known, layout = place(noise=3.0)
    thing = np.ix_(range(210, 240), range(300, 380))  # within the floor, up to the edge
    colours[thing] = np.array(RED, np.float32)
    result = with_floor((colours * known[..., None]).astype(np.float32), known, layout)
    red = (result[..., 0] - result[..., 2]) > 120
    assert not red[below(-34)].any()


def test_without_any_floor_the_ground_is_like_the_lowest_thing_seen() -> None:
    colours, known, layout = place(foot_deg=-28.0, foot_seen=False)
    result = with_floor(colours, known, layout)
    np.testing.assert_allclose(result[below(-34)].mean(axis=(0, 1)), BLUE, atol=4)


@pytest.mark.parametrize("reach_deg", [6.0, 12.0])
def test_flat_photos_leave_a_floor_as_large_as_the_plan(reach_deg: float) -> None:
    colours, known, layout = place(foot_deg=-4.0)
    known = known & (np.abs(np.degrees(elevations(HEIGHT)))[:, None] < reach_deg)
    result = with_floor((colours * known[..., None]).astype(np.float32), known, layout)
    assert np.isfinite(result).all()
    np.testing.assert_allclose(result[below(-20)].mean(axis=(0, 1)), TAN, atol=10)


def test_the_seed_decides() -> None:
    colours, known, layout = place()
    first, again, other = (with_floor(colours, known, layout, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_sphere_without_gaps_is_left_alone() -> None:
    colours, _, layout = place()
    whole = np.ones((HEIGHT, WIDTH), dtype=bool)
    np.testing.assert_array_equal(synthesise_floor(colours, whole, layout, whole[0], 0), colours)
