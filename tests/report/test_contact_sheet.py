"""Contact sheets, looked at through their pixels: solid pictures are found again by their colour."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops

from worldexplorer.errors import DefectError
from worldexplorer.report.contact_sheet import (
    COLUMNS,
    ELLIPSIS,
    THUMBNAIL,
    SheetRow,
    contact_sheet,
    font_of_size,
    scaffold_row,
    shorten,
    write_contact_sheet,
)

LABEL = "synthesised preview"


def solid(number, height=40, width=40):
    picture = np.empty((height, width, 3), np.uint8)
    picture[:] = (255, 10 * number, 255)
    return picture


def box_of(sheet, number):
    """(left, top, right, bottom) of the pixels in the colour of picture `number`, and how many there are."""
    hit = (np.asarray(sheet) == (255, 10 * number, 255)).all(axis=2)
    rows, columns = np.nonzero(hit)
    return (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), hit.sum()


def row(count, title="row"):
    return SheetRow(title, [solid(number) for number in range(count)], [f"caption {n}" for n in range(count)])


def changed_box(first, second):
    return ImageChops.difference(first, second).getbbox()


def test_every_picture_is_an_equal_square_and_a_long_row_wraps():
    sheet = contact_sheet("job", LABEL, [row(COLUMNS + 2)])
    boxes = []
    for number in range(COLUMNS + 2):
        (left, top, right, bottom), count = box_of(sheet, number)
        assert (right - left, bottom - top, count) == (THUMBNAIL, THUMBNAIL, THUMBNAIL**2)
        boxes.append((left, top))
    lefts, tops = np.array(boxes).T
    assert (tops[:COLUMNS] == tops[0]).all()
    assert (tops[COLUMNS:] == tops[COLUMNS]).all()
    assert tops[COLUMNS] >= tops[0] + THUMBNAIL
    assert (np.diff(lefts[:COLUMNS]) > THUMBNAIL).all()
    assert (lefts[COLUMNS:] == lefts[:2]).all()
    assert lefts[COLUMNS - 1] + THUMBNAIL <= sheet.width


def test_rows_stand_below_each_other():
    second = SheetRow("second", [solid(20)], ["last"])
    sheet = contact_sheet("job", LABEL, [row(COLUMNS + 1), second])
    assert box_of(sheet, 20)[0][1] > box_of(sheet, COLUMNS)[0][3]


@pytest.mark.parametrize(
    ("height", "width", "shown"), [(30, 60, (80, 160)), (300, 100, (160, 53)), (1, 1000, (1, 160))]
)
def test_a_picture_keeps_its_shape_in_the_middle_of_its_tile(height, width, shown):
    sheet = contact_sheet("job", LABEL, [SheetRow("row", [solid(1, height, width), solid(2)], ["", ""])])
    (left, top, right, bottom), _ = box_of(sheet, 1)
    assert (bottom - top, right - left) == shown
    (_, tile_top, _, tile_bottom), _ = box_of(sheet, 2)
    assert abs((top - tile_top) - (tile_bottom - bottom)) <= 1


def test_the_label_is_written_on_the_sheet():
    badge = contact_sheet("job", LABEL, [row(1)])
    other = contact_sheet("job", "full engine", [row(1)])
    none = contact_sheet("job", "", [row(1)])
    left, top, right, bottom = changed_box(badge, none)
    assert right - left > font_of_size(16).getlength(LABEL)
    assert bottom <= box_of(badge, 0)[0][1]
    assert changed_box(badge, other) is not None
    # Written, not only a coloured field: dark letters inside.
    assert np.asarray(badge)[top + 8 : bottom - 8, left + 14 : right - 14].max(axis=2).min() < 80


def test_title_and_metrics_are_drawn_where_they_belong():
    plain = contact_sheet("job", LABEL, [row(1)])
    assert changed_box(plain, contact_sheet("another", LABEL, [row(1)])) is not None
    with_metrics = contact_sheet("job", LABEL, [row(1)], metrics="PSNR train 34.0 dB")
    assert with_metrics.height > plain.height
    left, _, right, bottom = changed_box(
        with_metrics, contact_sheet("job", LABEL, [row(1)], metrics="PSNR train 28.1 dB")
    )
    assert left >= 28
    assert right <= with_metrics.width - 28
    assert bottom <= box_of(with_metrics, 0)[0][1]


def test_long_texts_stay_inside_their_places():
    def sheet(title, label, row_title, caption):
        return contact_sheet(title, label, [SheetRow(row_title, [solid(n) for n in range(3)], ["", caption, ""])])

    short = sheet("t", "l", "r", "")
    long_caption = sheet("t", "l", "r", "trajectory " * 30)
    (left, _, right, bottom), _ = box_of(short, 1)
    changed_left, changed_top, changed_right, _ = changed_box(short, long_caption)
    overhang = 2  # of a letter beyond its advance, pixels; the gap to the next tile is 10
    assert left - overhang <= changed_left
    assert changed_right <= right + overhang
    assert changed_top >= bottom
    crowded = sheet("title " * 80, "label " * 80, "row " * 200, "")
    assert crowded.size == short.size
    margins = np.asarray(crowded)[:, [*range(28), *range(crowded.width - 28, crowded.width)]]
    assert (margins == margins[0, 0]).all()


def test_the_scaffold_row_names_views_and_yaws():
    made = scaffold_row(solid(0, 30, 45), [solid(n) for n in range(1, 9)], [0, 45, 90, 135, 180, -135, -90, -44.9999])
    assert len(made.images) == len(made.captions) == 9
    assert made.captions[:3] == ["photo", "000  yaw 0°", "001  yaw 45°"]
    assert made.captions[8] == "007  yaw -45°"
    assert made.images[0].shape == (30, 45, 3)


def test_the_same_arguments_give_the_same_bytes_and_no_metadata(tmp_path):
    for name in ("a.png", "b.png"):
        write_contact_sheet(tmp_path / name, "job", LABEL, [row(4)], metrics="PSNR 30.0 dB")
    content = (tmp_path / "a.png").read_bytes()
    assert content == (tmp_path / "b.png").read_bytes()
    chunks, position = set(), 8
    while position < len(content):
        length, kind = struct.unpack(">I4s", content[position : position + 8])
        chunks.add(kind)
        position += length + 12
    assert chunks == {b"IHDR", b"IDAT", b"IEND"}
    with Image.open(io.BytesIO(content)) as read:
        expected = contact_sheet("job", LABEL, [row(4)], metrics="PSNR 30.0 dB")
        assert changed_box(read.convert("RGB"), expected) is None


@given(text=st.text(st.characters(codec="latin-1", exclude_categories=("C",)), max_size=60), width=st.integers(20, 300))
def test_shortening_keeps_as_much_as_fits(text, width):
    font = font_of_size(13)
    short = shorten(text, width, font)
    assert font.getlength(short) <= width
    if short != text:
        assert font.getlength(text) > width
        kept = short.removesuffix(ELLIPSIS)
        assert text.startswith(kept)
        longer = text[: len(kept) + 1]
        # One letter more does not fit, unless it is a space that would be stripped again.
        assert longer.rstrip() == kept or font.getlength(longer + ELLIPSIS) > width


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "at least one row"),
        ([SheetRow("empty", [], [])], r"no pictures \(empty\)"),
        ([SheetRow("two", [solid(1)], ["a", "b"])], r"1 pictures and 2 captions \(two\)"),
        ([SheetRow("float", [solid(1).astype(np.float32)], ["a"])], "float32"),
        ([SheetRow("grey", [solid(1)[..., 0]], ["a"])], r"uint8 \[40, 40\]"),
        ([SheetRow("alpha", [np.zeros((4, 4, 4), np.uint8)], ["a"])], r"\[4, 4, 4\]"),
        ([SheetRow("void", [np.zeros((0, 4, 3), np.uint8)], ["a"])], r"\[0, 4, 3\]"),
    ],
)
def test_what_cannot_be_drawn_is_named(rows, message):
    with pytest.raises(DefectError, match=message):
        contact_sheet("job", LABEL, rows)
