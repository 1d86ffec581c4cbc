"""The trainer's kernels against plain torch, its drawing against gsplat's own, and training on a GPU."""

from __future__ import annotations

import copy
import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_splats import SIDE, cameras, gaussians, recipe, scene, training
from torch import Tensor

from worldexplorer.engine import SplatScene
from worldexplorer.geometry.cameras import normalised_intrinsics
from worldexplorer.models.splatting.frame import TrainingFrame, lenses
from worldexplorer.models.splatting.operations import PlainOperations, Rates, Regularisation
from worldexplorer.models.splatting.pictures import HostPictures, ResidentPictures
from worldexplorer.models.splatting.plain_rasterizer import rasterization as plain_rasterization
from worldexplorer.models.splatting.state import NAMES, GaussianState
from worldexplorer.progress import silent

if importlib.util.find_spec("gsplat") is None:
    pytest.skip("gsplat is not installed", allow_module_level=True)

CLOSE = 2e-5


def close(found: Tensor, expected: Tensor, limit: float = CLOSE) -> None:
    assert found.shape == expected.shape
    assert torch.isfinite(found).all()
    scale = float(expected.double().norm())
    assert float((found.double() - expected.double()).norm()) <= limit * max(scale, 1e-12)


def state(count: int, seed: int = 3) -> GaussianState:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).cuda()

    shapes = {"means": (3,), "log_scales": (3,), "quaternions": (4,), "opacity_logits": (), "sh": (16, 3)}
    values = {name: normal(count, *shape) for name, shape in shapes.items()}
    first = {name: 0.1 * normal(*value.shape) for name, value in values.items()}
    second = {name: 0.1 * normal(*value.shape).square() for name, value in values.items()}
    return GaussianState(values, first, second, steps=5)


@pytest.mark.parametrize("shape", [(1, 576, 576), (4, 144, 144), (3, 37, 50)])
@pytest.mark.parametrize("weight", [0.2, 1.0])
def test_loss(shape, weight) -> None:
    from worldexplorer.models.splatting.fused import FusedOperations

    torch.manual_seed(0)
    image = torch.rand(*shape, 3, device="cuda") * 1.4 - 0.2
    target = torch.rand(*shape, 3, device="cuda")
    found = FusedOperations().loss(image, target, weight)
    expected = PlainOperations().loss(image.double(), target.double(), weight)
    for one, other in zip(found, expected, strict=True):
        close(one, other)
    image[0, 5, 5, 1] = torch.nan
    assert torch.isnan(FusedOperations().loss(image, target, weight)[0])


@pytest.mark.parametrize("count", [1, 1000, 70_001])
@pytest.mark.parametrize("weights", [(0.01, 0.01, 0.1, 5.0), (5.0, 7.0, 900.0, 2.0), (0.0, 0.0, 0.0, 5.0)])
def test_adam(count, weights) -> None:
    from worldexplorer.models.splatting.fused import FusedOperations

    one, other = state(count), state(count)
    gradients = {name: torch.randn_like(one.values[name]) for name in ("means", "quaternions", "sh")}
    gradients |= {"scales": torch.randn(count, 3, device="cuda"), "opacities": torch.randn(count, device="cuda")}
    arguments = gradients, Rates(1e-2, 2e-2, 3e-2, 4e-2, 5e-2, 6e-3), (0.9, 0.999), 1e-15, Regularisation(*weights)
    for _ in range(2):
        FusedOperations().adam(one, *arguments)
        PlainOperations().adam(other, *arguments)
    assert one.steps == other.steps == 7
    for name in NAMES:
        for found, expected in ((one.values, other.values), (one.first, other.first), (one.second, other.second)):
            close(found[name], expected[name])


def test_noise_has_the_covariance_of_the_gaussians_and_follows_from_the_seed() -> None:
    from worldexplorer.models.splatting.fused import FusedOperations

    def moved(operations: PlainOperations, seed: int) -> Tensor:
        now = state(200_000)
        now.values["opacity_logits"][:] = -8.0
        now.values["log_scales"][:] = torch.tensor([0.0, -1.0, 0.5])
        now.values["quaternions"][:] = torch.tensor([0.3, 0.5, -0.2, 1.0])
        before = now.values["means"].clone()
        operations.add_noise(now, 1.0, seed)
        return now.values["means"] - before

    found, expected = moved(FusedOperations(), 2**32 - 1), moved(PlainOperations(), 7)
    close(torch.cov(found.T), torch.cov(expected.T), 0.02)
    assert float(found.mean(dim=0).abs().max()) < 0.02
    assert torch.equal(found, moved(FusedOperations(), 2**32 - 1))
    assert not torch.equal(found, moved(FusedOperations(), 8))


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize(("tile", "side"), [(8, 64), (16, 64), (8, 70)])
def test_own_drawing_is_gsplats(monkeypatch, views, degree, tile, side) -> None:
    import gsplat

    from worldexplorer.models.splatting import gsplat_rasterizer

    monkeypatch.setattr(gsplat_rasterizer, "TILE", tile)
    ways = gsplat_rasterizer.rasterization, gsplat.rasterization
    found, expected = (drawn(one, views, degree, side, packed=False) for one in ways)
    for one, other in zip(found, expected, strict=True):
        close(one, other, 1e-4)


def test_plain_drawing_is_gsplats() -> None:
    import gsplat

    for mode in ("classic", "antialiased"):
        found = drawn(plain_rasterization, 3, 3, SIDE, rasterize_mode=mode)
        expected = drawn(gsplat.rasterization, 3, 3, SIDE, rasterize_mode=mode, packed=False)
        for one, other in zip(found, expected, strict=True):
            close(one, other, 5e-3)


def drawn(rasterize, views: int, degree: int, side: int, **arguments) -> list[Tensor]:
    """Pictures, opacity and gradients."""
    values = {name: value.cuda().requires_grad_() for name, value in gaussians(500).items()}
    frame = TrainingFrame(torch.zeros(3).numpy(), 1.0)
    views_of = torch.from_numpy(frame.cameras(cameras(views))).cuda()
    intrinsics = torch.from_numpy(lenses(normalised_intrinsics()[None].repeat(views, 0), side, side)).cuda()
    arguments.setdefault("rasterize_mode", "antialiased")
    image, alpha, _ = rasterize(
        *values.values(),
        views_of,
        intrinsics,
        side,
        side,
        sh_degree=degree,
        backgrounds=torch.rand(views, 3, generator=torch.Generator().manual_seed(1)).cuda(),
        **arguments,
    )
    weights = torch.randn(image.shape, generator=torch.Generator().manual_seed(2)).cuda()
    (image * weights).sum().backward()
    return [image.detach(), alpha.detach(), *(value.grad for value in values.values())]


def test_pictures_in_host_memory_are_those_on_the_gpu() -> None:
    images = scene().train.images
    device = torch.device("cuda")
    host, resident = HostPictures(images, device), ResidentPictures(images, device)
    for numbers, then in (([3, 4], [5, 1]), ([5, 1], [0, 0]), ([7, 7], [2, 3])):
        assert torch.equal(host.fetch(numbers, then), resident.fetch(numbers, then))


@pytest.mark.parametrize("strategy", ["mcmc", "default"])
@pytest.mark.parametrize("batch", [1, 4])
def test_training_on_the_gpu(tmp_path: Path, strategy, batch) -> None:
    from worldexplorer.models.splatting.fused import FusedOperations
    from worldexplorer.models.splatting.rasterizer import gsplat_rasterizer

    trainings = [
        training(
            replace(
                recipe(
                    strategy=strategy, growth_gradient=1e-6, reset_interval=30, remove_scale=100.0, remove_radius=10.0
                ),
                images=400,
                batch=batch,
            ),
            scene(8, 64),
            rasterize=gsplat_rasterizer(),
            operations=FusedOperations(),
            device="cuda",
        )
        for _ in range(2)
    ]
    whole, stopped = trainings
    before = whole.measure(scene(8, 64).train).psnr
    whole.run(tmp_path / "whole", silent)
    assert whole.measure(scene(8, 64).train).psnr > before + 3
    assert whole.state.count != 200
    stopped.run(tmp_path / "stopped", silent, until=200)
    again = copy.copy(stopped)
    again.image = 0
    again.resume(tmp_path / "stopped")
    assert again.image == 200
    assert torch.equal(again.state.values["sh"], stopped.state.values["sh"])


def test_two_gpus_train_as_one_does(tmp_path: Path) -> None:
    """Through NCCL, with this program's kernels: as good, and alike after refinements."""
    from worldexplorer.models.gpus import equal_gpus
    from worldexplorer.models.splatting.settings import SplatTraining
    from worldexplorer.models.splatting.team_process import Place
    from worldexplorer.models.splatting.trainer import GsplatTrainer

    places = [Place(device, f"{device} ({name})") for device, name in equal_gpus(None).items()]
    if len(places) < 2:
        pytest.skip("two GPUs of one kind")
    of = scene(8, 64)
    settings = SplatTraining(profile="fast", images=4000)
    logs = [
        GsplatTrainer(settings, places=lambda some=some: some).train(of, 0, tmp_path / str(len(some)), silent).log
        for some in (places[:1], places[:2])
    ]
    assert [log["gpus"] for log in logs] == [1, 2]
    assert [log["images"] for log in logs] == [4000, 4000]
    assert logs[0]["psnr_train"] > 20
    assert abs(logs[0]["psnr_train"] - logs[1]["psnr_train"]) < 1.0
    for one, two in zip(logs[0]["loss_curve"], logs[1]["loss_curve"], strict=True):
        assert two == pytest.approx(one, rel=0.15)


def test_a_trainer_renders_pictures_and_depths(tmp_path: Path) -> None:
    from worldexplorer.models.splatting.settings import SplatTraining
    from worldexplorer.models.splatting.trainer import GsplatTrainer

    of: SplatScene = scene(8, 64)
    trainer = GsplatTrainer(SplatTraining(images=1500, heldout_every=4))
    result = trainer.train(of, 0, tmp_path, silent)
    pictures = trainer.render(result.gaussians, of.train.c2w, of.train.intrinsics, 64)
    error = (pictures.astype(float) - of.train.images).__pow__(2).mean()
    assert error < ((of.train.images.astype(float) - of.train.images.mean()) ** 2).mean() / 2
    depths = trainer.render_depth(result.gaussians, of.train.c2w, of.train.intrinsics, 64)
    seen = depths[depths != float("inf")]
    assert seen.size > depths.size / 4
    assert 1.0 < seen.mean() < 5.0
    assert result.log["psnr_heldout_frames"] > 10
