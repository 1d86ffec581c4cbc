from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from worldexplorer.engine import Poses
from worldexplorer.errors import DefectError
from worldexplorer.geometry.cameras import pose, yaw_degrees
from worldexplorer.geometry.rotations import is_rotation
from worldexplorer.trajectory.heldout import MOST_PITCH_DEG, heldout_poses

LINE = np.array([[0.0, 0.0, -1.0], [0.0, 0.0, -2.0]])
CORNER = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, -3.0]])


def path(centres: np.ndarray) -> Poses:
    return pose(np.tile(np.eye(3), (len(centres), 1, 1)), centres)


ORIGIN = path(np.zeros((1, 3)))


def distance_to(centres: np.ndarray, point: np.ndarray) -> float:
    """From a point to a polyline that starts at the origin, by dense sampling."""
    corners = np.vstack([np.zeros(3), centres])
    dense = np.vstack([np.linspace(a, b, 2001) for a, b in pairwise(corners)])
    return float(np.linalg.norm(dense - point, axis=1).min())


def test_they_stand_on_the_paths_and_look_anywhere_but_up_and_down() -> None:
    poses = heldout_poses(np.concatenate([ORIGIN, ORIGIN]), [path(LINE), path(CORNER)], 400, seed=1)
    assert poses.shape == (400, 4, 4)
    assert is_rotation(poses[:, :3, :3]).all()
    assert (poses[:, 3] == (0, 0, 0, 1)).all()
    for centre in poses[:, :3, 3]:
        assert min(distance_to(LINE, centre), distance_to(CORNER, centre)) < 2e-3
    yaws = yaw_degrees(poses[:, :3, :3])
    assert np.histogram(yaws % 360, bins=4, range=(0, 360))[0].min() > 60
    up = poses[:, 1, 1]
    assert up.min() >= np.cos(np.radians(MOST_PITCH_DEG)) - 1e-9
    looking_up = -poses[:, 1, 2]
    assert (looking_up > 0.1).any()
    assert (looking_up < -0.1).any()


def test_places_spread_by_length_and_not_by_frame() -> None:
    """Ten frames crowd the first hundredth of the way."""
    crowded = np.zeros((11, 3))
    crowded[:, 2] = [*-np.linspace(0.001, 0.01, 10), -1.0]
    poses = heldout_poses(ORIGIN, [path(crowded)], 400, seed=2)
    way = -poses[:, 2, 3]
    assert np.histogram(way, bins=4, range=(0, 1))[0].min() > 60


def test_every_path_has_its_share_and_empty_ones_none() -> None:
    origins = np.concatenate([ORIGIN] * 3)
    poses = heldout_poses(origins, [path(LINE), path(np.zeros((0, 3))), path(CORNER)], 200, seed=3)
    on_line = sum(distance_to(LINE, centre) < 1e-3 for centre in poses[:, :3, 3])
    assert 60 < on_line < 140


def test_the_same_seed_gives_the_same_poses() -> None:
    one, two, other = (heldout_poses(ORIGIN, [path(LINE)], 5, seed) for seed in (7, 7, 8))
    assert (one == two).all()
    assert (one != other).any()


def test_a_path_that_stays_where_it_is() -> None:
    poses = heldout_poses(ORIGIN, [path(np.zeros((3, 3)))], 4, seed=1)
    assert (poses[:, :3, 3] == 0).all()


def test_no_path_at_all_is_refused() -> None:
    with pytest.raises(DefectError, match="without trajectories"):
        heldout_poses(ORIGIN, [path(np.zeros((0, 3)))], 4, seed=1)
