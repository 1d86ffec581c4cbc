"""The scaffold's ring and the trajectory priors, against formulas written out independently in OpenCV axes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldexplorer.errors import DefectError, UsageError
from worldexplorer.geometry.cameras import FOCAL_NORMALISED, horizontal_fov
from worldexplorer.geometry.rotations import is_rotation
from worldexplorer.scaffold.poses import (
    DEFAULT_PRIOR,
    canonical_prior,
    key_frame_indices,
    prior_names,
    prior_path,
    prior_warning,
    ring_deviation,
    scaffold_poses,
)

steady = settings(deadline=None, derandomize=True)

GUIDE_NAMES = [
    "orbit",
    "spiral",
    "lemniscate",
    "zoom-in",
    "zoom-out",
    "dolly zoom-in",
    "dolly zoom-out",
    "move-forward",
    "move-backward",
    "move-up",
    "move-down",
    "move-left",
    "move-right",
    "roll",
]
STILL = {"pan-in-place", "zoom-in", "zoom-out", "roll"}
FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


def test_ring_turns_left_on_the_spot():
    ring = scaffold_poses()
    assert ring.shape == (8, 4, 4)
    np.testing.assert_array_equal(ring[0], np.eye(4))
    np.testing.assert_array_equal(ring[:, :3, 3], 0)
    forward = -ring[:, :3, 2]
    np.testing.assert_allclose(forward[2], [-1, 0, 0], atol=1e-15)  # a quarter turn to the left looks along -x
    np.testing.assert_allclose(forward[4], [0, 0, 1], atol=1e-15)
    np.testing.assert_allclose(forward[1], [-math.sqrt(0.5), 0, -math.sqrt(0.5)], atol=1e-15)
    np.testing.assert_array_equal(ring[:, :3, 1], np.tile([0.0, 1.0, 0.0], (8, 1)))


@pytest.mark.parametrize("frames", [8, 16, 80, 360])
def test_keys_of_the_pan_are_the_ring(frames):
    path = prior_path("pan-in-place", frames, 3.0)
    keys = key_frame_indices(frames)
    np.testing.assert_allclose(path.c2w[keys], scaffold_poses(), atol=1e-15)
    assert not path.c2w[:, :3, 3].any()  # exactly zero: a tiny circle would be blown up by SEVA's scaling
    assert (path.intrinsics[:, 0, 0] == FOCAL_NORMALISED).all()
    assert horizontal_fov(path.intrinsics[0]) == pytest.approx(60.08, abs=0.005)


def test_keys_are_evenly_spaced_and_begin_with_the_photo():
    assert key_frame_indices(80) == [0, 10, 20, 30, 40, 50, 60, 70]
    assert key_frame_indices(8) == list(range(8))


@pytest.mark.parametrize(
    ("frames", "remedy"),
    [(81, "use 80 or 88"), (79, "use 72 or 80"), (7, "use 8"), (0, "use 8"), (-3, "use 8"), (361, "use 360")],
)
def test_other_frame_counts_name_the_nearest(frames, remedy):
    with pytest.raises(UsageError) as caught:
        key_frame_indices(frames)
    assert caught.value.remedy == remedy


@steady
@given(st.integers(-500, 2000))
def test_the_named_counts_are_valid_and_nearest(frames):
    valid = list(range(8, 361, 8))
    try:
        assert len(set(key_frame_indices(frames))) == 8
        assert frames in valid
    except UsageError as error:
        assert frames not in valid
        named = [int(word) for word in error.remedy.replace("use ", "").split(" or ")]
        below = [count for count in valid if count < frames]
        above = [count for count in valid if count > frames]
        assert named == sorted({*below[-1:], *above[:1]})


def test_every_prior_of_the_guide_is_known_and_begins_at_the_photo():
    assert set(prior_names()) == {DEFAULT_PRIOR, *GUIDE_NAMES}
    assert prior_names()[0] == DEFAULT_PRIOR
    for name in prior_names():
        path = prior_path(name, 40, 3.0)
        assert path.c2w.shape == (40, 4, 4)
        assert path.intrinsics.shape == (40, 3, 3)
        np.testing.assert_allclose(path.c2w[0], np.eye(4), atol=1e-12)
        assert is_rotation(path.c2w[:, :3, :3], 1e-12).all()


@pytest.mark.parametrize("spelling", ["dolly zoom-in", "Dolly-Zoom-In", "dolly_zoom_in", " dolly zoom in "])
def test_spellings_are_forgiven(spelling):
    assert canonical_prior(spelling) == "dolly zoom-in"


def test_an_unknown_prior_lists_the_known():
    with pytest.raises(UsageError, match=r"'panorama'.*pan-in-place, orbit, spiral"):
        prior_path("panorama", 8, 3.0)


def test_orbit_has_the_rings_rotations_on_a_circle_of_radius_two():
    path = prior_path("orbit", 80, 1.0)
    keys = path.c2w[key_frame_indices(80)]
    half = math.sqrt(2)
    opencv = [
        (0, 0, 0),
        (half, 0, 2 - half),
        (2, 0, 2),
        (half, 0, 2 + half),
        (0, 0, 4),
        (-half, 0, 2 + half),
        (-2, 0, 2),
        (-half, 0, 2 - half),
    ]
    np.testing.assert_allclose(keys[:, :3, 3] * [1, -1, -1], opencv, atol=1e-12)
    np.testing.assert_allclose(keys[:, :3, :3], scaffold_poses()[:, :3, :3], atol=1e-12)


def test_orbit_reaches_two_thirds_at_the_indoor_factor():
    centres = prior_path("orbit", 80, 3.0).c2w[:, :3, 3]
    assert np.linalg.norm(centres - centres.mean(axis=0), axis=1) == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", [name for name in GUIDE_NAMES if name not in STILL])
@pytest.mark.parametrize("frames", [8, 80])
def test_conditioning_sees_sevas_scale_whatever_the_factor(name, frames):
    narrow, wide = (prior_path(name, frames, factor).c2w[:, :3, 3] * factor for factor in (3.0, 10.0))
    np.testing.assert_allclose(narrow, wide, atol=1e-12)
    if name != "lemniscate":  # starts in its own centre, where SEVA scales by 2 instead
        assert np.linalg.norm(narrow[0] - narrow.mean(axis=0)) == pytest.approx(2.0)


@pytest.mark.parametrize("name", sorted(STILL))
def test_still_priors_do_not_move(name):
    assert not prior_path(name, 24, 3.0).c2w[:, :3, 3].any()


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("zoom-in", 54, 15.12),
        ("zoom-out", 54, 81),
        ("dolly zoom-in", 54, 15.12),
        ("dolly zoom-out", 54, 81),
        ("orbit", 54, 54),
        ("roll", 54, 54),
    ],
)
def test_fields_of_view_run_linearly(name, first, last):
    degrees = [horizontal_fov(K) for K in prior_path(name, 16, 3.0).intrinsics]
    np.testing.assert_allclose(degrees, np.linspace(first, last, 16), atol=1e-9)


def opencv_look_at(position, target, up):
    """A pose in OpenCV axes from its definition."""
    z = (target - position) / np.linalg.norm(target - position)
    x = np.cross(z, up)
    x /= np.linalg.norm(x)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([x, np.cross(z, x), z], axis=1)
    matrix[:3, 3] = position
    return matrix


def opencv_raw(name, count):
    """Printed formulas: OpenCV axes, start at the identity, up = -y, target ten ahead; with SEVA's scale."""
    up, ahead = np.array([0.0, -1.0, 0.0]), np.array([0.0, 0.0, 10.0])
    fraction = np.linspace(0, 0.99, count)
    poses = []
    for k in range(count):
        if name == "spiral":
            angle = 4 * math.pi * k / count
            position = np.array([0.5 * math.cos(angle), -0.5 * math.sin(angle), -0.2 * math.sin(0.5 * angle)])
            poses.append(opencv_look_at(position, np.array([0, 0, 3.249]), up))
        elif name == "lemniscate":
            angle, a = math.pi / 2 + 2 * math.pi * k / count, 10 * math.tan(math.pi / 6)
            size = a / (1 + math.sin(angle) ** 2)
            position = np.array([size * math.cos(angle), size * math.cos(angle) * math.sin(angle), 0])
            poses.append(opencv_look_at(position, ahead, up))
        else:
            direction = {
                "move-forward": (0, 0, 1),
                "move-backward": (0, 0, -1),
                "move-up": (0, -1, 0),
                "move-down": (0, 1, 0),
                "move-left": (-1, 0, 0),
                "move-right": (1, 0, 0),
                "dolly zoom-in": (0, 0, -1),
                "dolly zoom-out": (0, 0, 1),
            }[name]
            poses.append(opencv_look_at(fraction[k] * np.array(direction, dtype=float), ahead, up))
    if name == "spiral":
        poses = [np.linalg.inv(poses[0]) @ pose for pose in poses]
    scale = {"spiral": 4.0, "lemniscate": 2.0}.get(name, 2 / 0.495)
    stacked = np.stack(poses)
    stacked[:, :3, 3] *= scale
    return stacked


@pytest.mark.parametrize("name", [name for name in GUIDE_NAMES if name not in STILL and name != "orbit"])
def test_moving_priors_equal_the_printed_formulas(name):
    expected = FLIP @ opencv_raw(name, 80) @ FLIP  # both the world's and the camera's axes turn over
    np.testing.assert_allclose(prior_path(name, 80, 1.0).c2w, expected, atol=1e-9)


def test_lemniscate_is_as_wide_as_printed():
    assert np.abs(prior_path("lemniscate", 80, 1.0).c2w[:, 0, 3]).max() == pytest.approx(11.547, abs=1e-3)


def test_moves_turn_by_at_most_their_re_aim():
    path = prior_path("move-left", 80, 3.0).c2w
    turned = np.degrees(np.arccos(np.clip(path[:, 2, 2], -1, 1)))
    assert turned.max() == pytest.approx(5.65, abs=0.01)
    np.testing.assert_allclose(prior_path("move-forward", 80, 3.0).c2w[:, :3, :3], np.eye(3)[None].repeat(80, 0))


def test_roll_turns_about_the_view_axis():
    path = prior_path("roll", 8, 3.0).c2w
    np.testing.assert_allclose(path[:, :3, 2], np.tile([0.0, 0.0, 1.0], (8, 1)), atol=1e-15)
    np.testing.assert_allclose(path[2, :3, 1], [-1, 0, 0], atol=1e-15)


def test_only_the_pan_makes_a_ring():
    for name in prior_names():
        deviation = ring_deviation(prior_path(name, 80, 3.0).c2w[key_frame_indices(80)])
        assert deviation.is_ring == (name == DEFAULT_PRIOR), name
        assert (prior_warning(name) is None) == (name == DEFAULT_PRIOR)
    assert "looks inward" in prior_warning("orbit")


def test_ring_deviation_measures_each_error_alone():
    poses = scaffold_poses()
    poses[3, 0, 3] = 0.25
    assert ring_deviation(poses).centre_distance == pytest.approx(0.25)
    assert not ring_deviation(poses).is_ring

    poses = scaffold_poses()
    angle = math.radians(225 - 7)
    poses[5, :3, :3] = [[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]]
    deviation = ring_deviation(poses)
    assert (deviation.yaw_deg, deviation.tilt_deg) == (pytest.approx(7), 0)
    assert not deviation.is_ring

    poses = scaffold_poses()
    angle = math.radians(4)
    pitch = np.array([[1, 0, 0], [0, math.cos(angle), -math.sin(angle)], [0, math.sin(angle), math.cos(angle)]])
    poses[6, :3, :3] = poses[6, :3, :3] @ pitch
    deviation = ring_deviation(poses)
    assert deviation.tilt_deg == pytest.approx(4)
    assert deviation.yaw_deg == pytest.approx(0, abs=1e-9)
    assert not deviation.is_ring


def test_ring_deviation_does_not_depend_on_the_world_frame():
    frame = np.eye(4)
    frame[:3, :3] = [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    frame[:3, 3] = [5, -2, 1]
    assert ring_deviation(frame @ scaffold_poses()).is_ring


def test_defects_are_refused():
    with pytest.raises(DefectError, match=r"\(8, 4, 4\)"):
        ring_deviation(scaffold_poses()[:7])
    with pytest.raises(DefectError):
        prior_path("orbit", 0, 3.0)
    for factor in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(DefectError):
            prior_path("orbit", 8, factor)


@pytest.mark.parametrize("name", [DEFAULT_PRIOR, *GUIDE_NAMES])
def test_closed_paths_are_those_whose_last_frame_lies_one_step_before_the_first(name):
    path = prior_path(name, 80, 3.0)
    cameras = np.concatenate([path.c2w[:, :3].reshape(80, -1), path.intrinsics[:, :1, 0]], axis=1)
    steps = np.linalg.norm(np.diff(cameras, axis=0), axis=1)
    home = np.linalg.norm(cameras[0] - cameras[-1])
    assert path.closed == bool(home <= 1.01 * steps.max())
    assert path.closed or home > 10 * steps.max()
