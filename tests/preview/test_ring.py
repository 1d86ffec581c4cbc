"""The ring: the photo untouched, everything around it made of the photo, and geometry that goes with the colours."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
from preview.scenes import photo_of_court

from worldexplorer.preview.equirectangular import elevations, project_photo, row_of
from worldexplorer.preview.layout_prior import Layout, estimate_layout
from worldexplorer.preview.ring import Ring, make_ring
from worldexplorer.preview.ring_scale import ring_sizes, vary_size

pytestmark = pytest.mark.slow

HEIGHT = 360


def ring_of(photo: np.ndarray, hfov_deg: float, seed: int = 0) -> tuple[Ring, np.ndarray, np.ndarray, slice]:
    """The ring, the panorama with the photo alone, its known pixels and its columns."""
    colours, known = project_photo(photo, hfov_deg, 0.0, HEIGHT)
    where = np.flatnonzero(known[HEIGHT // 2])
    columns = slice(int(where[0]), int(where[-1]) + 1)
    part = np.s_[:, columns]
    layout = estimate_layout(colours[part], known[part], closed=False, scene_type="outdoor", seed=0)
    return make_ring(colours, known, layout, columns, seed), colours, known, columns


@pytest.mark.parametrize("hfov_deg", [25.0, 75.0, 140.0])
def test_the_photo_is_untouched_and_the_horizon_complete(hfov_deg: float) -> None:
    ring, colours, known, columns = ring_of(skimage.data.coffee(), hfov_deg)
    np.testing.assert_array_equal(ring.colours[known], colours[known])
    np.testing.assert_array_equal(ring.known[:, columns], known[:, columns])
    assert ring.known[HEIGHT // 2].all()
    assert np.isfinite(ring.colours).all()
    assert ring.colours.min() >= 0
    assert ring.colours.max() <= 255


def test_there_is_no_dark_pixel_in_the_ring_of_a_bright_photo() -> None:
    photo = np.clip(skimage.data.coffee().astype(int) // 4 + 150, 0, 255).astype(np.uint8)
    ring, *_ = ring_of(photo, 75.0)
    assert ring.colours[ring.known].min() > 140


def test_neighbouring_columns_differ_little_more_than_in_the_photo() -> None:
    ring, colours, _, columns = ring_of(photo_of_court(), 75.0)
    rows = slice(HEIGHT // 2 - 40, HEIGHT // 2 + 40)
    steps = np.abs(np.diff(ring.colours[rows], axis=1, append=ring.colours[rows, :1])).mean(axis=(0, 2))
    in_photo = np.abs(np.diff(colours[rows, columns].astype(float), axis=1)).mean(axis=(0, 2))
    assert steps.max() < 1.5 * in_photo.max()


def test_the_foot_is_where_the_wall_ends_all_around() -> None:
    """The court's wall is reddish and its gravel is not: the carried layout must say where that changes."""
    ring, *_ = ring_of(photo_of_court(width=960, height=640), 75.0)
    red = ring.colours[..., 0] - ring.colours[..., 2]
    foot = np.rint(row_of(ring.layout.foot, HEIGHT)).astype(int)
    columns = np.arange(2 * HEIGHT)
    above = np.mean([red[foot - offset, columns] for offset in range(4, 9)], axis=0)
    below = np.mean([red[foot + offset, columns] for offset in range(4, 9)], axis=0)
    assert np.mean(above > below + 8) > 0.97


def test_plain_columns_are_a_minority_without_the_subject() -> None:
    ring, _, _, columns = ring_of(skimage.data.coffee(), 75.0)
    assert 0.2 < ring.plain.mean() < 0.45
    middle = (columns.start + columns.stop) // 2
    assert not ring.plain[middle - 20 : middle + 20].any()


def test_the_seed_decides() -> None:
    first, again, other = (ring_of(skimage.data.coffee(), 75.0, seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.colours, again.colours)
    assert (first.colours != other.colours).mean() > 0.1


@pytest.mark.parametrize("is_outdoor", [False, True])
def test_sizes_are_one_beside_the_photo_and_change_slowly(is_outdoor: bool) -> None:
    size = ring_sizes(1700, 6.0, 75.0, is_outdoor, seed=0)
    assert size[0] == pytest.approx(1, abs=1e-6)
    assert size[-1] == pytest.approx(1, abs=1e-6)
    assert 0.85 < size.min() < size.max() < 1.25
    assert np.abs(np.diff(size)).max() < 0.01
    assert np.std(size) > 0.01


def test_narrow_photos_are_enlarged() -> None:
    assert np.median(ring_sizes(2000, 6.0, 20.0, True, seed=0)) > 1.8
    assert ring_sizes(2000, 6.0, 60.0, True, seed=0).max() < 1.25


def test_what_is_nearer_is_larger_and_stands_lower() -> None:
    """A wall at distance 4 shown at size s is a wall at distance 4 / s: colours and rows must agree."""
    up = elevations(HEIGHT)[:, None]
    foot, top = np.arctan(-1.5 / 4), np.arctan(1.0 / 4)
    wall = np.broadcast_to(((up > foot) & (up < top))[..., None], (HEIGHT, 500, 3)) * np.float32(255)
    known = np.broadcast_to(np.abs(up) < np.radians(35), (HEIGHT, 500))
    rows = np.stack([np.full(500, foot), np.full(500, top), np.ones(500)]).astype(np.float32)
    size = np.linspace(0.8, 1.3, 480)
    size *= (1 / size).sum() / 500
    colours, _, carried = vary_size(wall.astype(np.float32), known, rows, size)
    np.testing.assert_allclose(np.tan(carried[0]), -1.5 / 4 * size, rtol=1e-4)
    np.testing.assert_allclose(np.tan(carried[1]), 1.0 / 4 * size, rtol=1e-4)
    bright = colours[..., 0] > 128
    np.testing.assert_allclose(HEIGHT - np.argmax(bright[::-1], axis=0) - 0.5, row_of(carried[0], HEIGHT), atol=0.8)
    np.testing.assert_allclose(np.argmax(bright, axis=0) - 0.5, row_of(carried[1], HEIGHT), atol=0.8)


def test_layouts_and_rings_have_one_value_a_column() -> None:
    ring, *_ = ring_of(skimage.data.coffee(), 75.0)
    layout: Layout = ring.layout
    for values in (layout.foot, layout.top, layout.foot_seen, layout.top_seen, ring.plain):
        assert values.shape == (2 * HEIGHT,)
