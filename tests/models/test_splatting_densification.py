"""MCMC and the default strategy against their formulas."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from test_splatting_operations import state
from tiny_splats import recipe
from torch import Tensor

from worldexplorer.models.splatting.densification import (
    Density,
    Mcmc,
    Step,
    add_by_opacity,
    move_transparent,
    relocated,
)
from worldexplorer.models.splatting.operations import PlainOperations
from worldexplorer.models.splatting.recipe import Recipe
from worldexplorer.models.splatting.state import NAMES, GaussianState

LEAST = 0.005


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("copies", [1, 2, 3, 7, 20])
def test_relocation_is_the_published_double_sum(copies) -> None:
    opacity = 0.83
    faint = 1 - (1 - opacity) ** (1 / copies)
    total = sum(
        math.comb(i - 1, k) * (-1) ** k / math.sqrt(k + 1) * faint ** (k + 1)
        for i in range(1, copies + 1)
        for k in range(i)
    )
    scales = torch.tensor([[0.5, 1.0, 2.0]])
    found = relocated(torch.tensor([opacity]), scales, torch.tensor([copies]))
    assert float(found[0]) == pytest.approx(faint, abs=1e-6)
    torch.testing.assert_close(found[1], scales * opacity / total, atol=1e-5, rtol=1e-5)


def test_copies_in_one_place_are_as_opaque_together_as_the_one_was() -> None:
    opacities = torch.tensor([0.2, 0.7, 0.95])
    faint, _ = relocated(opacities, torch.ones(3, 3), torch.tensor([2, 5, 200]))
    together = 1 - (1 - faint.double()) ** torch.tensor([2, 5, 51])
    torch.testing.assert_close(together.float(), opacities, atol=1e-5, rtol=0)


def test_transparent_gaussians_move_onto_opaque_ones() -> None:
    now = state(60)
    now.values["opacity_logits"][:20] = -9.0
    now.values["opacity_logits"][20:] = 2.0
    for memory in (now.first, now.second):
        for value in memory.values():
            value += 1.0
    places = now.values["means"][20:].clone()
    assert move_transparent(now, LEAST, generator()) == 20
    assert now.count == 60
    for mean in now.values["means"][:20]:
        assert (places == mean).all(dim=1).any()
    assert float(now.opacities().min()) > LEAST
    shared = now.values["opacity_logits"][20:] < 2.0
    assert 1 <= int(shared.sum()) <= 20
    assert not now.first["sh"][20:][shared].any()
    assert bool((now.first["sh"][20:][~shared] == 1.0).all())


def test_nothing_moves_where_all_are_opaque_or_none_is() -> None:
    for logit, dead in ((2.0, 0), (-9.0, 60)):
        now = state(60)
        now.values["opacity_logits"][:] = logit
        before = now.values["means"].clone()
        assert move_transparent(now, LEAST, generator()) == dead
        assert torch.equal(now.values["means"], before)


def test_added_gaussians_share_what_their_sources_show() -> None:
    now = state(50)
    now.values["opacity_logits"][:] = -20.0
    now.values["opacity_logits"][7] = 1.0
    opacity = float(now.opacities()[7])
    add_by_opacity(now, 3, LEAST, generator())
    assert now.count == 53
    for name in NAMES:
        for copy in now.values[name][50:]:
            assert torch.equal(copy, now.values[name][7])
        assert not now.first[name][50:].any()
    assert float(1 - (1 - now.opacities()[7].double()) ** 4) == pytest.approx(opacity, abs=1e-5)
    add_by_opacity(now, 0, LEAST, generator())
    assert now.count == 53


def test_mcmc_grows_by_a_share_up_to_its_cap_and_adds_noise_always() -> None:
    how = replace(Recipe(), refine_from=0, refine_until=1000)
    strategy, counts = Mcmc(how, cap=70), []
    now = state(60)
    for image in (100, 150, 200, 300, 400):
        before = now.values["means"].clone()
        changed = strategy.after_step(now, Step(image, 1e-4, {}, image), PlainOperations())
        assert not torch.equal(now.values["means"][:60], before[:60])
        assert changed == (now.count != len(before))
        counts.append(now.count)
    assert counts == [63, 63, 66, 69, 70]
    assert not strategy.after_step(now, Step(1000, 1e-4, {}, 0), PlainOperations())
    assert now.count == 70


class Pulled:
    """Projected means whose absolute gradients are known."""

    def __init__(self, pulls: Tensor) -> None:
        self.absgrad, self.device = torch.stack([pulls, torch.zeros_like(pulls)], dim=-1)[None], pulls.device


def info(pulls: Tensor, radius: int = 3) -> dict[str, object]:
    radii = torch.full((1, len(pulls), 2), radius, dtype=torch.int32)
    return {"means2d": Pulled(pulls), "radii": radii, "width": 32, "height": 32, "n_cameras": 1}


def density(**changes: object) -> Density:
    how = replace(
        recipe(strategy="default"), refine_from=0, refine_interval=10, reset_interval=1000, radius_until=0, **changes
    )
    return Density(how, training_views=0)


def small(count: int = 40) -> GaussianState:
    now = state(count)
    now.values["log_scales"] = -6.0 + 0.1 * now.values["log_scales"]
    now.values["opacity_logits"][:] = 1.0
    return now


def test_what_is_pulled_is_copied_when_small_and_split_when_large() -> None:
    now = small()
    now.values["log_scales"][5] = -1.0
    before = {name: value.clone() for name, value in now.values.items()}
    pulls = torch.zeros(40)
    pulls[3] = pulls[5] = 1.0
    assert density().after_step(now, Step(10, 1e-4, info(pulls), 0), PlainOperations())
    assert now.count == 42
    kept = [row for row in range(40) if row != 5]
    for name in NAMES:
        assert torch.equal(now.values[name][:39], before[name][kept])
        assert torch.equal(now.values[name][39], before[name][3])
        assert not now.first[name][39:].any()
    torch.testing.assert_close(now.values["log_scales"][40:], torch.full((2, 3), -1.0 - math.log(1.6)))
    halves = now.values["means"][40:]
    assert not torch.equal(halves[0], halves[1])
    assert float((halves - before["means"][5]).norm(dim=1).max()) < 6 * math.exp(-1.0)


def test_what_is_hardly_pulled_stays() -> None:
    now = small()
    strategy = density()
    assert not strategy.after_step(now, Step(10, 1e-4, info(torch.full((40,), 1e-5)), 0), PlainOperations())
    assert now.count == 40
    assert strategy.arrays() == {}


def test_pulls_are_means_over_the_steps_that_showed_a_gaussian() -> None:
    strategy, now = density(growth_gradient=16.0 * 0.5), small()
    pulls = torch.zeros(40)
    pulls[:2] = 0.8
    strategy.after_step(now, Step(11, 1e-4, info(pulls), 0), PlainOperations())
    unseen = info(torch.zeros(40))
    unseen["radii"][0, 1] = 0  # type: ignore[index]
    strategy.after_step(now, Step(12, 1e-4, unseen, 0), PlainOperations())
    gathered = strategy.arrays()
    assert gathered["seen"][:3].tolist() == [2.0, 1.0, 2.0]
    assert gathered["pull"][:3].tolist() == pytest.approx([12.8, 12.8, 0.0])
    other = density()
    other.restore(gathered)
    assert other.arrays().keys() == gathered.keys()


def test_transparent_and_huge_gaussians_go() -> None:
    now = small()
    now.values["opacity_logits"][1] = -9.0
    now.values["log_scales"][2] = 3.0
    strategy = density(remove_scale=0.1)
    assert strategy.after_step(now, Step(10, 1e-4, info(torch.zeros(40)), 0), PlainOperations())
    assert now.count == 39
    strategy = Density(replace(recipe(strategy="default"), refine_from=0, reset_interval=1, remove_scale=0.1), -10)
    strategy.after_step(now, Step(10, 1e-4, info(torch.zeros(39)), 0), PlainOperations())
    assert now.count == 38


def test_what_fills_the_picture_is_split_early_and_removed() -> None:
    how = replace(recipe(strategy="default"), refine_from=0, reset_interval=1000, radius_until=100, split_radius=0.5)
    now = small()
    Density(how, -10).after_step(now, Step(10, 1e-4, info(torch.zeros(40), radius=20), 0), PlainOperations())
    assert now.count == 80


def test_opacities_come_down_now_and_then() -> None:
    strategy = Density(replace(recipe(strategy="default"), refine_from=0, reset_interval=30), 0)
    now = small()
    now.first["opacity_logits"][:] = 1.0
    strategy.after_step(now, Step(30, 1e-4, info(torch.zeros(40)), 0), PlainOperations())
    torch.testing.assert_close(now.opacities(), torch.full((40,), 0.01))
    assert not now.first["opacity_logits"].any()


def test_after_refinement_nothing_changes() -> None:
    strategy, now = density(), small()
    assert not strategy.after_step(now, Step(55, 1e-4, info(torch.ones(40)), 0), PlainOperations())
    assert now.count == 40
