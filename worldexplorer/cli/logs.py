"""This package's log records, shown where the progress is shown.

Example:
    >>> with listen_to_log(lambda level, text: print(level, text)):
    ...     logging.getLogger("worldexplorer.batch").warning("low light")
    WARNING low light
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from worldexplorer.log import PACKAGE, redact


@contextmanager
def listen_to_log(hear: Callable[[str, str], None]) -> Iterator[None]:
    """Call `hear(level, text)` for this package's log records from INFO on, as long as the block runs."""
    logger = logging.getLogger(PACKAGE)
    handler = _Listener(hear)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(min(level, logging.INFO) if level else logging.INFO)
    logger.propagate = False  # a root handler would write into the middle of the bars
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


class _Listener(logging.Handler):
    def __init__(self, hear: Callable[[str, str], None]) -> None:
        super().__init__(logging.INFO)
        self._hear = hear

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one record on."""
        self._hear(record.levelname, redact(record.getMessage()))
