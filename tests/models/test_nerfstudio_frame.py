"""What nerfstudio does to a scene is undone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_nerfstudio import SCALE, SHIFT, transforms_text

from worldexplorer.errors import DefectError
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.geometry.rotations import matrix_to_quaternion, quaternion_to_matrix
from worldexplorer.models.nerfstudio.frame import read_frame, undone

BASIS_ONE = 0.4886025119029199
TILT = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
"""A quarter turn around x: y goes up to z, as with nerfstudio's own orientation."""


def scene_gaussians(count: int = 60) -> Gaussians:
    random = np.random.default_rng(3)
    quaternions = random.normal(size=(count, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    return Gaussians(
        means=random.uniform(-1.0, 1.0, (count, 3)).astype(np.float32),
        log_scales=random.uniform(-4.0, -1.0, (count, 3)).astype(np.float32),
        quaternions=quaternions.astype(np.float32),
        opacity_logits=random.normal(size=count).astype(np.float32),
        sh=random.normal(scale=0.3, size=(count, 16, 3)).astype(np.float32),
    )


def covariances(gaussians: Gaussians) -> np.ndarray:
    turns = quaternion_to_matrix(gaussians.quaternions)
    squares = np.exp(2.0 * gaussians.log_scales.astype(np.float64))
    return np.asarray(turns * squares[:, None, :] @ turns.transpose(0, 2, 1))


def colours_of_degree_one(gaussians: Gaussians, direction: np.ndarray) -> np.ndarray:
    """The part of the colours that is linear in the direction, written out: -y, z, -x."""
    x, y, z = direction
    sh = gaussians.sh.astype(np.float64)
    return np.asarray(BASIS_ONE * (-y * sh[:, 1] + z * sh[:, 2] - x * sh[:, 3]))


def normalised(gaussians: Gaussians, rotation: np.ndarray, shift: np.ndarray, scale: float) -> Gaussians:
    """As nerfstudio would have trained them: p' = scale * (R p + t), by its published dataparser."""
    return Gaussians(
        means=(scale * (gaussians.means.astype(np.float64) @ rotation.T + shift)).astype(np.float32),
        log_scales=(gaussians.log_scales + np.log(scale)).astype(np.float32),
        quaternions=np.stack(
            [matrix_to_quaternion(rotation @ turn) for turn in quaternion_to_matrix(gaussians.quaternions)]
        ).astype(np.float32),
        opacity_logits=gaussians.opacity_logits,
        sh=gaussians.rotated(rotation).sh,
    )


@pytest.mark.parametrize("rotation", [np.eye(3), TILT])
def test_gaussians_come_back(tmp_path: Path, rotation: np.ndarray) -> None:
    shift, scale = np.array([0.3, -0.7, 0.2]), 0.85
    path = tmp_path / "dataparser_transforms.json"
    path.write_text(json.dumps({"transform": np.c_[rotation, shift].tolist(), "scale": scale}))
    truth = scene_gaussians()
    trained = normalised(truth, rotation, shift, scale)
    back = undone(trained, read_frame(path))
    np.testing.assert_allclose(back.means, truth.means, atol=1e-6)
    np.testing.assert_allclose(covariances(back), covariances(truth), atol=1e-6)
    np.testing.assert_allclose(back.log_scales, truth.log_scales, atol=1e-6)
    np.testing.assert_array_equal(back.opacity_logits, truth.opacity_logits)
    np.testing.assert_allclose(back.sh, truth.sh, atol=2e-6)
    direction = np.array([0.48, -0.6, 0.64])
    np.testing.assert_allclose(
        colours_of_degree_one(back, direction), colours_of_degree_one(trained, rotation @ direction), atol=2e-6
    )


def test_the_map(tmp_path: Path) -> None:
    (tmp_path / "t").write_text(transforms_text())
    frame = read_frame(tmp_path / "t")
    np.testing.assert_allclose(frame.apply([1.0, 2.0, 3.0]), SCALE * (np.array([1.0, 2.0, 3.0]) + SHIFT), atol=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "not json",
        transforms_text(scale=0.0),
        transforms_text(scale=float("inf")).replace("inf", "Infinity"),
        transforms_text().replace("[1.0, 0.0, 0.0", "[1.1, 0.0, 0.0"),
        transforms_text().replace("[1.0, 0.0, 0.0", "[-1.0, 0.0, 0.0"),
        transforms_text().replace("}", ', "more": 1}'),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "t").write_text(text)
    with pytest.raises(DefectError, match="t"):
        read_frame(tmp_path / "t")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DefectError, match="cannot be read"):
        read_frame(tmp_path / "t")
