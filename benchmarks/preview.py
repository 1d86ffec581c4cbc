"""What the preview engine costs and how good its worlds are, on the demo data set.

Runs every job of examples/demo in a fresh folder and prints seconds a stage, peak memory and fit. Where a sample's true
panorama is known (examples/demo/truth), it also prints how far the invented surroundings are from the place itself.

Example:
    python benchmarks/preview.py --preset default
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rasterizer import discs, measure
from rich.console import Console
from rich.table import Table

from worldexplorer import layout
from worldexplorer.batch import prepare_batch, run_batch
from worldexplorer.config import BatchConfig, RunConfig
from worldexplorer.preview.panorama import panorama_truth_psnr
from worldexplorer.preview.world import World
from worldexplorer.processors import usable_processors

_PHOTO_ASPECT = 4 / 3
"""Width over height of the demo photos that were cut from panoramas."""
DEMO = Path(__file__).parents[1] / "examples" / "demo"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--indices", nargs="+", default=[])
    parser.add_argument("--rasterizer_repetitions", type=int, default=60)
    parser.add_argument("--output_base", help="keep the results in this folder")
    arguments = parser.parse_args()
    _print_rasterizer(arguments.rasterizer_repetitions)
    with tempfile.TemporaryDirectory() as temporary:
        output = Path(arguments.output_base or temporary)
        run = RunConfig(
            BatchConfig(
                dataset_dir=str(DEMO),
                output_base=str(output),
                engine="preview",
                preset=arguments.preset,
                indices=tuple(arguments.indices),
                continue_on_error=True,
            )
        )
        outcome = run_batch(prepare_batch(run), lambda event: None)
        _print(outcome.summary, output, arguments.preset)
    raise SystemExit(outcome.exit_code)


def _print_rasterizer(repetitions: int) -> None:
    """Forward and backward of the trainer's rasteriser; benchmarks/rasterizer.py says more."""
    rows = discs(20_000)
    table = Table(title="rasteriser, forward + backward")
    for column in ("threads", "least ms, 20,000 Gaussians at 256 x 256", "against one thread"):
        table.add_column(column, justify="right")
    alone = 0.0
    for threads in range(1, usable_processors() + 1):
        both = measure(rows, 256, threads, repetitions)[-1]
        alone = alone or both
        table.add_row(str(threads), f"{both:.1f}", f"{alone / both:.2f} x")
    Console(width=160).print(table)


def _print(summary: dict[str, Any], output: Path, preset: str) -> None:
    table = Table(title=f"preview engine, preset {preset}, {summary['elapsed_seconds']:.0f} s in all")
    for column in ("job", "stage 1 s", "stage 2 s", "stage 3 s", "peak MiB", "Gaussians"):
        table.add_column(column)
    for column in ("train dB", "held-out dB", "SSIM", "gradient energy", "photo's view dB", "truth dB in / out"):
        table.add_column(column, justify="right")
    truth = json.loads((DEMO / "truth" / "truth.json").read_text())
    truths = {(entry["index"], entry["variant"]): DEMO / entry["panorama"] for entry in truth["panoramas"]}
    hfov = truth["photo_horizontal_fov_degrees"]
    for entry in summary["results"]:
        metrics, seconds = entry["metrics"], entry["seconds"]
        panorama = truths.get((entry["index"], entry["variant"]))
        table.add_row(
            f"{entry['index']} {entry['variant']}: {entry['status']}",
            *(f"{seconds.get(stage, float('nan')):.1f}" for stage in ("scaffold", "trajectory", "splat")),
            f"{max(entry['peak_memory_mib'].values(), default=float('nan')):.0f}",
            str(metrics.get("gaussians", "-")),
            *(
                f"{metrics.get(name, float('nan')):.3g}"
                for name in ("psnr_train", "psnr_heldout", "ssim_heldout", "gradient_energy_heldout", "psnr_input_view")
            ),
            _truth(output, entry, panorama, hfov) if panorama is not None else "-",
        )
    console = Console(width=160)
    console.print(table)
    console.print(
        "held-out: random poses never trained on, against the generated world. "
        "truth: the generated panorama against the real one, inside the photo's view and outside it (invented)."
    )


def _truth(output: Path, entry: dict[str, Any], truth: Path, hfov: float) -> str:
    folder = output / layout.job_folder(layout.JobId(entry["index"], entry["variant"])) / layout.SCAFFOLD_WORLD
    with Image.open(truth) as image:
        found = panorama_truth_psnr(World.load(folder), np.asarray(image.convert("RGB")), hfov, _PHOTO_ASPECT)
    return f"{found['inside']:.1f} / {found['outside']:.1f}"


if __name__ == "__main__":
    main()
