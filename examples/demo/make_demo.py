"""Makes every picture of the demo data set from two published packages, and its two JSON files.

What comes from where, and under which licence, is in PROVENANCE.md. Everything is deterministic: with the packages'
versions named here the files come out equal byte for byte.

The panoramas come as 512x256 high-dynamic-range pictures. Each is repaired (the package's down-scaling left dark
rings around lamps), tone-mapped, rolled so that the photo's direction is its centre column, and saved whole under
``truth/``. The photo is a level pinhole picture cut from that saved panorama, with the horizontal field of view that
WorldExplorer gives a photo of this shape: its square centre crop spans 60.08 degrees. So the rest of the panorama
is the true surrounding of the photo, to measure a synthesised world against.

Example:
    $ npm pack @pmndrs/assets@1.7.0 && tar xf pmndrs-assets-1.7.0.tgz
    $ pip install OpenEXR opencv-python-headless pillow scikit-learn
    $ python make_demo.py --china .../site-packages/sklearn/datasets/images/china.jpg --hdri package/hdri
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import OpenEXR
from PIL import Image
from watercolour import JPEG, watercolour

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOCAL_OF_SQUARE_CROP = 0.8645833134651184
"""Focal length over the side of the photo's square centre crop (60.08 degrees); WorldExplorer's rule."""
WIDTH, HEIGHT = 512, 384


@dataclass(frozen=True)
class Place:
    """One panorama and the photo cut from it."""

    index: int
    name: str
    """Of its files, and the sample's category."""
    package_file: str
    centre_column: int
    """The boundary left of this column of the package's panorama is the photo's direction."""
    exposure: float
    """Log-average luminance after exposure; 0.18 is a middle grey."""
    scene_type: str
    expansion: dict[str, Any] | None
    """Left out where the scene type's default is meant."""


PLACES = (
    Place(
        index=1,
        name="lobby",
        package_file="lobby.exr.js",
        centre_column=182,
        exposure=0.20,
        scene_type="indoor",
        expansion={"translation_scaling_factor": 3.0},
    ),
    Place(
        index=2,
        name="square",
        package_file="sunset.exr.js",
        centre_column=202,
        exposure=0.26,
        scene_type="outdoor",
        expansion=None,
    ),
)


def read_panorama(path: Path) -> NDArray[np.float32]:
    """The linear RGB panorama [256, 512, 3] inside one of the package's base64 modules."""
    encoded = path.read_text(encoding="ascii").split("base64,")[1].split("'")[0]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "panorama.exr"
        file.write_bytes(base64.b64decode(encoded))
        with OpenEXR.File(str(file)) as exr:
            return np.maximum(exr.channels()["RGB"].pixels.astype(np.float32), 0.0)


def luminance(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rec. 709 luminance of linear RGB, [height, width]."""
    return np.asarray(rgb @ np.array([0.2126, 0.7152, 0.0722], np.float32))


def rings(rgb: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where the package's resampling undershot beside a lamp: far darker than around it, next to something glaring."""
    darkest_channel = rgb.min(axis=2)
    bright = luminance(rgb)
    lamp_near = cv2.dilate(bright, np.ones((7, 7))) > 8.0 * np.percentile(bright, 95.0)
    sunk = darkest_channel <= 0.5 * cv2.medianBlur(darkest_channel, 5)
    return np.asarray(lamp_near & (sunk | (darkest_channel <= 1e-4)))


def tone_map(rgb: NDArray[np.float32], exposure: float) -> NDArray[np.uint8]:
    """Linear RGB to sRGB, by Reinhard's extended curve on luminance.

    Reinhard, Stark, Shirley and Ferwerda, "Photographic Tone Reproduction for Digital Images", SIGGRAPH 2002,
    equations 1 to 4 (global operator), white point at the 99.5th percentile.
    """
    bright = luminance(rgb)
    floor = 1e-3 * np.median(bright)
    scale = exposure / np.exp(np.log(np.maximum(bright, floor)).mean())
    exposed = np.maximum(bright, floor) * scale
    white = np.percentile(exposed, 99.5)
    shown = exposed * (1.0 + exposed / white**2) / (1.0 + exposed)
    linear = np.clip(rgb * (scale * shown / exposed)[..., None], 0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1.0 / 2.4) - 0.055)
    return np.round(255.0 * encoded).astype(np.uint8)


def make_truth(rgb: NDArray[np.float32], place: Place) -> NDArray[np.uint8]:
    """The repaired, tone-mapped panorama, rolled so that the photo's direction is the middle."""
    width = rgb.shape[1]
    rolled = np.roll(rgb, width // 2 - place.centre_column, axis=1)
    wrapped = np.concatenate((rolled[:, -16:], rolled, rolled[:, :16]), axis=1)
    shown = tone_map(rolled, place.exposure)
    shown = np.ascontiguousarray(np.concatenate((shown[:, -16:], shown, shown[:, :16]), axis=1))
    repaired = cv2.inpaint(shown, rings(wrapped).astype(np.uint8), 2.0, cv2.INPAINT_TELEA)
    return np.asarray(repaired[:, 16:-16], dtype=np.uint8)


def cut_photo(panorama: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The level pinhole photo [HEIGHT, WIDTH, 3] looking at the panorama's centre: bicubic, then an unsharp mask."""
    rows, columns = panorama.shape[:2]
    focal = HEIGHT * FOCAL_OF_SQUARE_CROP
    x, y = np.meshgrid((np.arange(WIDTH) + 0.5 - WIDTH / 2) / focal, (np.arange(HEIGHT) + 0.5 - HEIGHT / 2) / focal)
    azimuth = np.arctan(x)
    elevation = np.arctan2(-y, np.hypot(x, 1.0))
    u = ((azimuth / (2.0 * math.pi) + 0.5) * columns - 0.5).astype(np.float32)
    v = ((0.5 - elevation / math.pi) * rows - 0.5).astype(np.float32)
    photo = cv2.remap(panorama.astype(np.float32), u, v, cv2.INTER_CUBIC)
    photo += 0.8 * (photo - cv2.GaussianBlur(photo, (0, 0), 2.5))
    return np.round(np.clip(photo, 0.0, 255.0)).astype(np.uint8)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write indented JSON with a newline at the end."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def make_demo(china: Path, hdri: Path, output: Path) -> None:
    """Write the whole data set.

    Args:
        china: scikit-learn's china.jpg.
        hdri: the folder ``hdri`` of the unpacked npm package.
        output: the data set's folder; files there are replaced.
    """
    for folder in ("photorealistic", "stylized", "truth"):
        (output / folder).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(china, output / "photorealistic/china.jpg")
    with Image.open(china) as picture:
        photo = np.asarray(picture.convert("RGB"))
    Image.fromarray(watercolour(photo)).save(output / "stylized/china.jpg", **JPEG)
    samples: list[dict[str, Any]] = [
        {
            "index": 0,
            "scene_type": "outdoor",
            "category": "pagoda",
            "photorealistic": {"original_path": "photorealistic/china.jpg"},
            "stylized": {"original_path": "stylized/china.jpg"},
            "expansion": {"translation_scaling_factor": 10.0},
        }
    ]
    truth: list[dict[str, Any]] = []
    for place in PLACES:
        panorama = make_truth(read_panorama(hdri / place.package_file), place)
        Image.fromarray(panorama).save(output / f"truth/{place.name}.png", optimize=True)
        photo_path = f"photorealistic/{place.name}.jpg"
        Image.fromarray(cut_photo(panorama)).save(output / photo_path, **JPEG)
        sample: dict[str, Any] = {
            "index": place.index,
            "scene_type": place.scene_type,
            "category": place.name,
            "photorealistic": {"original_path": photo_path},
        }
        if place.expansion is not None:
            sample["expansion"] = place.expansion
        samples.append(sample)
        truth.append({"index": place.index, "variant": "photorealistic", "panorama": f"truth/{place.name}.png"})
    write_json(output / "metadata.json", {"samples": samples})
    hfov = math.degrees(2.0 * math.atan(WIDTH / (2.0 * HEIGHT * FOCAL_OF_SQUARE_CROP)))
    write_json(
        output / "truth/truth.json",
        {
            "projection": "equirectangular, 360 x 180 degrees, sRGB, paths relative to the data set",
            "centre": "the photo's viewing direction is the middle of the panorama; azimuth grows to the right",
            "photo_horizontal_fov_degrees": round(hfov, 4),
            "panoramas": truth,
        },
    )


def main() -> None:
    """Read the arguments and make the data set."""
    parser = argparse.ArgumentParser(description="Make the demo data set from the packages it comes from.")
    parser.add_argument("--china", type=Path, required=True, help="scikit-learn's datasets/images/china.jpg")
    parser.add_argument("--hdri", type=Path, required=True, help="folder hdri of the unpacked npm @pmndrs/assets")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="data set to write (default: here)")
    arguments = parser.parse_args()
    make_demo(arguments.china, arguments.hdri, arguments.output)


if __name__ == "__main__":
    main()
