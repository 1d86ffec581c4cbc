"""The log of a pod: one JSON object a line on standard output, without access tokens.

Example:
    >>> with log_lines(sys.stdout):
    ...     logging.getLogger("worldexplorer.pod").warning("low light")
    {"time": "...", "event": "log", "level": "WARNING", "work": "", "text": "low light"}
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TextIO

from worldexplorer.cli.logs import listen_to_log
from worldexplorer.cli.output import LineWriter
from worldexplorer.cli.reporter import json_line
from worldexplorer.log import current_work


@contextmanager
def log_lines(stream: TextIO) -> Iterator[None]:
    """Write this package's log records to `stream` as long as the block runs."""
    lines = LineWriter(stream)

    def hear(level: str, text: str) -> None:
        facts = {"level": level, "work": current_work(), "text": text}
        lines.write(json_line("log", datetime.now(UTC), facts))

    with listen_to_log(hear):
        yield
