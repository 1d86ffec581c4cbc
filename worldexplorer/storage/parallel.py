"""Many calls that wait for a network, several at once.

Example:
    >>> sizes = map_in_threads(fetch_size, keys)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import TypeVar

THREADS = 32

Item = TypeVar("Item")
Result = TypeVar("Result")

_inside: ContextVar[bool] = ContextVar("inside", default=False)


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """`function` of every item, in order.

    Every call sees the caller's context variables. Called from within such a function it is a plain loop, since the
    threads are taken. After a failure no further call begins; the failure of the first item that failed is raised.
    """
    todo = list(items)
    if len(todo) < 2 or _inside.get():
        return [function(item) for item in todo]

    failed = threading.Event()

    def call(item: Item) -> Result:
        if failed.is_set():
            raise CancelledError  # seen by nobody: what failed came before it
        _inside.set(True)
        try:
            return function(item)
        except BaseException:
            failed.set()
            raise

    pool = ThreadPoolExecutor(min(THREADS, len(todo)), thread_name_prefix="storage")
    try:
        futures = [pool.submit(copy_context().run, call, item) for item in todo]
        return [future.result() for future in futures]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
