"""Progress of a piece of work, as a plain callback.

Stages and models report how far they are and nothing else; who listens (a bar in a terminal, JSON lines in a pod, a
test) is the caller's business. A listener may raise :class:`worldexplorer.errors.Cancelled` to stop the work.

Example:
    >>> def listen(done: int, total: int, what: str) -> None: ...
    >>> part(listen, 0.0, 0.5)(10, 10, "layout")   # reported as 500 of 1000
"""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called with the units done, the units in all and a word for the work at hand."""

    def __call__(self, done: int, total: int, what: str) -> None:
        """Report; may raise Cancelled."""


def silent(done: int, total: int, what: str) -> None:
    """A listener that does nothing."""


def part(progress: Progress, start: float, end: float) -> Progress:
    """A listener whose whole is the span from `start` to `end` (fractions) of `progress`."""

    def report(done: int, total: int, what: str) -> None:
        share = start + (end - start) * (done / total if total else 1.0)
        progress(round(1000 * share), 1000, what)

    return report


def saying(progress: Progress, words: str) -> Progress:
    """A listener that puts its own words in the place of those of the work."""
    return lambda done, total, what: progress(done, total, words)
