"""What processes that this program starts for its own work have in common: who hears Ctrl-C, and when they end.

Example:
    >>> with sigint_blocked():
    ...     process.start()
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait

EXIT_ORPHANED = 70
"""With which a process ends whose parent is gone."""


@contextmanager
def sigint_blocked() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal: a new one inherits the block, the parent gets what it missed."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """End this process when its parent ends, however that ends; for a process of multiprocessing."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "the process has a parent"

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(EXIT_ORPHANED)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
