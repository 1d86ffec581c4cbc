"""All pixels of a photo, whatever it is stored as, as 8-bit sRGB the right way up.

* A rotation in the EXIF data is applied.
* A colour profile is converted to sRGB; one that is broken or of another kind of colour is ignored with a warning.
* CMYK, palettes, greys and 16 bits a channel become 8-bit RGB; 16-bit values are scaled, not clipped.
* What is transparent is laid on white.
* Of an animation or a file with several pages the first is taken.

Example:
    >>> load_photo(Path("photo.jpg")).shape
    (427, 640, 3)
"""

from __future__ import annotations

import io
import logging
import struct
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image, ImageCms

from worldexplorer.errors import UserError
from worldexplorer.photo.header import damage_reported, opened_image

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each value of the EXIF orientation."""

_COLOUR_MODES = {"1": "L", "L": "L", "LA": "L", "La": "L", "CMYK": "CMYK"}
"""The mode in which a profile applies; RGB for all others."""
_KNOWN_MODES = frozenset({*_COLOUR_MODES, "P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "YCbCr"})
_PROFILE_SPACES = {"L": "GRAY", "RGB": "RGB ", "CMYK": "CMYK"}


def load_photo(path: Path) -> NDArray[np.uint8]:
    """Decode a photo.

    Returns:
        [H, W, 3] uint8 sRGB, the right way up; H and W are swapped against the header where the photo is turned.

    Raises:
        UserError: as :func:`~worldexplorer.photo.header.check_header`, or pixels that are cut short, damaged or of a
            kind without a defined range (32 bits a channel).
    """
    with opened_image(path) as image:
        with damage_reported(path):
            image.load()
        upright = _upright(image, path)
        colour = _eight_bits(upright) if upright.mode.startswith("I;16") else upright
        if colour.mode not in _KNOWN_MODES:
            raise UserError(
                f"the image's pixels are of the kind {colour.mode}, which has no defined look",
                where=str(path),
                remedy="save it as an RGB image with 8 or 16 bits a channel",
            )
        return np.array(_on_white(colour, path))


def _upright(image: Image.Image, path: Path) -> Image.Image:
    """The image turned as its EXIF data say."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error) as error:
        logger.warning("%s: the EXIF data are broken, so the image is taken as it is stored: %s", path, error)
        return image
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit greys as 8-bit ones, 65535 becoming 255; a grey that the file declares transparent stays so."""
    values = np.asarray(image).astype(np.uint32)
    scaled = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        scaled = Image.merge("LA", (scaled, Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))))
    if "icc_profile" in image.info:
        scaled.info["icc_profile"] = image.info["icc_profile"]
    return scaled


def _on_white(image: Image.Image, path: Path) -> Image.Image:
    """The image as sRGB, what is transparent laid on white."""
    transparent = image.has_transparency_data
    alpha = image.convert("RGBA").getchannel("A") if transparent else None
    colour = _to_srgb(_without_alpha(image), image.info.get("icc_profile"), path)
    if alpha is None:
        return colour
    return Image.composite(colour, Image.new("RGB", colour.size, "white"), alpha)


def _without_alpha(image: Image.Image) -> Image.Image:
    """The colours alone, in a mode that a profile can apply to."""
    if image.mode in {"La", "RGBa"}:
        image = image.convert(f"{image.mode[:-1]}A")
    elif image.mode in {"P", "PA"}:
        image = image.convert("RGBA")
    mode = _COLOUR_MODES.get(image.mode, "RGB")
    return image if image.mode == mode else image.convert(mode)


def _to_srgb(image: Image.Image, profile: bytes | None, path: Path) -> Image.Image:
    """An L, RGB or CMYK image as sRGB by its colour profile, or plainly where there is none that fits."""
    if not profile:
        return image.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space
        if space == "RGB " and image.mode == "L":
            image = image.convert("RGB")
        if space != _PROFILE_SPACES[image.mode]:
            logger.warning("%s: its colour profile is for %s, not for its pixels; ignored", path, space.strip())
            return image.convert("RGB")
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        logger.warning("%s: its colour profile is broken and was ignored: %s", path, error)
        return image.convert("RGB")
    assert converted is not None, "only conversions in place return nothing"
    return converted
