"""How the frames between others that are there already, the anchors, are shared among joint samplings.

A sampling is given anchors that follow each other and makes the frames between them, as many gaps at a time as fit. In
stage 1 anchors are frames themselves. In stage 2 they are not, and the frame that stands at an anchor is made too; with
the anchors' places of :class:`worldexplorer.trajectory.walks.Walk` these are the chunks of the WorldExplorer system,
and with the last frame of the trajectory, which is dropped there.

Example:
    >>> second_pass_chunks((0.0, 1.0, 2.0, 3.0, 4.0), anchors=(0.0, 2.0, 4.0), limit=21)
    [Chunk(anchors=(0.0, 2.0, 4.0), targets=(0.0, 1.0, 2.0, 3.0, 4.0))]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from worldexplorer.errors import DefectError


@dataclass(frozen=True)
class Chunk:
    """One sampling of a second pass, by places on a path.

    Attributes:
        anchors: what is given, increasing.
        targets: what is made, increasing.
    """

    anchors: tuple[float, ...]
    targets: tuple[float, ...]

    @property
    def size(self) -> int:
        """Frames of the sampling."""
        return len(self.anchors) + len(self.targets)

    def frames(self) -> tuple[tuple[float, bool], ...]:
        """Place of each frame in the order of the path and whether it is given; an anchor before its own frame."""
        given = [(anchor, True) for anchor in self.anchors]
        made = [(target, False) for target in self.targets]
        return tuple(sorted(given + made, key=lambda frame: (frame[0], not frame[1])))


def second_pass_chunks(targets: Sequence[float], anchors: Sequence[float], limit: int | None) -> list[Chunk]:
    """Share all targets among samplings.

    Args:
        targets: places of the frames to make, increasing, from the first anchor to less than a frame (1) past the last.
        anchors: places of the frames there are, increasing, two or more where there are targets.
        limit: most frames of a sampling; None where there is none.

    Returns:
        Chunks that make every target once, in order; neighbours share an anchor. A gap too wide for one sampling is cut
        into even parts with the same two anchors. Gaps without a target make no chunk.

    Raises:
        DefectError: a target is outside the anchors, or the limit leaves no room between two of them.
    """
    most = math.inf if limit is None else limit
    if most < 3:
        raise DefectError(f"a sampling of {limit} frames has no room between two anchors")
    if targets and (len(anchors) < 2 or targets[0] < anchors[0] or targets[-1] >= anchors[-1] + 1):
        raise DefectError("a second pass was asked for frames that are not between anchors")
    chunks: list[Chunk] = []
    held: list[float] = []
    made: list[float] = []

    def close() -> None:
        if made:
            chunks.append(Chunk(tuple(held), tuple(made)))
        held.clear()
        made.clear()

    for left, right in pairwise(anchors):
        between = [target for target in targets if left <= target and (target < right or right == anchors[-1])]
        if len(held) + len(made) + 1 + len(between) > most or not between:
            close()
        if 2 + len(between) > most:
            chunks += [Chunk((left, right), part) for part in _even_parts(between, int(most) - 2)]
        elif between:
            held += [right] if held else [left, right]
            made += between
    close()
    return chunks


def _even_parts(targets: Sequence[float], most: int) -> list[tuple[float, ...]]:
    """Runs of nearly the same length, as few as hold at most `most` each."""
    count = math.ceil(len(targets) / most)
    bounds = [round(number * len(targets) / count) for number in range(count + 1)]
    return [tuple(targets[start:end]) for start, end in pairwise(bounds)]
