"""What the models of stage 2 besides SEVA cost on this GPU: VGGT, Depth Anything 3 and metric depth; random weights.

The networks have their full size. For VGGT the package's own way of running it is measured too: all heads, all outputs
of the trunk kept. Prints seconds of a warm call (the median of `--repeats`), peak memory, and how far the results are
from the package's. Models whose package is not installed are left out and said so.

Example:
    python benchmarks/geometry.py --frames 8 48 --json geometry.json
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

from worldexplorer.engine import Views
from worldexplorer.geometry.cameras import normalised_intrinsics, pose, yaw_matrix
from worldexplorer.models.depth import DepthAnythingModel
from worldexplorer.models.geometry_models import DEPTH, GEOMETRY
from worldexplorer.models.residents import Residents

_GIB = 2**30
_SIZE = 576
_DEPTH_FRAMES = 13
_PARTS = ("vggt", "da3", "depth")


class Bench:
    """Timing on one device.

    Args:
        device: to run on.
        repeats: of each warm call.
    """

    def __init__(self, device: torch.device, repeats: int) -> None:
        self.device = device
        self.repeats = repeats
        self.rows: list[dict[str, Any]] = []

    def measure(self, name: str, call: Callable[[], Any], **facts: Any) -> Any:
        """Call once to warm up, then time; the last result."""
        result = call()
        self._wait()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = []
        for _ in range(self.repeats):
            result = None
            start = time.perf_counter()
            result = call()
            self._wait()
            seconds.append(time.perf_counter() - start)
        peak = torch.cuda.max_memory_allocated() / _GIB if self.device.type == "cuda" else None
        row = {"name": name, "seconds": round(statistics.median(seconds), 4), "peak_gib": peak and round(peak, 2)}
        self.rows.append(row | facts)
        print(json.dumps(self.rows[-1]), flush=True)
        return result

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def clean(self) -> None:
        """Give memory back."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def views(count: int) -> Views:
    """Frames of noise from cameras that turn and move."""
    generator = np.random.default_rng(0)
    c2w = pose(yaw_matrix(45.0 * np.arange(count)), generator.uniform(-0.5, 0.5, (count, 3)))
    images = generator.integers(0, 256, (count, _SIZE, _SIZE, 3), dtype=np.uint8)
    return Views(images, c2w, np.tile(normalised_intrinsics(), (count, 1, 1)))


def give_random_weights(network: nn.Module, device: torch.device) -> None:
    """Fill a network without storage with values at which it computes ordinary numbers."""
    generator = torch.Generator(device).manual_seed(0)
    weights = {}
    for name, place in network.state_dict().items():
        value = torch.zeros(place.shape, device=device)
        if place.ndim > 1:
            value.normal_(std=0.02, generator=generator)
        elif name.endswith(("weight", "gamma")):
            value.fill_(1.0 if "gamma" not in name else 0.1)
        weights[name] = value
    network.load_state_dict(weights, assign=True)
    network.to(device)


def bench_vggt(bench: Bench, frames: Sequence[int], profile: Path | None, *, tiny: bool, package_too: bool) -> None:
    """The package's way with all heads, with those that are needed, and this program's."""
    from vggt.models.vggt import VGGT

    from worldexplorer.models.frame_pixels import network_pixels
    from worldexplorer.models.vggt import VggtModel, look, prepare, without_storage

    size = 56 if tiny else 518
    with without_storage():
        network = VGGT(img_size=size)
        if tiny:
            _shrink(network, size)
    give_random_weights(network, bench.device)
    network.camera_head.pose_branch.fc2.bias.data[6:] = 1.0
    network.eval().requires_grad_(requires_grad=False)
    kind = torch.bfloat16

    def package(pixels: torch.Tensor) -> Any:
        with torch.inference_mode(), torch.autocast(bench.device.type, dtype=kind, enabled=bench.device.type == "cuda"):
            return network(pixels[None])

    pixels = {
        count: torch.from_numpy(network_pixels(views(count).images, size, "bicubic", normalise=False)).to(bench.device)
        for count in frames
    }
    wanted = [count for count in frames if count <= 48 and package_too]
    for count in wanted:
        bench.measure("vggt, the package, all heads", partial(package, pixels[count]), frames=count)
    network.point_head = network.track_head = None
    bench.clean()
    expected = {}
    for count in wanted:
        answer = bench.measure("vggt, the package, two heads", partial(package, pixels[count]), frames=count)
        expected[count] = answer["depth"][0, ..., 0].cpu(), answer["depth_conf"][0].cpu(), answer["pose_enc"][0].cpu()
        del answer
    prepare(network)
    bench.clean()
    loaded = torch.cuda.memory_allocated() / _GIB if bench.device.type == "cuda" else 0.0
    for count in frames:
        seen = bench.measure(
            "vggt",
            partial(look, network, pixels[count]),
            frames=count,
            weights_gib=round(loaded, 2),
        )
        if count in expected:
            depth, confidence, _ = expected[count]
            print(
                json.dumps(
                    {
                        "frames": count,
                        "depth_relative_difference": float(((seen.depth.cpu() - depth) / depth).abs().median()),
                        "confidence_relative_difference": float(
                            ((seen.confidence.cpu() - confidence) / confidence).abs().median()
                        ),
                    }
                ),
                flush=True,
            )
        del seen
        bench.clean()
    if profile:
        profile.write_text(_by_kernel(partial(look, network, pixels[frames[-1]])))
    if tiny:
        return
    pixels.clear()
    residents = Residents()
    residents.get("points vggt", 0, lambda: network)
    model = VggtModel(GEOMETRY["vggt"], Path, residents, bench.device)
    for count in frames:
        some = views(count)
        bench.measure("vggt, frames in, points out", partial(model.points, some, None, 3.0), frames=count)
        bench.clean()


def _by_kernel(call: Callable[[], Any]) -> str:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        call()
        torch.cuda.synchronize()
    return str(profiler.key_averages().table(sort_by="self_cuda_time_total", row_limit=25, max_name_column_width=100))


def _shrink(network: Any, size: int) -> None:
    from vggt.heads.camera_head import CameraHead
    from vggt.heads.dpt_head import DPTHead
    from vggt.models.aggregator import Aggregator

    narrow = {"features": 16, "out_channels": [8, 8, 8, 8]}
    network.aggregator = Aggregator(img_size=size, embed_dim=128, num_heads=2, patch_embed="conv")
    network.camera_head = CameraHead(dim_in=256, num_heads=4)
    network.depth_head = DPTHead(dim_in=256, output_dim=2, activation="exp", conf_activation="expp1", **narrow)
    network.point_head = DPTHead(dim_in=256, output_dim=4, activation="inv_log", conf_activation="expp1", **narrow)
    network.track_head = None


def bench_da3(bench: Bench, frames: Sequence[int], *, tiny: bool) -> None:
    """Depth Anything 3 with known poses."""
    from worldexplorer.models.depth_anything_3 import DepthAnything3Model, build_network, look
    from worldexplorer.models.frame_pixels import network_pixels

    facts = GEOMETRY["depth-anything-3"]
    network = build_network("da3-small" if tiny else "da3-base").to(bench.device).eval()
    network.requires_grad_(requires_grad=False)
    network.cam_dec.fc_fov[0].bias.data.fill_(1.0)
    loaded = torch.cuda.memory_allocated() / _GIB if bench.device.type == "cuda" else 0.0
    for count in frames:
        some = views(count)
        size = 56 if tiny else facts.size
        pixels = torch.from_numpy(network_pixels(some.images, size, "area", normalise=True)).to(bench.device)
        call = partial(look, network, pixels, some.c2w, some.intrinsics)
        bench.measure("depth-anything-3", call, frames=count, weights_gib=round(loaded, 2))
        bench.clean()
    if tiny:
        return
    residents = Residents()
    residents.get(f"points {facts.name}", 0, lambda: network)
    model = DepthAnything3Model(facts, Path, residents, bench.device)
    for count in frames:
        some = views(count)
        bench.measure("depth-anything-3, points out", partial(model.points, some, None, 3.0), frames=count)
        bench.clean()


def bench_depth(bench: Bench, *, tiny: bool) -> None:
    """Depth Anything V2 metric small: the anchors of one trajectory, and the largest batch."""
    backbone = Dinov2Config(
        image_size=518,
        patch_size=14,
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=6,
        out_indices=[3, 6, 9, 12],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = DepthAnythingConfig(backbone_config=backbone, depth_estimation_type="metric", max_depth=20)
    kind = torch.float16 if bench.device.type == "cuda" else torch.float32
    network = DepthAnythingForDepthEstimation(config).to(bench.device, kind).eval().requires_grad_(requires_grad=False)
    loaded = torch.cuda.memory_allocated() / _GIB if bench.device.type == "cuda" else 0.0
    residents = Residents()
    residents.get("depth indoor", 0, lambda: network)
    model = DepthAnythingModel(DEPTH["indoor"], Path, residents, bench.device)
    for count in (1, 2) if tiny else (1, 8, _DEPTH_FRAMES, 16):
        some = views(count)
        call = partial(model.depth, some, None, 3.0)
        bench.measure("depth, frames in, metres out", call, frames=count, weights_gib=round(loaded, 2))
        bench.clean()


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=_PARTS)
    parser.add_argument("--frames", nargs="+", type=int, default=[8, 48])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="small networks, to try this script on a CPU")
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--own_only", action="store_true", help="leave out the way the VGGT package runs itself")
    parser.add_argument("--profile", type=Path, help="write the time of VGGT's kernels over the most frames here")
    words = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bench = Bench(device, words.repeats)
    if device.type == "cuda":
        print(torch.cuda.get_device_name(), torch.__version__)
    packages = {"vggt": "vggt", "da3": "depth_anything_3", "depth": "transformers"}
    for part in words.parts:
        if find_spec(packages[part]) is None:
            print(f"{part}: left out, the package {packages[part]} is not installed")
            continue
        if part == "vggt":
            bench_vggt(bench, words.frames, words.profile, tiny=words.tiny, package_too=not words.own_only)
        elif part == "da3":
            bench_da3(bench, words.frames, tiny=words.tiny)
        else:
            bench_depth(bench, tiny=words.tiny)
        bench.clean()
        if words.json:
            words.json.write_text(json.dumps(bench.rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
