"""Own trajectories: read back what was written, interpolate between frames, refuse everything else."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from worldexplorer.errors import UserError
from worldexplorer.geometry.rotations import is_rotation
from worldexplorer.scaffold.poses import scaffold_poses
from worldexplorer.trajectory.own_paths import load_trajectories, load_trajectory
from worldexplorer.trajectory.paths import published_trajectories, relative, target_parameters, trajectory_poses

steady = settings(deadline=None, derandomize=True)

# A world frame like that of the published files: z down, a little tilted, away from the origin.
WORLD = np.eye(4)
WORLD[:3, :3] = Rotation.from_euler("xyz", [93.0, 4.0, -82.0], degrees=True).as_matrix()
WORLD[:3, 3] = [0.5, -3.0, 1.25]


def document(poses, rows=4):
    """A trajectory's file with these poses after the eight views."""
    every = WORLD @ np.concatenate([scaffold_poses(), poses])
    frames = [
        {"file_path": f"./{number:03d}.png", "transform_matrix": pose[:rows].tolist()}
        for number, pose in enumerate(every)
    ]
    return {"fl_x": 0.86, "w": 576, "orientation_override": "none", "frames": frames}


def write(folder, content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "transforms.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def two_frames():
    return relative(published_trajectories()["in"], [0, 44])


@pytest.mark.parametrize("rows", [3, 4])
def test_published_trajectories_come_back_from_files(tmp_path, rows):
    known = published_trajectories()
    for name, trajectory in known.items():
        poses = relative(trajectory, target_parameters(trajectory, None))
        write(tmp_path / name, document(poses, rows))
    (tmp_path / "README.md").write_text("notes")
    (tmp_path / ".git").mkdir()
    own = load_trajectories(tmp_path)
    assert tuple(own) == tuple(known)
    for name, trajectory in own.items():
        assert (trajectory.name, trajectory.count) == (name, known[name].count)
        k = target_parameters(trajectory, None)
        np.testing.assert_allclose(relative(trajectory, k), relative(known[name], k), atol=1e-12)


def test_own_names_follow_the_built_in_ones(tmp_path):
    for name in ("zigzag", "up", "a_b-c", "in"):
        write(tmp_path / name, document(two_frames()))
    assert list(load_trajectories(tmp_path)) == ["in", "up", "a_b-c", "zigzag"]


def test_frames_are_ordered_by_number_not_by_place(tmp_path):
    content = document(relative(published_trajectories()["in"], np.arange(45)))
    np.random.default_rng(1).shuffle(content["frames"])
    trajectory = load_trajectory(write(tmp_path / "in", content))
    k = np.arange(45.0)
    np.testing.assert_allclose(relative(trajectory, k), relative(published_trajectories()["in"], k), atol=1e-12)


rotations = st.tuples(*[st.floats(-3, 3)] * 3)
positions = st.tuples(*[st.floats(-2, 2)] * 3)


@steady
@given(st.lists(st.tuples(rotations, positions), min_size=2, max_size=5), st.data())
def test_between_frames_it_turns_and_moves_evenly(tmp_path_factory, samples, data):
    """Against scipy's spherical interpolation."""
    turns = Rotation.from_rotvec([rotation for rotation, _ in samples])
    gaps = (turns[:-1].inv() * turns[1:]).magnitude()
    poses = np.tile(np.eye(4), (len(samples), 1, 1))
    poses[:, :3, :3] = turns.as_matrix()
    poses[:, :3, 3] = [position for _, position in samples]
    trajectory = load_trajectory(write(tmp_path_factory.mktemp("own") / "mine", document(poses)))
    k = np.array(data.draw(st.lists(st.floats(0, len(samples) - 1), min_size=1, max_size=6)))
    result = relative(trajectory, k)
    at = np.arange(len(samples))
    for axis in range(3):
        np.testing.assert_allclose(result[:, axis, 3], np.interp(k, at, poses[:, axis, 3]), atol=1e-12)
    if gaps.max() < math.pi - 1e-3:  # a half turn has two shortest ways
        np.testing.assert_allclose(result[:, :3, :3], Slerp(at, turns)(k).as_matrix(), atol=1e-9)


def test_own_trajectories_can_be_shortened_and_re_based(tmp_path):
    trajectory = load_trajectory(write(tmp_path / "in", document(two_frames())))
    k = target_parameters(trajectory, 4)
    np.testing.assert_allclose(k, [0.25, 0.5, 0.75, 1.0])
    base = scaffold_poses()[2]
    poses = trajectory_poses(base, trajectory, k)
    np.testing.assert_allclose(poses[:, 0, 3], -1.0403448 * k, atol=1e-12)


def test_four_printed_digits_are_enough(tmp_path):
    turning = relative(published_trajectories()["left"], [20, 100])
    content = document(turning)
    for frame in content["frames"]:
        frame["transform_matrix"] = np.round(frame["transform_matrix"], 4).tolist()
    poses = relative(load_trajectory(write(tmp_path / "in", content)), [0, 1])
    assert is_rotation(poses[:, :3, :3], 1e-14).all()
    np.testing.assert_allclose(poses, turning, atol=3e-4)


def drop(number):
    return lambda content: content["frames"].pop(number)


def scaled(content):
    matrix = np.array(content["frames"][9]["transform_matrix"])
    matrix[:3, :3] *= 1.1
    content["frames"][9]["transform_matrix"] = matrix.tolist()


def mirrored(content):
    matrix = np.array(content["frames"][4]["transform_matrix"])
    matrix[:3, 0] *= -1
    content["frames"][4]["transform_matrix"] = matrix.tolist()


def turned_right(content):
    content["frames"][1], content["frames"][7] = (
        {**content["frames"][7], "file_path": "001.png"},
        {**content["frames"][1], "file_path": "007.png"},
    )


def opencv_axes(content):
    for frame in content["frames"]:
        frame["transform_matrix"] = (np.array(frame["transform_matrix"]) @ np.diag([1.0, -1, -1, 1])).tolist()


def moved_view(content):
    content["frames"][5]["transform_matrix"][0][3] += 0.01


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (drop(9), "there are 9 frames"),
        (drop(3), "there are 9 frames"),
        (lambda c: c["frames"][3].update(file_path="000.png"), r"frames\[3\].file_path.*number of its own"),
        (lambda c: c["frames"][8].update(file_path="011.png"), "frame 008 is missing"),
        (lambda c: c["frames"][9].update(file_path="last.png"), r"'last.png' has no frame number .*frames\[9\]"),
        (scaled, r"not a camera-to-world pose.*frames\[9\].transform_matrix"),
        (mirrored, r"not a camera-to-world pose.*frames\[4\].transform_matrix"),
        (turned_right, "up to 90 degrees past"),
        (opencv_axes, "degrees past 45 times"),
        (moved_view, "up to 0.01 units apart"),
        (lambda c: c["frames"][2].pop("transform_matrix"), r"frames\[2\].transform_matrix.*write one folder"),
        (lambda c: c["frames"][2]["transform_matrix"][1].pop(), r"frames\[2\].transform_matrix\[1\]"),
        (
            lambda c: c["frames"][2]["transform_matrix"][1].__setitem__(2, "0"),
            r"frames\[2\].transform_matrix\[1\]\[2\]",
        ),
        (lambda c: c["frames"][2]["transform_matrix"][1].__setitem__(2, math.nan), r"transform_matrix\[1\]\[2\]"),
        (lambda c: c["frames"][2]["transform_matrix"][1].__setitem__(3, math.inf), r"transform_matrix\[1\]\[3\]"),
        (lambda c: c["frames"][2]["transform_matrix"][3].__setitem__(0, 1.0), r"frames\[2\].transform_matrix"),
        (lambda c: c.pop("frames"), "frames"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_frame(tmp_path, spoil, text):
    content = document(two_frames())
    spoil(content)
    folder = write(tmp_path / "in", content)
    with pytest.raises(UserError, match=text) as caught:
        load_trajectories(tmp_path)
    assert str(folder / "transforms.json") in caught.value.where
    assert caught.value.remedy


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(UserError, match=r"does not exist.*nowhere"):
        load_trajectories(tmp_path / "nowhere")
    with pytest.raises(UserError, match="has no folder in it"):
        load_trajectories(tmp_path)
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match=r"cannot be read.*transforms\.json"):
        load_trajectories(tmp_path)
    write(tmp_path / "in", "{")
    with pytest.raises(UserError, match=r"Invalid JSON.*transforms\.json"):
        load_trajectories(tmp_path)


@pytest.mark.parametrize("name", ["a b", "_x", "x" * 65, "ü"])
def test_names_that_cannot_be_folders_everywhere_are_refused(tmp_path, name):
    write(tmp_path / name, document(two_frames()))
    with pytest.raises(UserError, match="rename the folder"):
        load_trajectories(tmp_path)
