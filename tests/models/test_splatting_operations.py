"""Loss, optimiser and noise in plain torch, against torch's own, scikit-image and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from worldexplorer.models.splatting import operations as operations_module
from worldexplorer.models.splatting.operations import (
    PlainOperations,
    Rates,
    Regularisation,
    operations_for,
    rotations,
    ssim,
    value_gradients,
)
from worldexplorer.models.splatting.spherical_harmonics import basis
from worldexplorer.models.splatting.state import NAMES, GaussianState


def state(count: int = 30, seed: int = 0) -> GaussianState:
    random = np.random.default_rng(seed)
    shapes = {"means": (3,), "log_scales": (3,), "quaternions": (4,), "opacity_logits": (), "sh": (16, 3)}
    values = {name: random.standard_normal((count, *shape)).astype(np.float32) for name, shape in shapes.items()}
    return GaussianState.start(values, torch.device("cpu"))


def test_ssim_is_that_of_scikit_image_away_from_the_border() -> None:
    random = np.random.default_rng(0)
    first, second = random.random((2, 30, 26, 3))
    _, whole = structural_similarity(
        first,
        second,
        channel_axis=-1,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    found = float(ssim(torch.from_numpy(first)[None], torch.from_numpy(second)[None]))
    assert found == pytest.approx(whole[5:-5, 5:-5].mean(), abs=1e-9)
    assert float(ssim(torch.rand(1, 8, 8, 3), torch.rand(1, 8, 8, 3))) == 1.0


def test_loss_and_its_gradient() -> None:
    torch.manual_seed(0)
    image = (torch.rand(2, 14, 13, 3, dtype=torch.float64) * 1.2 - 0.1).requires_grad_()
    target = torch.rand(2, 14, 13, 3, dtype=torch.float64)
    value, gradient = PlainOperations().loss(image, target, 0.2)
    shown = image.clamp(0, 1)
    assert float(value) == pytest.approx(
        float(0.8 * (shown - target).abs().mean() + 0.2 * (1 - ssim(shown, target))), abs=1e-12
    )
    outside = (image < 0) | (image > 1)
    assert outside.any()
    assert not gradient[outside].any()
    place = (1, 7, 6, 2)
    step = torch.zeros_like(image)
    step[place] = 1e-6
    up, down = (float(PlainOperations().loss(image.detach() + one, target, 0.2)[0]) for one in (step, -step))
    assert float(gradient[place]) == pytest.approx((up - down) / 2e-6, rel=1e-5)


@pytest.mark.parametrize("ratio", [0.0, 0.1])
def test_adam_is_torchs_on_the_loss_with_its_regularisers(ratio) -> None:
    ours, rates = state(), Rates(1e-2, 2e-2, 3e-2, 4e-2, 5e-2, 6e-3)
    ours.values["log_scales"] *= 2.0
    theirs = {name: nn.Parameter(value.clone()) for name, value in ours.values.items()}
    dc, rest = nn.Parameter(theirs["sh"].data[:, :1].clone()), nn.Parameter(theirs["sh"].data[:, 1:].clone())
    groups = [{"params": [theirs[name]], "lr": getattr(rates, name)} for name in NAMES if name != "sh"]
    adam = torch.optim.Adam([*groups, {"params": [dc], "lr": 5e-2}, {"params": [rest], "lr": 6e-3}], eps=1e-15)
    regularisation = Regularisation(0.01, 0.02, ratio, 5.0)
    for round_of in range(4):
        generator = torch.Generator().manual_seed(round_of)
        gradients = {
            name: torch.randn(shape, generator=generator)
            for name, shape in (
                ("means", (30, 3)),
                ("scales", (30, 3)),
                ("quaternions", (30, 4)),
                ("opacities", (30,)),
                ("sh", (30, 16, 3)),
            )
        }
        scales, opacities = theirs["log_scales"].exp(), theirs["opacity_logits"].sigmoid()
        excess = torch.clamp(scales.amax(1) / scales.amin(1), min=5.0) - 5.0
        total: Tensor = (
            (gradients["means"] * theirs["means"]).sum()
            + (gradients["quaternions"] * theirs["quaternions"]).sum()
            + (gradients["sh"] * torch.cat([dc, rest], dim=1)).sum()
            + (gradients["scales"] * scales).sum()
            + (gradients["opacities"] * opacities).sum()
            + 0.01 * opacities.mean()
            + 0.02 * scales.mean()
            + ratio * excess.mean()
        )
        assert excess.any()
        adam.zero_grad()
        total.backward()
        adam.step()
        PlainOperations().adam(ours, gradients, rates, (0.9, 0.999), 1e-15, regularisation)
    assert ours.steps == 4
    expected = {**theirs, "sh": torch.cat([dc, rest], dim=1)}
    for name in NAMES:
        torch.testing.assert_close(ours.values[name], expected[name].detach(), atol=2e-6, rtol=2e-5)


def test_the_ratio_is_not_regularised_below_its_limit() -> None:
    now = state()
    now.values["log_scales"] *= 0.1
    gradients = {name: torch.zeros_like(now.values[name]) for name in ("means", "quaternions", "sh")}
    gradients |= {"scales": torch.zeros(30, 3), "opacities": torch.zeros(30)}
    assert not value_gradients(now, gradients, Regularisation(0, 0, 0.1, 5.0))["log_scales"].any()


def test_noise_has_the_covariance_of_the_gaussian_and_spares_opaque_ones() -> None:
    now = state(40_000)
    now.values["log_scales"][:] = torch.tensor([0.0, -1.0, 0.5])
    now.values["quaternions"][:] = torch.tensor([0.3, 0.5, -0.2, 1.0])
    now.values["opacity_logits"][:] = -8.0
    now.values["opacity_logits"][:10] = 5.0
    before = now.values["means"].clone()
    PlainOperations().add_noise(now, 2.0, seed=3)
    moved = now.values["means"] - before
    assert float(moved[:10].abs().max()) < 1e-9
    turn = rotations(torch.tensor([[0.3, 0.5, -0.2, 1.0]]))[0]
    covariance = turn @ torch.diag(torch.exp(2 * torch.tensor([0.0, -1.0, 0.5]))) @ turn.T
    weight = 2.0 * torch.sigmoid(torch.tensor(100 * (1 - 1 / (1 + np.exp(8.0)) - 0.995)))
    expected = (weight * covariance) @ (weight * covariance)
    torch.testing.assert_close(torch.cov(moved[10:].T), expected.float(), atol=0.05 * float(expected.max()), rtol=0)
    again = state(40_000)
    again.values.update({k: v.clone() for k, v in now.values.items()} | {"means": before.clone()})
    PlainOperations().add_noise(again, 2.0, seed=3)
    assert torch.equal(again.values["means"], now.values["means"])


def test_rotations_are_those_of_the_library() -> None:
    from worldexplorer.geometry.rotations import quaternion_to_matrix

    quaternions = np.random.default_rng(0).standard_normal((20, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    found = rotations(torch.from_numpy(3.0 * quaternions)).numpy()
    np.testing.assert_allclose(found, quaternion_to_matrix(quaternions), atol=1e-12)


@pytest.mark.parametrize("degree", range(4))
def test_harmonics_are_those_of_the_library(degree) -> None:
    from worldexplorer.geometry.spherical_harmonics import basis as expected

    directions = np.random.default_rng(0).standard_normal((20, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    np.testing.assert_allclose(
        basis(torch.from_numpy(directions), degree).numpy(), expected(directions, degree), atol=1e-12
    )


def test_a_machine_without_a_compiler_is_told_that_its_worlds_are_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(operations_module, "own_kernels_run", lambda: False)
    assert type(operations_for(torch.device("cuda"))) is PlainOperations
    assert "draws other random numbers" in caplog.text
    assert "the same and takes" not in caplog.text
