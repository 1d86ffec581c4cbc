"""Point clouds of rooms whose surfaces are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldexplorer.errors import DefectError
from worldexplorer.geometry.cameras import camera_rays, normalised_intrinsics, pose, yaw_matrix
from worldexplorer.trajectory.point_cloud import _weighted_sample, build_point_cloud, detail_weights, pixel_normals

steady = settings(deadline=None, derandomize=True)

SIZE = 48
HALF = 3.0


def room(views=4, size=SIZE):
    """Point maps of the inside of a cube of side 6, seen from near its middle: points, poses."""
    generator = np.random.default_rng(5)
    c2w = pose(yaw_matrix(37.0 * np.arange(views)), generator.uniform(-0.4, 0.4, (views, 3)))
    rays = camera_rays(normalised_intrinsics(), size, size)
    points = np.empty((views, size, size, 3), dtype=np.float32)
    for view, matrix in enumerate(c2w):
        direction = rays @ matrix[:3, :3].T
        walls = np.where(direction > 0, HALF - matrix[:3, 3], -HALF - matrix[:3, 3])
        points[view] = matrix[:3, 3] + direction * (walls / direction).min(axis=-1, keepdims=True)
    return points, c2w


def noise_images(views=4, size=SIZE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (views, size, size, 3), dtype=np.uint8)


def build(points, c2w, **changes):
    settings = {
        "confidence": np.ones(points.shape[:3], dtype=np.float32),
        "images": noise_images(len(points), points.shape[1]),
        "count": None,
        "seed": 1,
    }
    return build_point_cloud(points, c2w=c2w, **(settings | changes))


def test_all_pixels_become_points_with_their_colours():
    points, c2w = room()
    images = noise_images()
    cloud = build(points, c2w, images=images)
    np.testing.assert_array_equal(cloud.points, points.reshape(-1, 3))
    np.testing.assert_array_equal(cloud.colours, images.reshape(-1, 3))
    assert (cloud.points.dtype, cloud.normals.dtype, cloud.colours.dtype) == (np.float32, np.float32, np.uint8)


def test_normals_stand_on_the_walls_towards_the_camera():
    points, c2w = room()
    cloud = build(points, c2w)
    axis = np.abs(cloud.points).argmax(axis=1)
    inward = -np.sign(cloud.points[np.arange(len(axis)), axis])[:, None] * np.eye(3)[axis]
    # Away from the cube's edges, where two walls meet in one difference.
    second = np.sort(np.abs(cloud.points), axis=1)[:, 1]
    flat = second < HALF - 0.4
    assert flat.mean() > 0.6
    np.testing.assert_allclose(cloud.normals[flat], inward[flat], atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(cloud.normals, axis=1), 1, atol=1e-6)
    to_camera = np.repeat(c2w[:, :3, 3], SIZE * SIZE, axis=0) - cloud.points
    assert ((cloud.normals * to_camera).sum(axis=1) > 0).all()


def facing_planes(near, far, size=8):
    """One camera at the origin: left half of the image a wall at depth `near`, the right half at `far`."""
    rays = camera_rays(normalised_intrinsics(), size, size)
    depth = np.where(np.arange(size) < size // 2, near, far)[None, :, None]
    return (rays / -rays[..., 2:] * depth).astype(np.float32)[None], np.eye(4)[None]


@pytest.mark.parametrize("far", [2.4, 20.0])
def test_normals_do_not_lean_across_an_edge(far):
    """2.4 is within the range ratio of one surface, but a jump beside the steps along the walls; 20 is beyond both."""
    points, c2w = facing_planes(2.0, far, size=64)
    normals = pixel_normals(points, c2w, np.arange(64 * 64))
    np.testing.assert_allclose(normals, np.tile([0, 0, 1], (64 * 64, 1)), atol=1e-4)


def test_a_speck_looks_at_its_camera():
    points, c2w = facing_planes(9.0, 9.0)
    points[0, 3, 4] *= 0.2
    speck = points[0, 3, 4]
    normal = pixel_normals(points, c2w, np.array([3 * 8 + 4]))[0]
    np.testing.assert_allclose(normal, -speck / np.linalg.norm(speck), atol=1e-6)


def test_a_thin_line_looks_at_its_camera():
    """Both image axes run along it; what spans them is rounding."""
    generator = np.random.default_rng(0)
    steps = np.add.outer(np.arange(8), np.arange(8))[..., None] * np.array([0.05, 0.0, 0.0])
    points = (np.array([-0.3, 0.4, -2.0]) + steps + generator.normal(0, 1e-8, (8, 8, 3))).astype(np.float32)[None]
    normals = pixel_normals(points, np.eye(4)[None], np.arange(64))
    flat = points.reshape(-1, 3)
    np.testing.assert_allclose(normals, -flat / np.linalg.norm(flat, axis=1, keepdims=True), atol=1e-6)


def test_normals_look_at_the_camera_in_folded_maps_too():
    points, c2w = facing_planes(2.0, 2.0)
    normals = pixel_normals(np.ascontiguousarray(points[:, :, ::-1]), c2w, np.arange(64))
    np.testing.assert_allclose(normals, np.tile([0, 0, 1], (64, 1)), atol=1e-5)


def test_points_that_are_not_finite_are_left_out_and_do_not_spoil_their_neighbours():
    points, c2w = facing_planes(2.0, 2.0)
    points[0, 3, 3] = np.nan
    points[0, 0, 0, 1] = np.inf
    cloud = build(points, c2w)
    assert len(cloud.points) == 62
    np.testing.assert_allclose(cloud.normals, np.tile([0, 0, 1], (62, 1)), atol=1e-5)


def test_one_pixel_maps_have_normals_towards_the_camera():
    points = np.array([[[[1.0, 2.0, -2.0]]]], dtype=np.float32)
    cloud = build(points, np.eye(4)[None])
    np.testing.assert_allclose(cloud.normals, [[-1 / 3, -2 / 3, 2 / 3]], atol=1e-6)


def test_the_least_sure_are_dropped_over_all_views_together():
    points, c2w = room()
    confidence = np.random.default_rng(2).random(points.shape[:3], dtype=np.float32)
    confidence[0] *= 0.01  # one view the model was hardly sure of
    cloud = build(points, c2w, confidence=confidence, dropped_percentile=25)
    expected = points.reshape(-1, 3)[np.sort(np.argsort(confidence.ravel())[points.size // 3 // 4 :])]
    np.testing.assert_array_equal(cloud.points, expected)


def test_equal_confidence_drops_nothing():
    points, c2w = room()
    assert len(build(points, c2w, dropped_percentile=90).points) == points.size // 3


def test_views_left_out_count_for_nothing():
    points, c2w = room()
    confidence = np.random.default_rng(6).random(points.shape[:3], dtype=np.float32)
    confidence[1], confidence[3] = -5, 5
    kept, images = [0, 2], noise_images()
    some = build(points, c2w, confidence=confidence, images=images, use=np.isin(range(4), kept), count=900)
    only = build(points[kept], c2w[kept], confidence=confidence[kept], images=images[kept], count=900)
    for name in ("points", "normals", "colours"):
        np.testing.assert_array_equal(getattr(some, name), getattr(only, name))


@steady
@given(st.integers(0, 3 * SIZE * SIZE), st.integers(0, 2**32))
def test_samples_are_exact_and_without_repeats(count, seed):
    points, c2w = room(views=2)
    cloud = build(points, c2w, count=count, seed=seed)
    assert len(cloud.points) == min(count, 2 * SIZE * SIZE)
    assert len(np.unique(cloud.points, axis=0)) == len(cloud.points)


def test_the_seed_decides_and_nothing_else():
    points, c2w = room()
    first, again, other = (build(points, c2w, count=500, seed=seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first.points, again.points)
    np.testing.assert_array_equal(first.normals, again.normals)
    np.testing.assert_array_equal(first.colours, again.colours)
    assert not np.array_equal(first.points, other.points)


def test_detail_weights_are_the_root_of_the_brightness_gradient():
    images = noise_images(1, 5)
    brightness = images[0] @ np.array([0.299, 0.587, 0.114]) / 255
    weights = detail_weights(images)[0]
    for row, column in [(2, 3), (1, 1), (3, 2)]:
        down = (brightness[row + 1, column] - brightness[row - 1, column]) / 2
        across = (brightness[row, column + 1] - brightness[row, column - 1]) / 2
        assert weights[row, column] == pytest.approx(0.06 + (down**2 + across**2) ** 0.25, rel=1e-5)
    corner = ((brightness[1, 0] - brightness[0, 0]) ** 2 + (brightness[0, 1] - brightness[0, 0]) ** 2) ** 0.25
    assert weights[0, 0] == pytest.approx(0.06 + corner, rel=1e-5)
    np.testing.assert_allclose(detail_weights(np.full((1, 4, 4, 3), 200, np.uint8)), 0.06, atol=1e-3)


def test_the_first_drawn_follow_their_weights():
    """Chance of index i among one draw: its share of the weights. 6,000 seeded draws, five standard deviations."""
    weights = np.array([0.06, 0.5, 1.06, 0.2], dtype=np.float32)
    draws = np.array([_weighted_sample(weights, 1, seed)[0] for seed in range(6000)])
    share = weights / weights.sum()
    deviation = np.sqrt(share * (1 - share) / 6000)
    assert (np.abs(np.bincount(draws, minlength=4) / 6000 - share) < 5 * deviation).all()


def test_two_draws_follow_the_law_of_drawing_without_replacement():
    weights = np.array([1.0, 2.0, 3.0], dtype=np.float32)
    pairs = [tuple(_weighted_sample(weights, 2, seed)) for seed in range(6000)]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        p, q = weights[a] / 6, weights[b] / 6
        chance = p * weights[b] / (6 - weights[a]) + q * weights[a] / (6 - weights[b])
        assert abs(pairs.count((a, b)) / 6000 - chance) < 5 * np.sqrt(chance * (1 - chance) / 6000)


def test_detail_is_sampled_more_densely():
    points, c2w = room(views=1)
    images = np.full((1, SIZE, SIZE, 3), 128, dtype=np.uint8)
    images[0, :, SIZE // 2 :] = noise_images(1)[0, :, SIZE // 2 :]
    cloud = build(points, c2w, images=images, count=400)
    plain = (cloud.colours == 128).all(axis=1).mean()
    assert 0.03 < plain < 0.25  # half of the image; a tenth of the weight


def test_voxels_keep_their_surest_point():
    points, c2w = room()
    confidence = np.random.default_rng(4).random(points.shape[:3], dtype=np.float32)
    cloud = build(points, c2w, confidence=confidence, dropped_percentile=0, voxel_size=0.5)
    flat, sure = points.reshape(-1, 3).astype(np.float64), confidence.ravel()
    best = {}
    for index, cell in enumerate(map(tuple, np.floor((flat - flat.min(axis=0)) / 0.5).astype(int))):
        if cell not in best or sure[index] > sure[best[cell]]:
            best[cell] = index
    np.testing.assert_array_equal(cloud.points, points.reshape(-1, 3)[sorted(best.values())])


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan"), 1e-7])
def test_voxels_that_make_no_sense_are_refused(size):
    points, c2w = room(views=1)
    with pytest.raises(DefectError, match="voxel"):
        build(points, c2w, voxel_size=size)


def test_images_of_another_size_are_resized():
    points, c2w = facing_planes(2.0, 2.0)
    images = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    images[0, :, 16:] = 255
    cloud = build(points, c2w, images=images)
    bright = cloud.colours.reshape(8, 8, 3)
    np.testing.assert_array_equal(bright[:, :3], 0)
    np.testing.assert_array_equal(bright[:, 5:], 255)
    with pytest.raises(DefectError, match="differ in shape"):
        build(points, c2w, images=np.zeros((1, 32, 48, 3), dtype=np.uint8))


def test_arrays_that_do_not_match_are_refused():
    points, c2w = room()
    ones = np.ones(points.shape[:3], dtype=np.float32)
    for changes in (
        {"confidence": ones[:3]},
        {"images": noise_images(3)},
        {"images": noise_images().astype(np.float32)},
        {"use": np.ones(3, dtype=bool)},
        {"dropped_percentile": 100.0},
        {"confidence": np.where(np.arange(SIZE) == 3, np.nan, ones)},
    ):
        with pytest.raises(DefectError):
            build(points, c2w, **changes)
    with pytest.raises(DefectError):
        build(points, c2w[:3])


def test_nothing_usable_is_an_error():
    points, c2w = room()
    with pytest.raises(DefectError, match="no pixel"):
        build(points, c2w, use=np.zeros(4, dtype=bool))
    with pytest.raises(DefectError, match="no pixel"):
        build(np.full_like(points, np.nan), c2w)
