"""The layout prior finds boundaries that are there, and says so where there are none."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from preview.scenes import photo_of_court

from worldexplorer.preview.equirectangular import azimuths, elevations, project_photo
from worldexplorer.preview.layout_prior import Layout, _best_path, estimate_layout

pytestmark = pytest.mark.slow

HEIGHT = 540


def layout_of(photo: np.ndarray, scene_type: str | None, hfov_deg: float = 75.0) -> tuple[Layout, np.ndarray]:
    """The layout and the azimuths of its columns."""
    colours, known = project_photo(photo, hfov_deg, 0.0, HEIGHT)
    columns = np.flatnonzero(known[HEIGHT // 2])
    part = slice(columns[0], columns[-1] + 1)
    layout = estimate_layout(colours[:, part], known[:, part], closed=False, scene_type=scene_type, seed=0)
    return layout, azimuths(2 * HEIGHT)[part]


@pytest.mark.parametrize("wall", [4.0, 5.0, 7.0])
@pytest.mark.parametrize("has_ceiling", [False, True])
def test_a_wall_is_found_where_it_stands(wall: float, has_ceiling: bool) -> None:
    photo = photo_of_court(wall=wall, wall_top=1.4, has_ceiling=has_ceiling)
    layout, azimuth = layout_of(photo, "indoor" if has_ceiling else "outdoor")
    foot = -np.degrees(np.arctan(1.5 / wall * np.cos(azimuth)))
    top = np.degrees(np.arctan(1.4 / wall * np.cos(azimuth)))
    middle = np.abs(azimuth) < math.radians(33)
    assert np.abs(np.degrees(layout.foot) - foot)[middle].max() < 1.0
    assert np.abs(np.degrees(layout.top) - top)[middle].max() < 1.0
    assert layout.foot_seen[middle].all()
    assert layout.top_seen[middle].all()


@pytest.mark.parametrize(("has_ceiling", "expected"), [(False, True), (True, False)])
def test_open_air_is_told_from_a_room(has_ceiling: bool, expected: bool) -> None:
    photo = photo_of_court(has_ceiling=has_ceiling, wall_top=1.2)
    assert layout_of(photo, None)[0].is_outdoor is expected
    assert layout_of(photo, "outdoor")[0].is_outdoor
    assert not layout_of(photo, "indoor")[0].is_outdoor


def test_a_wall_that_fills_the_picture_of_a_room_has_no_floor() -> None:
    layout, azimuth = layout_of(np.full((320, 480, 3), 180, np.uint8), "indoor")
    assert not layout.foot_seen.any()
    assert not layout.top_seen.any()
    lowest = -np.arctan(math.tan(math.radians(75) / 2) * 320 / 480 * np.cos(azimuth))
    assert np.abs(np.degrees(layout.foot - lowest)).max() < 1.0


def test_a_closed_ring_has_no_preferred_start() -> None:
    up = np.degrees(elevations(180))[:, None]
    border = -14 - 5 * np.sin(2 * azimuths(360))[None, :]
    random = np.random.default_rng(0)
    colours = np.where((up < border)[..., None], (90, 120, 60), np.where((up > 12)[..., None], (150, 190, 240), 170))
    colours = np.clip(colours + random.normal(scale=6, size=(180, 360, 3)), 0, 255).astype(np.uint8)
    known = np.broadcast_to(np.abs(up) < 30, (180, 360))
    layouts = [
        estimate_layout(np.roll(colours, shift, axis=1), known, closed=True, scene_type="outdoor", seed=0)
        for shift in (0, 130)
    ]
    assert np.abs(np.degrees(layouts[0].foot) - border[0]).max() < 1.6
    assert np.abs(np.degrees(np.roll(layouts[0].foot, 130) - layouts[1].foot)).max() < 1.6


@pytest.mark.parametrize("kind", ["black", "white", "noise"])
@pytest.mark.parametrize("scene_type", ["indoor", "outdoor", None])
def test_pictures_of_nothing_have_a_layout(kind: str, scene_type: str | None) -> None:
    random = np.random.default_rng(0)
    pictures = {
        "black": np.zeros((60, 90, 3), np.uint8),
        "white": np.full((60, 90, 3), 255, np.uint8),
        "noise": random.integers(0, 256, size=(60, 90, 3), dtype=np.uint8),
    }
    layout, _ = layout_of(pictures[kind], scene_type)
    assert np.isfinite(layout.foot).all()
    assert np.isfinite(layout.top).all()
    assert (layout.foot < 0).all()
    assert (layout.top > 0).all()


def test_the_same_seed_gives_the_same_layout() -> None:
    photo = photo_of_court()
    first, second = (layout_of(photo, None)[0] for _ in range(2))
    for name in ("foot", "top", "foot_seen", "top_seen"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_the_best_path_beats_every_other() -> None:
    random = np.random.default_rng(0)
    for _ in range(5):
        score = random.normal(scale=2, size=(5, 5))

        def value(path: tuple[int, ...], score: np.ndarray = score) -> float:
            step = np.abs(np.diff(path)) / 3.0  # rows a degree
            return float(score[list(path), range(5)].sum() - (0.6 * np.minimum(step, 12) + 1.2 * (step > 1)).sum())

        found = value(tuple(_best_path(score, closed=False)))
        assert found == pytest.approx(max(value(path) for path in itertools.product(range(5), repeat=5)))
