"""Sky and ceiling above a ring: smooth, continuous, and only of what belongs there."""

from __future__ import annotations

import numpy as np
import pytest

from worldexplorer.preview.equirectangular import azimuths, elevations
from worldexplorer.preview.layout_prior import Layout
from worldexplorer.preview.poles import _harmonic, fill_caps

HEIGHT, WIDTH = 180, 360


def layout(is_outdoor: bool, top_deg: float = 5.0, top_seen: bool = True) -> Layout:
    return Layout(
        np.full(WIDTH, np.radians(-10), np.float32),
        np.full(WIDTH, np.radians(top_deg), np.float32),
        np.ones(WIDTH, dtype=bool),
        np.full(WIDTH, top_seen),
        is_outdoor,
    )


def ring(colour: np.ndarray, reach_deg: float = 28.0) -> tuple[np.ndarray, np.ndarray]:
    known = np.broadcast_to(np.abs(np.degrees(elevations(HEIGHT)))[:, None] < reach_deg, (HEIGHT, WIDTH))
    return (np.broadcast_to(colour, (HEIGHT, WIDTH, 3)) * known[..., None]).astype(np.float32), known


@pytest.mark.parametrize("order", [0, 1, 3])
def test_the_cap_solves_laplaces_equation(order: int) -> None:
    """cos(k azimuth) times the k-th power of tan(polar distance / 2) is harmonic on the sphere."""
    polar = np.linspace(0.02, 1.0, 30)
    border = np.repeat(np.cos(order * azimuths(WIDTH))[:, None], 3, axis=1)
    cap = _harmonic(border, polar)
    expected = (np.tan(polar / 2) / np.tan(0.5)) ** order
    np.testing.assert_allclose(cap[..., 0], expected[:, None] * border[None, :, 0], atol=1e-5)


@pytest.mark.parametrize("is_outdoor", [False, True])
def test_one_colour_stays_one_colour(is_outdoor: bool) -> None:
    colours, known = ring(np.array([120, 140, 160]))
    filled = fill_caps(colours, known, layout(is_outdoor))
    np.testing.assert_allclose(filled, np.broadcast_to([120, 140, 160], filled.shape), atol=0.1)


def test_known_pixels_are_kept_and_borders_continuous() -> None:
    across = 30 * np.sin(azimuths(WIDTH) * 2)[None, :, None]
    colours, known = ring(140 + across + np.array([0, 10, 20]))
    filled = fill_caps(colours, known, layout(False))
    np.testing.assert_array_equal(filled[known], colours[known])
    assert np.abs(np.diff(filled, axis=0)).max() < 4
    assert np.ptp(filled[0], axis=0).max() < 2  # one colour at the zenith
    assert np.ptp(filled[-1], axis=0).max() < 2


def test_only_sky_becomes_sky() -> None:
    """A dark tower that the photo's edge cuts off ends above it; the zenith knows nothing of it."""
    colours, known = ring(np.array([150, 180, 230]))
    tower = slice(100, 160)
    colours[60:, tower] = 30
    colours *= known[..., None]
    colours[known & (np.arange(HEIGHT)[:, None] < 90) & (np.arange(WIDTH) >= 100) & (np.arange(WIDTH) < 160)] = 30
    top = np.full(WIDTH, np.radians(5), np.float32)
    top[tower] = np.radians(28)
    seen = np.ones(WIDTH, dtype=bool)
    seen[tower] = False
    base = layout(True)
    filled = fill_caps(colours, known, Layout(base.foot, top, base.foot_seen, seen, True))
    np.testing.assert_allclose(filled[:45], np.broadcast_to([150, 180, 230], (45, WIDTH, 3)), atol=3)
    assert filled[60, 130].max() < 90  # just above the border it still stands


def test_a_tower_that_ends_below_the_border_is_not_mirrored_above_it() -> None:
    colours, known = ring(np.array([150, 180, 230]))
    colours[
        known & (np.degrees(elevations(HEIGHT)) < 24)[:, None] & (np.arange(WIDTH) > 170) & (np.arange(WIDTH) < 190)
    ] = 0
    base = layout(True)
    top = base.top.copy()
    top[165:195] = np.radians(24.5)
    filled = fill_caps(colours, known, Layout(base.foot, top, base.foot_seen, base.top_seen, True))
    assert filled[:60].min() > 120


def test_a_sky_goes_on_darkening_for_a_while() -> None:
    up = np.degrees(elevations(HEIGHT))[:, None, None]
    colours, known = ring(200 - 2 * up * np.array([1.0, 0.6, 0.2]))
    filled = fill_caps(colours, known, layout(True))
    border = filled[62, :].mean(axis=0)
    zenith = filled[0].mean(axis=0)
    assert (zenith < border - 3).all()
    assert (zenith > border - 45).all()


def test_a_place_outdoors_without_any_sky_gets_an_overcast_one() -> None:
    colours, known = ring(np.array([90, 60, 30]))
    filled = fill_caps(colours, known, layout(True, top_deg=28.0, top_seen=False))
    zenith = filled[0].mean(axis=0)
    assert zenith[2] > zenith[0]
    np.testing.assert_allclose(zenith, 90 * np.array([0.84, 0.90, 0.96]), atol=2)


def test_columns_may_end_at_different_heights() -> None:
    random = np.random.default_rng(0)
    reach = 20 + 10 * random.uniform(size=WIDTH)
    known = np.abs(np.degrees(elevations(HEIGHT)))[:, None] < reach
    colours = np.where(known[..., None], 100 + 40 * random.uniform(size=(HEIGHT, WIDTH, 3)), 0).astype(np.float32)
    filled = fill_caps(colours, known, layout(False))
    assert filled.min() > 90  # no gap, no black
    assert filled.max() < 150
