"""Static HTML pages that a browser shows without asking anybody: no script, no link to load, pictures inside.

Every text is escaped here, so that nothing a data set or an error holds becomes markup; the page's policy forbids
whatever would be loaded or run all the same.

Example:
    >>> document("Batch", "synthesised preview", [paragraph("4 jobs"), table(["job"], [["default/index_0000"]])])
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 80rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.label { display: inline-block; background: #f0b429; color: #1e1808; border-radius: .3rem; padding: 0 .5rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8884; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; height: auto; border-radius: .3rem; }
.success { color: #1a7f37; } .failed { color: #cf222e; } .skipped, .waiting { color: #9a6700; }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_JPEG_QUALITY = 82


@dataclass(frozen=True)
class Markup:
    """A piece of HTML made by this module; whatever is not one is text, and is escaped."""

    html: str


def document(title: str, label: str, parts: Iterable[Markup]) -> str:
    """A whole page with a title and the label of what made its pictures."""
    body = "\n".join(part.html for part in parts)
    badge = f'<p><span class="label">{escape(label)}</span></p>' if label else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n{badge}\n{body}\n</body>\n</html>\n"
    )


def heading(text: str) -> Markup:
    """The title of a section."""
    return Markup(f"<h2>{escape(text)}</h2>")


def paragraph(text: str) -> Markup:
    """A paragraph."""
    return Markup(f"<p>{escape(text)}</p>")


def status(text: str) -> Markup:
    """A job's status in its colour."""
    kind = text.split()[0] if text.split() else ""
    return Markup(f'<span class="{escape(kind, quote=True)}">{escape(text)}</span>')


def table(headings: Sequence[str], rows: Iterable[Sequence[str | float | Markup]]) -> Markup:
    """A table; numbers stand to the right."""
    head = "".join(f"<th>{escape(text)}</th>" for text in headings)
    lines = "\n".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in rows)
    return Markup(f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n</table>")


def picture(image: Image.Image, alt: str, width: int) -> Markup:
    """A picture inside the page, at most `width` pixels wide."""
    shown = image.convert("RGB")
    if shown.width > width:
        shown = shown.resize((width, max(1, round(shown.height * width / shown.width))), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    shown.save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Markup(f'<img alt="{escape(alt, quote=True)}" src="data:image/jpeg;base64,{data}">')


def _cell(cell: str | float | Markup) -> str:
    if isinstance(cell, Markup):
        return f"<td>{cell.html}</td>"
    if isinstance(cell, str):
        return f"<td>{escape(cell)}</td>"
    return f'<td class="number">{cell:,}</td>' if isinstance(cell, int) else f'<td class="number">{cell:,.6g}</td>'
