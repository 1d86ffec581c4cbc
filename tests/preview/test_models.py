"""The preview engine's models over a world whose geometry is known in closed form: a box room."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from worldexplorer.engine import NovelViewRequest, Views
from worldexplorer.errors import DefectError
from worldexplorer.geometry.cameras import (
    camera_rays,
    normalised_intrinsics,
    opengl_to_opencv,
    pitch_matrix,
    pose,
    yaw_matrix,
)
from worldexplorer.geometry.similarity import fit_similarity
from worldexplorer.preview.equirectangular import directions
from worldexplorer.preview.models import PreviewDepth, PreviewGeometry, PreviewNovelViews, WorldRenderers, cap_views
from worldexplorer.preview.presets import PRESETS, PreviewPreset
from worldexplorer.preview.renderer import WorldRenderer
from worldexplorer.preview.world import World
from worldexplorer.progress import silent

LOW, HIGH = np.array([-3.0, -1.5, -5.0]), np.array([4.0, 2.0, 3.5])
SIZE = 48
INDOOR = 3.0
METRES_A_UNIT_INDOORS = 1.5


def box_distance(rays: np.ndarray, start: np.ndarray | float = 0.0) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.where(rays > 0, (HIGH - start) / rays, (LOW - start) / rays).min(axis=-1)


@pytest.fixture(scope="module")
def world() -> World:
    rays = directions(360).astype(np.float64)
    colours = np.rint(127.5 + 127 * rays).astype(np.uint8)
    ranges = box_distance(rays).astype(np.float32)
    return World(colours, ranges, colours, ranges)


@pytest.fixture(scope="module")
def renderers() -> WorldRenderers:
    return WorldRenderers()


def views_of(c2w: np.ndarray) -> Views:
    count = len(c2w)
    return Views(np.zeros((count, SIZE, SIZE, 3), np.uint8), c2w, np.tile(normalised_intrinsics(), (count, 1, 1)))


def scene_poses(count: int, seed: int = 0) -> np.ndarray:
    """Poses in trajectory units, well inside the box indoors."""
    rng = np.random.default_rng(seed)
    turns = yaw_matrix(rng.uniform(0, 360, count)) @ pitch_matrix(rng.uniform(-40, 40, count))
    return pose(turns, rng.uniform(-0.7, 0.7, (count, 3)))


def request_for(c2w: np.ndarray, given: np.ndarray, world: World | None, scale: float = INDOOR) -> NovelViewRequest:
    scaled = opengl_to_opencv(c2w)
    scaled[:, :3, 3] *= scale
    images = np.random.default_rng(7).integers(0, 256, (len(c2w), SIZE, SIZE, 3), dtype=np.uint8)
    intrinsics = np.tile(normalised_intrinsics(), (len(c2w), 1, 1))
    return NovelViewRequest(images, given, scaled, intrinsics, scale, 3.0, 1.2, 50, 0, world)


def test_new_views_are_the_worlds_and_given_ones_stay(renderers: WorldRenderers, world: World) -> None:
    c2w = scene_poses(5)
    request = request_for(c2w, np.array([True, False, False, True, False]), world)
    before = request.images.copy()
    frames = PreviewNovelViews(renderers).sample([request], silent)[0]
    np.testing.assert_array_equal(frames[[0, 3]], before[[0, 3]])
    np.testing.assert_array_equal(request.images, before)
    # Colour by direction from the origin to what a ray meets, in metres: 1.5 of them a unit indoors.
    start = c2w[1, :3, 3] * METRES_A_UNIT_INDOORS
    rays = camera_rays(normalised_intrinsics(), SIZE, SIZE) @ c2w[1, :3, :3].T
    met = start + box_distance(rays, start)[..., None] * rays
    truth = 127.5 + 127 * met / np.linalg.norm(met, axis=-1, keepdims=True)
    assert np.abs(frames[1] - truth).mean() < 1.0


def test_the_same_place_is_reached_with_another_factor(renderers: WorldRenderers, world: World) -> None:
    """Twice the factor and half the units are the same cameras in the world."""
    near, far = scene_poses(2, seed=3), scene_poses(2, seed=3)
    near[:, :3, 3] /= 2
    new = PreviewNovelViews(renderers)
    nothing_given = np.zeros(2, dtype=bool)
    one, other = new.sample(
        [request_for(far, nothing_given, world, 3.0), request_for(near, nothing_given, world, 6.0)], silent
    )
    np.testing.assert_array_equal(one, other)


def test_progress_runs_over_all_requests(renderers: WorldRenderers, world: World) -> None:
    told: list[float] = []
    requests = [request_for(scene_poses(3), np.array([True, False, False]), world)] * 2
    PreviewNovelViews(renderers).sample(requests, lambda done, total, what: told.append(done / total))
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert len(told) == 4


def test_without_a_world_the_error_says_so(renderers: WorldRenderers) -> None:
    request = request_for(scene_poses(2), np.array([True, False]), None)
    with pytest.raises(DefectError, match=r"from a world, and none was given.*stage 1"):
        PreviewNovelViews(renderers).sample([request], silent)


def test_another_engines_world_is_refused(renderers: WorldRenderers) -> None:
    class Foreign:
        def save(self, folder: object) -> None: ...

    with pytest.raises(DefectError, match="got a Foreign"):
        PreviewDepth(renderers).depth(views_of(scene_poses(1)), Foreign(), INDOOR)


def test_pictures_that_are_not_square_are_refused(renderers: WorldRenderers, world: World) -> None:
    views = views_of(scene_poses(1))
    flat = Views(views.images[:, :-4], views.c2w, views.intrinsics)
    with pytest.raises(DefectError, match="48 x 44"):
        PreviewDepth(renderers).depth(flat, world, INDOOR)


def test_a_worlds_mesh_is_made_once(renderers: WorldRenderers, world: World) -> None:
    other = World(world.panorama, world.range_m, world.backdrop, world.backdrop_range_m)
    first = renderers.of(world)
    assert isinstance(first, WorldRenderer)
    assert renderers.of(world) is first
    assert renderers.of(other) is not first


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_depth_is_in_metres(renderers: WorldRenderers, world: World, scale: float) -> None:
    c2w = scene_poses(4, seed=1)
    depth = PreviewDepth(renderers).depth(views_of(c2w), world, scale)
    assert depth.shape == (4, SIZE, SIZE)
    assert depth.dtype == np.float32
    rays = camera_rays(normalised_intrinsics(), SIZE, SIZE)
    for view, metres in zip(c2w, depth, strict=True):
        start = view[:3, 3] * 0.5 * scale
        truth = box_distance(rays @ view[:3, :3].T, start) * -rays[..., 2]
        assert np.quantile(np.abs(metres / truth - 1), 0.97) < 0.01


def test_points_come_in_a_frame_of_their_own_and_align_to_the_scene(renderers: WorldRenderers, world: World) -> None:
    c2w = scene_poses(8, seed=2)
    maps = PreviewGeometry(renderers).points(views_of(c2w), world, INDOOR)
    np.testing.assert_allclose(maps.c2w[0], np.eye(4), atol=1e-12)
    similarity, residuals = fit_similarity(opengl_to_opencv(c2w), maps.c2w)
    assert similarity.scale == pytest.approx(1 / METRES_A_UNIT_INDOORS, rel=1e-9)
    assert residuals.centre_max < 1e-9
    assert np.abs(similarity.rotation - np.eye(3)).max() > 0.1  # there was something to align
    metres = similarity.apply(maps.points) * METRES_A_UNIT_INDOORS
    outside = np.maximum(metres - HIGH, LOW - metres).max(axis=-1)
    assert np.quantile(np.abs(outside), 0.99) < 0.03
    # Each point lies on the ray of its own pixel.
    rays = camera_rays(normalised_intrinsics(), SIZE, SIZE) @ c2w[3, :3, :3].T
    along = metres[3] - c2w[3, :3, 3] * METRES_A_UNIT_INDOORS
    along /= np.linalg.norm(along, axis=-1, keepdims=True)
    assert (along * rays).sum(axis=-1).min() > 1 - 1e-9


def test_confidence_is_full_but_at_edges_and_grazing_angles(renderers: WorldRenderers) -> None:
    """A near square before a far wall, over a floor that reaches to the horizon."""
    rays = directions(360).astype(np.float64)
    ahead = np.maximum(-rays[..., 2], 1e-9)
    square = (rays[..., 2] < 0) & (np.abs(rays[..., 0]) < 0.2 * ahead) & (np.abs(rays[..., 1]) < 0.2 * ahead)
    floor = np.where(rays[..., 1] < 0, 1.5 / np.maximum(-rays[..., 1], 1e-9), np.inf)
    ranges = np.where(square, 2.0 / ahead, np.minimum(floor, 60.0)).astype(np.float32)
    colours = np.zeros((*ranges.shape, 3), np.uint8)
    world = World(colours, ranges, colours, np.maximum(ranges, 60.0))
    confidence = (
        PreviewGeometry(renderers).points(views_of(pose(np.eye(3), np.zeros((1, 3)))), world, INDOOR).confidence[0]
    )
    focal = normalised_intrinsics()[0, 0] * SIZE
    edge = SIZE / 2 + 0.2 * focal  # the column where the square ends
    assert confidence.min() >= 0
    assert confidence.max() == 1
    row = confidence[SIZE // 2 - 4]
    assert row[int(edge)] < 0.5 or row[int(edge) - 1] < 0.5
    assert row[SIZE // 2] == 1
    assert row[int(edge) + 4] == 1
    assert confidence[-1, 2] == 1  # the floor close by
    horizon = confidence[SIZE // 2 : SIZE // 2 + 3, 2]
    assert horizon.min() < 0.7  # and where it is seen from 1 to 3 degrees above it
    assert (confidence == 1).mean() > 0.75


def test_where_no_surface_is_seen_there_is_no_confidence(renderers: WorldRenderers, world: World) -> None:
    away = pose(np.eye(3), [[0.0, 0.0, -20.0]])
    maps = PreviewGeometry(renderers).points(views_of(away), world, INDOOR)
    assert (maps.confidence == 0).all()
    assert np.isfinite(maps.points).all()


def test_scaffold_and_caps_together_see_every_direction() -> None:
    """Of 40,000 directions spread evenly over the sphere each lies well inside some view."""
    count = 40_000
    up = 1 - 2 * (np.arange(count) + 0.5) / count
    around = np.pi * (1 + np.sqrt(5)) * np.arange(count)
    level = np.sqrt(1 - up**2)
    everywhere = np.stack([level * np.cos(around), up, level * np.sin(around)], axis=-1)
    ring = pose(yaw_matrix(45.0 * np.arange(8)), np.zeros(3))
    half = 0.5 / normalised_intrinsics()[0, 0]

    def unseen(poses: np.ndarray, border: float) -> float:
        seen = np.zeros(count, dtype=bool)
        for view in poses:
            x, y, z = (everywhere @ view[:3, :3]).T
            seen |= (z < 0) & (np.maximum(np.abs(x), np.abs(y)) < -z * half * (1 - border))
        return float((~seen).mean())

    caps = cap_views()
    assert caps.shape == (12, 4, 4)
    assert (caps[:, :3, 3] == 0).all()
    np.testing.assert_allclose(
        caps[:, :3, :3] @ caps[:, :3, :3].swapaxes(1, 2), np.tile(np.eye(3), (12, 1, 1)), atol=1e-12
    )
    assert unseen(ring, 0.0) > 0.4
    assert unseen(np.concatenate([ring, caps]), 0.05) == 0
    for missing in range(12):  # none of them is there for nothing
        assert unseen(np.concatenate([ring, np.delete(caps, missing, axis=0)]), 0.0) > 0


def test_presets_grow() -> None:
    assert list(PRESETS) == ["smoke", "quick", "default", "quality"]
    assert [preset.image_size for preset in PRESETS.values()] == [128, 192, 256, 384]
    for smaller, larger in pairwise(PRESETS.values()):
        assert smaller.gaussians < larger.gaussians
        assert smaller.iterations_full < larger.iterations_full
    for name, preset in PRESETS.items():
        assert preset.name == name
        assert 8 + 32 * preset.frames_per_trajectory + len(cap_views()) == 148
        # A panorama pixel is at least as fine as a view's at its centre.
        assert preset.pixels_per_degree >= np.radians(normalised_intrinsics()[0, 0] * preset.image_size)


def test_a_preset_with_too_few_frames_is_refused() -> None:
    with pytest.raises(DefectError, match="3 frames"):
        PreviewPreset("own", 128, 2, 100, 10, 10, num_images_for_vggt=4, heldout_views=1, frames_per_trajectory=3)
