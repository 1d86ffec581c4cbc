"""The preview engine's world: one colour and one range in every direction around camera 000.

Frame: OpenGL axes of camera 000 (x right, y up, z backward), metres, camera 000 at the origin and 1.5 m above the
floor. Images are equirectangular: row 0 is straight up, the centre column looks forward (-z), columns run to the right.

Example:
    >>> world = World.load(Path("scaffold/world"))
    >>> world.panorama.shape[:2] == world.range_m.shape
    True
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from worldexplorer.errors import DefectError, InfrastructureError

_PANORAMA, _BACKDROP, _RANGES = "panorama.png", "backdrop.png", "range.npz"
_REMEDY = "remove the world's folder and run stage 1 again"
_LARGEST_HEIGHT = 8192
_LARGEST_HEADER = 4096  # bytes before an array's values
_PNG_EFFORT = 3  # of 9; more is far slower and hardly smaller


@dataclass(frozen=True)
class World:
    """A panorama with ranges.

    Attributes:
        panorama: [H, W, 3] uint8 sRGB, W = 2 H.
        range_m: [H, W] float32, metres from the origin along each pixel's ray.
        backdrop: [H, W, 3] uint8 sRGB: what is seen where a view looks past an edge of the near surfaces.
        backdrop_range_m: [H, W] float32, its metres along the ray; nowhere nearer than `range_m`.
    """

    panorama: NDArray[np.uint8]
    range_m: NDArray[np.float32]
    backdrop: NDArray[np.uint8]
    backdrop_range_m: NDArray[np.float32]

    def save(self, folder: Path) -> None:
        """Write `panorama.png`, `backdrop.png` and `range.npz` (the two range maps, float32) into `folder`.

        Raises:
            InfrastructureError: a file could not be written.
        """
        _write_image(folder / _PANORAMA, self.panorama)
        _write_image(folder / _BACKDROP, self.backdrop)
        np.savez_compressed(folder / _RANGES, range_m=self.range_m, backdrop_range_m=self.backdrop_range_m)

    @staticmethod
    def load(folder: Path) -> World:
        """Read what :meth:`save` wrote.

        Raises:
            DefectError: a file is missing or damaged, or the files do not belong together; names the file.
        """
        panorama = _read_image(folder / _PANORAMA)
        rows, columns = panorama.shape[:2]
        if columns != 2 * rows:
            raise _damaged(
                folder / _PANORAMA, f"it has {columns} x {rows} pixels instead of twice as many across as down"
            )
        backdrop = _read_image(folder / _BACKDROP)
        if backdrop.shape != panorama.shape:
            raise _damaged(folder / _BACKDROP, f"its size differs from that of {_PANORAMA}")
        ranges = _read_ranges(folder / _RANGES, (rows, columns))
        return World(panorama, ranges["range_m"], backdrop, ranges["backdrop_range_m"])


def _damaged(path: Path, why: str) -> DefectError:
    return DefectError(f"a file of the preview world cannot be used: {why}", where=str(path), remedy=_REMEDY)


def _write_image(path: Path, image: NDArray[np.uint8]) -> None:
    good, data = cv2.imencode(
        ".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, _PNG_EFFORT]
    )
    if not good:
        raise InfrastructureError("a picture could not be encoded as PNG", where=str(path), remedy="free some memory")
    path.write_bytes(data.tobytes())


def _read_image(path: Path) -> NDArray[np.uint8]:
    if not path.is_file():
        raise _damaged(path, "it does not exist")
    data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    image = _decoded(path, data)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise _damaged(path, "it is not an 8-bit colour picture")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _decoded(path: Path, data: NDArray[np.uint8]) -> NDArray[Any]:
    # OpenCV hands out what it could read of a truncated PNG; the end chunk tells.
    if len(data) < 32 or data[:8].tobytes() != b"\x89PNG\r\n\x1a\n" or data[-8:-4].tobytes() != b"IEND":
        raise _damaged(path, "it is not a whole PNG file")
    columns, rows = struct.unpack(">II", data[16:24].tobytes())
    if rows > _LARGEST_HEIGHT or columns > 2 * _LARGEST_HEIGHT:
        raise _damaged(path, f"it claims {columns} x {rows} pixels")
    try:
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise _damaged(path, "it cannot be decoded") from error
    if image is None:
        raise _damaged(path, "it cannot be decoded")
    return np.asarray(image)


def _read_ranges(path: Path, shape: tuple[int, int]) -> dict[str, NDArray[np.float32]]:
    if not path.is_file():
        raise _damaged(path, "it does not exist")
    try:
        with zipfile.ZipFile(path) as archive:  # sizes first: a small file may claim to hold very much
            if any(member.file_size > 4 * shape[0] * shape[1] + _LARGEST_HEADER for member in archive.infolist()):
                raise _damaged(path, "it holds more than two range maps")
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, f"it cannot be read ({error})") from error
    if set(found) != {"range_m", "backdrop_range_m"}:
        raise _damaged(path, f"it holds {', '.join(sorted(found)) or 'nothing'}")
    for name, values in found.items():
        if values.dtype != np.float32 or values.shape != shape:
            raise _damaged(path, f"{name} is {values.dtype} {values.shape} instead of float32 {shape}")
        if not (np.isfinite(values).all() and (values > 0).all()):
            raise _damaged(path, f"{name} holds values that are no distances")
    if (found["backdrop_range_m"] < found["range_m"]).any():
        raise _damaged(path, "the backdrop is nearer than what stands before it")
    return found
