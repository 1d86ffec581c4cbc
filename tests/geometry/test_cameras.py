"""Cameras: intrinsics, axes, turns, rays, poses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from worldexplorer.errors import DefectError
from worldexplorer.geometry.cameras import (
    FOCAL_NORMALISED,
    camera_rays,
    focal_of_horizontal_fov,
    horizontal_fov,
    look_at,
    normalised_intrinsics,
    opencv_to_opengl,
    opengl_to_opencv,
    pitch_matrix,
    pixel_intrinsics,
    pose,
    yaw_degrees,
    yaw_matrix,
)

FORWARD = np.array([0.0, 0.0, -1.0])
exactly = settings(derandomize=True, deadline=None)


def test_the_focal_length_is_498_of_576_pixels_in_single_precision():
    assert np.float32(498 / 576) == FOCAL_NORMALISED


def test_pixel_intrinsics_scale_the_first_row_by_the_width_and_the_second_by_the_height():
    K = pixel_intrinsics([[1.5, 0.25, 0.5], [0.0, 2.0, 0.25], [0.0, 0.0, 1.0]], width=640, height=480)
    assert K.tolist() == [[960.0, 160.0, 320.0], [0.0, 960.0, 120.0], [0.0, 0.0, 1.0]]


def test_pixel_intrinsics_take_a_stack():
    stack = np.stack([normalised_intrinsics(), normalised_intrinsics(0.5)])
    assert np.allclose(pixel_intrinsics(stack, 576, 576)[:, 0, 0], [498.0, 288.0], atol=1e-4)


def test_the_field_of_view_of_the_pipeline():
    assert round(horizontal_fov(normalised_intrinsics()), 2) == 60.08


def test_the_field_of_view_counts_both_sides_of_an_off_centre_axis():
    assert horizontal_fov([[0.5, 0, 0.0], [0, 1, 0.5], [0, 0, 1]]) == pytest.approx(np.degrees(np.arctan(2.0)))


@exactly
@given(st.floats(1.0, 179.0))
def test_focal_length_and_field_of_view_are_inverse(degrees):
    assert horizontal_fov(normalised_intrinsics(focal_of_horizontal_fov(degrees))) == pytest.approx(degrees)


def test_a_photo_whose_square_crop_is_the_view_sees_81_8_degrees():
    across = normalised_intrinsics()
    across[0, 0] *= 427 / 640
    assert round(horizontal_fov(across), 1) == 81.8


def test_conversion_keeps_centres_and_right_axes_and_swaps_up_and_backward():
    c2w = pose(yaw_matrix(30.0) @ pitch_matrix(20.0), [1.0, 2.0, 3.0])
    opencv = opengl_to_opencv(c2w)
    assert np.array_equal(opencv[:, 3], c2w[:, 3])
    assert np.array_equal(opencv[:, 0], c2w[:, 0])
    assert np.array_equal(opencv[:, 1], -c2w[:, 1])  # down
    assert np.array_equal(opencv[:, 2], -c2w[:, 2])  # forward
    assert np.array_equal(opencv_to_opengl(opencv), c2w)


def test_conversion_makes_no_negative_zeros():
    assert not np.signbit(opengl_to_opencv(np.eye(4))[np.eye(4) == 0.0]).any()


@pytest.mark.parametrize(
    ("degrees", "looks"), [(0.0, (0, 0, -1)), (90.0, (-1, 0, 0)), (180.0, (0, 0, 1)), (-90.0, (1, 0, 0))]
)
def test_positive_yaw_turns_left(degrees, looks):
    assert np.allclose(yaw_matrix(degrees) @ FORWARD, looks, atol=1e-15)


def test_yaw_is_the_published_matrix():
    c, s = np.cos(0.3), np.sin(0.3)
    assert np.allclose(yaw_matrix(np.degrees(0.3)), [[c, 0, s], [0, 1, 0], [-s, 0, c]], atol=1e-15)


def test_positive_pitch_looks_up():
    assert np.allclose(pitch_matrix(90.0) @ FORWARD, (0, 1, 0), atol=1e-15)
    assert np.allclose(pitch_matrix(90.0) @ (1, 0, 0), (1, 0, 0))


def test_turns_take_arrays_of_angles():
    turns = yaw_matrix(np.arange(8).reshape(2, 4) * 45.0)
    assert turns.shape == (2, 4, 3, 3)
    assert np.allclose(turns[1, 2] @ turns[0, 2], np.eye(3), atol=1e-15)  # 270 + 90


@exactly
@given(st.floats(-179.9, 179.9), st.floats(-80.0, 80.0), st.floats(-180.0, 180.0))
def test_yaw_is_found_whatever_pitch_and_roll_are(yaw, pitch, roll):
    c, s = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    about_view = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    assert yaw_degrees(yaw_matrix(yaw) @ pitch_matrix(pitch) @ about_view) == pytest.approx(yaw, abs=1e-9)


def test_poses_broadcast():
    ring = pose(yaw_matrix(np.arange(8) * 45.0), np.zeros(3))
    assert ring.shape == (8, 4, 4)
    assert np.array_equal(ring[:, 3], np.tile([0, 0, 0, 1], (8, 1)))
    assert np.array_equal(pose(np.eye(3), [[1, 2, 3], [4, 5, 6]])[:, :3, 3], [[1, 2, 3], [4, 5, 6]])


@exactly
@given(
    st.tuples(*[st.floats(0.2, 3.0)] * 2, st.floats(-0.5, 0.5), st.floats(-1.0, 2.0), st.floats(-1.0, 2.0)),
    st.integers(1, 7),
    st.integers(1, 7),
)
def test_rays_project_back_to_the_pixel_centres(numbers, width, height):
    fx, fy, skew, cx, cy = numbers
    K = np.array([[fx, skew, cx], [0, fy, cy], [0, 0, 1]])
    rays = camera_rays(K, width, height)
    assert rays.shape == (height, width, 3)
    assert np.allclose(np.linalg.norm(rays, axis=-1), 1.0, atol=1e-14)
    assert (rays[..., 2] < 0.0).all()
    for row in range(height):
        for column in range(width):
            x, y, z = rays[row, column] * (1, -1, -1)
            u = width * (fx * x / z + skew * y / z + cx)
            v = height * (fy * y / z + cy)
            assert (u, v) == pytest.approx((column + 0.5, row + 0.5), abs=1e-9)


def test_the_first_ray_points_up_and_left_and_the_border_rays_lie_inside_the_field_of_view():
    rays = camera_rays(normalised_intrinsics(), 576, 576)
    assert rays[0, 0, 0] < 0.0 < rays[0, 0, 1]
    middle_row = 0.5 * (rays[287] + rays[288])
    angle = np.degrees(
        np.arctan2(middle_row[-1, 0], -middle_row[-1, 2]) - np.arctan2(middle_row[0, 0], -middle_row[0, 2])
    )
    half_pixel = np.degrees(0.5 / 498) * np.cos(np.radians(30.04)) ** 2
    assert angle == pytest.approx(60.08 - 2 * half_pixel, abs=0.01)


@exactly
@given(*[st.tuples(*[st.floats(-5.0, 5.0)] * 3)] * 2)
def test_look_at_puts_the_target_in_the_middle_and_up_above(position, target):
    away = np.subtract(target, position)
    assume(np.hypot(away[0], away[2]) > 1e-3)
    c2w = look_at(position, target)
    seen = np.linalg.inv(c2w) @ (*target, 1.0)
    assert np.allclose(seen[:2], 0.0, atol=1e-9)
    assert seen[2] == pytest.approx(-np.linalg.norm(away))
    assert c2w[1, 1] > 0.0  # the camera's up has an upward part
    assert c2w[1, 0] == pytest.approx(0.0, abs=1e-12)  # no roll
    assert np.linalg.det(c2w[:3, :3]) == pytest.approx(1.0)


def test_look_at_agrees_with_yaw():
    assert np.allclose(look_at(np.zeros(3), [-1.0, 0.0, -1.0])[:3, :3], yaw_matrix(45.0), atol=1e-15)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: normalised_intrinsics(0.0), "focal length"),
        (lambda: normalised_intrinsics(float("nan")), "focal length"),
        (lambda: focal_of_horizontal_fov(180.0), "between 0 and 180"),
        (lambda: focal_of_horizontal_fov(float("nan")), "between 0 and 180"),
        (lambda: pixel_intrinsics(np.eye(3), 0, 5), "0 x 5"),
        (lambda: pixel_intrinsics(np.eye(4), 5, 5), r"\[3, 3\]"),
        (lambda: horizontal_fov(np.zeros((3, 3))), "positive focal"),
        (lambda: horizontal_fov(np.stack([np.eye(3)] * 2)), "one matrix"),
        (lambda: camera_rays(np.eye(3), 5, 0), "5 x 0"),
        (lambda: camera_rays(np.full((3, 3), np.nan), 5, 5), "positive focal"),
        (lambda: opengl_to_opencv(np.eye(3)), r"c2w must end in the dimensions \[4, 4\]"),
        (lambda: pose(np.eye(3), np.zeros(4)), "position"),
        (lambda: look_at([1, 2, 3], [1, 2, 3]), "stands on"),
        (lambda: look_at([0, 0, 0], [0, 5, 0]), "roll is not stated"),
    ],
)
def test_what_makes_no_sense_is_refused(call, text):
    with pytest.raises(DefectError, match=text):
        call()
