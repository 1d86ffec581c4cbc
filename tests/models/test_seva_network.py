"""The network against the reference numbers: its parameters, every block, one whole call."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from seva_fixtures import (
    FIXTURES,
    FRAMES,
    TINY,
    reference,
    relative_error,
    tiny_config,
    tiny_network,
    tiny_weights,
)
from torch import nn

from worldexplorer.errors import UserError
from worldexplorer.models.seva.checkpoint import load_network
from worldexplorer.models.seva.config import SevaConfig
from worldexplorer.models.seva.layers import TokenAttention
from worldexplorer.models.seva.network import SevaNetwork, padded_convolution, sinusoids
from worldexplorer.models.seva.upsampling import upsampling_weights

TOLERANCE = 1e-5
CPU = torch.device("cpu")


def activations() -> dict[str, torch.Tensor]:
    """What the blocks named in the reference give for its call."""
    network, known = tiny_network(), reference()
    seen: dict[str, torch.Tensor] = {}

    def listen(name: str, module: nn.Module) -> None:
        module.register_forward_hook(lambda _, __, output: seen.__setitem__(name, output))

    listen("act.input_blocks.1.0.resblock", network.input_blocks[1][0])
    listen("act.input_blocks.1.1.transformer", network.input_blocks[1][1])
    listen("act.middle_block", network.middle_block[-1])
    for kind in ("input_blocks", "output_blocks"):
        for number, entry in enumerate(getattr(network, kind)):
            listen(f"act.{kind}.{number}", entry[-1])
    with torch.inference_mode():
        seen["forward.out"] = network(
            known["forward.x"], known["forward.timestep"], known["forward.crossattn"], known["forward.dense"], FRAMES
        )
    # The first entry is one convolution, which the network runs by a function of its own.
    seen["act.input_blocks.0"] = network.input_blocks[0][0](known["forward.x"])
    return seen


@pytest.fixture(scope="module")
def seen() -> dict[str, torch.Tensor]:
    return activations()


@pytest.mark.parametrize("name", [*(name for name in reference() if name.startswith("act.")), "forward.out"])
def test_every_block_gives_the_reference_numbers(seen: dict[str, torch.Tensor], name: str) -> None:
    assert relative_error(seen[name], reference()[name]) < TOLERANCE


def test_the_full_size_has_the_published_parameters_and_no_other() -> None:
    expected = json.loads((FIXTURES / "parameters_full.json").read_text())
    with torch.device("meta"):
        network = SevaNetwork(SevaConfig())
    found = {name: list(tensor.shape) for name, tensor in network.state_dict().items()}
    assert found == expected
    assert len(found) == 1146
    assert 1.26e9 < sum(tensor.numel() for tensor in network.state_dict().values()) < 1.27e9


def test_weights_come_out_as_they_went_in() -> None:
    state = tiny_network().state_dict()
    assert state.keys() == tiny_weights().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in tiny_weights().items())


def test_a_checkpoint_loads_by_its_own_sizes() -> None:
    network = load_network(TINY, None, CPU, torch.float32)
    assert network.config == tiny_config()
    assert not network.training
    assert torch.equal(network.out[2].weight, tiny_weights()["out.2.weight"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda weights: weights.pop("out.2.bias"), "lacks out.2.bias"),
        (lambda weights: weights.update(extra=torch.zeros(1)), "has extra, which the network has not"),
        (lambda weights: weights.update({"out.2.bias": torch.zeros(5)}), r"out.2.bias as \[5\] instead of \[4\]"),
        (lambda weights: weights.pop("middle_block.1.transformer_blocks.0.attn1.to_k.weight"), "lacks middle_block.1"),
    ],
)
def test_a_file_that_is_not_sevas_is_refused(tmp_path, change, words) -> None:
    weights = dict(tiny_weights())
    change(weights)
    save_file(weights, tmp_path / "wrong.safetensors")
    with pytest.raises(UserError, match=words):
        load_network(tmp_path / "wrong.safetensors", tiny_config(), CPU, torch.float32)


def test_a_damaged_file_is_named(tmp_path) -> None:
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(TINY.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"not a safetensors file.*damaged.safetensors"):
        load_network(path, None, CPU, torch.float32)


def test_attention_to_one_token_is_its_projection() -> None:
    """The shortcut against the attention it stands for."""
    torch.manual_seed(0)
    block = TokenAttention(16, 12)
    x, token = torch.randn(3, 5, 16), torch.randn(3, 1, 12)
    heads = [
        layer.unflatten(2, (2, 8)).transpose(1, 2) for layer in (block.to_q(x), block.to_k(token), block.to_v(token))
    ]
    full = block.to_out(nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))
    torch.testing.assert_close(block(token[:, 0])[:, None].expand_as(full), full)


def test_a_batch_element_does_not_see_its_neighbour() -> None:
    network, known = tiny_network(), reference()
    names = ("forward.x", "forward.timestep", "forward.crossattn", "forward.dense")
    with torch.inference_mode():
        alone = network(*(known[name][FRAMES:] for name in names), FRAMES)
    assert relative_error(alone, known["forward.out"][FRAMES:]) < TOLERANCE


def test_doubling_first_or_folding_the_weights_is_the_same() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 8, 5, 7), torch.randn(6, 8, 3, 3)
    doubled = nn.functional.conv2d(nn.functional.interpolate(x, scale_factor=2.0), weight, padding=1)
    folded = nn.functional.conv2d(x, upsampling_weights(weight), padding=1).unflatten(1, (2, 2, 6))
    for a in (0, 1):
        for b in (0, 1):
            place = folded[:, a, b, :, a : a + 5, b : b + 7]
            torch.testing.assert_close(place, doubled[:, :, a::2, b::2], atol=1e-5, rtol=1e-5)


def test_filling_up_the_channels_changes_nothing() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(11, 4, 3, padding=1).bfloat16()
    x = torch.randn(2, 11, 6, 5).bfloat16()
    torch.testing.assert_close(padded_convolution(x, convolution), convolution(x), atol=2e-2, rtol=2e-2)


def test_sinusoids_start_with_the_cosines() -> None:
    wave = sinusoids(torch.tensor([0.0, 1.0]), 8)
    assert wave[0].tolist() == [1.0] * 4 + [0.0] * 4
    angles = torch.tensor([1.0, 1e-1, 1e-2, 1e-3])
    torch.testing.assert_close(wave[1], torch.cat([angles.cos(), angles.sin()]))
