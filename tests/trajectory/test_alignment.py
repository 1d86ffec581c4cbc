"""Alignment of made-up geometry models whose frame, scale and mistakes are known.

The published pipeline's alignment is written out below as a comparison: the first camera alone gives the rotation, the
diagonals of the centres' bounding boxes the scale, and the points stay where the model put them.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from worldexplorer.engine import PointMaps
from worldexplorer.errors import DefectError, UserError
from worldexplorer.geometry.cameras import camera_rays, normalised_intrinsics, opengl_to_opencv
from worldexplorer.geometry.rotations import rotation_angle_deg
from worldexplorer.geometry.similarity import Similarity
from worldexplorer.scaffold.poses import scaffold_poses
from worldexplorer.trajectory.alignment import AlignmentLimits, align, put_before
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


HALF = 4.0
"""Of the cube that the cameras below stand in."""


def depth_of(c2w, size=SIZE):
    """What a camera in the cube sees of its walls."""
    rays = camera_rays(normalised_intrinsics(), size, size)
    turned = rays @ c2w[:3, :3].T
    reach = (np.where(turned > 0, HALF, -HALF) - c2w[:3, 3]) / turned
    return reach.min(axis=-1) * -rays[..., 2]


def off_the_walls(points):
    """Distances of points from the cube's surface; the mean."""
    return float(np.abs(np.abs(points).max(axis=-1) - HALF).mean())


def turns(generator, count, degrees):
    return Rotation.from_rotvec(np.radians(degrees) / np.sqrt(3) * generator.normal(size=(count, 3))).as_matrix()


class CubeModel:
    """A model's answer about the cube: its depth is right, its cameras are not quite.

    Args:
        seed: of everything random.
        degrees: noise of its orientations.
        share: noise of its centres, in scene units.
        wrong: views that it misjudges altogether.
        zoom: its focal length over the true one.
        moved: views besides the eight that share one place.
    """

    def __init__(self, seed, *, degrees=1.0, share=0.01, wrong=(), zoom=1.0, moved=32):
        generator = np.random.default_rng(seed)
        self.c2w = cameras()[: 8 + moved]
        count = len(self.c2w)
        seen = opengl_to_opencv(self.c2w)
        seen[:, :3, :3] = turns(generator, count, degrees) @ seen[:, :3, :3]
        seen[:, :3, 3] += share * generator.normal(size=(count, 3))
        for view in wrong:
            seen[view, :3, :3] = Rotation.random(rng=generator).as_matrix()
            seen[view, :3, 3] = generator.uniform(-2, 2, 3)
        self.own = Similarity(
            np.exp(generator.uniform(-2, 2)), Rotation.random(rng=generator).as_matrix(), generator.uniform(-3, 3, 3)
        )
        poses = self.own.apply_poses(seen)
        depth = self.own.scale * np.stack([depth_of(one) for one in self.c2w])
        lens = normalised_intrinsics(zoom * normalised_intrinsics()[0, 0])
        rays = camera_rays(lens, SIZE, SIZE) * (1, -1, -1)
        inside = rays / rays[..., 2:] * depth[..., None]
        points = np.einsum("nij,nhwj->nhwi", poses[:, :3, :3], inside) + poses[:, None, None, :3, 3]
        self.maps = PointMaps(
            points.astype(np.float32),
            np.ones(depth.shape, dtype=np.float32),
            poses,
            depth.astype(np.float32),
            np.tile(normalised_intrinsics(), (count, 1, 1)),
        )

    def errors(self, similarity):
        """Degrees of rotation, and relative error of the scale."""
        expected = self.own.inverse()
        angle = float(rotation_angle_deg(similarity.rotation, expected.rotation))
        return angle, abs(similarity.scale / expected.scale - 1)


def published_alignment(model):
    """The similarity of the published pipeline."""
    known, found = opengl_to_opencv(model.c2w), model.maps.c2w
    rigid = known[0] @ np.linalg.inv(found[0])
    scale = np.linalg.norm(np.ptp(known[:, :3, 3], axis=0)) / np.linalg.norm(np.ptp(found[:, :3, 3], axis=0))
    pivot = known[:, :3, 3].mean(axis=0)
    return Similarity(scale, rigid[:3, :3], scale * (rigid[:3, 3] - pivot) + pivot)


SCENES = {
    "noise": {"degrees": 1.5},
    "a fifth of the views wrong": {"wrong": range(3, 40, 5)},
    "half of the centres coincide": {"moved": 8, "share": 0.003, "degrees": 1.5},
    "wrong first camera": {"wrong": (0,)},
}


@pytest.mark.parametrize("options", SCENES.values(), ids=SCENES.keys())
def test_noise_wrong_cameras_and_one_place_do_not_move_the_cloud_where_they_moved_the_published_one(options):
    for seed in range(5):
        model = CubeModel(seed, **options)
        points, report = align(model.maps, model.c2w)
        angle, scale = model.errors(report.similarity)
        assert angle < 0.5
        assert scale < 0.01
        assert off_the_walls(points[report.usable]) < 0.03
        published = published_alignment(model)
        published_angle, published_scale = model.errors(published)
        assert published_angle >= 0.5 or published_scale >= 0.01
        assert off_the_walls(published.apply(model.maps.points)) > 1.5 * off_the_walls(points[report.usable])


def test_points_before_the_known_cameras_stay_on_their_pixels_rays():
    model = CubeModel(2, degrees=2.0, zoom=1.05)
    points, report = align(model.maps, model.c2w)
    assert report.placement == "known"
    for view in (0, 7, 21):
        inside = (points[view] - model.c2w[view, :3, 3]) @ model.c2w[view, :3, :3]
        rays = camera_rays(normalised_intrinsics(), SIZE, SIZE)
        np.testing.assert_allclose(inside / np.linalg.norm(inside, axis=-1, keepdims=True), rays, atol=1e-5)
    # Where the model put them they are off by what it misjudged.
    elsewhere, report = align(model.maps, model.c2w, placement="model")
    assert report.placement == "model"
    assert off_the_walls(elsewhere) > 3 * off_the_walls(points)


def test_points_before_a_camera_are_as_deep_as_said():
    c2w = cameras()[20]
    points = put_before(depth_of(c2w, 8), normalised_intrinsics(), c2w)
    assert points.shape == (8, 8, 3)
    np.testing.assert_allclose(np.abs(points).max(axis=-1), HALF, atol=1e-12)


def test_every_pass_has_a_frame_and_scale_of_its_own():
    even, odd = CubeModel(1, degrees=0, share=0), CubeModel(2, degrees=0, share=0)
    second = np.arange(40) % 2 == 1
    mixed = {
        name: np.where(
            second.reshape(-1, *[1] * (getattr(even.maps, name).ndim - 1)),
            *(getattr(model.maps, name) for model in (odd, even)),
        )
        for name in ("points", "depth", "c2w")
    }
    maps = replace(even.maps, **mixed, passes=second.astype(np.intp), notes=("in two passes",))
    for placement in ("known", "model"):
        points, report = align(maps, even.c2w, placement=placement)
        assert off_the_walls(points) < 1e-4
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert [one["views"][:2] for one in document["passes"]] == [[0, 2], [1, 3]]
    assert document["passes"][1]["scale"] == pytest.approx(1 / odd.own.scale)
    assert document["scale"] == document["passes"][0]["scale"] == pytest.approx(1 / even.own.scale)
    assert document["notes"] == ["in two passes"]
    assert document["placement"] == "model"
    # As one they fit nothing.
    with pytest.raises(UserError):
        align(replace(maps, passes=None), even.c2w)


def test_all_cameras_that_a_pass_saw_have_a_say_in_its_scale():
    """Twelve of 21 frames at a time: three of its own tell a pass's scale less well than these and the eight views."""
    c2w = cameras()[:21]
    passes = np.concatenate([np.zeros(8, np.intp), np.arange(13) % 4])
    errors = {False: [], True: []}
    for seed in range(5):
        looks = []
        for number in range(4):
            views = np.concatenate([np.arange(8), 8 + np.flatnonzero(passes[8:] == number)])
            looks.append((views, model_answer(c2w[views], noise=0.01, seed=10 * seed + number)[0].c2w))
        maps, _ = model_answer(c2w)
        for views, found in reversed(looks):
            maps.c2w[views] = found
        maps = replace(maps, passes=passes)
        for together in errors:
            _, report = align(replace(maps, looks=tuple(looks)) if together else maps, c2w)
            errors[together] += [abs(4.2 * one.scale - 1) for one in report.similarities[1:]]
            assert report.residuals.centre.shape == (21,)
    assert np.mean(errors[True]) < 0.7 * np.mean(errors[False])


def test_a_pass_answers_for_what_it_saw():
    c2w = cameras()
    maps, _ = model_answer(c2w)
    everything = np.arange(40), maps.c2w
    align(replace(maps, passes=np.zeros(40, np.intp), looks=(everything,)), c2w)
    for looks in ((everything, everything), ((everything[0][1:], maps.c2w[1:]),)):
        with pytest.raises(DefectError, match="that it did not look at"):
            align(replace(maps, passes=np.zeros(40, np.intp), looks=looks), c2w)


def test_residuals_of_passes_are_in_the_order_of_the_views():
    model = CubeModel(3, wrong=(4, 9))
    passes = np.arange(40) % 3
    _, whole = align(model.maps, model.c2w)
    _, parts = align(replace(model.maps, passes=passes), model.c2w)
    assert np.flatnonzero(~whole.usable).tolist() == np.flatnonzero(~parts.usable).tolist() == [4, 9]
    np.testing.assert_allclose(parts.residuals.rotation_deg, whole.residuals.rotation_deg, atol=1.0)
    assert parts.residuals.scale_error > whole.residuals.scale_error


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"depth": None}, "gave no depth"),
        ({"intrinsics": None}, "gave no depth"),
        ({"depth": np.ones((40, 2, 2), np.float32)}, "depth of shape"),
        ({"passes": np.zeros(39, np.intp)}, "40 views came in passes"),
        ({"passes": np.full(40, 1)}, "40 views came in passes"),
    ],
)
def test_maps_that_do_not_fit_together_are_refused(changes, text):
    model = CubeModel(0)
    with pytest.raises(DefectError, match=text):
        align(replace(model.maps, **changes), model.c2w, placement="known")
