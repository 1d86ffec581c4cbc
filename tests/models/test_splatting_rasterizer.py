"""The plain rasteriser against closed forms, and what is said where gsplat is missing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tiny_splats import cameras, gaussians
from torch import Tensor

from worldexplorer.errors import UserError
from worldexplorer.geometry.cameras import normalised_intrinsics
from worldexplorer.models.splatting import rasterizer
from worldexplorer.models.splatting.drawing import draw, to_bytes
from worldexplorer.models.splatting.frame import TrainingFrame, lenses
from worldexplorer.models.splatting.measures import fit_of
from worldexplorer.models.splatting.operations import PlainOperations, operations_for
from worldexplorer.models.splatting.plain_rasterizer import rasterization

SIDE = 33
FOCAL = float(normalised_intrinsics()[0, 0]) * SIDE


def one(depth: float = 2.0, scale: float = 0.2, opacity: float = 0.8, colour: float = 0.7) -> dict[str, Tensor]:
    """A round Gaussian on the axis of the camera at the origin, which looks along +z."""
    return {
        "means": torch.tensor([[0.0, 0.0, depth]]),
        "quats": torch.tensor([[2.0, 0.0, 0.0, 0.0]]),
        "scales": torch.full((1, 3), scale),
        "opacities": torch.tensor([opacity]),
        "colors": torch.full((1, 1, 3), (colour - 0.5) / 0.28209479),
    }


def shown(values: dict[str, Tensor], **arguments: object) -> tuple[Tensor, Tensor, dict[str, object]]:
    lens = torch.from_numpy(lenses(normalised_intrinsics()[None], SIDE, SIDE))
    return rasterization(**values, viewmats=torch.eye(4)[None], Ks=lens, width=SIDE, height=SIDE, **arguments)


def both(*worlds: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.cat([world[name] for world in worlds]) for name in worlds[0]}


def test_a_gaussian_falls_off_as_its_projection_does() -> None:
    image, alpha, _ = shown(one())
    variance = (FOCAL * 0.2 / 2.0) ** 2 + 0.3
    for right in (0, 3, 5):
        expected = 0.8 * math.exp(-(right**2) / (2 * variance))
        assert float(alpha[0, SIDE // 2, SIDE // 2 + right, 0]) == pytest.approx(expected, abs=1e-5)
        assert float(image[0, SIDE // 2, SIDE // 2 + right, 1]) == pytest.approx(0.7 * expected, abs=1e-5)


def test_antialiasing_keeps_the_light_of_a_small_gaussian() -> None:
    small = one(scale=0.01)
    sharp = (FOCAL * 0.01 / 2.0) ** 2
    classic, antialiased = (
        float(shown(small, rasterize_mode=mode)[1][0, SIDE // 2, SIDE // 2, 0]) for mode in ("classic", "antialiased")
    )
    assert classic == pytest.approx(0.8, abs=1e-5)
    assert antialiased == pytest.approx(0.8 * sharp / (sharp + 0.3), rel=1e-4)


def test_the_nearer_one_covers_the_farther_one_whatever_their_order() -> None:
    near, far = one(depth=1.0, opacity=0.6, colour=0.9), one(depth=3.0, opacity=0.5, colour=0.3)
    for world in (both(near, far), both(far, near)):
        image, alpha, _ = shown(world, backgrounds=torch.tensor([[0.2, 0.2, 0.2]]))
        middle = (0, SIDE // 2, SIDE // 2, 0)
        assert float(image[middle]) == pytest.approx(0.6 * 0.9 + 0.4 * 0.5 * 0.3 + 0.4 * 0.5 * 0.2, abs=1e-5)
        assert float(alpha[middle]) == pytest.approx(0.8, abs=1e-5)


def test_what_is_behind_or_too_near_is_not_drawn() -> None:
    for depth in (-2.0, 0.05):
        _, alpha, info = shown(one(depth=depth), near_plane=0.1)
        assert not alpha.any()
        assert not info["radii"].any()  # type: ignore[attr-defined]


def test_depth_is_the_mean_of_what_is_seen() -> None:
    world = both(one(depth=1.0, opacity=0.6), one(depth=3.0, opacity=0.5))
    image, alpha, _ = shown(world, render_mode="RGB+ED")
    weights = 0.6, 0.4 * 0.5
    expected = (weights[0] * 1.0 + weights[1] * 3.0) / sum(weights)
    assert float(image[0, SIDE // 2, SIDE // 2, 3]) == pytest.approx(expected, abs=1e-4)
    assert image.shape[-1] == 4
    values = {
        "means": world["means"],
        "quaternions": world["quats"],
        "scales": world["scales"],
        "opacities": world["opacities"],
        "sh": world["colors"],
    }
    (depth,) = draw(
        rasterization,
        values,
        torch.eye(4)[None],
        normalised_intrinsics()[None],
        (SIDE, SIDE),
        near=0.01,
        antialiased=False,
        depth=True,
    )
    assert torch.equal(torch.isfinite(depth), alpha[0, ..., 0] >= 0.5)


def test_gradients_are_those_of_finite_differences() -> None:
    values = {name: value.double() for name, value in gaussians(12).items()}
    views = torch.from_numpy(TrainingFrame(np.zeros(3), 1.0).cameras(cameras(2))).double()
    lens = torch.from_numpy(lenses(np.tile(normalised_intrinsics(), (2, 1, 1)), 12, 12)).double()
    names, leaves = list(values), [value.requires_grad_() for value in values.values()]
    weights = torch.randn(2, 12, 12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def loss() -> Tensor:
        image, _, _ = rasterization(*leaves, views, lens, 12, 12, sh_degree=3, rasterize_mode="antialiased")
        return (image * weights).sum()

    loss().backward()
    for name, leaf in zip(names, leaves, strict=True):
        row = int(leaf.grad.reshape(12, -1).abs().amax(dim=1).argmax())
        flat = leaf.data.reshape(12, -1)
        kept = float(flat[row, 0])
        found = []
        for step in (1e-6, -1e-6):
            flat[row, 0] = kept + step
            with torch.no_grad():
                found.append(float(loss()))
        flat[row, 0] = kept
        difference = (found[0] - found[1]) / 2e-6
        assert float(leaf.grad.reshape(12, -1)[row, 0]) == pytest.approx(difference, rel=1e-4, abs=1e-6), name


def test_absolute_gradients_are_at_least_the_gradients() -> None:
    values = {name: value.requires_grad_() for name, value in gaussians(30).items()}
    views = torch.from_numpy(TrainingFrame(np.zeros(3), 1.0).cameras(cameras(2)))
    lens = torch.from_numpy(lenses(np.tile(normalised_intrinsics(), (2, 1, 1)), 16, 16))
    image, _, info = rasterization(*values.values(), views, lens, 16, 16, absgrad=True)
    (image.sum()).backward()
    assert info["means2d"].absgrad.shape == (2, 30, 2)
    assert info["means2d"].absgrad.any()


def test_equal_pictures_fit_perfectly_and_others_as_their_error_says() -> None:
    truth = np.random.default_rng(0).integers(0, 200, (2, 16, 16, 3), dtype=np.uint8)
    same = fit_of([torch.from_numpy(one_of / np.float32(255)) for one_of in truth], truth)
    assert same.psnr == 99.0
    assert same.ssim == pytest.approx(1.0, abs=1e-5)
    off = fit_of([torch.from_numpy((one_of + 10) / np.float32(255)) for one_of in truth], truth)
    assert off.psnr == pytest.approx(20 * math.log10(25.5), abs=1e-4)
    assert to_bytes(torch.tensor([0.0, 0.5, 1.0])).tolist() == [0, 128, 255]


def test_a_missing_gsplat_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rasterizer.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(UserError, match=r"gsplat is not installed.*worldexplorer-splat"):
        rasterizer.gsplat_rasterizer()


def test_a_missing_compiler_is_warned_of_and_torch_does_it(monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    monkeypatch.setattr("shutil.which", lambda _name: None)
    monkeypatch.delenv("CC", raising=False)
    assert type(operations_for(torch.device("cuda"))) is PlainOperations
    assert "no C compiler" in caplog.text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rasterizer.importlib.util, "find_spec", lambda _name: object())
    assert rasterizer.missing_for_gsplat() == [
        f"gsplat needs a CUDA GPU, and torch {torch.__version__} finds none here"
    ]
