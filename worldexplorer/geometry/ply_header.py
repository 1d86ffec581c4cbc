"""The header of PLY files: what this project writes, and a strict reader of it.

Binary little-endian files with one element `vertex` and properties of the types float and uchar; nothing else.

Example:
    >>> layout = {"x": FLOAT, "y": FLOAT, "z": FLOAT}
    >>> header_bytes(2, layout, ["two points"], "points.ply").decode().splitlines()[2:4]
    ['comment two points', 'element vertex 2']
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from worldexplorer.errors import DefectError, WorldExplorerError

HEADER_LIMIT = 65_536
"""Bytes a header may have."""

FLOAT, BYTE = "<f4", "u1"
"""The two types of properties, as numpy spells them."""

TYPE_NAMES = {FLOAT: "float", BYTE: "uchar"}
"""The two types of properties, as a header spells them."""

_TYPES = {"float": FLOAT, "float32": FLOAT, "uchar": BYTE, "uint8": BYTE}
_END = b"\nend_header\n"

Fault = Callable[[str], WorldExplorerError]
"""Makes the error for a file in which something is wrong."""


@dataclass(frozen=True)
class Header:
    """What a header says.

    Attributes:
        count: rows.
        properties: type of each property by its name, in the file's order.
        comments: text of the comment lines.
        length: bytes of the header, which is where the rows begin.
    """

    count: int
    properties: Mapping[str, str]
    comments: tuple[str, ...]
    length: int

    @property
    def row(self) -> np.dtype[Any]:
        """One row as a packed numpy type."""
        return np.dtype(list(self.properties.items()))


def header_bytes(count: int, layout: Mapping[str, str], comments: Sequence[str], where: str) -> bytes:
    """The header of a file.

    Args:
        count: rows.
        layout: type of each property by its name, in the order of the file.
        comments: lines of printable ASCII.
        where: the file's name, for errors.

    Raises:
        DefectError: a comment is not one line of printable ASCII, or they are too long for the reader.
    """
    for comment in comments:
        if not (comment.isascii() and comment.isprintable()):
            raise DefectError(f"a PLY comment must be one line of printable ASCII; it is {comment!r}", where=where)
    lines = ["ply", "format binary_little_endian 1.0"]
    lines += [f"comment {comment}" for comment in comments]
    lines += [f"element vertex {count}"]
    lines += [f"property {TYPE_NAMES[kind]} {name}" for name, kind in layout.items()]
    header = "\n".join(lines).encode("ascii") + _END
    if len(header) > HEADER_LIMIT:
        raise DefectError(f"the comments make the PLY header longer than {HEADER_LIMIT} bytes", where=where)
    return header


def read_header(file: BinaryIO, limit: int, wrong: Fault) -> Header:
    """Parse a header and leave the file at the first row.

    Args:
        file: at its beginning.
        limit: the most rows to accept.
        wrong: makes the error to raise.

    Raises:
        WorldExplorerError: what `wrong` makes; the header is too long or not exactly such a header.
    """
    start = file.read(HEADER_LIMIT)
    if not start.startswith(b"ply\n"):
        raise wrong("the file is not a PLY file: it does not begin with a line `ply`")
    end = start.find(_END)
    if end < 0:
        raise wrong(f"no end_header within the first {len(start)} bytes")
    file.seek(end + len(_END))
    count: int | None = None
    properties: dict[str, str] = {}
    comments: list[str] = []
    for number, raw in enumerate(start[:end].split(b"\n")[1:], start=2):
        line = raw.decode("ascii", errors="replace")
        if not (line.isascii() and line.isprintable()):
            raise wrong(f"line {number} of the header is not printable ASCII")
        match line.split(" "):
            case ["format", "binary_little_endian", "1.0"] if number == 2:
                pass
            case ["format", kind, version] if number == 2:
                raise wrong(f"the format is {_short(kind)} {_short(version)}; only binary_little_endian 1.0 is read")
            case _ if number == 2:
                raise wrong("the second line of the header does not state the format")
            case ["comment", *_]:
                comments.append(line[len("comment ") :])
            case ["obj_info", *_]:
                pass
            case ["element", "vertex", rows] if count is None:
                if not re.fullmatch("[0-9]{1,18}", rows) or int(rows) > limit:
                    raise wrong(f"the header announces {_short(rows)} rows; a number from 0 to {limit} is possible")
                count = int(rows)
            case ["element", name, _]:
                raise wrong(f"the file holds an element {_short(name)!r}; only one element `vertex` is read")
            case ["property", kind, name] if count is not None and kind in _TYPES:
                if name in properties:
                    raise wrong(f"the property {_short(name)} is there twice")
                properties[name] = _TYPES[kind]
            case ["property", kind, *_, name] if count is not None:
                raise wrong(f"the property {_short(name)} has the type {_short(kind)}; only float and uchar are read")
            case _:
                raise wrong(f"line {number} of the header is not understood: {_short(line)!r}")
    if count is None:
        raise wrong("the header announces no element `vertex`")
    return Header(count, properties, tuple(comments), end + len(_END))


def _short(text: str) -> str:
    """Hostile words may be long; an error text need not be."""
    return text if len(text) <= 40 else f"{text[:40]}..."
