"""Depth Anything 3 with known poses: what the network is given, and the package itself where it is installed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from worldexplorer.engine import Views
from worldexplorer.errors import UserError
from worldexplorer.geometry.cameras import normalised_intrinsics, opengl_to_opencv, pose, yaw_matrix
from worldexplorer.models import depth_anything_3
from worldexplorer.models.depth_anything_3 import DepthAnything3Model, known_cameras, look
from worldexplorer.models.geometry_models import GEOMETRY
from worldexplorer.models.residents import Residents

CPU = torch.device("cpu")
FACTS = replace(GEOMETRY["depth-anything-3"], size=56)


def views(count: int = 5) -> Views:
    generator = np.random.default_rng(4)
    c2w = pose(yaw_matrix(30.0 * np.arange(count) + 20.0), generator.uniform(-3, 3, (count, 3)))
    images = generator.integers(0, 256, (count, 70, 70, 3), dtype=np.uint8)
    return Views(images, c2w, np.tile(normalised_intrinsics(), (count, 1, 1)))


class Told:
    """A network that remembers what it was given, and says that the cameras are where it was told."""

    def __call__(self, pixels: Any, to_cameras: Any, focal: Any, **options: Any) -> Any:
        self.pixels, self.to_cameras, self.focal, self.options = pixels, to_cameras, focal, options
        shape = (1, pixels.shape[1], *pixels.shape[3:])
        lens = focal.clone()
        lens[..., 0, 0] *= 2
        depth, confidence = torch.full(shape, 2.5), torch.ones(shape)
        return SimpleNamespace(depth=depth, depth_conf=confidence, extrinsics=to_cameras[:, :, :3], intrinsics=lens)


def test_the_network_is_told_where_the_cameras_stand() -> None:
    given, network = views(), Told()
    seen = look(network, torch.zeros(5, 3, 56, 56), given.c2w, given.intrinsics)
    assert network.to_cameras.shape == (1, 5, 4, 4)
    np.testing.assert_allclose(network.to_cameras[0], known_cameras(given.c2w), atol=1e-6)
    focal = normalised_intrinsics()[0, 0] * 56
    np.testing.assert_allclose(network.focal[0, 3], [[focal, 0, 28], [0, focal, 28], [0, 0, 1]], rtol=1e-6)
    assert network.options["ref_view_strategy"] == "first"
    assert network.options["use_ray_pose"] is False
    # What it says of cameras comes back as the protocol has it: to the world, over the frame's size.
    np.testing.assert_allclose(seen.c2w, np.linalg.inv(known_cameras(given.c2w)), atol=1e-5)
    np.testing.assert_allclose(
        seen.intrinsics[1],
        np.diag([2, 1, 1]) @ normalised_intrinsics() - 0.5 * (np.array([[0, 0, 1.0], [0, 0, 0], [0, 0, 0]])),
        rtol=1e-5,
    )
    assert seen.depth.shape == (5, 56, 56)


def test_known_cameras_are_the_first_ones_and_a_unit_away() -> None:
    c2w = views(9).c2w
    found = known_cameras(c2w)
    np.testing.assert_allclose(found[0], np.eye(4), atol=1e-12)
    back = np.linalg.inv(found)
    distance = np.linalg.norm(back[:, :3, 3], axis=1)
    assert np.median(distance) == pytest.approx(1.0)
    true = opengl_to_opencv(c2w)
    unit = np.median(np.linalg.norm(true[:, :3, 3] - true[0, :3, 3], axis=1))
    for one, other in zip(back, true, strict=True):
        np.testing.assert_allclose(true[0][:3, :3] @ one[:3, :3], other[:3, :3], atol=1e-12)
        np.testing.assert_allclose(true[0][:3, :3] @ one[:3, 3] * unit, other[:3, 3] - true[0][:3, 3], atol=1e-12)


def test_of_two_middle_distances_the_lower_one_is_the_unit() -> None:
    c2w = np.tile(np.eye(4), (4, 1, 1))
    c2w[:, 0, 3] = 0, 5, 2, 3
    np.testing.assert_allclose(np.linalg.inv(known_cameras(c2w))[:, 0, 3], [0, 2.5, 1, 1.5])


def test_cameras_in_one_place_are_not_blown_up() -> None:
    c2w = pose(yaw_matrix([0.0, 45.0, 90.0]), 1e-3 * np.eye(3))
    distance = np.linalg.norm(np.linalg.inv(known_cameras(c2w))[:, :3, 3], axis=1)
    assert distance[0] == pytest.approx(0, abs=1e-12)
    assert distance.max() == pytest.approx(np.sqrt(2) * 1e-2)


def test_where_the_package_is_missing_the_command_that_installs_it_is_named(monkeypatch: Any) -> None:
    monkeypatch.setattr("worldexplorer.models.geometry_models.importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs the packages depth_anything_3, einops, omegaconf") as caught:
        DepthAnything3Model(FACTS, Path, Residents(), CPU).points(views(), None, 3.0)
    assert caught.value.remedy.startswith("pip install --no-deps depth-anything-3==0.1.1")


@pytest.mark.requires_part("depth-anything-3")
class TestPackage:
    """The package's smallest network with random weights, saved as the hub has it."""

    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: Any) -> Path:
        from safetensors.torch import save_model

        monkeypatch.setattr(depth_anything_3, "_NETWORK", "da3-small")
        torch.manual_seed(0)
        network = depth_anything_3.build_network("da3-small")
        network.cam_dec.fc_fov[0].bias.data.fill_(1.0)
        save_model(torch.nn.ModuleDict({"model": network}), str(tmp_path / "model.safetensors"))
        return tmp_path

    @pytest.mark.slow
    def test_points_come_out_and_follow_the_poses_that_go_in(self, folder: Path, capsys: Any) -> None:
        model = DepthAnything3Model(FACTS, lambda: folder, Residents(), CPU)
        given = views()
        maps = model.points(given, None, 3.0)
        assert maps.points.shape == (5, 56, 56, 3)
        assert maps.depth is not None
        assert (maps.depth > 0).all()
        assert maps.c2w.shape == (5, 4, 4)
        elsewhere = Views(given.images, given.c2w[::-1].copy(), given.intrinsics)
        other = model.points(elsewhere, None, 3.0)
        assert not np.allclose(other.depth, maps.depth), "the known poses count"
        assert capsys.readouterr().out == "", "the package's own messages stay away from this program's output"

    @pytest.mark.slow
    def test_weights_of_another_network_are_named(self, folder: Path, monkeypatch: Any) -> None:
        from safetensors.torch import load_file, save_file

        weights = load_file(folder / "model.safetensors")
        weights.pop("model.head.norm.weight")
        save_file(weights, folder / "model.safetensors")
        with pytest.raises(UserError, match=r"lacks 1 weights, the first is model\.head\.norm\.weight"):
            DepthAnything3Model(FACTS, lambda: folder, Residents(), CPU).points(views(), None, 3.0)
