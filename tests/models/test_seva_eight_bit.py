"""Eight-bit products: how they round, what they leave alone, and that they are asked for by name."""

from __future__ import annotations

import pytest
import torch
from seva_fixtures import reference, relative_error, tiny_network
from torch import nn

from worldexplorer.errors import UserError
from worldexplorer.models.seva.eight_bit import (
    LARGEST,
    EightBitOperations,
    eight_bit_product,
    quantise,
    require_eight_bit_units,
)
from worldexplorer.models.seva.operations import PlainOperations
from worldexplorer.models.seva.settings import SevaSettings

HALF_A_STEP = 2.0**-4
"""Of a number with three bits after the leading one, relative."""


def test_every_row_uses_the_whole_range_and_is_off_by_half_a_step() -> None:
    x = torch.randn(50, 64, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 6, 50)[:, None]
    values, scales = quantise(x)
    assert values.dtype == torch.float8_e4m3fn
    assert torch.equal(values.float().abs().amax(dim=1), torch.full((50,), LARGEST))
    least = scales * 2.0**-6  # numbers below have an absolute step
    assert ((values.float() * scales - x).abs() <= HALF_A_STEP * torch.maximum(x.abs(), least) * 1.001).all()


def test_a_row_of_zeros_stays_zeros() -> None:
    values, scales = quantise(torch.zeros(2, 8))
    assert torch.equal(values.float() * scales, torch.zeros(2, 8))


def test_a_product_of_numbers_that_are_kept_is_exact() -> None:
    x, weight = torch.tensor([[448.0, -2.0, 0.5]]), torch.tensor([[1.0, 448.0, 16.0], [0.0, 0.0, 3.5]])
    assert torch.equal(eight_bit_product(x, weight), x @ weight.T)


def test_products_round_and_narrow_ones_do_not() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 64, generator=generator)
    wide, gate = nn.Linear(64, 96, bias=False), nn.Linear(64, 128)
    exact, rounded, narrow = (
        PlainOperations(),
        EightBitOperations(least_channels=64, least_gated_channels=64),
        EightBitOperations(),
    )
    for run in (lambda o: o.linear(x, wide), lambda o: o.gated(x, gate)):
        expected = run(exact)
        assert 1e-3 < relative_error(run(rounded), expected) < 6e-2
        assert torch.equal(run(narrow), expected)


@torch.inference_mode()
def test_a_network_with_them_stays_near() -> None:
    known, network = reference(), tiny_network()
    network.operations = EightBitOperations(least_channels=0, least_gated_channels=0)
    found = network(
        known["forward.x"], known["forward.timestep"], known["forward.crossattn"], known["forward.dense"], 5
    )
    assert 1e-2 < relative_error(found, known["forward.out"]) < 0.2


def test_it_is_a_shortcut_that_is_recorded() -> None:
    assert SevaSettings().shortcuts() == {}
    assert SevaSettings(fp8=True).shortcuts() == {"fp8": True}


def test_gpus_without_such_units_are_refused() -> None:
    require_eight_bit_units((8, 9), "NVIDIA L4")
    with pytest.raises(UserError, match=r"capability is 8\.6") as error:
        require_eight_bit_units((8, 6), "NVIDIA GeForce RTX 3090")
    assert "RTX 3090" in str(error.value)
