"""How long the files of a world take: a million Gaussians written, read, turned, and packed smaller.

Each is the best of `--repeats` runs; files go to a folder for temporary files. Fails where writing or reading the PLY
file takes longer than `--most` seconds. The smaller files need the extra `exports` and are left out without it; their
first run compiles, which the best of several leaves out.

Example:
    python benchmarks/ply.py --gaussians 1000000
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.geometry.ply import read_gaussians, write_gaussians
from worldexplorer.splat.export import VIEWER_ROTATION
from worldexplorer.splat.formats import write_compressed_ply, write_spz

_MIB = 2**20


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gaussians", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--most", type=float, default=2.0)
    words = parser.parse_args()
    table = Table(title=f"{words.gaussians:,} Gaussians")
    for name in ("what", "bands", "seconds", "MiB"):
        table.add_column(name, justify="left" if name == "what" else "right")
    too_slow = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for coefficients in (1, 16):
            world = some_world(words.gaussians, coefficients)
            for what, work, path in pieces(world, folder):
                seconds = best_of(words.repeats, work)
                size = f"{path.stat().st_size / _MIB:.1f}" if path else ""
                table.add_row(what, str(round(coefficients**0.5) - 1), f"{seconds:.2f}", size)
                if what in ("write splat.ply", "read splat.ply") and seconds > words.most:
                    too_slow.append(what)
    Console().print(table)
    if too_slow:
        sys.exit(f"slower than {words.most:g} s: {', '.join(too_slow)}")


def some_world(count: int, coefficients: int) -> Gaussians:
    """Gaussians in clumps, as those of surfaces are."""
    random = np.random.default_rng(0)
    quaternions = random.normal(size=(count, 4))
    centres = random.normal(0, 5, (1000, 3))[random.integers(0, 1000, count)]
    arrays = (
        centres + random.normal(0, 0.2, (count, 3)),
        random.normal(-4, 1, (count, 3)),
        quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True),
        random.normal(0, 2, count),
        random.normal(0, 0.2, (count, coefficients, 3)),
    )
    return Gaussians(*(array.astype(np.float32) for array in arrays))


def pieces(world: Gaussians, folder: Path) -> list[tuple[str, Callable[[], object], Path | None]]:
    """What is measured: its name, the work, the file that it makes."""
    ply, spz, packed = folder / "splat.ply", folder / "splat.spz", folder / "splat.compressed.ply"
    found: list[tuple[str, Callable[[], object], Path | None]] = [
        ("write splat.ply", lambda: write_gaussians(ply, world), ply),
        ("read splat.ply", lambda: read_gaussians(ply), None),
        ("turn for splat_rotated.ply", lambda: world.rotated(VIEWER_ROTATION), None),
    ]
    if importlib.util.find_spec("gsply") is not None:
        found.append(("write splat.spz", lambda: write_spz(spz, world), spz))
        found.append(("write splat.compressed.ply", lambda: write_compressed_ply(packed, world), packed))
    return found


def best_of(repeats: int, work: Callable[[], object]) -> float:
    """The least time that the work took, seconds."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


if __name__ == "__main__":
    main()
