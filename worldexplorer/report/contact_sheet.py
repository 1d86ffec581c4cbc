"""One picture a job: photo, scaffold, generated frames and splat renders, with what made them and how good they are.

A sheet has a header (the job, the engine's label as a badge, a line of metrics) over rows of equally large thumbnails
with captions. A row longer than :data:`COLUMNS` goes on in the next line; text that does not fit ends in an ellipsis.
The same arguments give the same bytes, so nothing that changes from run to run (a time, a path) belongs on a sheet.

Example:
    >>> rows = [
    ...     scaffold_row(photo, scaffold_views, yaws_degrees),
    ...     SheetRow("Splat, views it was not trained on", renders, ["in 12", "left 30"]),
    ... ]
    >>> write_contact_sheet(Path("sheet.png"), "photorealistic/index_0000", "synthesised preview", rows,
    ...                     metrics="PSNR train 34.0 dB, held out 31.2 dB")
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from worldexplorer.errors import DefectError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

THUMBNAIL = 160
"""Side of a thumbnail's square, pixels; pictures of other shapes are centred in it, whole."""
COLUMNS = 9
"""Thumbnails in a line: a photo and its eight scaffold views."""
ELLIPSIS = "…"

_LEAST_COLUMNS = 5  # a sheet of one picture still has room for its header
_MARGIN = 28
_GAP = 10
_CAPTION_HEIGHT = 22
_ROW_TITLE_HEIGHT = 30
_ROW_SPACE = 18

_BACKGROUND = (22, 24, 28)
_TILE = (34, 37, 43)
_RULE = (52, 56, 64)
_TEXT = (232, 234, 237)
_QUIET = (157, 163, 172)
_BADGE = (240, 180, 41)
_BADGE_TEXT = (30, 24, 8)

_TITLE_SIZE = 28
_TEXT_SIZE = 16
_CAPTION_SIZE = 13


@dataclass(frozen=True)
class SheetRow:
    """A titled row of pictures.

    Attributes:
        title: what the row shows.
        images: uint8 sRGB pictures [height, width, 3], of any sizes.
        captions: one a picture.
    """

    title: str
    images: Sequence[NDArray[np.uint8]]
    captions: Sequence[str]


def scaffold_row(
    photo: NDArray[np.uint8], views: Sequence[NDArray[np.uint8]], yaws_degrees: Sequence[float]
) -> SheetRow:
    """The row of the photo and its scaffold views, captioned 000, 001, ... with their yaw.

    Args:
        photo: uint8 [height, width, 3].
        views: scaffold views in order, each uint8 [height, width, 3].
        yaws_degrees: yaw of each view, positive to the left.
    """
    captions = [f"{index:03d}  yaw {round(yaw)}°" for index, yaw in enumerate(yaws_degrees)]
    return SheetRow("Photo and scaffold", [photo, *views], ["photo", *captions])


def contact_sheet(title: str, label: str, rows: Sequence[SheetRow], *, metrics: str = "") -> Image.Image:
    """Draw a sheet.

    Args:
        title: what the sheet is of: the job.
        label: what the pictures are, the engine's label; shown as a badge.
        rows: at least one, each with at least one picture.
        metrics: a line under the title.

    Returns:
        An RGB picture.

    Raises:
        DefectError: no row, a row without pictures, captions that do not match, or a picture that is not
            uint8 [height, width, 3].
    """
    _check(rows)
    columns = max(_LEAST_COLUMNS, min(COLUMNS, max(len(row.images) for row in rows)))
    width = 2 * _MARGIN + columns * THUMBNAIL + (columns - 1) * _GAP
    header = _MARGIN + 36 + (28 if metrics else 0) + 14
    height = header + sum(_row_height(row, columns) for row in rows) + _MARGIN
    sheet = Image.new("RGB", (width, height), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    _draw_header(sheet, draw, title, label, metrics)
    top = header
    for row in rows:
        draw.line((_MARGIN, top, width - _MARGIN - 1, top), fill=_RULE)
        _draw_row(sheet, draw, row, top + _ROW_SPACE - 4, columns)
        top += _row_height(row, columns)
    return sheet


def write_contact_sheet(path: Path, title: str, label: str, rows: Sequence[SheetRow], *, metrics: str = "") -> None:
    """Draw a sheet (see :func:`contact_sheet`) and write it to `path` as PNG."""
    contact_sheet(title, label, rows, metrics=metrics).save(path, format="PNG", compress_level=6)


def shorten(text: str, width: float, font: ImageFont.FreeTypeFont) -> str:
    """`text`, or as much of its start as fits into `width` pixels with an ellipsis behind it."""
    if font.getlength(text) <= width:
        return text

    def cut(end: int) -> str:
        return text[:end].rstrip() + ELLIPSIS

    return cut(max(0, bisect_right(range(len(text)), width, key=lambda end: font.getlength(cut(end))) - 1))


def font_of_size(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's built-in font, with the text layout that is the same on every machine.

    Raises:
        DefectError: this Pillow was built without FreeType.
    """
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise DefectError("Pillow has no scalable font", remedy="install a Pillow built with FreeType")
    # The other layout engine needs a system library (FriBiDi): where that is missing, letters would sit elsewhere.
    return font.font_variant(layout_engine=ImageFont.Layout.BASIC)


def _check(rows: Sequence[SheetRow]) -> None:
    if not rows:
        raise DefectError("a contact sheet needs at least one row")
    for row in rows:
        if not row.images:
            raise DefectError("a row of a contact sheet has no pictures", where=row.title)
        if len(row.captions) != len(row.images):
            counts = f"{len(row.images)} pictures and {len(row.captions)} captions"
            raise DefectError(f"a row of a contact sheet has {counts}", where=row.title)
        for image in row.images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
                found = f"{image.dtype} {list(image.shape)}"
                raise DefectError(
                    f"a picture of a contact sheet is {found}, not uint8 [height, width, 3]", where=row.title
                )


def _lines(row: SheetRow, columns: int) -> int:
    return -(-len(row.images) // columns)


def _row_height(row: SheetRow, columns: int) -> int:
    return _ROW_SPACE + _ROW_TITLE_HEIGHT + _lines(row, columns) * (THUMBNAIL + _CAPTION_HEIGHT + _GAP)


def _draw_header(sheet: Image.Image, draw: ImageDraw.ImageDraw, title: str, label: str, metrics: str) -> None:
    width = sheet.width
    badge_font = font_of_size(_TEXT_SIZE)
    badge = shorten(label, width / 2 - 2 * _MARGIN, badge_font)
    left = width - _MARGIN - 28
    if badge:
        left -= int(badge_font.getlength(badge))
        pill = _pill(width - _MARGIN - left, 32)
        sheet.paste(_BADGE, (left, _MARGIN, width - _MARGIN, _MARGIN + 32), pill)
        draw.text((left + 14, _MARGIN + 15), badge, font=badge_font, fill=_BADGE_TEXT, anchor="lm")
    title_font = font_of_size(_TITLE_SIZE)
    room = left - 2 * _MARGIN
    draw.text((_MARGIN, _MARGIN + 15), shorten(title, room, title_font), font=title_font, fill=_TEXT, anchor="lm")
    text_font = font_of_size(_TEXT_SIZE)
    line = shorten(metrics, width - 2 * _MARGIN, text_font)
    draw.text((_MARGIN, _MARGIN + 50), line, font=text_font, fill=_QUIET, anchor="lm")


def _pill(width: int, height: int) -> Image.Image:
    """A mask with round ends; Pillow draws shapes without smoothing, so it is drawn large and reduced."""
    mask = Image.new("L", (4 * width, 4 * height), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, 4 * width - 1, 4 * height - 1), radius=2 * height, fill=255)
    return mask.reduce(4)


def _draw_row(sheet: Image.Image, draw: ImageDraw.ImageDraw, row: SheetRow, top: int, columns: int) -> None:
    width = sheet.width - 2 * _MARGIN
    title_font, caption_font = font_of_size(_TEXT_SIZE), font_of_size(_CAPTION_SIZE)
    title = shorten(row.title, width, title_font)
    draw.text((_MARGIN, top + 8), title, font=title_font, fill=_TEXT, anchor="lm")
    for number, (image, caption) in enumerate(zip(row.images, row.captions, strict=True)):
        line, column = divmod(number, columns)
        x = _MARGIN + column * (THUMBNAIL + _GAP)
        y = top + _ROW_TITLE_HEIGHT + line * (THUMBNAIL + _CAPTION_HEIGHT + _GAP)
        draw.rectangle((x, y, x + THUMBNAIL - 1, y + THUMBNAIL - 1), fill=_TILE)
        thumbnail = _thumbnail(image)
        sheet.paste(thumbnail, (x + (THUMBNAIL - thumbnail.width) // 2, y + (THUMBNAIL - thumbnail.height) // 2))
        text = shorten(caption, THUMBNAIL, caption_font)
        draw.text((x, y + THUMBNAIL + 12), text, font=caption_font, fill=_QUIET, anchor="lm")


def _thumbnail(image: NDArray[np.uint8]) -> Image.Image:
    """The picture scaled so that its longer side is THUMBNAIL."""
    height, width = image.shape[:2]
    scale = THUMBNAIL / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.LANCZOS)
