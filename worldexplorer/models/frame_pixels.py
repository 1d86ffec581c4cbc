"""Frames as networks take them: square, resized the way the network's own program does it, colours first.

Libraries let other threads run while they resize, so frames are resized next to each other.

Example:
    >>> pixels = network_pixels(views.images, 518, "bicubic", normalise=True)       # [N, 3, 518, 518] float32
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worldexplorer.engine import Images, Picture
from worldexplorer.errors import DefectError

MEANS = (0.485, 0.456, 0.406)
DEVIATIONS = (0.229, 0.224, 0.225)
"""Of ImageNet's pictures, which the networks' backbones were trained on."""
_MOST_THREADS = 8


Filter = Literal["bicubic", "area"]
"""Pillow's bicubic filter, or OpenCV's mean over areas (which interpolates cubically where pictures grow)."""


def network_pixels(images: Images, size: int, filter_: Filter, *, normalise: bool) -> NDArray[np.float32]:
    """Frames [N, S, S, 3] as [N, 3, size, size] float32.

    Args:
        images: uint8.
        size: side of the result, pixels.
        filter_: how they are resized; the result is rounded to 8 bits, as in the networks' own programs.
        normalise: to ImageNet's means and deviations; else the values go from 0 to 1.

    Raises:
        DefectError: the frames are not square colour pictures.
    """
    if images.ndim != 4 or images.shape[1] != images.shape[2] or images.shape[3] != 3 or images.dtype != np.uint8:
        raise DefectError(f"frames of shape {images.shape} and type {images.dtype} are no square colour pictures")

    def one(picture: Picture) -> NDArray[np.float32]:
        small = np.asarray(_resized(picture, size, filter_), dtype=np.float32)
        values: NDArray[np.float32] = small.transpose(2, 0, 1) / np.float32(255)
        if normalise:
            values = (values - means) / deviations
        return values

    means, deviations = (np.array(values, dtype=np.float32)[:, None, None] for values in (MEANS, DEVIATIONS))
    pixels = np.empty((len(images), 3, size, size), dtype=np.float32)
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as threads:
        for place, values in zip(pixels, threads.map(one, images), strict=True):
            place[:] = values
    return pixels


def _resized(picture: Picture, size: int, filter_: Filter) -> Picture:
    if len(picture) == size:
        return picture
    if filter_ == "bicubic":
        return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC))
    kind = cv2.INTER_AREA if size < len(picture) else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (size, size), interpolation=kind), dtype=np.uint8)
