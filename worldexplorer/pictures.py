"""Pictures on disk: 8-bit RGB PNG files, written in parallel, read strictly.

Example:
    >>> write_pictures(folder, frames)          # 000.png, 001.png, ...
    >>> read_picture(folder / "000.png", size=256).shape
    (256, 256, 3)
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from worldexplorer.errors import DefectError
from worldexplorer.processors import usable_processors

Pictures = NDArray[np.uint8]
_COMPRESSION = 1  # half the time of Pillow's default for a few per cent of size


def frame_name(number: int) -> str:
    """`007.png`."""
    return f"{number:03d}.png"


def write_picture(path: Path, picture: Pictures) -> None:
    """Write one picture ([H, W, 3] uint8)."""
    Image.fromarray(picture).save(path, format="PNG", compress_level=_COMPRESSION)


def write_pictures(folder: Path, pictures: Pictures) -> list[Path]:
    """Write [N, H, W, 3] uint8 as 000.png, 001.png, ... into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / frame_name(number) for number in range(len(pictures))]
    with ThreadPoolExecutor(max_workers=usable_processors()) as pool:
        list(pool.map(write_picture, paths, pictures))
    return paths


def read_picture(path: Path, size: int | None = None) -> Pictures:
    """Read one picture as [H, W, 3] uint8, resized to `size` x `size` where given; DefectError naming the file."""
    try:
        with Image.open(path) as image:
            picture = np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the machine's fault, not the picture's
        raise DefectError(f"a picture of this pipeline cannot be read: {error}", where=str(path)) from error
    return picture if size is None else resized(picture, size)


def resized(picture: Pictures, size: int) -> Pictures:
    """A square picture at `size` x `size`; itself where it has that size already."""
    if picture.shape[:2] == (size, size):
        return picture
    image = Image.fromarray(picture).resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(image)


def is_blank(pictures: Pictures) -> NDArray[np.bool_]:
    """Which of [N, H, W, 3] pictures show nothing: every pixel alike, but for the last bit. Returns [N].

    That is what a model leaves that failed without saying so; no photograph and no view of one is.
    """
    spread = pictures.max(axis=(1, 2)) - pictures.min(axis=(1, 2))
    return np.asarray((spread <= 1).all(axis=-1))


def read_pictures(paths: Iterable[Path], size: int | None = None) -> Pictures:
    """Read pictures of one size as [N, H, W, 3] uint8."""
    with ThreadPoolExecutor(max_workers=usable_processors()) as pool:
        return np.stack(list(pool.map(lambda path: read_picture(path, size), paths)))
