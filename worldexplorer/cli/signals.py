"""Stopping: the first signal asks the run to stop, later ones are ignored while it writes its summary.

Example:
    >>> with stop_on_signals():
    ...     run_batch(prepared, listener)      # Ctrl-C raises KeyboardInterrupt(2) here, SIGTERM KeyboardInterrupt(15)
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_EXIT_OF_SIGNALS = 128


def exit_code_of(signal_number: int) -> int:
    """What a shell expects from a program that a signal stopped."""
    return _EXIT_OF_SIGNALS + signal_number


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt(signal number) in the block at the first signal, and nothing at later ones.

    A signal that is ignored on entry stays so (`nohup`, background jobs of a script). In a thread other than the main
    one nothing changes, because Python delivers signals to the main thread only.
    """
    stopped = False

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        if not stopped:
            stopped = True
            raise KeyboardInterrupt(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPPING_SIGNALS}
    handled = [number for number in STOPPING_SIGNALS if before[number] is not signal.SIG_IGN]
    for number in handled:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])
