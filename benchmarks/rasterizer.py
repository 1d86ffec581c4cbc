"""How long the CPU rasteriser takes: forward, backward and both, on one thread and more.

The scene is 20,000 discs of random orientation that all show in a view of 256 x 256 pixels, each about as wide as the
distance to the next. Numbers are the least of many repetitions, in milliseconds: what another program takes from the
machine at the same time only adds to them.

Example:
    python benchmarks/rasterizer.py --threads 1 2
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from worldexplorer.geometry.cameras import normalised_intrinsics
from worldexplorer.preview.losses import ImageLoss
from worldexplorer.preview.parameters import COLOUR, LOG_SCALE, MEAN, OPACITY, QUATERNION
from worldexplorer.preview.projection import camera_of
from worldexplorer.preview.rasterizer import render
from worldexplorer.preview.rasterizer_backward import backward
from worldexplorer.preview.workers import Workers

DEPTH_RANGE = 2.0, 8.0
NEAR = 0.01


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gaussians", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=256, help="pixels across and down")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repetitions", type=int, default=60)
    arguments = parser.parse_args()

    rows = discs(arguments.gaussians)
    table = Table(title=f"{arguments.gaussians:,} Gaussians, {arguments.size} x {arguments.size} pixels: milliseconds")
    for title in ("threads", "forward", "loss", "backward", "forward + backward", "backward / forward", "speed-up"):
        table.add_column(title, justify="right")
    alone = 0.0
    for threads in arguments.threads:
        forward, loss, back, both = measure(rows, arguments.size, threads, arguments.repetitions)
        alone = alone or both
        numbers = (f"{value:.2f}" for value in (forward, loss, back, both, back / forward, alone / both))
        table.add_row(str(threads), *numbers)
    Console().print(table)


def discs(count: int) -> NDArray[np.float32]:
    """Rows of Gaussians spread over the view of a camera at the origin."""
    random = np.random.default_rng(0)
    depth = random.uniform(*DEPTH_RANGE, count)
    width = depth / normalised_intrinsics()[0, 0]
    rows = np.empty((count, 14), np.float32)
    rows[:, MEAN] = random.uniform(-0.5, 0.5, count) * width
    rows[:, MEAN + 1] = random.uniform(-0.5, 0.5, count) * width
    rows[:, MEAN + 2] = -depth
    across = np.log(0.85 * width / np.sqrt(count))
    rows[:, LOG_SCALE:QUATERNION] = across[:, None] + random.normal(0.0, 0.3, (count, 3)) + np.log([1.0, 1.0, 0.2])
    rows[:, QUATERNION:OPACITY] = random.normal(size=(count, 4))
    rows[:, OPACITY] = np.log(0.8 / 0.2) + random.normal(0.0, 1.0, count)
    rows[:, COLOUR:] = random.normal(size=(count, 3))
    return rows


def measure(rows: NDArray[np.float32], size: int, threads: int, repetitions: int) -> tuple[float, float, float, float]:
    """Milliseconds of forward, loss, backward, and forward with backward."""
    camera = camera_of(np.eye(4), normalised_intrinsics(), size, size, NEAR)
    target = np.random.default_rng(1).random((3, size, size)).astype(np.float32)
    compare = ImageLoss(size, size, ssim_weight=0.3)
    with Workers(threads) as workers:
        rendering = render(rows, camera, workers)
        loss = compare(rendering.image, target, rendering.transmittance, workers)

        def both() -> None:
            found = render(rows, camera, workers)
            backward(rows, camera, found, loss.by_image, loss.by_transmittance, workers)

        return (
            least(lambda: render(rows, camera, workers), repetitions),
            least(lambda: compare(rendering.image, target, rendering.transmittance, workers), repetitions),
            least(
                lambda: backward(rows, camera, rendering, loss.by_image, loss.by_transmittance, workers), repetitions
            ),
            least(both, repetitions),
        )


def least(work: Callable[[], object], repetitions: int) -> float:
    """The shortest of some calls, in milliseconds; one more comes first, so that everything is compiled."""
    work()
    shortest = float("inf")
    for _ in range(repetitions):
        start = time.perf_counter()
        work()
        shortest = min(shortest, time.perf_counter() - start)
    return 1000.0 * shortest


if __name__ == "__main__":
    main()
