"""The filter that makes the demo's stylised picture: a photo repainted as a watercolour with pen outlines.

Deterministic: no random numbers, OpenCV and numpy only, so the same photo always gives the same picture.

Four steps: flat washes (the edge-preserving domain transform of Gastal and Oliveira, "Domain Transform for
Edge-Aware Image and Video Processing", SIGGRAPH 2011, as OpenCV's ``edgePreservingFilter``), softly posterised
lightness, stronger and lighter pigment, and pen lines (the extended difference of Gaussians of Winnemoeller,
"XDoG: Advanced Image Stylization with eXtended Difference-of-Gaussians", NPAR 2011).

Example:
    $ python watercolour.py photorealistic/china.jpg stylized/china.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

TONES = 7
"""Lightness levels of the washes."""
SATURATION = 1.45
"""Factor on the Lab colour axes: pigment is stronger than a hazy photo."""
PAPER = 0.16
"""Share of white paper that shines through."""
JPEG = {"quality": 90, "subsampling": 0, "optimize": True}
"""Pillow's settings for every JPEG file the demo makes: full chroma resolution, no metadata."""


def watercolour(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repaint a photo.

    Args:
        photo: sRGB picture, [height, width, 3].

    Returns:
        The painting: same shape, same scene.
    """
    washes = np.ascontiguousarray(photo)
    for _ in range(2):
        washes = cv2.edgePreservingFilter(washes, flags=cv2.RECURS_FILTER, sigma_s=30.0, sigma_r=0.30)
    lab = cv2.cvtColor(washes.astype(np.float32) / 255.0, cv2.COLOR_RGB2Lab)
    lightness = _posterise(lab[..., 0] / 100.0)
    lightness = PAPER + (1.0 - PAPER) * lightness
    lab[..., 0] = 100.0 * lightness * _pen_lines(photo)
    lab[..., 1:] *= SATURATION
    painted = np.clip(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB), 0.0, 1.0)
    return np.round(255.0 * painted).astype(np.uint8)


def _posterise(lightness: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lightness 0 to 1 drawn towards the middles of TONES levels, with soft steps: the edge of a wash, no comb."""
    scaled = lightness * TONES
    level = np.floor(scaled)
    step = 0.5 + 0.5 * np.tanh(4.0 * (scaled - level - 0.5)) / np.tanh(2.0)
    return np.asarray((level + step) / TONES, dtype=np.float32)


def _pen_lines(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A factor on lightness, 1 without a line and lower along the dark side of contours; [height, width]."""
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255.0
    narrow, wide = (cv2.GaussianBlur(grey, (0, 0), sigma) for sigma in (0.9, 1.44))
    response = narrow - 0.98 * wide
    line = 1.0 + np.tanh(np.minimum(60.0 * (response + 0.004), 0.0))
    return np.asarray(0.45 + 0.55 * line, dtype=np.float32)


def main() -> None:
    """Read the photo named first, write the painting named second."""
    source, target = (Path(name) for name in sys.argv[1:3])
    with Image.open(source) as picture:
        photo = np.asarray(picture.convert("RGB"))
    Image.fromarray(watercolour(photo)).save(target, **JPEG)


if __name__ == "__main__":
    main()
