"""Compiles the preview engine's kernels while the cpu image is built, by running small jobs through all its stages.

    python compile_kernels.py /opt/kernels        # a folder a package, as numba lays them out

Two jobs, under the sky and under a ceiling, because the two take different ways through the engine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image


def main(target: Path) -> None:
    """Fill `target`; everything else that the jobs write goes away."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photo = folder / "photo.png"
        Image.fromarray(_landscape(120, 80)).save(photo)
        samples = [
            {"index": index, "scene_type": scene_type, "photorealistic": {"original_path": str(photo)}}
            for index, scene_type in enumerate(("outdoor", "indoor"))
        ]
        (folder / "metadata.json").write_text(json.dumps({"samples": samples}))
        subprocess.run(
            [
                *(
                    str(Path(sys.executable).with_name("worldexplorer")),
                    "batch",
                    "--engine",
                    "preview",
                    "--preset",
                    "smoke",
                ),
                *("--num_seva_frames", "8", "--dataset_dir", str(folder), "--output_base", str(folder / "out")),
            ],
            env={**os.environ, "NUMBA_CACHE_DIR": str(target), "HOME": name, "XDG_CACHE_HOME": name},
            check=True,
        )
    kernels = list(target.rglob("*.nbc"))
    if not kernels:
        raise SystemExit(f"error: no kernel was compiled into {target}")
    sys.stdout.write(f"{len(kernels)} kernels, {sum(path.stat().st_size for path in kernels):,} bytes\n")


def _landscape(width: int, height: int) -> np.ndarray:
    """A picture [height, width, 3] with a sky, hills, trees and a textured ground."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    generator = np.random.default_rng(0)
    horizon = height * (0.5 + 0.05 * np.sin(x / 9.0))
    sky = np.stack([120 + y, 160 + y, np.full_like(y, 230)], axis=-1)
    ground = np.stack([90 + 20 * np.sin(x), 110 + 15 * np.cos(y), 60 + 0 * y], axis=-1)
    picture = np.where((y < horizon)[..., None], sky, ground) + generator.normal(0.0, 8.0, (height, width, 1))
    trunks = (np.abs((x % 30.0) - 15.0) < 2.0) & (np.abs(y - horizon) < height * 0.2)
    picture[trunks] = (70.0, 50.0, 30.0)
    return np.clip(picture, 0.0, 255.0).astype(np.uint8)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
