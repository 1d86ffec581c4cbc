"""Sample indices in the command line's grammar: `0-9 20 30:32`, inclusive ranges with `-` or `:`.

A selection is kept as spans and looked at from the side of what exists, so a range of any width costs nothing.

Example:
    >>> selection = IndexSelection.parse(["0-9", "20", "30:32"])
    >>> selection.contains(31), selection.contains(10)
    (True, False)
    >>> selection.missing(range(25))
    ('30:32',)
    >>> format_indices({0, 1, 2, 5})
    '0-2 5'
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from worldexplorer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

EXPANSION_LIMIT = 1_000_000
"""The most indices that :func:`parse_indices` writes out."""

_FLAG = "--indices"
_GRAMMAR = "give numbers and inclusive ranges, such as --indices 0 5 14, 0-24 or 0-9 20 30:32"
_SHOWN_LENGTH = 40
_TOKEN = re.compile(r"([0-9]+)(?:[-:]([0-9]+))?")
_NEGATIVE = re.compile(r"-[0-9]+(?:[-:]-?[0-9]+)?|[0-9]+[-:]-[0-9]+")
_MOST_DIGITS = 18


@dataclass(frozen=True)
class _Span:
    """The indices from `first` to `last`, both included; `text` as it was written."""

    first: int
    last: int
    text: str


@dataclass(frozen=True)
class IndexSelection:
    """The indices a person asked for.

    Attributes:
        spans: what was asked for, in the order and the words of the command.
        starts: first indices of the disjoint, ascending intervals that the spans cover together.
        ends: the last index of each of these intervals.
    """

    spans: tuple[_Span, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    @staticmethod
    def parse(arguments: Sequence[str]) -> IndexSelection:
        """Read the values of `--indices`; one value may hold several items separated by white space.

        Raises:
            UsageError: nothing given, a word, a negative number, a range that ends before it starts, or a number of
                more than 18 digits.
        """
        spans = tuple(_parse_span(text) for argument in arguments for text in argument.split())
        if not spans:
            raise UsageError("no index given", where=_FLAG, remedy=f"{_GRAMMAR}, or leave it out to take every sample")
        starts: list[int] = []
        ends: list[int] = []
        for span in sorted(spans, key=lambda span: span.first):
            if ends and span.first <= ends[-1] + 1:
                ends[-1] = max(ends[-1], span.last)
            else:
                starts.append(span.first)
                ends.append(span.last)
        return IndexSelection(spans, tuple(starts), tuple(ends))

    def contains(self, index: int) -> bool:
        """Whether `index` was asked for."""
        place = bisect_right(self.starts, index) - 1
        return place >= 0 and index <= self.ends[place]

    def missing(self, existing: Collection[int]) -> tuple[str, ...]:
        """The numbers and ranges, as written, that match none of the `existing` indices."""
        ordered = sorted(existing)

        def matches(span: _Span) -> bool:
            place = bisect_left(ordered, span.first)
            return place < len(ordered) and ordered[place] <= span.last

        return tuple(dict.fromkeys(span.text for span in self.spans if not matches(span)))

    def require(self, existing: Collection[int], where: str) -> None:
        """Make sure that every number and every range matches at least one of the `existing` indices.

        Args:
            existing: the indices there are.
            where: the file that lists them, for the message.

        Raises:
            UsageError: naming what matches nothing and what there is.
        """
        missing = self.missing(existing)
        if missing:
            there_are = _shorten(format_indices(existing), 200) or "none"
            raise UsageError(
                f"no such index: {_shorten(' '.join(missing), 200)}",
                where=f"{_FLAG}, {where}",
                remedy=f"choose among the indices of the data set: {there_are}",
            )

    def count(self) -> int:
        """How many indices the selection covers, whether samples have them or not."""
        return sum(end - start + 1 for start, end in zip(self.starts, self.ends, strict=True))


def parse_indices(arguments: Sequence[str]) -> tuple[int, ...]:
    """Write out a selection as ascending, distinct numbers.

    Raises:
        UsageError: as :meth:`IndexSelection.parse`, or more than :data:`EXPANSION_LIMIT` indices.
    """
    selection = IndexSelection.parse(arguments)
    if selection.count() > EXPANSION_LIMIT:
        raise UsageError(
            f"{selection.count()} indices are too many to write out",
            where=_FLAG,
            remedy=f"ask for at most {EXPANSION_LIMIT} indices at a time",
        )
    return tuple(
        index for start, end in zip(selection.starts, selection.ends, strict=True) for index in range(start, end + 1)
    )


def format_indices(indices: Iterable[int]) -> str:
    """The shortest text in the grammar that selects exactly `indices` (none negative); empty for none."""
    starts: list[int] = []
    ends: list[int] = []
    for index in sorted(set(indices)):
        if ends and index == ends[-1] + 1:
            ends[-1] = index
        else:
            starts.append(index)
            ends.append(index)
    return " ".join(str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True))


def _parse_span(text: str) -> _Span:
    shown = _shorten(text, _SHOWN_LENGTH)
    if _NEGATIVE.fullmatch(text):
        raise UsageError(f"{shown!r} is negative; indices start at 0", where=_FLAG, remedy=_GRAMMAR)
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise UsageError(f"{shown!r} is neither a number nor a range", where=_FLAG, remedy=_GRAMMAR)
    low, high = match[1], match[2] or match[1]
    if max(len(low), len(high)) > _MOST_DIGITS:
        raise UsageError(
            f"{shown!r} has more than {_MOST_DIGITS} digits", where=_FLAG, remedy="give indices of the data set"
        )
    first, last = int(low), int(high)
    if first > last:
        raise UsageError(f"{shown!r} ends before it starts", where=_FLAG, remedy=f"write {last}-{first}")
    return _Span(first, last, text)


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}..."
