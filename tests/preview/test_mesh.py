"""The mesh of a range map: closed, true to the map, and no finer than it needs to be."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldexplorer.errors import DefectError
from worldexplorer.preview.equirectangular import directions
from worldexplorer.preview.mesh import CUT_RATIO, FLATNESS, Mesh, build_mesh

FLOOR, CEILING, WALL = 1.5, 1.2, 4.0


def room(height: int) -> np.ndarray:
    """Ranges of a room with square walls."""
    rays = np.abs(directions(height).astype(np.float64))
    up = directions(height)[..., 1]
    sides = WALL / np.maximum(rays[..., 0], rays[..., 2])
    return np.minimum(sides, np.where(up > 0, CEILING, FLOOR) / np.maximum(rays[..., 1], 1e-9))


def blocks(seed: int, height: int = 48, size: int = 8) -> np.ndarray:
    """Ranges that jump between square patches."""
    ranges = np.random.default_rng(seed).choice([2.0, 5.0, 12.0], (height // size, 2 * height // size))
    return np.kron(ranges, np.ones((size, size)))


def open_edges(mesh: Mesh) -> int:
    """Edges of some length that don't belong to exactly two triangles."""
    edges = Counter[tuple[bytes, bytes]]()
    # By position: the many vertices that lie on a pole are one.
    names = [vertex.tobytes() for vertex in np.round(mesh.vertices, 9) + 0.0]
    for triangle in mesh.triangles:
        for start, end in zip(triangle, np.roll(triangle, -1), strict=True):
            a, b = names[start], names[end]
            if a != b:
                edges[min(a, b), max(a, b)] += 1
    return sum(count != 2 for count in edges.values())


def enclosed_volume(mesh: Mesh) -> float:
    a, b, c = (mesh.vertices[mesh.triangles[:, corner]] for corner in range(3))
    return float(np.einsum("tc,tc->t", a, np.cross(b, c)).sum() / 6)


def test_a_room_is_closed_and_has_its_volume() -> None:
    mesh = build_mesh(room(180), CUT_RATIO)
    assert open_edges(mesh) == 0
    assert abs(enclosed_volume(mesh)) == pytest.approx((2 * WALL) ** 2 * (FLOOR + CEILING), rel=0.01)


def test_vertices_lie_on_the_surface() -> None:
    vertices = build_mesh(room(180), CUT_RATIO).vertices
    beyond = np.max(
        [
            np.abs(vertices[:, 0]) / WALL,
            np.abs(vertices[:, 2]) / WALL,
            vertices[:, 1] / CEILING,
            -vertices[:, 1] / FLOOR,
        ],
        axis=0,
    )
    assert np.quantile(np.abs(beyond - 1), 0.9) < 1e-3
    assert np.abs(beyond - 1).max() < 0.05  # where two planes meet within a pixel


def test_flat_surfaces_are_coarse_and_bends_fine() -> None:
    mesh = build_mesh(room(360), CUT_RATIO)
    assert len(mesh.triangles) < 2 * 360 * 720 / 10
    corners = mesh.vertices[mesh.triangles]
    rays = corners / np.linalg.norm(corners, axis=-1, keepdims=True)
    width = np.arccos(np.clip((rays[:, 0] * rays[:, 2]).sum(axis=-1), -1, 1))
    centres = corners.mean(axis=1)
    at_half_height = np.abs(centres[:, 1]) < 0.5
    in_corner = at_half_height & (np.abs(centres[:, ::2]) > 0.98 * WALL).all(axis=1)
    on_wall = at_half_height & (np.abs(centres[:, 2]) > 0.99 * WALL) & (np.abs(centres[:, 0]) < 2)
    assert np.median(width[in_corner]) < np.median(width[on_wall]) / 3


def test_a_dome_keeps_its_radius() -> None:
    mesh = build_mesh(np.full((180, 360), 25.0), CUT_RATIO)
    assert open_edges(mesh) == 0
    middles = np.linalg.norm(mesh.vertices[mesh.triangles].mean(axis=1), axis=-1)
    assert middles.max() <= 25.0 + 1e-6
    assert middles.min() >= 25.0 * (1 - 2 * FLATNESS)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_without_cuts_any_map_gives_a_closed_surface(seed: int) -> None:
    assert open_edges(build_mesh(blocks(seed, height=24, size=4), np.inf)) == 0


def test_surfaces_part_where_ranges_jump() -> None:
    ranges = np.full((90, 180), 10.0)
    ranges[30:60, 80:100] = 3.0
    mesh = build_mesh(ranges, CUT_RATIO)
    distances = np.linalg.norm(mesh.vertices, axis=-1)
    of_triangles = distances[mesh.triangles]
    assert (of_triangles.max(axis=1) / of_triangles.min(axis=1)).max() < 1.01
    assert (of_triangles < 5).any()
    assert (of_triangles > 5).any()


def test_ranges_that_change_gently_stay_whole() -> None:
    ranges = np.full((90, 180), 10.0)
    ranges[30:60, 80:100] = 10.0 / (CUT_RATIO - 0.01)
    assert open_edges(build_mesh(ranges, CUT_RATIO)) == 0
    ranges[30:60, 80:100] = 10.0 / (CUT_RATIO + 0.01)
    assert open_edges(build_mesh(ranges, CUT_RATIO)) > 0


def test_the_outline_of_a_cut_is_smooth() -> None:
    """A disc's outline, in steps of a pixel on the map, is a circle in the mesh to a good part of a pixel."""
    height, radius = 180, np.radians(20)
    rays = directions(height).astype(np.float64)
    near = np.arccos(np.clip(-rays[..., 2], -1, 1)) < radius
    mesh = build_mesh(np.where(near, 3.0, 10.0), CUT_RATIO)
    near_triangles = mesh.triangles[np.linalg.norm(mesh.vertices[mesh.triangles], axis=-1).max(axis=1) < 5]
    edges = Counter(
        (min(a, b), max(a, b)) for t in near_triangles.tolist() for a, b in zip(t, [t[1], t[2], t[0]], strict=True)
    )
    outline = mesh.vertices[sorted({vertex for edge, count in edges.items() if count == 1 for vertex in edge})]
    off = np.arccos(-outline[:, 2] / np.linalg.norm(outline, axis=-1)) - radius
    assert np.degrees(np.sqrt(np.mean(off**2))) < 0.25  # the map's pixels are 1 degree


@pytest.mark.parametrize("flaw", [0.0, -1.0, np.nan, np.inf])
def test_a_range_that_is_no_distance_is_refused(flaw: float) -> None:
    ranges = np.full((16, 32), 3.0)
    ranges[4, 5] = flaw
    with pytest.raises(DefectError, match="finite, positive"):
        build_mesh(ranges, CUT_RATIO)


def test_a_map_that_is_no_sphere_is_refused() -> None:
    with pytest.raises(DefectError, match="16 x 16"):
        build_mesh(np.ones((16, 16)), CUT_RATIO)


def test_a_map_of_odd_height_works() -> None:
    assert open_edges(build_mesh(np.full((45, 90), 5.0), CUT_RATIO)) == 0
