"""An image file's first bytes: is it an image this program reads, and of a size it can work with?

PNG, JPEG, WebP, BMP, TIFF and GIF are read, whatever the file is called. The size is judged before any decoder takes
memory for it.

Example:
    >>> check_header(Path("photo.jpg"))
    PhotoHeader(width=640, height=427, format='jpeg', animated=False)
"""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from worldexplorer.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from PIL import ImageFile

MAXIMUM_PIXELS = 64_000_000
"""The most pixels of a photo: 64 megapixels."""
MINIMUM_SIDE = 64
"""The least width and height of a photo and of a scaffold's views, in pixels."""

_SAVE_AS = "save it as PNG or JPEG"
_REPLACE = "replace it by a whole copy"
_PREFIX_LENGTH = 32
_FORMATS: dict[str, tuple[re.Pattern[bytes], Callable[[IO[bytes], str], ImageFile.ImageFile]]] = {
    "png": (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile),
    "jpeg": (re.compile(rb"\xff\xd8\xff"), JpegImagePlugin.jpeg_factory),
    "webp": (re.compile(rb"RIFF....WEBPVP8[ LX]", re.DOTALL), WebPImagePlugin.WebPImageFile),
    "bmp": (re.compile(rb"BM"), BmpImagePlugin.BmpImageFile),
    "tiff": (re.compile(rb"II[*+]\0|MM\0[*+]"), TiffImagePlugin.TiffImageFile),
    "gif": (re.compile(rb"GIF8[79]a"), GifImagePlugin.GifImageFile),
}
_HEIF = re.compile(rb"....ftyp(?:hei|hev|mif|msf|avi)", re.DOTALL)
_DAMAGE = (
    # What decoders raise on bytes that are not what their format promises.
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class PhotoHeader:
    """What the first bytes say.

    Attributes:
        width: pixels as stored, before any rotation that the file asks for.
        height: likewise.
        format: `png`, `jpeg`, `webp`, `bmp`, `tiff` or `gif`.
        animated: whether further frames or pages follow; only the first is used.
    """

    width: int
    height: int
    format: str
    animated: bool


def check_header(path: Path) -> PhotoHeader:
    """Read the header of an image and judge its size; the pixels stay unread.

    Raises:
        UserError: not a file, empty, not an image, damaged, over 64 megapixels or under 64 pixels wide or high.
    """
    with _identified(path) as (file, kind, prefix), damage_reported(path):
        if kind == "webp":
            # Pillow would read and index the whole file here.
            width, height, animated = _webp_canvas(prefix)
        else:
            image = _FORMATS[kind][1](file, os.fspath(path))
            width, height = image.size
            animated = bool(getattr(image, "is_animated", False))
    _require_size(width, height, path)
    return PhotoHeader(width, height, kind, animated)


@contextmanager
def opened_image(path: Path) -> Iterator[ImageFile.ImageFile]:
    """An image at its first frame, its size judged, its pixels not decoded yet; closed on leaving.

    Raises:
        UserError: as :func:`check_header`.
    """
    with _identified(path) as (file, kind, prefix):
        with damage_reported(path):
            if kind == "webp":
                width, height, _ = _webp_canvas(prefix)
                _require_size(width, height, path)
            image = _FORMATS[kind][1](file, os.fspath(path))
        _require_size(*image.size, path)
        yield image


@contextmanager
def damage_reported(path: Path) -> Iterator[None]:
    """Turn what a decoder raises inside into a :class:`UserError`; errors of the machine pass."""
    try:
        yield
    except _DAMAGE as error:
        # Decoders raise OSError without a number; EINVAL comes of a seek to an offset that no file can have.
        if isinstance(error, OSError) and error.errno not in {None, errno.EINVAL}:
            raise
        raise UserError(
            f"the image is damaged or cut short: {error or type(error).__name__}", where=str(path), remedy=_REPLACE
        ) from error


@contextmanager
def _identified(path: Path) -> Iterator[tuple[IO[bytes], str, bytes]]:
    """The open file at its start, its format and its first bytes."""
    where = str(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UserError("the image is not a file", where=where, remedy="name an image file")
        if status.st_size == 0:
            raise UserError("the image file is empty", where=where, remedy=_REPLACE)
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError("the image does not exist", where=where, remedy="correct its path or put it there") from error
    except PermissionError as error:
        raise UserError("the image may not be read", where=where, remedy="give yourself read permission") from error
    with file:
        prefix = file.read(_PREFIX_LENGTH)
        kind = next((name for name, (signature, _) in _FORMATS.items() if signature.match(prefix)), None)
        if kind is None:
            what = "a HEIC or AVIF image, which this program does not read" if _HEIF.match(prefix) else "not an image"
            raise UserError(f"the file is {what}", where=where, remedy=_SAVE_AS)
        file.seek(0)
        yield file, kind, prefix


def _require_size(width: int, height: int, path: Path) -> None:
    if width * height > MAXIMUM_PIXELS:
        raise UserError(
            f"the image has {width}x{height} pixels, over {MAXIMUM_PIXELS // 10**6} megapixels",
            where=str(path),
            remedy="scale it down; views are at most 576 pixels wide",
        )
    if min(width, height) < MINIMUM_SIDE:
        raise UserError(
            f"the image has {width}x{height} pixels, under {MINIMUM_SIDE} on a side",
            where=str(path),
            remedy="use a larger one",
        )


def _webp_canvas(prefix: bytes) -> tuple[int, int, bool]:
    """Width, height and whether it is animated, from the first chunk of a WebP file (RFC 9649, section 2)."""
    chunk, body = prefix[12:16], prefix[20:]
    if chunk == b"VP8X":
        flags, width, height = body[0], int.from_bytes(body[4:7], "little"), int.from_bytes(body[7:10], "little")
        return width + 1, height + 1, bool(flags & 0x02)
    if chunk == b"VP8L":
        signature, bits = struct.unpack_from("<BI", body)
        if signature != 0x2F:
            raise ValueError("the WebP header is wrong")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, False
    start_code, width, height = struct.unpack_from("<3sHH", body, 3)
    if start_code != b"\x9d\x01\x2a":
        raise ValueError("the WebP header is wrong")
    return width & 0x3FFF, height & 0x3FFF, False
