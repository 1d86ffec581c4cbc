"""VGGT by its public interface: a tiny stand-in for the package, and the package itself where it is installed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_vggt
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy.spatial.transform import Rotation

from worldexplorer.engine import GeometryModel, Views
from worldexplorer.errors import DefectError, UserError
from worldexplorer.geometry.cameras import normalised_intrinsics, opengl_to_opencv
from worldexplorer.models.geometry_models import GEOMETRY
from worldexplorer.models.residents import Residents
from worldexplorer.models.vggt import VggtModel, look, read_cameras, run_trunk
from worldexplorer.models.vggt_attention import fuse, is_fused
from worldexplorer.scaffold.poses import scaffold_poses

CPU = torch.device("cpu")
FACTS = replace(GEOMETRY["vggt"], size=tiny_vggt.SIZE)


def views(count: int = 3) -> Views:
    images = np.random.default_rng(0).integers(0, 256, (count, 40, 40, 3), dtype=np.uint8)
    return Views(images, scaffold_poses()[:count], np.tile(normalised_intrinsics(), (count, 1, 1)))


def pixels_of(views: Views) -> torch.Tensor:
    side = (tiny_vggt.SIZE, tiny_vggt.SIZE)
    small = [Image.fromarray(image).resize(side, Image.Resampling.BICUBIC) for image in views.images]
    return torch.from_numpy(np.stack([np.asarray(one, dtype=np.float32) for one in small])).permute(0, 3, 1, 2) / 255


@pytest.fixture
def network() -> Any:
    return tiny_vggt.random_vggt()


@pytest.fixture
def folder(tmp_path: Path, network: Any) -> Path:
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    return tmp_path


def model(folder: Path) -> VggtModel:
    return VggtModel(FACTS, lambda: folder, Residents(), CPU)


@pytest.mark.usefixtures("_vggt")
def test_the_answer_is_what_the_packages_own_way_gives(network: Any, folder: Path) -> None:
    geometry: GeometryModel = model(folder)
    given = views()
    maps = geometry.points(given, None, 3.0)
    with torch.inference_mode():
        expected = network(pixels_of(given)[None])
    side = tiny_vggt.SIZE
    assert maps.points.shape == (3, side, side, 3)
    assert (maps.points.dtype, maps.confidence.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(maps.depth, expected["depth"][0, ..., 0], rtol=1e-4)
    np.testing.assert_allclose(maps.confidence, expected["depth_conf"][0], rtol=1e-4)
    np.testing.assert_array_equal(maps.intrinsics, given.intrinsics)
    assert maps.notes == ()
    # A point lies on the ray of its pixel's centre, as deep as the network says, in its own camera's frame.
    encoding = expected["pose_enc"][0].double().numpy()
    for view, (row, column) in enumerate([(0, 0), (9, 20), (27, 3)]):
        down, across = (np.tan(half) for half in encoding[view, 7:] / 2)
        depth = maps.depth[view, row, column]
        inside = depth * np.array([(2 * (column + 0.5) / side - 1) * across, (2 * (row + 0.5) / side - 1) * down, 1.0])
        turn = Rotation.from_quat(encoding[view, 3:7]).as_matrix()
        np.testing.assert_allclose(
            maps.points[view, row, column], turn.T @ (inside - encoding[view, :3]), rtol=1e-3, atol=1e-3
        )


def test_only_the_outputs_that_the_heads_read_are_kept(network: Any) -> None:
    pixels = pixels_of(views())
    expected, _ = network.aggregator(pixels[None])
    found = run_trunk(network.aggregator, pixels, frozenset({0, 2}))
    assert [one is not None for one in found] == [True, False, True, False, True], "the camera head reads the last"
    for layer in (0, 2, 4):
        torch.testing.assert_close(found[layer], expected[layer], rtol=1e-4, atol=1e-4)


def test_fused_blocks_are_the_packages(network: Any) -> None:
    pixels = pixels_of(views())
    expected, _ = network.aggregator(pixels[None])
    assert not is_fused(network.aggregator)
    fuse(network.aggregator)
    assert is_fused(network.aggregator)
    found = run_trunk(network.aggregator, pixels, frozenset(range(tiny_vggt.LAYERS)))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_other_widths_are_left_to_the_package(network: Any) -> None:
    network.aggregator.global_blocks[2].attn.k_norm = torch.nn.LayerNorm(32)
    fuse(network.aggregator)
    assert not is_fused(network.aggregator)


def test_the_first_frame_and_the_others_differ_and_all_see_all(network: Any) -> None:
    """Frame 0 sets the frame of the answer; a change of any frame changes what is said of the others."""
    first, second, third = pixels_of(views())
    plain = look(network, torch.stack([first, second, third])).depth
    swapped = look(network, torch.stack([second, first, third])).depth
    other = look(network, torch.stack([first, second, first])).depth
    assert not torch.allclose(swapped[1], plain[0])
    assert not torch.allclose(other[0], plain[0])
    # The order of the frames after the first is of no account.
    turned = look(network, torch.stack([first, third, second])).depth
    torch.testing.assert_close(turned[[0, 2, 1]], plain, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("_vggt")
class TestWeights:
    def test_weights_of_heads_that_are_off_are_not_missed_nor_loaded(self, network: Any, folder: Path) -> None:
        assert any(name.startswith("track_head") for name in network.state_dict())
        residents = Residents()
        VggtModel(FACTS, lambda: folder, residents, CPU).points(views(), None, 3.0)
        loaded = residents.get("points vggt", 0, lambda: None)
        assert loaded.track_head is None
        assert {str(weight.device) for weight in loaded.parameters()} == {"cpu"}
        for name, value in loaded.state_dict().items():
            assert torch.equal(value, network.state_dict()[name])

    def test_it_is_loaded_once(self, folder: Path) -> None:
        asked = []
        geometry = VggtModel(FACTS, lambda: asked.append(1) or folder, Residents(), CPU)
        first, again = (geometry.points(views(), None, 3.0) for _ in range(2))
        assert asked == [1]
        np.testing.assert_array_equal(first.points, again.points)

    @pytest.mark.parametrize(
        ("spoil", "text"),
        [
            (lambda w: w.pop("depth_head.out.bias"), "lacks 1 weights, the first is depth_head.out.bias"),
            (lambda w: w.update({"camera_head.out.bias": torch.zeros(8)}), r"camera_head.out.bias has shape \[8\]"),
        ],
    )
    def test_files_of_another_network_are_named(self, network: Any, folder: Path, spoil: Any, text: str) -> None:
        weights = dict(network.state_dict())
        spoil(weights)
        save_file(weights, folder / "model.safetensors")
        with pytest.raises(UserError, match=text) as caught:
            model(folder).points(views(), None, 3.0)
        assert "weights verify" in caught.value.remedy

    def test_a_file_cut_short_is_named(self, folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(UserError, match="the weights of VGGT cannot be loaded"):
            model(folder).points(views(), None, 3.0)

    def test_an_answer_that_is_not_finite_is_a_defect(self, network: Any, folder: Path) -> None:
        weights = dict(network.state_dict())
        weights["depth_head.out.bias"] = torch.full_like(weights["depth_head.out.bias"], torch.nan)
        save_file(weights, folder / "model.safetensors")
        with pytest.raises(DefectError, match="VGGT gave depth and confidence not finite"):
            model(folder).points(views(), None, 3.0)

    def test_a_field_of_view_of_nothing_is_a_defect(self, network: Any, folder: Path, monkeypatch: Any) -> None:
        plain = tiny_vggt.CameraHead.forward
        monkeypatch.setattr(
            tiny_vggt.CameraHead,
            "forward",
            lambda self, outputs: [plain(self, outputs)[-1] * torch.tensor([1.0] * 7 + [0.0] * 2)],
        )
        with pytest.raises(DefectError, match="VGGT gave poses not finite"):
            model(folder).points(views(), None, 3.0)


def test_where_the_package_is_missing_the_command_that_installs_it_is_named(folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("worldexplorer.models.geometry_models.importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="VGGT needs the packages vggt, einops") as caught:
        model(folder).points(views(), None, 3.0)
    assert 'pip install --no-deps "vggt @ https://github.com/facebookresearch/vggt/archive/' in caught.value.remedy


def test_cameras_are_read_as_they_are_written() -> None:
    generator = np.random.default_rng(3)
    turns = Rotation.random(5, rng=generator)
    places = generator.normal(size=(5, 3))
    angles = generator.uniform(0.5, 2.0, (5, 2))
    encoding = np.concatenate([places, 3.0 * turns.as_quat(), angles], axis=1)  # of any length
    c2w, intrinsics = read_cameras(torch.from_numpy(encoding))
    for number in range(5):
        to_camera = np.eye(4)
        to_camera[:3, :3], to_camera[:3, 3] = turns[number].as_matrix(), places[number]
        np.testing.assert_allclose(c2w[number], np.linalg.inv(to_camera), atol=1e-12)
        down, across = 0.5 / np.tan(angles[number] / 2)
        np.testing.assert_allclose(intrinsics[number], [[across, 0, 0.5], [0, down, 0.5], [0, 0, 1]], atol=1e-12)


@pytest.mark.requires_part("vggt")
class TestPackage:
    """The authors' package, with a network small enough for a CPU."""

    @pytest.fixture
    def network(self) -> Any:
        from vggt.heads.camera_head import CameraHead
        from vggt.heads.dpt_head import DPTHead
        from vggt.models.aggregator import Aggregator

        torch.manual_seed(0)
        made = torch.nn.Module()
        made.aggregator = Aggregator(img_size=56, embed_dim=128, depth=4, num_heads=2, patch_embed="conv")
        made.camera_head = CameraHead(dim_in=256, num_heads=4)
        made.depth_head = DPTHead(
            dim_in=256,
            output_dim=2,
            activation="exp",
            conf_activation="expp1",
            features=16,
            out_channels=[8, 8, 8, 8],
            intermediate_layer_idx=[0, 1, 2, 3],
        )
        for weight in made.parameters():
            torch.nn.init.normal_(weight, std=0.1)
        return made.eval().requires_grad_(requires_grad=False)

    def test_the_trunk_is_the_packages_to_the_bit(self, network: Any) -> None:
        pixels = torch.rand(5, 3, 56, 56)
        expected, _ = network.aggregator(pixels[None])
        found = run_trunk(network.aggregator, pixels, frozenset(range(4)))
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
        fuse(network.aggregator)
        assert is_fused(network.aggregator)
        for one, other in zip(run_trunk(network.aggregator, pixels, frozenset(range(4))), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)

    def test_depth_and_cameras_are_the_packages(self, network: Any) -> None:
        from vggt.utils.pose_enc import pose_encoding_to_extri_intri

        pixels = torch.rand(5, 3, 56, 56)
        network.camera_head.pose_branch.fc2.bias.data[7:] = 1.0
        outputs, start = network.aggregator(pixels[None])
        depth, confidence = network.depth_head(outputs, images=pixels[None], patch_start_idx=start)
        to_camera, lens = pose_encoding_to_extri_intri(network.camera_head(outputs)[-1], (56, 56))
        seen = look(network, pixels)
        torch.testing.assert_close(seen.depth, depth[0, ..., 0])
        torch.testing.assert_close(seen.confidence, confidence[0])
        np.testing.assert_allclose(np.linalg.inv(seen.c2w)[:, :3], to_camera[0], atol=1e-5)
        np.testing.assert_allclose(seen.intrinsics * [[56], [56], [1]], lens[0], rtol=1e-5)

    def test_the_whole_network_is_built_without_storage_and_has_the_published_names(self) -> None:
        from vggt.models.vggt import VGGT

        from worldexplorer.models.vggt import without_storage

        with without_storage():
            network = VGGT(img_size=518, enable_point=False, enable_track=False)
        names = network.state_dict().keys()
        assert {weight.device.type for weight in network.parameters()} == {"meta"}
        assert {buffer.device.type for buffer in network.buffers()} == {"cpu"}
        assert {"aggregator.camera_token", "camera_head.empty_pose_tokens", "depth_head.norm.weight"} <= names
        assert 1.1e9 < sum(weight.numel() for weight in network.parameters()) < 1.2e9


@pytest.fixture
def _vggt(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_vggt.pretend_installed(monkeypatch)


def test_the_scaffolds_first_view_is_the_frame_that_all_is_told_in() -> None:
    """What the published path leaves to the order of file names: the stage's first frame is view 000."""
    assert np.array_equal(opengl_to_opencv(scaffold_poses())[0], opengl_to_opencv(np.eye(4)))
