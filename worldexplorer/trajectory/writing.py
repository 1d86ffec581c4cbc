"""Work beside the sampling: one thread that writes what is finished, while the next thing is computed.

Pieces of work are done one after the other, in order. No more than a few wait: whoever brings another one waits until
there is room, so memory stays bounded where the disk is slower than the GPU. What goes wrong is raised in the thread
that brings the work, at the next piece or at the end. Where the bringing thread itself fails, what it has brought is
still done, because it is finished work.

Example:
    >>> with BackgroundWriter() as writer:
    ...     for name, frames in sampled:
    ...         writer.submit(lambda: write_pictures(folder / name, frames))
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from threading import BoundedSemaphore
from types import TracebackType

_MOST_WAITING = 2
_logger = logging.getLogger(__name__)


class BackgroundWriter:
    """Does pieces of work in a thread of its own, from `with` to its end.

    Args:
        most_waiting: pieces that may wait, the one at hand included.
    """

    def __init__(self, most_waiting: int = _MOST_WAITING) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="writer")
        self._room = BoundedSemaphore(most_waiting)
        self._error: BaseException | None = None
        self.ends_early = False
        """Whether the bringing thread has failed, so that only what is worth keeping need be done."""

    def __enter__(self) -> BackgroundWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ends_early = error is not None
        self._pool.shutdown()
        if self._error is None:
            return
        if error is None:
            raise self._error
        if error is not self._error:
            _logger.warning("writing failed as well: %s", self._error)

    def submit(self, work: Callable[[], None]) -> Future[None]:
        """Have a piece of work done after those before it; after one that failed, none is.

        Returns:
            What tells when it is done, and raises what it raised.

        Raises:
            Exception: whatever an earlier piece raised.
        """
        self._room.acquire()
        if self._error is not None:
            self._room.release()
            raise self._error
        return self._pool.submit(copy_context().run, self._do, work)  # its log lines belong to the same job

    def wait(self) -> None:
        """Until all pieces so far are done; raises what one of them raised."""
        self.submit(lambda: None).result()

    def _do(self, work: Callable[[], None]) -> None:
        try:
            if self._error is not None:
                raise self._error
            work()
        except BaseException as error:
            self._error = self._error or error
            raise
        finally:
            self._room.release()
