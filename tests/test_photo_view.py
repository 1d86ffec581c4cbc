"""The field of view of a photo and view 000 out of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldexplorer.errors import UserError
from worldexplorer.photo import photo_focal, photo_hfov, square_crop, view_zero

FOCAL = 0.8645833134651184
sides = st.integers(64, 240)


def waves(x, y):
    """A smooth pattern over pixel coordinates, [..., 3] in 0..255."""
    return 127.5 + 90 * np.stack([np.sin(x / 19), np.sin(y / 23 + 1), np.cos((x + y) / 29)], axis=-1)


def photo_of_waves(width, height):
    y, x = np.mgrid[0:height, 0:width] + 0.5
    return np.round(waves(x, y)).astype(np.uint8)


def directions(size):
    """Where the centres of the view's columns or rows look: the tangent of the angle off the axis."""
    return ((np.arange(size) + 0.5) / size - 0.5) / FOCAL


def test_the_square_crop_is_60_degrees_across():
    assert photo_hfov(500, 500) == pytest.approx(60.08, abs=0.005)
    assert photo_hfov(427, 640) == pytest.approx(60.08, abs=0.005)
    assert photo_hfov(640, 427) == pytest.approx(81.8, abs=0.05)
    assert photo_focal(640, 427) == FOCAL * 427


@given(sides, sides, st.floats(10, 150))
def test_a_stated_field_of_view_is_taken_at_its_word(width, height, hfov):
    assert photo_hfov(width, height, hfov) == pytest.approx(hfov)
    assert math.atan(width / 2 / photo_focal(width, height, hfov)) == pytest.approx(math.radians(hfov / 2))


@pytest.mark.parametrize(("height", "width"), [(70, 100), (100, 70), (70, 70), (71, 100), (100, 71)])
def test_the_square_crop_is_the_middle(height, width):
    photo = photo_of_waves(width, height)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    np.testing.assert_array_equal(square_crop(photo), photo[top : top + side, left : left + side])


def test_a_narrower_lens_sees_the_middle_of_what_a_wider_one_sees():
    photo = photo_of_waves(150, 120)
    view, covered = view_zero(photo, None, 64, focal=2 * FOCAL)
    assert covered.all()
    middle, _ = view_zero(np.ascontiguousarray(photo[30:90, 45:105]), None, 64)
    np.testing.assert_allclose(view.astype(int), middle.astype(int), atol=2)
    _, covered = view_zero(photo, None, 64, focal=FOCAL / 2)
    assert covered.mean() == pytest.approx(0.25 * 150 / 120)


def test_view_zero_is_the_square_crop_exactly():
    photo = np.random.default_rng(0).integers(0, 256, (80, 120, 3), dtype=np.uint8)
    view, covered = view_zero(photo, None, 80)
    assert view.dtype == np.uint8 and covered.dtype == np.bool_ and covered.all()
    np.testing.assert_array_equal(view, photo[:, 20:100])
    view, _ = view_zero(np.ascontiguousarray(photo.swapaxes(0, 1)), None, 80)
    np.testing.assert_array_equal(view, photo[:, 20:100].swapaxes(0, 1))


def test_an_edge_on_a_pixel_border_loses_no_pixel_to_rounding():
    photo = np.zeros((64, 64, 3), np.uint8)
    for size in (60, 64, 100):
        assert view_zero(photo, None, size)[1].all()
        for margin in range(1, size // 2 - 4):
            hfov = math.degrees(2 * math.atan((0.5 - margin / size) / FOCAL))
            covered = view_zero(photo, hfov, size)[1]
            inner = slice(margin, size - margin)
            assert covered.sum() == (size - 2 * margin) ** 2 and covered[inner, inner].all(), (size, margin)


def test_shrinking_averages_instead_of_skipping():
    photo = np.zeros((256, 256, 3), np.uint8)
    photo[:, ::2] = 255  # stripes one pixel wide are grey from afar
    view, _ = view_zero(photo, None, 64)
    assert np.abs(view[:, 4:-4].astype(int) - 127).max() <= 4


def test_the_axis_goes_through_the_centre_even_where_the_sides_differ_by_an_odd_number():
    ramp = np.broadcast_to((2 * np.arange(101) + 1).astype(np.uint8)[None, :, None], (70, 101, 3))  # 2 a pixel
    view, _ = view_zero(np.ascontiguousarray(ramp), None, 35)
    expected = 2 * (50.5 + 2 * (np.arange(35) + 0.5 - 17.5))
    assert np.abs(view[:, 2:-2] - expected[None, 2:-2, None]).max() <= 0.5


@settings(max_examples=25, deadline=None)
@given(sides, sides, st.none() | st.floats(30, 110), st.integers(48, 160))
def test_every_covered_pixel_shows_what_lies_in_its_direction(width, height, hfov, size):
    view, covered = view_zero(photo_of_waves(width, height), hfov, size)
    focal = photo_focal(width, height, hfov)
    x = width / 2 + focal * directions(size)[None, :]
    y = height / 2 + focal * directions(size)[:, None]
    expected = waves(*np.broadcast_arrays(x, y))
    # Within four pixels of the photo's border the kernel is cut off, and the pattern there is known to a pixel only.
    reach = 4 * max(1.0, focal / FOCAL / size)
    inner = covered & (x > reach) & (x < width - reach) & (y > reach) & (y < height - reach)
    assert np.abs(view - expected)[inner].max(initial=0) <= 2.0
    assert (view[~covered] == 0).all()


@settings(max_examples=60, deadline=None)
@given(sides, sides, st.none() | st.floats(10, 150), st.integers(16, 100))
def test_coverage_is_what_the_photo_holds_of_each_pixel(width, height, hfov, size):
    focal = photo_focal(width, height, hfov)
    edges = (np.arange(size + 1) / size - 0.5) / FOCAL * focal

    def inside(extent):
        held = np.abs(edges) <= extent / 2 + 1e-6
        return held[:-1] & held[1:]

    expected = inside(height)[:, None] & inside(width)[None, :]
    if not expected.any():
        with pytest.raises(UserError):
            view_zero(photo_of_waves(width, height), hfov, size)
        return
    _, covered = view_zero(photo_of_waves(width, height), hfov, size)
    np.testing.assert_array_equal(covered, expected)


def test_the_convention_and_its_own_angle_agree():
    photo = photo_of_waves(160, 107)
    by_rule, covered = view_zero(photo, None, 96)
    by_angle, also_covered = view_zero(photo, photo_hfov(160, 107), 96)
    assert covered.all() and also_covered.all()
    assert np.abs(by_rule.astype(int) - by_angle).max() <= 1


def test_a_wide_photo_fills_the_view_where_it_is_high_enough():
    _, covered = view_zero(photo_of_waves(100, 100), 110.0, 64)
    assert covered.all()
    _, covered = view_zero(photo_of_waves(200, 100), 2 * math.degrees(math.atan(0.5 / FOCAL)), 64)
    assert covered.sum() == 64 * 32 and covered[16:48].all()


def test_a_photo_that_covers_nothing_is_refused():
    with pytest.raises(UserError) as caught:
        view_zero(photo_of_waves(4000, 64), 10.0, 64)
    assert str(caught.value) == (
        "at 10 degrees across the photo of 4000x64 pixels covers nothing of view 000 (--hfov). "
        "What to do: state the whole photo's true horizontal field of view, or leave --hfov out"
    )
