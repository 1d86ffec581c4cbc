"""VGGT's kernel against the same steps in torch, and the whole trunk against the package's own where it is there."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from worldexplorer.models.seva.operations import PlainOperations
from worldexplorer.models.vggt import prepare, run_trunk
from worldexplorer.models.vggt_attention import FusedAttention, RotationTable, _operations, is_fused, rotate_in_place

DEVICE = "cuda"


@pytest.mark.parametrize("heads", [2, 16])
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_queries_and_keys_are_normalised_and_turned_as_torch_does_it(heads: int, kind: torch.dtype) -> None:
    torch.manual_seed(0)
    q_norm, k_norm = nn.LayerNorm(64), nn.LayerNorm(64)
    for norm in (q_norm, k_norm):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    places = torch.cat([torch.zeros(5, 2, dtype=torch.long), torch.randint(1, 38, (36, 2))])
    trunk = SimpleNamespace(
        frame_blocks=[SimpleNamespace(block=SimpleNamespace(attn=SimpleNamespace(q_norm=q_norm)))],
        rope=SimpleNamespace(base_frequency=100.0),
    )
    table = RotationTable.of(places, trunk)
    parts = (3 * torch.randn(2, 41 * 3, 3, heads, 64)).to(kind)
    expected, found = parts.clone(), parts.to(DEVICE)
    with torch.inference_mode():
        rotate_in_place(expected, q_norm, k_norm, table)
        there = RotationTable(table.cosines.to(DEVICE), table.sines.to(DEVICE))
        rotate_in_place(found, copy.deepcopy(q_norm).to(DEVICE), copy.deepcopy(k_norm).to(DEVICE), there)
    found = found.cpu()
    assert torch.equal(found[:, :, 2], parts[:, :, 2]), "values stay"
    assert not torch.equal(expected[:, :, :2], parts[:, :, :2])
    # A value next to the middle between two that the type has may be rounded to either.
    step = torch.finfo(kind).eps * expected.float().abs().clamp(min=0.1)
    assert ((found.float() - expected.float()).abs() <= step).all()
    assert (found != expected).float().mean() < 0.01


def test_attention_over_many_tokens_is_torchs() -> None:
    """By whichever kernel is the fastest here."""
    torch.manual_seed(0)
    attention = SimpleNamespace(
        qkv=nn.Linear(1024, 3072), proj=nn.Identity(), q_norm=nn.LayerNorm(64), k_norm=nn.LayerNorm(64), num_heads=16
    )
    fused = FusedAttention(attention, _operations(torch.zeros(1, device=DEVICE))).to(DEVICE, torch.bfloat16)
    trunk = SimpleNamespace(
        frame_blocks=[SimpleNamespace(block=SimpleNamespace(attn=attention))],
        rope=SimpleNamespace(base_frequency=100.0),
    )
    table = RotationTable.of(torch.randint(0, 38, (1374, 2), device=DEVICE), trunk)
    tokens = torch.randn(1, 3 * 1374, 1024, device=DEVICE, dtype=torch.bfloat16)
    with torch.inference_mode():
        found = fused(tokens, table)
        fused._operations = PlainOperations()
        expected = fused(tokens, table)
    assert ((found.float() - expected.float()).square().mean() / expected.float().square().mean()).sqrt() < 0.01


@pytest.mark.requires_part("vggt")
def test_the_trunk_in_half_precision_is_as_near_to_full_precision_as_the_packages() -> None:
    from vggt.models.aggregator import Aggregator

    torch.manual_seed(0)
    trunk = Aggregator(img_size=56, depth=4, embed_dim=128, num_heads=2, patch_embed="conv").to(DEVICE).eval()
    for weight in trunk.parameters():
        nn.init.normal_(weight, std=0.1)
    pixels = torch.rand(5, 3, 56, 56, device=DEVICE)
    with torch.inference_mode():
        exact, _ = trunk(pixels[None])
        with torch.autocast("cuda", dtype=torch.bfloat16):
            package, _ = trunk(pixels[None])
        prepare(SimpleNamespace(aggregator=trunk, eval=lambda: trunk))
        assert is_fused(trunk)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            found = run_trunk(trunk, pixels, frozenset({1}))
    assert [one is not None for one in found] == [False, True, False, True]
    for layer in (1, 3):
        size = exact[layer].square().mean().sqrt()
        theirs, ours = ((one[layer] - exact[layer]).square().mean().sqrt() / size for one in (package, found))
        assert ours < 1.2 * theirs
        assert ours < 0.02
