"""The built-in trajectories against their printed closed forms, and the order of the work."""

from __future__ import annotations

import math
import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldexplorer.config import PUBLISHED_TRAJECTORIES
from worldexplorer.errors import DefectError, UsageError
from worldexplorer.geometry.cameras import yaw_degrees
from worldexplorer.geometry.rotations import is_rotation, rotation_angle_deg
from worldexplorer.scaffold.poses import scaffold_poses
from worldexplorer.trajectory.paths import (
    anchor_parameters,
    folder_name,
    job_order,
    parse_folder_name,
    parse_trajectory_order,
    path_length,
    published_trajectories,
    relative,
    target_parameters,
    trajectory_poses,
)

steady = settings(deadline=None, derandomize=True)

KNOWN = published_trajectories()
COUNTS = {"in": 45, "left": 135, "right": 135, "up": 45}
names = st.sampled_from(sorted(KNOWN))


def printed(name, k):
    """One pose from the printed polynomials: translation, then yaw, then pitch, as plain matrix products."""
    piece = min(int(k // 45), 2)
    u = k / 45 - piece
    yaw = [135 * u - 90 * u**2 + 45 * u**3, 90 + 90 * u + 45 * u**2 - 45 * u**3, 180 + 45 * u - 90 * u**2 + 45 * u**3]
    forward, right, up, left_yaw, down_pitch = {
        "in": lambda: (0.0236442 * k, 0, 0, 0, 0),
        "up": lambda: (0.0201189 * k, 0, 0.0062408 * k, 0, 1.23267 * k),
        "left": lambda: (
            [
                1.19661 * u - 0.23940 * u**3,
                0.95721 + 0.47840 * u - 0.70731 * u**2 + 0.22850 * u**3,
                0.95681 - 0.25070 * u - 0.37545 * u**2 + 0.12515 * u**3,
            ][piece],
            [
                0.02985 * u - 0.02985 * u**3,
                -0.0597 * u - 0.1791 * u**2 + 0.1194 * u**3,
                -0.1194 - 0.0597 * u + 0.08955 * u**2 - 0.02985 * u**3,
            ][piece],
            0,
            yaw[piece],
            0,
        ),
        "right": lambda: (
            [
                1.21101 * u - 0.24200 * u**3,
                0.96901 + 0.48500 * u - 0.71550 * u**2 + 0.23150 * u**3,
                0.97001 - 0.25150 * u - 0.37876 * u**2 + 0.12625 * u**3,
            ][piece],
            [
                -0.0206 * u + 0.0206 * u**3,
                0.0412 * u + 0.1236 * u**2 - 0.0824 * u**3,
                0.0824 + 0.0412 * u - 0.0618 * u**2 + 0.0206 * u**3,
            ][piece],
            0,
            -yaw[piece],
            0,
        ),
    }[name]()
    move, turn, pitch = np.eye(4), np.eye(4), np.eye(4)
    move[:3, 3] = right, up, -forward
    c, s = math.cos(math.radians(left_yaw)), math.sin(math.radians(left_yaw))
    turn[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    c, s = math.cos(math.radians(down_pitch)), math.sin(math.radians(down_pitch))
    pitch[:3, :3] = [[1, 0, 0], [0, c, s], [0, -s, c]]
    return move @ turn @ pitch


def test_the_four_have_their_published_counts_and_order():
    assert tuple(KNOWN) == PUBLISHED_TRAJECTORIES == ("in", "left", "right", "up")
    assert {name: trajectory.count for name, trajectory in KNOWN.items()} == COUNTS


@steady
@given(names, st.data())
def test_poses_equal_the_printed_forms_at_any_parameter(name, data):
    k = data.draw(st.lists(st.floats(0, COUNTS[name] - 1), min_size=1, max_size=5))
    np.testing.assert_allclose(relative(KNOWN[name], k), np.stack([printed(name, one) for one in k]), atol=1e-12)


@pytest.mark.parametrize("name", KNOWN)
def test_trajectories_start_at_their_view_and_are_rigid(name):
    poses = relative(KNOWN[name], target_parameters(KNOWN[name], None))
    assert poses.shape == (COUNTS[name], 4, 4)
    np.testing.assert_array_equal(poses[0], np.eye(4))
    assert is_rotation(poses[:, :3, :3], 1e-14).all()
    np.testing.assert_array_equal(poses[:, 3], np.tile([0.0, 0, 0, 1], (COUNTS[name], 1)))


def test_in_walks_straight_ahead():
    last = relative(KNOWN["in"], [44])[0]
    np.testing.assert_allclose(last[:3, 3], [0, 0, -1.0403], atol=5e-5)
    np.testing.assert_array_equal(last[:3, :3], np.eye(3))


def test_up_rises_advances_and_looks_down():
    last = relative(KNOWN["up"], [44])[0]
    np.testing.assert_allclose(last[:3, 3], [0, 0.275, -0.885], atol=5e-4)
    forward = -last[:3, 2]
    assert forward[0] == 0
    assert math.degrees(math.atan2(-forward[1], -forward[2])) == pytest.approx(54.24, abs=5e-3)


def test_turns_look_back_and_come_home_part_of_the_way():
    k = np.linspace(0, 134, 20001)
    left, right = relative(KNOWN["left"], k), relative(KNOWN["right"], k)
    assert np.unwrap(yaw_degrees(left[:, :3, :3]), period=360).max() == pytest.approx(186.67, abs=0.005)
    np.testing.assert_allclose(left[:, :3, :3], np.swapaxes(right[:, :3, :3], 1, 2), atol=1e-12)
    for path, side in ((left, -1), (right, 1)):
        assert -path[:, 2, 3].min() == pytest.approx(1.05, abs=0.02)
        assert -path[-1, 2, 3] == pytest.approx(0.475, abs=0.01)
        assert np.sign(path[-1, 0, 3]) == side
        # The end looks back: along +z, within a quarter of a degree of 180.
        assert rotation_angle_deg(path[-1, :3, :3], np.diag([-1.0, 1, -1])) < 0.25


@pytest.mark.parametrize(("name", "length"), [("in", 1.04), ("left", 1.68), ("right", 1.68), ("up", 0.93)])
def test_path_lengths_are_as_printed(name, length):
    poses = relative(KNOWN[name], target_parameters(KNOWN[name], None))
    assert path_length(poses) == pytest.approx(length, abs=0.005)
    assert path_length(poses) == pytest.approx(sum(math.dist(a[:3, 3], b[:3, 3]) for a, b in pairwise(poses)))


@pytest.mark.parametrize("name", ["left", "right"])
@pytest.mark.parametrize("joint", [45, 90])
def test_pieces_join_smoothly_as_a_catmull_rom_spline_does(name, joint):
    step = 1e-4
    before, at, after = relative(KNOWN[name], [joint - step, joint, joint + step])
    np.testing.assert_allclose(before, at, atol=3e-5)  # the printed coefficients have five digits
    np.testing.assert_allclose(after, at, atol=3e-5)
    # The slope at a keyframe is half the way between its neighbours, over one piece's 45 frames.
    first, last = relative(KNOWN[name], [joint - 45, min(joint + 45, 134)])
    if joint == 45:
        slope = (relative(KNOWN[name], [joint + step])[0] - at)[:3, 3] / step
        np.testing.assert_allclose(slope, (last - first)[:3, 3] / 2 / 45, atol=2e-5)


@pytest.mark.parametrize("k", [[-1e-9], [44.0001], [math.nan], [[1.0]]])
def test_parameters_outside_are_refused(k):
    with pytest.raises(DefectError):
        relative(KNOWN["in"], k)


def test_a_trajectory_starts_where_its_view_really_is():
    base = scaffold_poses()[3]
    base[:3, 3] = [0.3, -0.1, 0.7]
    poses = trajectory_poses(base, KNOWN["in"], [0, 44])
    np.testing.assert_allclose(poses[0], base)
    direction = -base[:3, 2]
    np.testing.assert_allclose(poses[1][:3, 3], base[:3, 3] + 1.0403448 * direction, atol=1e-12)
    np.testing.assert_allclose(poses[1][:3, :3], base[:3, :3], atol=1e-15)


def test_re_basing_equals_turning_the_path_of_view_000():
    """Target * source^-1 applied to the targets of view 000: the published system's way to say the same."""
    k = target_parameters(KNOWN["left"], None)
    ring = scaffold_poses()
    for view in ring:
        turned = view @ np.linalg.inv(ring[0]) @ trajectory_poses(ring[0], KNOWN["left"], k)
        np.testing.assert_allclose(trajectory_poses(view, KNOWN["left"], k), turned, atol=1e-14)


def test_targets_at_full_length_are_the_published_frames():
    np.testing.assert_array_equal(target_parameters(KNOWN["in"], None), range(45))


@steady
@given(names, st.integers(1, 300))
def test_shortened_targets_skip_the_view_and_end_at_the_end(name, frames):
    k = target_parameters(KNOWN[name], frames)
    assert k.shape == (frames,)
    assert k[0] > 0
    assert k[-1] == COUNTS[name] - 1
    np.testing.assert_allclose(np.diff(k, prepend=0), (COUNTS[name] - 1) / frames)
    relative(KNOWN[name], k)


def test_no_frames_cannot_be_asked_for():
    with pytest.raises(DefectError):
        target_parameters(KNOWN["in"], 0)


@pytest.mark.parametrize(
    ("name", "anchors"),
    [
        ("in", [0, 4, 7, 11, 15, 18, 22, 26, 29, 33, 37, 40, 44]),
        ("left", [0, 11, 22, 34, 45, 56, 67, 78, 89, 100, 112, 123, 134]),
    ],
)
def test_anchors_are_those_of_the_published_system(name, anchors):
    np.testing.assert_array_equal(anchor_parameters(target_parameters(KNOWN[name], None)), anchors)


def test_short_own_trajectories_have_every_frame_as_anchor():
    np.testing.assert_array_equal(anchor_parameters(np.arange(5.0)), range(5))


@steady
@given(names, st.integers(1, 40))
def test_anchors_of_a_shortened_trajectory_are_its_view_and_all_its_frames(name, frames):
    k = target_parameters(KNOWN[name], frames)
    np.testing.assert_array_equal(anchor_parameters(k), [0, *k])


def test_no_targets_have_no_anchors():
    with pytest.raises(DefectError):
        anchor_parameters(np.empty(0))


@pytest.mark.parametrize("order", ["up in", "up, in", "up,in", ["up", "in"], ("up", "in")])
def test_orders_are_read(order):
    assert parse_trajectory_order(order, KNOWN) == ("up", "in")


def test_no_order_means_all():
    assert parse_trajectory_order(None, KNOWN) == PUBLISHED_TRAJECTORIES
    assert parse_trajectory_order(None, {"b": KNOWN["in"], "a": KNOWN["up"]}) == ("b", "a")


@pytest.mark.parametrize(
    ("order", "text"),
    [
        ("in lfet", "'lfet'.*metadata.json: samples.0.*choose from: in left right up"),
        ("in in up", "names in more than once"),
        ("", "names no trajectory"),
        ([], "names no trajectory"),
        (["in", 3], "not a name"),
    ],
)
def test_orders_that_cannot_be_are_refused(order, text):
    with pytest.raises(UsageError, match=text):
        parse_trajectory_order(order, KNOWN, where="metadata.json: samples.0")


def test_work_goes_view_by_view():
    order = job_order(PUBLISHED_TRAJECTORIES)
    assert len(order) == len(set(order)) == 32
    assert order[:5] == [(0, "in"), (0, "left"), (0, "right"), (0, "up"), (1, "in")]
    assert order[-1] == (7, "up")


def test_folder_names_go_there_and_back():
    assert folder_name(3, "left") == "003_left"
    for view, name in [*job_order(PUBLISHED_TRAJECTORIES), (5, "my_own_path"), (0, "a-b_")]:
        assert parse_folder_name(folder_name(view, name)) == (view, name)
    for wrong in ("008_in", "3_in", "000", "000_", "caps"):
        with pytest.raises(DefectError):
            parse_folder_name(wrong)


def test_trajectories_can_cross_process_borders():
    again = pickle.loads(pickle.dumps(KNOWN["left"]))
    np.testing.assert_array_equal(relative(again, [77.5]), relative(KNOWN["left"], [77.5]))
