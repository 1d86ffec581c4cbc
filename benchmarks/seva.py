"""What a step of SEVA costs on this GPU, variant by variant, and a whole sampling; random weights at full size.

Prints milliseconds a step, TFLOP/s, the share of the measured matrix-product rate, peak memory and time by kernel
group, the error of half precision, and seconds of a whole sampling with encoding and decoding. The packages that some
variants use (flash-attn-4, quack-kernels) are left out where they are not installed.

Example:
    python benchmarks/seva.py --json seva.json
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_seva import random_network, save_random_weights
from rich.console import Console
from rich.table import Table
from torch import Tensor

from worldexplorer.models.seva.attention import attention_backends
from worldexplorer.models.seva.config import SevaConfig
from worldexplorer.models.seva.fused import FusedOperations
from worldexplorer.models.seva.fused_eight_bit import FusedEightBitOperations
from worldexplorer.models.seva.network import SevaNetwork
from worldexplorer.models.seva.operations import Operations, PlainOperations
from worldexplorer.models.seva.recording import RecordedStep
from worldexplorer.models.seva.sampler import (
    Conditions,
    SamplingPlan,
    Step,
    StepInputs,
    noise_levels,
    sample,
    step_inputs,
    take_step,
)
from worldexplorer.models.seva.settings import SevaSettings
from worldexplorer.progress import silent

FRAMES, SIDE, STEPS, GIVEN = 21, 72, 50, 8
_DEVICE = torch.device("cuda")
_GIB = 2**30
_GROUPS = (
    ("attention", r"sdpa|flash|fmha|Flash"),
    ("attention along frames", r"^_attend"),
    ("gated products", r"gated|value_times_gelu|EpiMod|gemm_epi"),
    ("convolutions", r"xmma|implicit_gemm|conv|dgrad|wgrad|cudnn"),
    ("Winograd's transforms", r"^_transform|^_gather"),
    ("matrix products", r"nvjet|gemm|cutlass|cublas"),
    ("normalisations", r"_sums|_moments|_apply|norm|triton_red|triton_per"),
)
"""Kernel groups and what their kernels' names contain; the first that fits."""
_KINDS: dict[str, tuple[torch.dtype, Callable[[], Operations]]] = {
    "float16": (torch.float16, FusedOperations),
    "float16, direct convolutions": (torch.float16, lambda: FusedOperations(winograd=False)),
    "float16, fp8": (torch.float16, FusedEightBitOperations),
    "bfloat16": (torch.bfloat16, FusedOperations),
}
"""Kinds of half precision; bfloat16 last, to which the weights are rounded for good."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--variants", nargs="*", help="words of the names of those to run; all unless given")
    parser.add_argument("--parts", nargs="*", default=["steps", "precision", "whole"])
    parser.add_argument("--repetitions", type=int, default=12)
    parser.add_argument("--kinds", nargs="*", default=list(_KINDS), help="of half precision, for the part `precision`")
    parser.add_argument(
        "--against-float16",
        action="store_true",
        help=f"compare results of {STEPS} steps with float16's only: float32's take a minute or two",
    )
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    console = Console(width=150)
    figures: dict[str, Any] = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__}
    figures["matrix TFLOP/s"] = round(matrix_rate(), 1)
    figures["step TFLOP"] = round(step_flops(SevaConfig()) / 1e12, 2)
    console.print(figures)
    network = random_network(_DEVICE)
    if "steps" in arguments.parts:
        figures["steps"] = measure_steps(network, arguments.variants, arguments.repetitions, figures, console)
    if "precision" in arguments.parts:
        figures["precision"] = measure_precision(
            network, arguments.kinds, console, against_float16=arguments.against_float16
        )
        console.print(figures["precision"])
    if "whole" in arguments.parts:
        figures["whole"] = measure_whole(network)
        console.print(figures["whole"])
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1))


def conditions(samplings: int = 1) -> Conditions:
    """Random ones, the first frames given."""
    generator = torch.Generator(_DEVICE).manual_seed(1)
    given = (torch.arange(FRAMES, device=_DEVICE) < GIVEN).expand(samplings, -1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(samplings, *shape, device=_DEVICE, generator=generator)

    latents = normal(FRAMES, 4, SIDE, SIDE) * given[..., None, None, None]
    return Conditions(latents, given, normal(SevaConfig().context_dim), 0.3 * normal(FRAMES, 6, SIDE, SIDE))


def measure_steps(
    network: SevaNetwork, words: list[str] | None, repetitions: int, figures: dict[str, Any], console: Console
) -> dict[str, Any]:
    """Every variant's step."""
    every: dict[str, tuple[Callable[[], Operations], Callable[[], Step], int]] = {
        "plain torch": (PlainOperations, lambda: take_step, 1),
        "plain torch, compiled": (PlainOperations, lambda: torch.compile(take_step), 1),
        "own kernels": (lambda: FusedOperations(packages=False), lambda: take_step, 1),
        "own kernels, recorded": (lambda: FusedOperations(packages=False), RecordedStep, 1),
        "own kernels and packages, recorded": (FusedOperations, RecordedStep, 1),
        "the same, direct convolutions": (lambda: FusedOperations(winograd=False), RecordedStep, 1),
        "the same, eight-bit products (fp8)": (FusedEightBitOperations, RecordedStep, 1),
        "the same, two samplings at once": (FusedOperations, RecordedStep, 2),
    }
    chosen = {name: how for name, how in every.items() if not words or any(word in name for word in words)}
    scale = figures["step TFLOP"]
    table = Table(title=f"a step of {FRAMES} frames at {8 * SIDE} pixels with guidance, {figures['gpu']}")
    for column in ("variant", "ms", "TFLOP/s", "of the matrix rate", "peak GiB", "first step s"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    rows = {}
    for name, (operations, step, samplings) in chosen.items():
        network.operations = operations()
        row = time_step(network, step(), samplings, repetitions)
        row["TFLOP/s"] = round(scale / row["ms"] * 1e3, 1)
        row["of the matrix rate"] = round(row["TFLOP/s"] / figures["matrix TFLOP/s"], 3)
        rows[name] = row
        console.print(name, row)
        table.add_row(name, *(str(row[key]) for key in ("ms", "TFLOP/s", "of the matrix rate", "peak GiB", "first s")))
        torch._dynamo.reset()
        torch.cuda.empty_cache()
    console.print(table)
    return rows


def time_step(network: SevaNetwork, step: Step, samplings: int, repetitions: int) -> dict[str, Any]:
    """Median time of a step a sampling, its memory and its kernels."""
    scales = torch.full((samplings, FRAMES), 3.0, device=_DEVICE)
    level = noise_levels(SamplingPlan(STEPS)).to(_DEVICE)[10]
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    with attention_backends(_DEVICE):
        start = time.perf_counter()
        inputs = step_inputs(network, conditions(samplings), scales)
        state = torch.randn(2, samplings * FRAMES, 4, SIDE, SIDE, device=_DEVICE)

        def once() -> None:
            step(network, inputs, state, level)

        once()
        torch.cuda.synchronize()
        first = time.perf_counter() - start
        milliseconds = median_time(once, repetitions) / samplings
        groups = kernel_groups(once, samplings)
    peak = torch.cuda.max_memory_allocated() / _GIB
    return {"ms": round(milliseconds, 1), "first s": round(first, 1), "peak GiB": round(peak, 1), "groups": groups}


def kernel_groups(once: Callable[[], None], samplings: int) -> dict[str, float]:
    """Milliseconds a step by kernel group."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        once()
        torch.cuda.synchronize()
    totals: Counter[str] = Counter()
    for event in profiler.key_averages():
        group = next((name for name, pattern in _GROUPS if re.search(pattern, event.key)), "the rest")
        totals[group] += event.self_device_time_total / 1e3 / samplings
    return {name: round(value, 1) for name, value in totals.most_common()}


def median_time(once: Callable[[], Any], repetitions: int) -> float:
    """Milliseconds by device events."""
    for _ in range(2):
        once()
    times = []
    for _ in range(repetitions):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        once()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return float(np.median(times))


def matrix_rate() -> float:
    """TFLOP/s of an 8192 x 8192 x 8192 half-precision product of random numbers."""
    a, b = (torch.randn(8192, 8192, device=_DEVICE, dtype=torch.float16) for _ in range(2))
    return 2 * 8192**3 / median_time(lambda: a @ b, 20) / 1e9


def measure_precision(
    network: SevaNetwork, kinds: list[str], console: Console, *, against_float16: bool = False
) -> dict[str, Any]:
    """Half precision with every kernel against plain float32: the network at ten noise levels, and a whole sampling.

    What is known before float32's own sampling, which takes longest, is printed then.
    """
    exact = SevaNetwork(network.config).to(_DEVICE)
    exact.load_state_dict({name: tensor.float() for name, tensor in network.state_dict().items()})
    exact.eval().requires_grad_(requires_grad=False)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    scales = torch.full((1, FRAMES), 3.0, device=_DEVICE)
    levels = noise_levels(SamplingPlan(STEPS)).to(_DEVICE)
    noise = torch.randn(1, FRAMES, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).to(_DEVICE)
    chosen = torch.linspace(0, STEPS - 1, 10).round().long().tolist()

    def network_outputs(used: SevaNetwork) -> list[Tensor]:
        inputs = step_inputs(used, conditions(), scales)
        return [predicted(used, inputs, noise[0], levels[number]) for number in chosen]

    def result(used: SevaNetwork, step: Step) -> Tensor:
        return sample(used, conditions(), noise, scales, SamplingPlan(STEPS), silent, step)

    outputs: dict[str, list[Tensor]] = {}
    results: dict[str, Tensor] = {}
    with attention_backends(_DEVICE):
        for name, (kind, operations) in _KINDS.items():
            if name in kinds:
                used = network.to(kind)
                used.operations = operations()
                outputs[name], results[name] = network_outputs(used), result(used, RecordedStep())
        network.half()
        exact_outputs = network_outputs(exact)
        found: dict[str, dict[str, Any]] = {
            name: {
                "network, largest of ten levels": max(
                    relative(one, other) for one, other in zip(outputs[name], exact_outputs, strict=True)
                ),
                "finite": bool(torch.isfinite(results[name]).all()),
            }
            for name in results
        }
        for name in results.keys() - {"float16"} if "float16" in results else ():
            found[name][f"result of {STEPS} steps against float16"] = relative(results[name], results["float16"])
        if not against_float16:
            console.print(found)
            expected = result(exact, take_step)
            for name, row in found.items():
                row[f"result of {STEPS} steps against float32"] = relative(results[name], expected)
    return found


def predicted(network: SevaNetwork, inputs: StepInputs, noise: Tensor, level: Tensor) -> Tensor:
    """The network's output for noise of a level."""
    x = noise * level[2]
    seen = x * (1 - inputs.mask) + inputs.latents * inputs.mask
    different = torch.cat([x, seen[inputs.given]])
    scaled = torch.cat([(different * level[1]).to(inputs.camera.dtype), inputs.camera], dim=1)
    return network.denoise(scaled, level[:1], inputs.conditioning, inputs.frames).float()


def relative(found: Tensor, expected: Tensor) -> float:
    """Relative error of the whole."""
    return float(f"{float((found - expected).norm() / expected.norm()):.2e}")


def measure_whole(network: SevaNetwork) -> dict[str, Any]:
    """Load from files, then two samplings of 50 steps with encoding and decoding."""
    from worldexplorer.engine import NovelViewRequest
    from worldexplorer.geometry.cameras import normalised_intrinsics
    from worldexplorer.models.seva.model import SevaModel

    with tempfile.TemporaryDirectory() as temporary:
        files = save_random_weights(network, Path(temporary))
        network.to("cpu")
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        model = SevaModel(files, SevaSettings())
    generator = np.random.default_rng(0)
    c2w = np.tile(np.eye(4), (FRAMES, 1, 1))
    c2w[:, 2, 3] = 0.02 * np.arange(FRAMES)
    found: dict[str, Any] = {"load s": round(model.load_seconds, 1), "placement": str(model.placement)}
    for number in range(3):
        request = NovelViewRequest(
            images=generator.integers(0, 256, (FRAMES, 8 * SIDE, 8 * SIDE, 3), dtype=np.uint8),
            given=np.arange(FRAMES) < GIVEN,
            c2w=c2w,
            intrinsics=np.tile(normalised_intrinsics(), (FRAMES, 1, 1)),
            translation_scaling_factor=1.0,
            cfg=3.0,
            cfg_min=1.2,
            steps=STEPS,
            seed=number,
        )
        with timed(found, f"sampling {number + 1} s"):
            model.sample([request], silent)
    found["peak GiB"] = round(torch.cuda.max_memory_allocated() / _GIB, 1)
    return found


@contextmanager
def timed(found: dict[str, Any], name: str) -> Iterator[None]:
    """Put down the seconds of a block."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    yield
    torch.cuda.synchronize()
    found[name] = round(time.perf_counter() - start, 2)


def step_flops(config: SevaConfig) -> float:
    """Operations of a step with guidance: two a multiplication and addition, norms and activations left out."""
    frames = 2 * FRAMES
    widths = [config.model_channels * factor for factor in config.channel_mult]
    pixels = [(SIDE // 2**level) ** 2 for level in range(len(widths))]
    total = 0.0

    def residual(channels_in: int, channels_out: int, level: int) -> float:
        products = 9 * channels_out * (channels_in + channels_out)
        products += channels_in * channels_out * (channels_in != channels_out)
        return 2.0 * frames * pixels[level] * products

    def transformer(channels: int, level: int, *, joint: bool) -> float:
        # Two projections, two attentions of four, three gated feed-forwards of twelve.
        products = channels**2 * (2 + 2 * 4 + 3 * 12)
        attended = pixels[level] * (FRAMES if joint else 1) + FRAMES
        return 2.0 * frames * pixels[level] * (products + 2 * attended * channels)

    channels, skips = widths[0], [widths[0]]
    for level, width in enumerate(widths):
        for _ in range(config.res_blocks):
            total += residual(channels, width, level)
            channels = width
            skips.append(channels)
            if level in config.attention_levels:
                total += transformer(channels, level, joint=False)
        if level < len(widths) - 1:
            total += 2.0 * frames * pixels[level + 1] * 9 * channels**2
            skips.append(channels)
    last = len(widths) - 1
    total += 2 * residual(channels, channels, last) + transformer(channels, last, joint=True)
    for level, width in reversed(list(enumerate(widths))):
        for _ in range(config.res_blocks + 1):
            total += residual(channels + skips.pop(), width, level)
            channels = width
            if level in config.attention_levels:
                total += transformer(channels, level, joint=level in config.joint_levels)
        if level:
            total += 2.0 * frames * pixels[level - 1] * 9 * channels**2
    return total


if __name__ == "__main__":
    main()
