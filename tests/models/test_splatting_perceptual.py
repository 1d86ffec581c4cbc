"""LPIPS: measured where library and weights lie on the machine, and what is said where they do not."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_splats import recipe, scene
from torch import Tensor

from worldexplorer.engine import NotMeasured
from worldexplorer.models.splatting import perceptual
from worldexplorer.models.splatting.perceptual import Network, distance_of, perceptual_network
from worldexplorer.models.splatting.plain_rasterizer import rasterization
from worldexplorer.models.splatting.recipe import Recipe
from worldexplorer.models.splatting.settings import SplatTraining
from worldexplorer.models.splatting.trainer import GsplatTrainer
from worldexplorer.progress import silent

CPU = torch.device("cpu")


def squares(first: Tensor, second: Tensor) -> Tensor:
    """A distance that can be worked out beside it."""
    assert first.shape == second.shape
    assert first.shape[:2] == (1, 3)
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
    return (first - second).square().mean()


def test_the_distance_is_the_mean_over_the_pictures() -> None:
    random = np.random.default_rng(0)
    truths = random.integers(0, 256, (3, 40, 32, 3), dtype=np.uint8)
    shown = random.integers(0, 256, truths.shape, dtype=np.uint8)
    found = distance_of(squares, (torch.from_numpy(picture) / 255.0 for picture in shown), truths)
    assert found == pytest.approx(float(np.mean(((shown / 255.0) - (truths / 255.0)) ** 2)), rel=1e-5)
    assert distance_of(squares, (torch.from_numpy(picture) / 255.0 for picture in truths), truths) == 0


def test_pictures_that_are_too_small_are_not_measured() -> None:
    assert distance_of(squares, [], np.zeros((2, 31, 64, 3), np.uint8)) == NotMeasured(
        "pictures of less than 32 pixels are too small for it"
    )


@pytest.mark.parametrize("absent", [("torchmetrics",), ("torchmetrics", "torchvision")])
def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, absent) -> None:
    there = importlib.util.find_spec("json")
    monkeypatch.setattr(perceptual.importlib.util, "find_spec", lambda name: None if name in absent else there)
    found = perceptual_network(CPU)
    assert isinstance(found, NotMeasured)
    assert " and ".join(absent) in found.reason
    assert "install" in found.reason


class Tiny(SplatTraining):
    def recipe(self) -> Recipe:
        return recipe()


def trainer(network: Network | NotMeasured, heldout_every: int | None) -> GsplatTrainer:
    return GsplatTrainer(
        Tiny(heldout_every=heldout_every), device="cpu", rasterizer=lambda: rasterization, network=lambda _: network
    )


def test_frames_that_were_kept_out_are_measured(tmp_path: Path) -> None:
    of = scene(8)
    now = trainer(squares, heldout_every=4)
    result = now.train(of, 0, tmp_path, silent)
    kept_out = replace(of.train, images=of.train.images[3::4], c2w=of.train.c2w[3::4])
    pictures = now.render(result.gaussians, kept_out.c2w, of.train.intrinsics[3::4], 32)
    expected = float(np.mean((pictures / 255.0 - kept_out.images / 255.0) ** 2))
    assert expected > 0.001
    assert result.log["lpips_heldout_frames"] == pytest.approx(expected, abs=1e-5)
    assert "lpips" not in result.log


def test_why_it_is_not_measured_is_logged(tmp_path: Path) -> None:
    missing = trainer(NotMeasured("there is nothing to see with"), heldout_every=4)
    log = missing.train(scene(8, 16), 0, tmp_path / "missing", silent).log
    assert log["lpips"] == "not computed: there is nothing to see with"
    assert "lpips_heldout_frames" not in log
    json.dumps(log, allow_nan=False)
    log = trainer(squares, None).train(scene(8, 16), 0, tmp_path / "none kept out", silent).log
    assert not any(name.startswith("lpips") for name in log)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where torch looks for weights, empty; whatever would download fails."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def download(*_arguments: object, **_named: object) -> None:
        raise AssertionError("a download was started")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.requires_part("lpips")
def test_without_weights_nothing_is_downloaded(hub: Path) -> None:
    found = perceptual_network(CPU)
    assert isinstance(found, NotMeasured)
    assert "https://download.pytorch.org/models/alexnet" in found.reason
    (hub / "alexnet-owt-7be5be79.pth").write_bytes(b"half of it")
    found = perceptual_network(CPU)
    assert isinstance(found, NotMeasured)
    assert "damaged" in found.reason


@pytest.mark.requires_part("lpips")
@pytest.mark.slow  # AlexNet has 61 million weights
def test_with_weights_the_library_measures(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an AlexNet that was not trained: its distance is no number of use, but it is one of pictures."""
    import torchvision

    torch.manual_seed(0)
    torch.save(torchvision.models.alexnet(weights=None).state_dict(), hub / "made.pth")
    name = f"alexnet-owt-{hashlib.sha256((hub / 'made.pth').read_bytes()).hexdigest()[:8]}.pth"
    (hub / "made.pth").rename(hub / name)
    weights = torchvision.models.AlexNet_Weights.IMAGENET1K_V1.value
    monkeypatch.setattr(weights, "url", f"https://download.pytorch.org/models/{name}")
    network = perceptual_network(CPU)
    assert not isinstance(network, NotMeasured)
    truths = scene(2, 64).train.images
    near, far = truths ^ 8, 255 - truths
    distances = [
        distance_of(network, (torch.from_numpy(picture) / 255.0 for picture in pictures), truths)
        for pictures in (truths, near, far)
    ]
    assert distances[0] == pytest.approx(0.0, abs=1e-6)
    assert 0 < distances[1] < distances[2]
