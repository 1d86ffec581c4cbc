"""Pages: everything is escaped, nothing is loaded, pictures are inside."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from worldexplorer.report import html

HOSTILE = "<script>alert('1')</script>\"><img src=x onerror=alert(1)>&lt;b&gt;"
VOID = {"meta", "img"}


class Reader(HTMLParser):
    """A page as a browser takes it apart."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def names(self) -> set[str]:
        return {tag for tag, _ in self.tags}


def page(*parts: html.Markup, title: str = "Batch", label: str = "") -> Reader:
    return Reader(html.document(title, label, parts))


def body_text(read: Reader) -> str:
    return "".join(read.texts)


class TestDocument:
    def test_policy_forbids_whatever_is_loaded_or_run(self) -> None:
        metas = [attributes for tag, attributes in page().tags if tag == "meta"]
        (policy,) = [one["content"] for one in metas if one.get("http-equiv") == "Content-Security-Policy"]
        assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        assert list(metas[0]) == ["charset"] and next(iter(metas[1])) == "http-equiv"

    def test_label_stands_under_the_title(self) -> None:
        read = page(label="synthesised preview")
        assert ("span", {"class": "label"}) in read.tags
        assert "synthesised preview" in read.texts
        assert ("span", {"class": "label"}) not in page().tags

    def test_nothing_of_the_style_asks_anybody(self) -> None:
        text = html.document("Batch", "label", [])
        assert "http:" not in text and "https:" not in text and "url(" not in text and "@import" not in text


class TestEscaping:
    @pytest.mark.parametrize(
        "part",
        [
            html.heading(HOSTILE),
            html.paragraph(HOSTILE),
            html.status(HOSTILE),
            html.table([HOSTILE], [["x"]]),
            html.table(["x"], [[HOSTILE]]),
        ],
        ids=["heading", "paragraph", "status", "headings", "cells"],
    )
    def test_hostile_text_stays_text(self, part: html.Markup) -> None:
        read = page(part)
        assert not read.names() & {"script", "img", "b"}
        assert HOSTILE in read.texts

    def test_hostile_title_and_label(self) -> None:
        read = page(title=HOSTILE, label=HOSTILE)
        assert not read.names() & {"script", "img", "b"}
        assert read.texts.count(HOSTILE) == 3

    def test_hostile_alternative_text(self) -> None:
        read = page(html.picture(Image.new("RGB", (4, 4)), HOSTILE, 4))
        ((_, attributes),) = [one for one in read.tags if one[0] == "img"]
        assert set(attributes) == {"alt", "src"}
        assert attributes["alt"] == HOSTILE

    @settings(deadline=None)
    @given(st.text())
    def test_any_text_comes_through(self, text: str) -> None:
        part = html.paragraph(f"[{text}]")
        read = Reader(part.html)
        assert read.names() == {"p"}
        assert body_text(read) == f"[{text}]"


class TestTable:
    def cells(self, *row: str | float | html.Markup) -> list[str]:
        return re.findall(r"<td.*?</td>", html.table(["a"] * len(row), [row]).html)

    def test_numbers_stand_to_the_right(self) -> None:
        assert self.cells("1", 1, 1.5) == [
            "<td>1</td>",
            '<td class="number">1</td>',
            '<td class="number">1.5</td>',
        ]

    @pytest.mark.parametrize(
        ("number", "text"),
        [
            (123456789, "123,456,789"),
            (1234.5678, "1,234.57"),
            (0.000123, "0.000123"),
            (-7, "-7"),
            (float("nan"), "nan"),
        ],
    )
    def test_numbers_are_readable(self, number: float, text: str) -> None:
        assert self.cells(number) == [f'<td class="number">{text}</td>']

    def test_status_has_its_colour(self) -> None:
        (cell,) = self.cells(html.status("failed (degraded)"))
        assert cell == '<td><span class="failed">failed (degraded)</span></td>'
        assert html.status("").html == '<span class=""></span>'


class TestPicture:
    def shown(self, part: html.Markup) -> Image.Image:
        (source,) = [attributes["src"] for tag, attributes in page(part).tags if tag == "img"]
        assert source is not None
        kind, data = source.split(",", 1)
        assert kind == "data:image/jpeg;base64"
        return Image.open(io.BytesIO(base64.b64decode(data, validate=True)))

    def test_wide_pictures_are_made_smaller(self) -> None:
        shown = self.shown(html.picture(Image.new("RGB", (300, 100), "red"), "red", 60))
        assert shown.size == (60, 20)
        colour = shown.getpixel((30, 10))
        assert isinstance(colour, tuple)
        assert colour[0] > 240 and max(colour[1:]) < 15

    def test_narrow_pictures_stay(self) -> None:
        assert self.shown(html.picture(Image.new("RGB", (30, 10)), "", 60)).size == (30, 10)

    def test_a_line_of_pixels_is_not_lost(self) -> None:
        assert self.shown(html.picture(Image.new("RGB", (1000, 1)), "", 10)).size == (10, 1)

    @pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "I;16"])
    def test_any_kind_of_picture(self, mode: str) -> None:
        assert self.shown(html.picture(Image.new(mode, (8, 8)), "", 8)).mode == "RGB"
