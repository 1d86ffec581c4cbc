"""Draws a photo-like picture and writes the data set that the smoke job runs on: a street under a sky, seen level.

Nothing is downloaded and nothing is random, so every cluster works on the same bytes. With `--broken` one sample's
picture ends halfway: planning takes it, for it reads no more than the beginning, and its stage 1 fails.

Example:
    python make_dataset.py /scratch/dataset
    python make_dataset.py three --samples 3 --broken 1
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 256
HORIZON = SIZE // 2
SKY_TOP, SKY_LOW = np.array([70.0, 120.0, 190.0]), np.array([205.0, 220.0, 235.0])
STREET_FAR, STREET_NEAR = np.array([150.0, 145.0, 140.0]), np.array([85.0, 80.0, 78.0])
HOUSES = ((0, 70, 60, (150, 95, 80)), (70, 110, 95, (190, 175, 140)), (165, 215, 80, (120, 130, 150)))
"""Left and right column, top row and colour of each house; all of them stand on the horizon's row or a little below."""
HOUSE_FOOT = HORIZON + 10


def draw(number: int) -> np.ndarray:
    """The picture of a sample, SIZE x SIZE x 3, 8 bits; the houses of each stand a little further along."""
    rows = np.arange(SIZE)[:, None, None]
    sky = SKY_TOP + (SKY_LOW - SKY_TOP) * np.clip(rows / HORIZON, 0, 1)
    street = STREET_FAR + (STREET_NEAR - STREET_FAR) * np.clip((rows - HORIZON) / (SIZE - HORIZON), 0, 1)
    picture = np.broadcast_to(np.where(rows < HORIZON, sky, street), (SIZE, SIZE, 3)).copy()
    for left, right, top, colour in HOUSES:
        picture[top:HOUSE_FOOT, left:right] = colour
        for window in range(left + 6, right - 8, 16):  # windows give edges to what would be flat
            picture[top + 10 : top + 22, window : window + 8] = 40
    ripple = 6 * np.sin(rows / 3) * np.cos(np.arange(SIZE)[None, :, None] / 5)
    return np.roll(np.clip(picture + ripple, 0, 255).astype(np.uint8), 20 * number, axis=1)


def write(folder: Path, samples: int, broken: tuple[int, ...] = ()) -> None:
    """Write pictures and metadata.json into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for number in range(samples):
        picture = folder / f"street_{number}.png"
        Image.fromarray(draw(number)).save(picture)
        if number in broken:
            whole = picture.read_bytes()
            picture.write_bytes(whole[: len(whole) // 2])
        entries.append({"index": number, "scene_type": "outdoor", "photorealistic": {"original_path": picture.name}})
    (folder / "metadata.json").write_text(json.dumps({"samples": entries}, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write a small data set to try a cluster with.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=1, metavar="N")
    parser.add_argument("--broken", type=int, nargs="*", default=[], metavar="INDEX", help="samples that shall fail")
    words = parser.parse_args()
    write(words.folder, words.samples, tuple(words.broken))
