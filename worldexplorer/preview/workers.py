"""Threads that share the work of compiled kernels, part by part.

A kernel is a function compiled by numba that gives up the interpreter's lock and is called as `kernel(part, parts,
*arguments)` for every part; it writes what belongs to its part and nothing else. What a part is must not change any
result, so that results do not depend on how many threads there are. (numba's own parallel loops take three times as
long to compile, and serve one caller at a time.)

Example:
    >>> with Workers(threads=2) as workers:
    ...     workers(double, numbers, doubled)         # double(0, 2, numbers, doubled), double(1, 2, numbers, doubled)
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

from worldexplorer.preview.threads import thread_count


class Workers:
    """Some threads, the caller's being one of them.

    Args:
        threads: how many; None for as many as there are processors to use.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or thread_count()
        self._others = ThreadPoolExecutor(self.threads - 1) if self.threads > 1 else None

    def __call__(self, kernel: Callable[..., Any], *arguments: Any) -> None:
        """Have every part of the work done; raises what a part raises."""
        if self._others is None:
            kernel(0, 1, *arguments)
            return
        parts = self.threads
        others = [self._others.submit(kernel, part, parts, *arguments) for part in range(1, parts)]
        try:
            kernel(0, parts, *arguments)
        finally:
            failures = [other.exception() for other in others]  # wait for all: they write into the arguments
        for failure in failures:
            if failure is not None:
                raise failure

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._others is not None:
            self._others.shutdown()


ALONE = Workers(1)
"""The caller's thread and no other."""
