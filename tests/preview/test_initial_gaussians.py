"""The discs that training starts from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from worldexplorer.engine import SplatScene, Views
from worldexplorer.errors import DefectError
from worldexplorer.geometry.rotations import quaternion_to_matrix
from worldexplorer.preview.initial_gaussians import RADIUS, START_OPACITY, THICKNESS, initial_rows
from worldexplorer.preview.parameters import C0, COLOUR, LOG_SCALE, MEAN, OPACITY, QUATERNION

NO_VIEWS = Views(np.empty((0, 1, 1, 3), np.uint8), np.empty((0, 4, 4)), np.empty((0, 3, 3)))


def a_scene(count: int = 50) -> SplatScene:
    random = np.random.default_rng(0)
    normals = random.normal(size=(count, 3))
    normals[:3] = np.array([[0, 0, 1], [0, 0, -1], [0, 1e-5, -1]])[:count]
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return SplatScene(
        NO_VIEWS,
        random.normal(size=(count, 3)).astype(np.float32),
        normals.astype(np.float32),
        random.integers(0, 256, (count, 3)).astype(np.uint8),
    )


def test_discs_lie_on_the_surface() -> None:
    scene = a_scene()
    rows, spacing = initial_rows(scene, limit=50, seed=0)
    distances = np.linalg.norm(scene.points[:, None].astype(float) - scene.points[None], axis=2)
    np.testing.assert_allclose(spacing, np.sort(distances, axis=1)[:, 1:4].mean(axis=1), rtol=1e-5)
    np.testing.assert_array_equal(rows[:, MEAN:LOG_SCALE], scene.points)
    scales = np.exp(rows[:, LOG_SCALE:QUATERNION].astype(float))
    np.testing.assert_allclose(scales, spacing[:, None] * RADIUS * np.array([1.0, 1.0, THICKNESS]), rtol=1e-5)
    axes = quaternion_to_matrix(rows[:, QUATERNION:OPACITY].astype(float))
    np.testing.assert_allclose(axes[:, :, 2], scene.normals, atol=1e-5)
    np.testing.assert_allclose(1 / (1 + np.exp(-rows[:, OPACITY])), START_OPACITY, rtol=1e-6)
    np.testing.assert_allclose(0.5 + C0 * rows[:, COLOUR:], scene.colours / 255.0, atol=1e-6)


def test_where_there_are_more_points_some_are_chosen_by_the_seed() -> None:
    scene = a_scene()
    rows, spacing = initial_rows(scene, limit=20, seed=3)
    again, _ = initial_rows(scene, limit=20, seed=3)
    other, _ = initial_rows(scene, limit=20, seed=4)
    assert rows.shape == (20, 14)
    assert spacing.shape == (20,)
    np.testing.assert_array_equal(rows, again)
    assert not np.array_equal(rows, other)
    places = [int(np.flatnonzero((scene.points == row[:3]).all(axis=1))[0]) for row in rows]
    assert places == sorted(set(places)), "each once, in their order"


def test_points_that_coincide_have_a_size() -> None:
    scene = a_scene()
    points = scene.points.copy()
    points[:8] = points[0]
    rows, spacing = initial_rows(replace(scene, points=points), limit=50, seed=0)
    assert np.isfinite(rows).all()
    assert spacing.min() > 0.0


def test_two_points_are_enough() -> None:
    rows, spacing = initial_rows(a_scene(2), limit=50, seed=0)
    assert len(rows) == 2
    assert spacing[0] == spacing[1] > 0.0


@pytest.mark.parametrize("field", ["points", "normals"])
def test_numbers_that_are_not_finite_are_a_defect(field: str) -> None:
    scene = a_scene()
    values = getattr(scene, field).copy()
    values[4, 1] = np.nan
    with pytest.raises(DefectError, match="not finite"):
        initial_rows(replace(scene, **{field: values}), limit=50, seed=0)


def test_a_scene_without_a_surface_is_a_defect() -> None:
    scene = a_scene()
    one = SplatScene(NO_VIEWS, scene.points[:1], scene.normals[:1], scene.colours[:1])
    with pytest.raises(DefectError, match="at least two points"):
        initial_rows(one, limit=50, seed=0)
    with pytest.raises(DefectError, match="shapes"):
        initial_rows(replace(scene, normals=scene.normals[:5]), limit=50, seed=0)
    with pytest.raises(DefectError, match="coincide"):
        initial_rows(replace(scene, points=np.zeros_like(scene.points)), limit=50, seed=0)
    with pytest.raises(DefectError, match="zero"):
        initial_rows(replace(scene, normals=np.zeros_like(scene.normals)), limit=50, seed=0)
