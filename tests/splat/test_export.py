from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from worldexplorer.errors import DefectError
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.geometry.ply import read_comments, read_gaussians
from worldexplorer.splat.export import VIEWER_ROTATION, check_gaussians, export_gaussians


def gaussians(count: int = 50, coefficients: int = 4) -> Gaussians:
    random = np.random.default_rng(0)
    quaternions = random.normal(size=(count, 4))
    return Gaussians(
        means=random.normal(size=(count, 3)).astype(np.float32),
        log_scales=random.normal(-3, 0.5, (count, 3)).astype(np.float32),
        quaternions=(quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).astype(np.float32),
        opacity_logits=random.normal(size=count).astype(np.float32),
        sh=random.normal(size=(count, coefficients, 3)).astype(np.float32),
    )


def covariances(world: Gaussians) -> np.ndarray:
    axes = Rotation.from_quat(world.quaternions[:, [1, 2, 3, 0]]).as_matrix()
    return axes @ (np.exp(2 * world.log_scales)[:, :, None] * axes.transpose(0, 2, 1))


def colour(sh: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Degrees 0 and 1 as the INRIA viewers evaluate them."""
    x, y, z = direction
    return 0.5 + 0.28209479 * sh[:, 0] + 0.48860251 * (-y * sh[:, 1] + z * sh[:, 2] - x * sh[:, 3])


def test_the_plain_file_is_the_world(tmp_path: Path) -> None:
    world = gaussians()
    export_gaussians(tmp_path / "a.ply", tmp_path / "b.ply", world, "synthesised preview")
    found = read_gaussians(tmp_path / "a.ply")
    for name in ("means", "log_scales", "opacity_logits", "sh"):
        np.testing.assert_array_equal(getattr(found, name), getattr(world, name))
    np.testing.assert_allclose(found.quaternions, world.quaternions, atol=1e-6)
    assert any("synthesised preview" in line for line in read_comments(tmp_path / "a.ply"))
    assert any("y up" in line for line in read_comments(tmp_path / "a.ply"))


def test_the_rotated_file_is_the_same_world_upright_for_viewers_with_y_down(tmp_path: Path) -> None:
    """Places, shapes and colours by direction: turned by half around x, all of them."""
    world = gaussians()
    export_gaussians(tmp_path / "a.ply", tmp_path / "b.ply", world, "label")
    turned = read_gaussians(tmp_path / "b.ply")
    assert np.linalg.det(VIEWER_ROTATION) == pytest.approx(1)
    np.testing.assert_allclose(turned.means, world.means * [1, -1, -1], atol=1e-6)
    half = np.diag([1.0, -1.0, -1.0])
    np.testing.assert_allclose(covariances(turned), half @ covariances(world) @ half, atol=1e-6)
    for direction in Rotation.random(5, rng=1).apply([0, 0, 1]):
        np.testing.assert_allclose(colour(turned.sh, half @ direction), colour(world.sh, direction), atol=1e-5)
    assert any("y down" in line for line in read_comments(tmp_path / "b.ply"))


@pytest.mark.parametrize("name", ["means", "log_scales", "quaternions", "opacity_logits", "sh"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named_and_nothing_is_written(tmp_path: Path, name: str, value: float) -> None:
    world = gaussians()
    values = getattr(world, name).copy()
    values.reshape(len(values), -1)[[7, 9], -1] = value
    with pytest.raises(DefectError, match=f"2 Gaussians have {name} that are not finite, the first is 7"):
        export_gaussians(tmp_path / "a.ply", tmp_path / "b.ply", replace(world, **{name: values}), "label")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_world_is_refused() -> None:
    with pytest.raises(DefectError, match="no Gaussians"):
        check_gaussians(gaussians(0))


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(DefectError, match="49 log_scales for 50 Gaussians"):
        check_gaussians(replace(gaussians(), log_scales=gaussians().log_scales[:-1]))


def test_a_world_that_nobody_can_see_is_refused() -> None:
    dim = gaussians()
    dim.opacity_logits[:] = -5.6
    with pytest.raises(DefectError, match="all 50 Gaussians are more transparent"):
        check_gaussians(dim)
    dim.opacity_logits[7] = -5.5
    check_gaussians(dim)


def test_a_world_for_antialiased_renderers_says_so(tmp_path: Path) -> None:
    for antialiased in (False, True):
        export_gaussians(tmp_path / "a.ply", tmp_path / "b.ply", gaussians(), "label", antialiased=antialiased)
        for name in ("a.ply", "b.ply"):
            assert ("SplatRenderMode: mip" in read_comments(tmp_path / name)) == antialiased
