"""The renderer against closed forms: a box room, a post before a wall, and panoramas seen from their own centre."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from worldexplorer.errors import Cancelled
from worldexplorer.geometry.cameras import (
    camera_rays,
    focal_of_horizontal_fov,
    normalised_intrinsics,
    pitch_matrix,
    pose,
    yaw_matrix,
)
from worldexplorer.preview.equirectangular import directions
from worldexplorer.preview.renderer import NEAR, WorldRenderer
from worldexplorer.preview.world import World

LOW, HIGH = np.array([-3.0, -1.5, -5.0]), np.array([4.0, 2.0, 3.5])
SIZE = 64
MAGENTA = (255, 0, 255)


def box_distance(rays: np.ndarray, start: np.ndarray | float = 0.0) -> np.ndarray:
    """How far from `start` rays [..., 3] meet the box, in lengths of the ray."""
    with np.errstate(divide="ignore"):
        return np.where(rays > 0, (HIGH - start) / rays, (LOW - start) / rays).min(axis=-1)


def hues(rays: np.ndarray) -> np.ndarray:
    """Smooth colours (float, 0 to 255) by direction."""
    x, y, z = np.moveaxis(rays / np.linalg.norm(rays, axis=-1, keepdims=True), -1, 0)
    return 127.5 + 120 * np.stack([np.sin(5 * x + 2 * z), np.sin(6 * y - z), np.cos(4 * z + 3 * x * y)], axis=-1)


def world_of(colours: np.ndarray, ranges: np.ndarray, back: np.ndarray | None = None, back_m: float = 30.0) -> World:
    """A world whose backdrop, unless there is one, is a dome."""
    return World(
        panorama=np.rint(colours).astype(np.uint8),
        range_m=ranges.astype(np.float32),
        backdrop=np.full(colours.shape, MAGENTA, np.uint8) if back is None else np.rint(back).astype(np.uint8),
        backdrop_range_m=np.maximum(ranges, back_m).astype(np.float32),
    )


def box_world(height: int = 360) -> World:
    rays = directions(height).astype(np.float64)
    return world_of(hues(rays), box_distance(rays))


@pytest.fixture(scope="module")
def box() -> WorldRenderer:
    return WorldRenderer(box_world())


def lenses(count: int, focal: float | None = None) -> np.ndarray:
    return np.broadcast_to(normalised_intrinsics() if focal is None else normalised_intrinsics(focal), (count, 3, 3))


def random_poses(seed: int, count: int) -> np.ndarray:
    """Anywhere in the box but within 0.3 m of its sides, looking anywhere."""
    rng = np.random.default_rng(seed)
    turns = yaw_matrix(rng.uniform(0, 360, count)) @ pitch_matrix(rng.uniform(-90, 90, count))
    return pose(turns, rng.uniform(LOW + 0.3, HIGH - 0.3, (count, 3)))


def sample_rays(c2w: np.ndarray, size: int, samples: int) -> np.ndarray:
    """World directions of length 1 along the viewing axis, at the centres of samples."""
    rays = camera_rays(normalised_intrinsics(), size * samples, size * samples)
    return (rays / -rays[..., 2:]) @ c2w[:3, :3].T


def block_mean(samples: np.ndarray) -> np.ndarray:
    size = samples.shape[0] // 2
    return samples.reshape(size, 2, size, 2, 3).mean(axis=(1, 3))


def lookup(panorama: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Bilinear colours of a panorama by direction, by another library."""
    height, width = panorama.shape[:2]
    column = (np.arctan2(rays[..., 0], -rays[..., 2]) / (2 * np.pi) + 0.5) * width - 0.5
    row = (0.5 - np.arctan2(rays[..., 1], np.hypot(rays[..., 0], rays[..., 2])) / np.pi) * height - 0.5
    half = np.roll(panorama, width // 2, axis=1)
    tall = np.concatenate([half[:1], panorama, half[-1:]])  # across the poles
    wide = np.concatenate([tall[:, -1:], tall, tall[:, :1]], axis=1).astype(np.float64)
    places = [row + 1, column + 1]
    return np.stack([map_coordinates(wide[..., channel], places, order=1) for channel in range(3)], axis=-1)


def test_views_of_a_box_are_those_of_a_ray_tracer(box: WorldRenderer) -> None:
    poses = random_poses(1, 12)
    pictures = box.render(poses, lenses(12), SIZE)
    for picture, c2w in zip(pictures, poses, strict=True):
        rays = sample_rays(c2w, SIZE, 2)
        hit = c2w[:3, 3] + box_distance(rays, c2w[:3, 3])[..., None] * rays
        off = np.abs(picture - block_mean(hues(hit)))
        assert off.mean() < 0.6
        assert np.quantile(off, 0.999) < 4


def test_depths_of_a_box_are_those_of_a_ray_tracer(box: WorldRenderer) -> None:
    poses = random_poses(2, 12)
    depths = box.depth(poses, lenses(12), SIZE)
    assert depths.dtype == np.float32
    for depth, c2w in zip(depths, poses, strict=True):
        truth = box_distance(sample_rays(c2w, SIZE, 1), c2w[:3, 3])
        off = np.abs(depth - truth)
        assert np.median(off / truth) < 1e-4
        assert np.quantile(off, 0.99) < 0.03  # half a degree of the map is cut off where two sides of the box meet
        assert off.max() < 0.1


def test_close_to_a_wall_depths_still_hold(box: WorldRenderer) -> None:
    """Triangles that reach behind the camera are cut at the near plane."""
    stands = np.array([[3.85, 0.5, 1.0], [0.0, -1.4, 0.0], [-2.9, -1.4, -4.9], [3.9, 1.9, 3.4]])
    for turn in (np.eye(3), yaw_matrix(100.0), pitch_matrix(-80.0)):
        poses = pose(turn, stands)
        for depth, c2w in zip(box.depth(poses, lenses(4), SIZE), poses, strict=True):
            truth = box_distance(sample_rays(c2w, SIZE, 1), c2w[:3, 3])
            seen = truth > 1.2 * NEAR
            assert np.quantile(np.abs(depth - truth)[seen], 0.97) < 0.06


def test_perspective_follows_the_intrinsics(box: WorldRenderer) -> None:
    """A lens off centre with its own two focal lengths looks along its own rays."""
    K = np.array([[1.3, 0.0, 0.4], [0.0, 0.7, 0.55], [0.0, 0.0, 1.0]])
    depth = box.depth(pose(np.eye(3), np.zeros(3))[None], K[None], SIZE)[0]
    u, v = np.meshgrid((np.arange(SIZE) + 0.5) / SIZE, (np.arange(SIZE) + 0.5) / SIZE)
    rays = np.stack([(u - 0.4) / 1.3, -(v - 0.55) / 0.7, -np.ones_like(u)], axis=-1)
    assert np.quantile(np.abs(depth / box_distance(rays) - 1), 0.99) < 0.01


@pytest.mark.parametrize("pitch", [0.0, 40.0, 90.0, -90.0])
@pytest.mark.parametrize("yaw", [0.0, 133.0, 180.0])
def test_from_the_origin_the_panorama_comes_back(yaw: float, pitch: float) -> None:
    """Whatever the ranges are, cuts and all: over the seam, over the poles, without a pixel of the backdrop."""
    rng = np.random.default_rng(5)
    panorama = rng.integers(0, 200, (60, 120, 3)).repeat(3, axis=0).repeat(3, axis=1)
    ranges = rng.choice([2.0, 4.0, 9.0], (12, 24)).repeat(15, axis=0).repeat(15, axis=1)
    c2w = pose(yaw_matrix(yaw) @ pitch_matrix(pitch), np.zeros(3))
    picture = WorldRenderer(world_of(panorama, ranges)).render(c2w[None], lenses(1), SIZE)[0]
    truth = block_mean(lookup(panorama.astype(np.uint8), sample_rays(c2w, SIZE, 2)))
    assert np.abs(picture - truth).max() <= 0.51


def post_world(height: int = 720) -> World:
    """A grey wall of 8 m all around with a white square of 20 by 20 degrees, 2 m away, straight ahead."""
    rays = directions(height).astype(np.float64)
    ahead = -rays[..., 2]
    post = (ahead > 0) & (np.abs(rays[..., 0]) < ahead * np.tan(np.radians(10)))
    post &= np.abs(rays[..., 1]) < ahead * np.tan(np.radians(10))
    ranges = np.where(post, 2.0 / np.maximum(ahead, 1e-6), 8.0)
    colours = np.where(post[..., None], (255, 255, 255), (60, 60, 60)).astype(np.float64)
    return world_of(colours, ranges)


def test_near_things_move_against_far_ones_by_the_right_part_of_a_pixel() -> None:
    """From x = 0.5 m the square's edges appear where similar triangles put them, and magenta where it hid the wall."""
    moved = pose(np.eye(3), [0.5, 0.0, 0.0])
    size = 256
    picture = WorldRenderer(post_world()).render(moved[None], lenses(1), size)[0].astype(np.float64)
    row = picture[size // 2 - 2 : size // 2 + 2].mean(axis=0)
    half = 2.0 * np.tan(np.radians(10))
    f = normalised_intrinsics()[0, 0] * size

    def column(x: float, distance: float) -> float:
        return size / 2 + f * (x - 0.5) / distance

    white = row[:, 1] > 200
    left = np.flatnonzero(white)[0] - (row[np.flatnonzero(white)[0] - 1, 1] - 0) / 255
    right = np.flatnonzero(white)[-1] + 1
    # One pixel of the map is a quarter of a degree; its cut may lie half of one beside the true edge.
    tolerance = np.radians(0.125) * f + 0.5
    assert abs(left - column(-half, 2.0)) < tolerance
    assert abs(right - column(half, 2.0)) < tolerance
    # The wall behind the square, a sphere of 8 m, goes on where the origin's rays past the square's edges meet it.
    magenta = (row[:, 0] > 200) & (row[:, 1] < 30)
    edge_x, edge_z = 8 * np.sin(np.radians(10)), 8 * np.cos(np.radians(10))
    gap_end = column(edge_x, edge_z)
    assert not white[magenta].any()
    assert abs(np.flatnonzero(magenta)[-1] + 1 - gap_end) < tolerance
    assert abs(np.flatnonzero(magenta)[0] - right) < 2


def test_the_backdrop_does_not_show_where_it_is_the_same_surface(box: WorldRenderer) -> None:
    world = box_world(180)
    same = World(world.panorama, world.range_m, np.full_like(world.backdrop, 255), world.range_m)
    poses = random_poses(3, 6)
    pictures = WorldRenderer(same).render(poses, lenses(6), SIZE)
    assert (pictures == 255).all(axis=-1).sum() == 0
    plain = box.render(poses, lenses(6), SIZE)
    assert np.abs(pictures.astype(int) - plain).mean() < 1.5


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_every_pixel_shows_a_surface(seed: int) -> None:
    """Worlds full of jumps, from random places nearer than anything: the backdrop closes every gap."""
    rng = np.random.default_rng(seed)
    ranges = rng.uniform(2.0, 12.0, (9, 18)).repeat(10, axis=0).repeat(10, axis=1)
    renderer = WorldRenderer(world_of(np.full((90, 180, 3), 100.0), ranges))
    turns = yaw_matrix(rng.uniform(0, 360, 4)) @ pitch_matrix(rng.uniform(-90, 90, 4))
    poses = pose(turns, rng.uniform(-0.9, 0.9, (4, 3)))
    depth = renderer.depth(poses, lenses(4, focal_of_horizontal_fov(80.0)), 96)
    assert depth.min() > 2 * NEAR
    assert depth.max() < 2 * 30.0
    pictures = renderer.render(poses, lenses(4), SIZE)
    between = (pictures[..., 1] >= 0) & (pictures[..., 1] <= 100) & (pictures[..., 0] >= 100)
    assert between.all()


def test_outside_the_world_there_is_no_depth_but_a_picture(box: WorldRenderer) -> None:
    away = pose(np.eye(3), [0.0, 0.0, -40.0])  # in front of the far wall, looking on
    assert (box.depth(away[None], lenses(1), SIZE) == np.float32(NEAR)).all()
    truth = block_mean(lookup(box_world().panorama, sample_rays(away, SIZE, 2)))
    assert np.abs(box.render(away[None], lenses(1), SIZE)[0] - truth).max() <= 0.51


def test_the_number_of_threads_changes_nothing() -> None:
    world, poses = box_world(90), random_poses(4, 9)
    one, three = WorldRenderer(world, threads=1), WorldRenderer(world, threads=3)
    np.testing.assert_array_equal(one.render(poses, lenses(9), SIZE), three.render(poses, lenses(9), SIZE))
    np.testing.assert_array_equal(one.depth(poses, lenses(9), SIZE), three.depth(poses, lenses(9), SIZE))


def test_progress_is_told_and_can_stop_the_work(box: WorldRenderer) -> None:
    told: list[tuple[int, int]] = []
    box.render(random_poses(5, 5), lenses(5), 16, lambda done, total, what: told.append((done, total)))
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]

    def stop(done: int, total: int, what: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        box.render(random_poses(5, 5), lenses(5), 16, stop)


def test_no_frames_are_no_pictures(box: WorldRenderer) -> None:
    assert box.render(random_poses(6, 0), lenses(0), SIZE).shape == (0, SIZE, SIZE, 3)
