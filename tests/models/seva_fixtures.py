"""The SEVA fixtures, and networks small enough for a CPU."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from worldexplorer.models.seva.config import SevaConfig
from worldexplorer.models.seva.network import SevaNetwork
from worldexplorer.models.seva.sampler import Conditions

FIXTURES = Path(__file__).parent / "fixtures"
TINY = FIXTURES / "tiny.safetensors"
FRAMES = 5


@cache
def reference() -> dict[str, Tensor]:
    with safe_open(FIXTURES / "reference.safetensors", "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)


@cache
def tiny_weights() -> dict[str, Tensor]:
    with safe_open(TINY, "pt") as file:
        return {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118


@cache
def tiny_config() -> SevaConfig:
    with safe_open(TINY, "pt") as file:
        return SevaConfig.from_metadata(json.loads(file.metadata()["config"]))


def tiny_network() -> SevaNetwork:
    network = SevaNetwork(tiny_config())
    network.load_state_dict(tiny_weights(), strict=True)
    return network.eval().requires_grad_(requires_grad=False)


def tiny_conditions() -> Conditions:
    """Of the fixture's sampling."""
    known = reference()
    return Conditions(
        latents=known["cond.replace"][None, :, :4],
        given=known["cond.mask"][None] > 0,
        token=known["cond.crossattn"][:1, 0],
        pluecker=known["cond.concat"][None, :, 1:],
    )


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())
