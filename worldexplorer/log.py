"""Log lines that name their job and stage, and the tail of them that goes into a failure's record.

Example:
    >>> with LogTail() as tail:
    ...     logging.getLogger("worldexplorer.x").warning("low light")
    >>> tail.lines()
    ['WARNING worldexplorer.x: low light']
"""

from __future__ import annotations

import logging
import os
import re
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType

_TAIL_LINES = 40
_SECRET = re.compile(r"\bhf_[A-Za-z0-9]{8,}\b|(?i:(?<=bearer )[A-Za-z0-9._~+/=-]{8,})|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)")
_SECRET_NAME = re.compile(r"(?!.*_(PATH|FILE)$).*(TOKEN|SECRET|PASSWORD|API_?KEY|CREDENTIAL)", re.IGNORECASE)
"""Names of variables that hold a secret; those that say where one lies hold none."""
_LEAST_SECRET_CHARACTERS = 8  # shorter values are switches, and would black out ordinary words
_HIDDEN = "[redacted]"
PACKAGE = "worldexplorer"


_work: ContextVar[str] = ContextVar("worldexplorer-work", default="")


@contextmanager
def working_on(what: str) -> Iterator[None]:
    """Name the job and stage that lines logged in the block belong to."""
    token = _work.set(what)
    try:
        yield
    finally:
        _work.reset(token)


def current_work() -> str:
    """The job and stage at hand, empty outside of any."""
    return _work.get()


def redact(text: str) -> str:
    """The text without access tokens: known forms, and whatever the environment keeps under a name that says so."""
    for name, value in os.environ.items():
        if len(value) >= _LEAST_SECRET_CHARACTERS and _SECRET_NAME.search(name):
            text = text.replace(value, _HIDDEN)
    return _SECRET.sub(_HIDDEN, text)


class LogTail(logging.Handler):
    """Keeps the last lines logged by this package while the `with` block runs."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: deque[str] = deque(maxlen=_TAIL_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self._lines.append(redact(f"{record.levelname} {record.name}: {record.getMessage()}"))

    def lines(self, error: BaseException | None = None) -> list[str]:
        """The kept lines, then the traceback of `error`."""
        trace = [] if error is None else "".join(traceback.format_exception(error)).splitlines()
        return [*self._lines, *(redact(line) for line in trace)]

    def __enter__(self) -> LogTail:
        logging.getLogger(PACKAGE).addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger(PACKAGE).removeHandler(self)
