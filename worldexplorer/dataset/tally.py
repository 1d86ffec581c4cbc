"""Warnings counted by kind, so that ten thousand samples with one oddity make one line.

Example:
    >>> tally = Tally()
    >>> for place in ("samples[0].author", "samples[1].author"):
    ...     tally.add("unknown key samples[].author ignored", place)
    >>> tally.lines()
    ['unknown key samples[].author ignored (2 times, first at samples[0].author)']
"""

from __future__ import annotations

LINES_SHOWN = 20


class Tally:
    """Counts like events and remembers where each kind was first met."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._count: dict[str, int] = {}

    def add(self, kind: str, place: str) -> None:
        """Count one event of a `kind` (a sentence without its full stop) at a `place`."""
        self._first.setdefault(kind, place)
        self._count[kind] = self._count.get(kind, 0) + 1

    def lines(self) -> list[str]:
        """A line for each kind, in the order they were first met; what comes after the first 20 is only counted."""
        kinds = list(self._first)
        lines = [self._line(kind) for kind in kinds[:LINES_SHOWN]]
        if len(kinds) > LINES_SHOWN:
            lines.append(f"... and warnings of {len(kinds) - LINES_SHOWN:,} more kinds")
        return lines

    def _line(self, kind: str) -> str:
        count, place = self._count[kind], self._first[kind]
        return f"{kind} (at {place})" if count == 1 else f"{kind} ({count:,} times, first at {place})"
