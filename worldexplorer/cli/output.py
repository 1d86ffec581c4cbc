"""Writing to standard output and standard error, for people and for programs.

Text that comes from a data set or an error may hold anything; nothing here interprets it, neither as markup nor as
control codes of a terminal. A reader that goes away (`| head`) ends the output, not the run.

Example:
    >>> with exclusive_stdout() as stream:
    ...     LineWriter(stream).write('{"event": "summary"}')
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console, RenderableType
from rich.text import Text

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_WIDTH_OUTSIDE_A_TERMINAL = 140


class PlainConsole(Console):
    """A console that shows texts as they are: no markup, no emoji codes, no guesses at what to highlight."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(file=stream, markup=False, emoji=False, highlight=False, soft_wrap=False)
        if not self.is_terminal and "COLUMNS" not in os.environ:
            self.width = _WIDTH_OUTSIDE_A_TERMINAL

    def show(self, parts: Iterable[RenderableType]) -> None:
        """Print tables fitted to the width and texts in one line each, so that they can be copied whole."""
        for part in parts:
            self.print(part, soft_wrap=isinstance(part, Text))

    def on_broken_pipe(self) -> None:
        """Go on without output."""
        self.quiet = True
        _send_to_nowhere(self.file)


class LineWriter:
    """Writes whole lines, at once."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._reader_is_gone = False

    def write(self, line: str) -> None:
        """Write one line; once nobody reads any more, nothing."""
        if self._reader_is_gone:
            return
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except BrokenPipeError:
            self._reader_is_gone = True
            _send_to_nowhere(self._stream)
            sys.stderr.write("nobody reads the progress any more: the run goes on without it\n")


def one_line(text: str) -> str:
    """The text with line ends and control codes folded to single spaces."""
    return _CONTROL.sub(" ", text).rstrip()


def plain(text: object, style: str = "") -> Text:
    """A text for a console, free of control codes."""
    return Text(one_line(str(text)), style=style)


@contextmanager
def exclusive_stdout() -> Iterator[TextIO]:
    """Standard output for this block's writer alone; what else writes to it, here or in a child, reaches stderr."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):  # a stand-in without a descriptor: nobody but Python code writes to it
        yield sys.stdout
        return
    sys.stdout.flush()
    kept = os.dup(descriptor)
    os.dup2(sys.stderr.fileno(), descriptor)
    try:
        with os.fdopen(os.dup(kept), "w", encoding="utf-8") as stream:
            yield stream
    finally:
        sys.stdout.flush()
        os.dup2(kept, descriptor)
        os.close(kept)


def _send_to_nowhere(stream: object) -> None:
    """Let the interpreter's last flush of a broken pipe succeed."""
    if hasattr(stream, "fileno"):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
