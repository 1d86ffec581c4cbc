"""Alignment of made-up geometry models whose frame, scale and mistakes are known."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from worldexplorer.engine import PointMaps
from worldexplorer.errors import DefectError, UserError
from worldexplorer.geometry.cameras import opengl_to_opencv
from worldexplorer.scaffold.poses import scaffold_poses
from worldexplorer.trajectory.alignment import AlignmentLimits, align
from worldexplorer.trajectory.paths import published_trajectories, relative

SIZE = 6


def cameras():
    """The eight views and two frames of each of 16 trajectories: [40, 4, 4]."""
    known = published_trajectories()
    ring = scaffold_poses()
    moved = [
        view @ relative(known[name], [40, 130] if name == "left" else [20, 44])
        for view in ring
        for name in ("in", "left")
    ]
    return np.concatenate([ring, *moved])


def model_answer(c2w, noise=0.0, wrong=(), seed=3):
    """Points and poses in a frame turned, moved and scaled; poses with noise, and some views misplaced altogether."""
    generator = np.random.default_rng(seed)
    turn = Rotation.from_euler("zyx", [70, -20, 130], degrees=True).as_matrix()
    scale, shift = 4.2, np.array([3.0, -1.0, 7.0])
    points = generator.normal(0, 2, (len(c2w), SIZE, SIZE, 3))
    poses = opengl_to_opencv(c2w).copy()
    poses[:, :3, 3] = scale * poses[:, :3, 3] @ turn.T + shift
    poses[:, :3, :3] = turn @ poses[:, :3, :3]
    poses[:, :3, 3] += scale * noise * generator.normal(size=(len(c2w), 3))
    poses[:, :3, :3] = (
        Rotation.from_rotvec(0.3 * noise * generator.normal(size=(len(c2w), 3))).as_matrix() @ poses[:, :3, :3]
    )
    for view in wrong:
        poses[view, :3, :3] = Rotation.from_euler("y", 80, degrees=True).as_matrix() @ poses[view, :3, :3]
        poses[view, :3, 3] += 2 * scale
    maps = PointMaps(
        points=(scale * points @ turn.T + shift).astype(np.float32),
        confidence=np.ones(points.shape[:3], dtype=np.float32),
        c2w=poses,
    )
    return maps, points


def test_points_come_back_to_the_scene():
    c2w = cameras()
    maps, truth = model_answer(c2w)
    points, report = align(maps, c2w)
    assert points.dtype == np.float32
    np.testing.assert_allclose(points, truth, atol=1e-5)
    assert report.ok
    assert report.usable.all()
    assert report.similarity.scale == pytest.approx(1 / 4.2)
    assert report.residuals.centre_max < 1e-12
    centres = c2w[:, :3, 3]
    assert report.camera_spread == pytest.approx(np.sqrt(centres.var(axis=0).sum()))


def test_small_errors_pass_and_are_reported():
    c2w = cameras()
    maps, truth = model_answer(c2w, noise=0.01)
    points, report = align(maps, c2w)
    np.testing.assert_allclose(points, truth, atol=0.08)
    assert 0.001 < report.residuals.centre_median < 0.03
    assert report.residuals.rotation_median_deg < 1


def test_single_misplaced_views_are_named_and_do_not_move_the_rest(caplog):
    c2w = cameras()
    maps, truth = model_answer(c2w, wrong=(0, 11, 30))
    with caplog.at_level(logging.WARNING):
        points, report = align(maps, c2w)
    assert np.flatnonzero(~report.usable).tolist() == [0, 11, 30]
    assert "views 0, 11, 30" in caplog.text
    np.testing.assert_allclose(points[report.usable], truth[report.usable], atol=1e-5)


@pytest.mark.parametrize("mistake", ["turned", "moved"])
def test_either_mistake_is_enough_to_be_left_out(mistake):
    c2w = cameras()
    maps, _ = model_answer(c2w)
    if mistake == "turned":
        maps.c2w[9, :3, :3] = Rotation.from_euler("x", 20, degrees=True).as_matrix() @ maps.c2w[9, :3, :3]
    else:
        maps.c2w[9, 0, 3] += 4.2
    _, report = align(maps, c2w)
    assert np.flatnonzero(~report.usable).tolist() == [9]


def test_too_many_misplaced_views_are_an_error():
    c2w = cameras()
    maps, _ = model_answer(c2w, wrong=range(0, 33, 3))
    with pytest.raises(UserError, match="only 29 of 40 views fit"):
        align(maps, c2w)


def test_a_model_that_did_not_understand_is_an_error():
    c2w = cameras()
    maps, _ = model_answer(c2w, noise=0.25)
    with pytest.raises(UserError, match="half of the cameras are more than"):
        align(maps, c2w)


def test_limits_can_be_stated():
    c2w = cameras()
    maps, _ = model_answer(c2w, noise=0.01)
    with pytest.raises(UserError, match=r"half of the cameras are turned by more than .*limit 0.01"):
        align(maps, c2w, AlignmentLimits(median_rotation_deg=0.01))


def test_cameras_in_one_place_cannot_tell_the_scale():
    ring = scaffold_poses()
    maps, _ = model_answer(ring)
    with pytest.raises(UserError, match="scale"):
        align(maps, ring)


def test_shapes_are_checked():
    c2w = cameras()
    maps, _ = model_answer(c2w)
    with pytest.raises(DefectError, match="39 poses"):
        align(maps, c2w[:39])


def test_reports_are_json():
    c2w = cameras()
    maps, _ = model_answer(c2w, noise=0.01, wrong=(5,))
    _, report = align(maps, c2w)
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert document["ok"] is True
    assert document["usable"].count(False) == 1
    assert len(document["residuals"]["centre"]) == 40
    assert document["limits"]["least_usable"] == 0.75
