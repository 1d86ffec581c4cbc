"""What a piece of work cost: when it began, its seconds, and the peak memory of this process.

The peak is that of the work on Linux, and elsewhere that since the process started.

Example:
    >>> with Measurement() as cost:
    ...     work()
    ...     cost.seconds, cost.peak_so_far_mib()
"""

from __future__ import annotations

import resource
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


class Measurement:
    """Measures from `with` to its end; everything may also be read on the way."""

    def __init__(self) -> None:
        self.started_at = datetime.now(UTC)
        self._start = 0.0
        self._end: float | None = None

    def __enter__(self) -> Measurement:
        self.started_at = datetime.now(UTC)
        self._start = time.perf_counter()
        # Where the kernel does not let a process reset its peak, the figure is the peak since the process started.
        with suppress(OSError):
            _CLEAR_REFS.write_text(_RESET_PEAK)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end = time.perf_counter()

    def peak_so_far_mib(self) -> float:
        """The largest resident memory since the block began, in MiB."""
        return peak_memory_mib()

    @property
    def seconds(self) -> float:
        """Wall-clock seconds."""
        return (self._end or time.perf_counter()) - self._start


def peak_memory_mib() -> float:
    """The largest resident memory of this process, in MiB."""
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) / 1024, 1)
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(largest / (2**20 if sys.platform == "darwin" else 2**10), 1)
