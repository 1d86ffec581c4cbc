"""Where the camera goes: smooth, level, and nowhere but along the keys."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from worldexplorer.errors import DefectError
from worldexplorer.geometry.cameras import normalised_intrinsics, pose, yaw_degrees, yaw_matrix
from worldexplorer.geometry.rotations import is_rotation
from worldexplorer.geometry.transforms import Transforms
from worldexplorer.scaffold.poses import scaffold_poses
from worldexplorer.splat.camera_paths import TURNTABLE_FRAMES, published_outings, scene_outings, turn, walk


def test_the_turntable_turns_once_to_the_left() -> None:
    c2w = turn()
    yaws = np.unwrap(yaw_degrees(c2w[:, :3, :3]), period=360)
    np.testing.assert_allclose(yaws, np.arange(TURNTABLE_FRAMES) * 360 / TURNTABLE_FRAMES, atol=1e-9)
    assert (c2w[:, :3, 3] == 0).all()


def test_the_built_in_walk_goes_out_four_times_and_turns_around_once() -> None:
    c2w = walk(published_outings())
    assert is_rotation(c2w[:, :3, :3]).all()
    out = np.linalg.norm(c2w[:, :3, 3], axis=1)
    turning_points = np.flatnonzero((out[1:-1] > 1.0) & (out[1:-1] >= out[:-2]) & (out[1:-1] > out[2:])) + 1
    assert len(turning_points) == 4
    assert out[turning_points] == pytest.approx(1.0403, abs=0.01)
    directions = c2w[turning_points, :3, 3] / out[turning_points, None]
    np.testing.assert_allclose(directions, -scaffold_poses()[::2, :3, 2], atol=1e-6)
    yaws = np.unwrap(yaw_degrees(c2w[:, :3, :3]), period=360)
    assert (np.diff(yaws) > -1e-6).all()
    assert 350 < yaws[-1] - yaws[0] < 360
    np.testing.assert_allclose(c2w[:, 1, :3], np.tile([0.0, 1.0, 0.0], (len(c2w), 1)), atol=1e-9)  # level all the time


def test_no_frame_is_a_jump() -> None:
    c2w = walk(published_outings())
    closed = np.concatenate([c2w, c2w[:1]])
    steps = np.linalg.norm(np.diff(closed[:, :3, 3], axis=0), axis=1)
    turns = Rotation.from_matrix(closed[:, :3, :3])
    angles = np.degrees((turns[:-1].inv() * turns[1:]).magnitude())
    assert steps.max() < 0.08
    assert angles.max() < 7.0
    assert ((steps > 0) | (angles > 0)).all()


def test_a_walk_passes_between_neighbouring_keys_only() -> None:
    """A way around a corner: every frame lies on one of its two sides."""
    keys = pose(np.tile(np.eye(3), (3, 1, 1)), np.array([[0.0, 0, 0], [1, 0, 0], [1, 0, -1]]))
    c2w = walk([keys])
    x, _, z = c2w[:, :3, 3].T
    assert (np.isclose(z, 0) & (x >= 0) & (x <= 1) | np.isclose(x, 1) & (z <= 0) & (z >= -1)).all()
    assert z.min() == pytest.approx(-1, abs=0.01)
    assert (x < 0.02).sum() >= 2  # and home again


def test_keys_that_stand_still_take_no_time() -> None:
    keys = pose(np.tile(np.eye(3), (4, 1, 1)), np.array([[0.0, 0, 0], [0, 0, 0], [0.5, 0, 0], [0.5, 0, 0]]))
    np.testing.assert_array_equal(walk([keys]), walk([keys[1:3]]))


def test_a_walk_to_nowhere_is_one_frame() -> None:
    np.testing.assert_array_equal(walk([np.eye(4)[None]]), np.eye(4)[None])


def a_scene(folders: dict[str, int]) -> Transforms:
    paths = [f"input/{view:03d}.png" for view in range(8)]
    poses = [*scaffold_poses()]
    for folder, count in folders.items():
        for frame in range(count):
            paths.append(f"{folder}/samples-rgb/{frame:03d}.png")
            poses.append(pose(yaw_matrix(0.0), np.array([len(poses), frame, 0.0])))
    return Transforms(tuple(paths), np.stack(poses), np.tile(normalised_intrinsics(), (len(poses), 1, 1)), 16, 16)


def test_a_scene_is_walked_along_the_frames_it_kept() -> None:
    scene = a_scene({"000_up": 3, "000_in": 2, "001_in": 4, "002_left": 3, "002_up": 2, "caps": 3, "heldout": 2})
    outings = scene_outings(scene)
    assert [len(outing) for outing in outings] == [3, 1, 4, 1, 1, 1, 1, 1]
    np.testing.assert_array_equal(outings[0], scene.c2w[[0, 11, 12]])
    np.testing.assert_array_equal(outings[2], scene.c2w[[2, 17, 18, 19]])
    np.testing.assert_array_equal(outings[1], scene.c2w[[1]])


def test_a_scene_without_views_is_refused() -> None:
    lone = Transforms(("000_in/samples-rgb/000.png",), np.eye(4)[None], normalised_intrinsics()[None], 16, 16)
    with pytest.raises(DefectError, match="no view"):
        scene_outings(lone)
