"""Samplings of SEVA on one GPU and on all of this machine; random weights at full size.

Prints the seconds of a few samplings by one model in this process and by a fleet, whether the frames are the same, and
what each process holds of each GPU's memory.

Example:
    python benchmarks/fleet.py --json fleet.json
"""

from __future__ import annotations

import argparse
import gc
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_seva import TINY, random_network, save_random_weights
from rich.console import Console

from worldexplorer.engine import PUBLISHED_CFG_MIN, PUBLISHED_STEPS, Images, NovelViewModel, NovelViewRequest
from worldexplorer.geometry.cameras import normalised_intrinsics
from worldexplorer.models.gpus import equal_gpus
from worldexplorer.models.seva.fleet import Fleet
from worldexplorer.models.seva.model import SevaFiles, load_on
from worldexplorer.models.seva.settings import SevaSettings
from worldexplorer.progress import silent

_FRAMES, _GIVEN = 21, 8


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=PUBLISHED_STEPS)
    parser.add_argument("--samplings", type=int, default=4)
    parser.add_argument("--tiny", action="store_true", help="tiny networks on the CPU: whether this script works")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    console = Console()
    figures: dict[str, Any] = {"torch": torch.__version__}

    def put(name: str, value: Any) -> None:
        figures[name] = value
        console.print(name, value)
        if arguments.json:
            arguments.json.write_text(json.dumps(figures, indent=1))

    devices = ["cpu"] * 2 if arguments.tiny else list(equal_gpus(None))
    put("devices", devices)
    settings = SevaSettings(precision="float32" if arguments.tiny else "float16", shorter_chunks=arguments.tiny)
    with tempfile.TemporaryDirectory() as folder:
        files = save_random_weights(
            random_network(torch.device(devices[0]), TINY if arguments.tiny else None), Path(folder)
        )
        gc.collect()
        if not arguments.tiny:
            torch.cuda.empty_cache()
        measure(devices, files, settings, arguments, put)


def measure(
    devices: Sequence[str],
    files: SevaFiles,
    settings: SevaSettings,
    arguments: argparse.Namespace,
    put: Callable[[str, Any], None],
) -> None:
    """The fleet first, so that its processes can be seen alone; then one model."""
    frames, size, steps = (3, 64, 2) if arguments.tiny else (_FRAMES, 576, arguments.steps)
    asked = [request(seed, frames, size, steps) for seed in range(arguments.samplings)]
    warm = [request(100 + seed, frames, size, 2) for seed in range(2 * len(devices))]
    start = time.perf_counter()
    loaders = {f"{place}": partial(load_on, device, files, settings) for place, device in enumerate(devices)}
    with Fleet(loaders) as fleet:
        put("load a fleet s", round(time.perf_counter() - start, 1))
        put("first samplings of 2 steps s", timed(fleet, warm)[0])
        if shutil.which("nvidia-smi"):
            query = ["nvidia-smi", "--query-compute-apps=pid,gpu_bus_id,used_memory", "--format=csv,noheader"]
            put("processes", subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines())
        seconds, many = timed(fleet, asked)
        put(f"{len(asked)} samplings on {len(devices)} s", seconds)
    start = time.perf_counter()
    model = load_on(devices[0], files, settings)
    put("load one s", round(time.perf_counter() - start, 1))
    timed(model, warm[:2])
    single, one = timed(model, asked)
    put(f"{len(asked)} samplings on one s", single)
    put("ratio", round(single / seconds, 3))
    put("same bytes", all(np.array_equal(a, b) for a, b in zip(one, many, strict=True)))
    put("deviation of the pixels", round(float(np.std(one[0][_GIVEN:] if not arguments.tiny else one[0])), 1))


def timed(model: NovelViewModel, requests: Sequence[NovelViewRequest]) -> tuple[float, list[Images]]:
    """Seconds, and the frames."""
    start = time.perf_counter()
    made = model.sample(requests, silent)
    return round(time.perf_counter() - start, 2), made


def request(seed: int, frames: int, size: int, steps: int) -> NovelViewRequest:
    """A walk forward from pictures of noise."""
    c2w = np.tile(np.eye(4), (frames, 1, 1))
    c2w[:, 2, 3] = 0.02 * np.arange(frames)
    return NovelViewRequest(
        images=np.random.default_rng(seed).integers(0, 256, (frames, size, size, 3), dtype=np.uint8),
        given=np.arange(frames) < min(_GIVEN, frames - 1),
        c2w=c2w,
        intrinsics=np.tile(normalised_intrinsics(), (frames, 1, 1)),
        translation_scaling_factor=1.0,
        cfg=3.0,
        cfg_min=PUBLISHED_CFG_MIN,
        steps=steps,
        seed=seed,
    )


if __name__ == "__main__":
    main()
