"""SEVA's kernels against plain torch, its recorded steps against direct ones, half precision against float32."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import pytest
import torch
from seva_fixtures import reference, relative_error, tiny_conditions, tiny_network
from torch import Tensor, nn

from worldexplorer.models.seva.attention import attention_backends
from worldexplorer.models.seva.config import SevaConfig
from worldexplorer.models.seva.eight_bit import LEAST_CAPABILITY, EightBitOperations
from worldexplorer.models.seva.network import SevaNetwork
from worldexplorer.models.seva.operations import Modulation, Operations, PlainOperations
from worldexplorer.models.seva.sampler import Conditions, SamplingPlan, sample
from worldexplorer.models.seva.winograd import winograd_weights
from worldexplorer.progress import silent

HALF_TOLERANCE = 2e-3
EIGHT_BIT_TOLERANCE = 2e-2
"""Between kernels and definition: the units round sums of eight-bit products."""
FRAMES, SIDE = 5, 24
KINDS = (torch.float16, torch.bfloat16)


@pytest.fixture(params=[False, True], ids=["own kernels", "with packages"])
def fused(request: pytest.FixtureRequest) -> Operations:
    from worldexplorer.models.seva.fused import FusedOperations

    operations = FusedOperations(packages=request.param)
    if request.param and not (operations.flash_attention and operations.fused_products):
        pytest.skip("flash-attn-4 and quack-kernels on a Hopper GPU")
    return operations


def normal(*shape: int, kind: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, device="cuda", dtype=torch.float32).to(kind)


def maps(channels: int, kind: torch.dtype, side: int = SIDE) -> Tensor:
    return normal(2 * FRAMES, channels, side, side - 3, kind=kind).to(memory_format=torch.channels_last)


def check(operations: Operations, kind: torch.dtype, run, limit: float = HALF_TOLERANCE) -> None:
    """Compare with plain float32 on the same numbers."""
    torch.manual_seed(1)
    found = run(operations, kind)
    torch.manual_seed(1)
    expected = run(PlainOperations(), torch.float32)
    limit *= 8 if kind == torch.bfloat16 else 1
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert relative_error(one.float(), other) < limit


def layer(module: nn.Module, kind: torch.dtype) -> nn.Module:
    """Random numbers in every parameter, representable in either half type."""
    for parameter in module.cuda().parameters():
        parameter.data = normal(*parameter.shape, kind=torch.bfloat16).float() * 0.25
    return module.to(kind)


def rounded(tensor: Tensor, kind: torch.dtype) -> Tensor:
    return tensor.to(torch.bfloat16).to(kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [(64,), (128,), (64, 128), (320, 640), (32, 64)])
@pytest.mark.parametrize("modulated", [False, True])
def test_group_norm(fused, kind, channels, modulated) -> None:
    def run(operations: Operations, kind: torch.dtype) -> tuple[Tensor]:
        whole = sum(channels)
        parts = tuple(rounded(3 + maps(one, torch.float32), kind) for one in channels)
        norm = layer(nn.GroupNorm(32, whole), kind)
        dense = rounded(normal(FRAMES, 6, SIDE, SIDE - 3), kind)
        modulation = Modulation(dense, layer(nn.Conv2d(6, 2 * whole, 1), kind)) if modulated else None
        offset = None if modulated else rounded(normal(1, whole), kind)
        return (operations.group_norm(parts, norm, offset=offset, activate=modulated, modulation=modulation),)

    check(fused, kind, run)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [64, 192, 320, 640])
@pytest.mark.parametrize("with_token", [False, True])
def test_sums_and_their_norms(fused, kind, channels, with_token) -> None:
    def run(operations: Operations, kind: torch.dtype) -> tuple[Tensor, ...]:
        x, base = (rounded(normal(2 * FRAMES, 35, size), kind) for size in (4 * channels, channels))
        token = rounded(normal(2, channels), kind) if with_token else None
        linear = layer(nn.Linear(4 * channels, channels), kind)
        norm = layer(nn.LayerNorm(channels), kind)
        bias = norm.bias if with_token else None
        total, normed = operations.linear_add_norm(x, linear, base, norm, token=token, base_bias=bias)
        results = [total, normed, operations.linear_add(x, linear, base), operations.layer_norm(base, norm, bias)]
        if token is not None:
            results.append(operations.linear_norm(x, linear, base, norm, token))
        return tuple(results)

    check(fused, kind, run)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [64, 320])
def test_the_end_of_a_transformer(fused, kind, channels) -> None:
    def run(operations: Operations, kind: torch.dtype) -> tuple[Tensor]:
        x, seen, base = (rounded(normal(2 * FRAMES, 35, channels), kind) for _ in range(3))
        gate, last = layer(nn.Linear(channels, 8 * channels), kind), layer(nn.Linear(4 * channels, channels), kind)
        projection = layer(nn.Linear(channels, channels), kind)
        return (operations.close(x, gate, last, seen, projection, base),)

    check(fused, kind, run)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [9, 1100])
@pytest.mark.parametrize("spread", [1, 6], ids=["even weights", "few large weights"])
def test_attention(fused, kind, length, spread) -> None:
    def run(operations: Operations, kind: torch.dtype) -> tuple[Tensor, Tensor]:
        qkv = rounded(normal(2 * FRAMES, length, 3 * 128), kind)
        qkv[..., :256] *= spread
        with attention_backends(torch.device("cuda")):
            return operations.attention(qkv, 64), operations.temporal_attention(qkv, FRAMES, 64)

    check(fused, kind, run, HALF_TOLERANCE * spread**0.5)


@pytest.mark.parametrize("frames", [1, 2, 16, 21, 24, 40, 130])
def test_attention_along_any_number_of_frames(fused, frames) -> None:
    qkv = normal(2 * frames, 7, 3 * 64, kind=torch.float16)
    found = fused.temporal_attention(qkv, frames, 64)
    assert relative_error(found.float(), PlainOperations().temporal_attention(qkv.float(), frames, 64)) < HALF_TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [64, 320])
def test_gated_products(fused, kind, channels) -> None:
    def run(operations: Operations, kind: torch.dtype) -> tuple[Tensor]:
        x = rounded(normal(2 * FRAMES, 35, channels), kind)
        return (operations.gated(x, layer(nn.Linear(channels, 8 * channels), kind)),)

    check(fused, kind, run)


@pytest.mark.parametrize("kind", KINDS)
def test_eight_bit_products(kind) -> None:
    from worldexplorer.models.seva.fused_eight_bit import FusedEightBitOperations

    if torch.cuda.get_device_capability() < LEAST_CAPABILITY:
        pytest.skip("a GPU with eight-bit matrix units")

    def run(operations: Operations, kind: torch.dtype) -> tuple[Tensor, ...]:
        x, seen, base = (rounded(normal(2 * FRAMES, 35, 1280), kind) for _ in range(3))
        x[0, 0] = 0
        wide, last = layer(nn.Linear(1280, 3840, bias=False), kind), layer(nn.Linear(5120, 1280), kind)
        gate, projection = layer(nn.Linear(1280, 10240), kind), layer(nn.Linear(1280, 1280), kind)
        closed = operations.close(x, gate, last, seen, projection, base)
        return operations.linear(x, wide), operations.gated(x, gate), closed

    torch.manual_seed(1)
    found = run(FusedEightBitOperations(), kind)
    torch.manual_seed(1)
    for one, other in zip(found, run(EightBitOperations(), torch.float32), strict=True):
        assert relative_error(one.float(), other) < EIGHT_BIT_TOLERANCE


def test_gelu_holds_far_from_zero(fused) -> None:
    linear = nn.Linear(64, 128).cuda().half()
    linear.weight.data.zero_()
    linear.bias.data = torch.cat([torch.ones(64), torch.linspace(-60, 60, 64)]).cuda().half()
    found = fused.gated(torch.zeros(1, 16, 64, device="cuda", dtype=torch.float16), linear)[0, 0].float()
    gate = linear.bias[64:].float()
    assert (found - nn.functional.gelu(gate)).abs().max() < 0.02  # of 60, whose half-precision spacing is 0.03


@pytest.mark.parametrize("kind", KINDS)
def test_maps(fused, kind) -> None:
    def run(operations: Operations, kind: torch.dtype) -> tuple[Tensor, ...]:
        parts = tuple(
            rounded(maps(size, torch.float32), kind).to(memory_format=torch.channels_last) for size in (64, 128)
        )
        one = layer(nn.Conv2d(192, 64, 1), kind)
        three = layer(nn.Conv2d(64, 64, 3, padding=1), kind)
        projected = operations.project(parts, one)
        return projected, operations.add((parts[0], projected), one.bias), operations.upsample(parts[0], three)

    check(fused, kind, run)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [(9, 9), (18, 15), (6, 7)])
@pytest.mark.parametrize("channels", [(64, 128), (640, 320)])
def test_winograd_convolutions(kind, side, channels, monkeypatch) -> None:
    from worldexplorer.models.seva.kernels import winograd

    torch.manual_seed(1)
    x, base = (rounded(normal(2 * FRAMES, size, *side), kind) for size in channels)
    x, base = (part.to(memory_format=torch.channels_last) for part in (x, base))
    three = layer(nn.Conv2d(*channels, 3, padding=1), kind)
    weights = winograd_weights(three.weight)
    alone = nn.functional.conv2d(x.float(), three.weight.float(), padding=1)
    limit = HALF_TOLERANCE * (8 if kind == torch.bfloat16 else 1)
    for bytes_at_once in (winograd._MOST_BYTES, x.numel()):  # everything, and a few frames at a time
        monkeypatch.setattr(winograd, "_MOST_BYTES", bytes_at_once)
        assert relative_error(winograd.convolve(x, weights).float(), alone) < limit
        summed = winograd.convolve(x, weights, base, three.bias)
        assert relative_error(summed.float(), alone + base.float() + three.bias.float()[:, None, None]) < limit


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [64, 512])
def test_convolutions_wide_and_narrow(fused, kind, channels) -> None:
    def run(operations: Operations, kind: torch.dtype) -> tuple[Tensor, ...]:
        x, base = (rounded(maps(channels, torch.float32), kind) for _ in range(2))
        three = layer(nn.Conv2d(channels, channels, 3, padding=1), kind)
        return operations.convolve(x, three), operations.convolve_add(x, three, base, three.bias)

    check(fused, kind, run)


@pytest.fixture(params=[False, True], ids=["direct", "winograd"])
def every_convolution(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Make even narrow convolutions pay, or none; count those computed by Winograd's filtering."""
    from worldexplorer.models.seva.kernels import winograd

    counted: Counter[str] = Counter()
    convolve = winograd.convolve

    def counting(*arguments: Any) -> Tensor:
        counted["winograd"] += 1
        return convolve(*arguments)

    monkeypatch.setattr(winograd, "convolve", counting)
    monkeypatch.setattr("worldexplorer.models.seva.winograd.LEAST_CHANNELS", 32 if request.param else 1e9)
    return counted


def small() -> tuple[SevaNetwork, Conditions, Tensor, Tensor]:
    """A network with every kind of block, wide enough for the kernels."""
    torch.manual_seed(0)
    network = SevaNetwork(SevaConfig(model_channels=64, context_dim=32)).cuda().eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(0, parameter[0].numel() ** -0.5)
    given = torch.arange(FRAMES, device="cuda")[None] < 2
    latents = normal(1, FRAMES, 4, SIDE, SIDE) * given[..., None, None, None]
    conditions = Conditions(latents, given, normal(1, 32), normal(1, FRAMES, 6, SIDE, SIDE))
    return network, conditions, normal(1, FRAMES, 4, SIDE, SIDE), torch.full((1, FRAMES), 3.0, device="cuda")


@torch.inference_mode()
def test_half_precision_follows_float32(fused, every_convolution, request) -> None:
    network, conditions, noise, scales = small()
    with attention_backends(torch.device("cuda")):
        expected = sample(network, conditions, noise, scales, SamplingPlan(4), silent)
        network.half().to(memory_format=torch.channels_last)
        network.operations = fused
        found = sample(network, conditions, noise, scales, SamplingPlan(4), silent)
    assert relative_error(found, expected) < 2e-2
    assert bool(every_convolution) == ("winograd" in request.node.callspec.id)


@torch.inference_mode()
@pytest.mark.usefixtures("every_convolution")
def test_a_recorded_step_is_the_step(fused) -> None:
    from worldexplorer.models.seva.recording import RecordedStep

    network, conditions, noise, scales = small()
    network.half().to(memory_format=torch.channels_last)
    network.operations = fused
    step = RecordedStep()
    plan = SamplingPlan(3, guidance_interval=(0.0, 20.0))
    other = dataclasses.replace(conditions, token=-conditions.token)
    for inputs in (conditions, other, conditions):
        with attention_backends(torch.device("cuda")):
            direct = sample(network, inputs, noise, scales, plan, silent)
            recorded = sample(network, inputs, noise, scales, plan, silent, step)
        assert torch.equal(recorded, direct)


@torch.inference_mode()
def test_the_reference_sampling_on_a_gpu() -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    known, conditions = reference(), tiny_conditions()
    moved = Conditions(*(getattr(conditions, field.name).cuda() for field in dataclasses.fields(conditions)))
    scales = torch.full((1, 5), 3.0, device="cuda")
    noise = known["sample.noise"][None].cuda()
    found = sample(tiny_network().cuda(), moved, noise, scales, SamplingPlan(4), silent)
    expected = sample(tiny_network(), conditions, noise.cpu(), scales.cpu(), SamplingPlan(4), silent)
    assert relative_error(found.cpu(), expected) < 1e-4
