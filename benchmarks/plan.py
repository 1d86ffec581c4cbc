"""What planning a data set of 10,000 samples costs: seconds and peak memory of `--dry_run`, in a process of its own.

Every sample has a photo of its own, whose header the plan reads.

Example:
    python benchmarks/plan.py --samples 10000
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

COMMAND = Path(__file__).parents[1] / "run_batch_pipeline.py"


def main() -> None:
    """Make the data set, plan it three times, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--samples", type=int, default=10_000)
    samples = parser.parse_args().samples
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "set"
        _make_data_set(folder, samples)
        size = (folder / "metadata.json").stat().st_size
        table = Table(title=f"{samples:,} samples, metadata.json of {size / 2**20:.1f} MiB")
        for column in ("run", "seconds, start of Python included", "peak MiB (largest so far)"):
            table.add_column(column, justify="right")
        for run in range(1, 4):
            start = time.perf_counter()
            command = [sys.executable, str(COMMAND), "--dataset_dir", str(folder), "--engine", "preview", "--dry_run"]
            done = subprocess.run(
                [*command, "--output_base", str(Path(temporary) / "out"), "--log_format", "text"],
                capture_output=True,
                text=True,
                check=False,
            )
            seconds = time.perf_counter() - start
            if done.returncode != 0:
                raise SystemExit(done.stderr)
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            table.add_row(str(run), f"{seconds:.2f}", f"{peak:.0f}")
    Console(width=120).print(table)


def _make_data_set(folder: Path, samples: int) -> None:
    (folder / "photorealistic").mkdir(parents=True)
    random = np.random.default_rng(0)
    entries = []
    for index in range(samples):
        name = f"photorealistic/{index}.{'png' if index % 2 else 'jpg'}"
        Image.fromarray(random.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(folder / name)
        entries.append(
            {
                "index": index,
                "scene_type": "indoor",
                "category": "room",
                "photorealistic": {"original_path": name},
                "expansion": {"translation_scaling_factor": 3.0, "num_images_for_vggt": 40},
            }
        )
    (folder / "metadata.json").write_text(json.dumps({"samples": entries}))


if __name__ == "__main__":
    main()
