"""How frames between others that are there already are shared among joint samplings.

Stage 1 makes the frames between those of its joint sampling so, and stage 2 those between the anchors of a trajectory.

Example:
    >>> second_pass_chunks((0.0, 1.0, 2.0, 3.0, 4.0), anchors=(0.0, 2.0, 4.0), limit=21)
    [Chunk(anchors=(0.0, 2.0, 4.0), targets=(1.0, 3.0))]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Chunk:
    """One joint sampling of a second pass, in parameters of a path: what is given and what is made."""

    anchors: tuple[float, ...]
    targets: tuple[float, ...]


def second_pass_chunks(targets: Sequence[float], anchors: Sequence[float], limit: int) -> list[Chunk]:
    """Share the targets that are no anchors among samplings.

    Args:
        targets: parameters of the frames to have, increasing, none beyond the last anchor.
        anchors: parameters of the frames there are, increasing.
        limit: most frames a sampling.

    Returns:
        Chunks that begin and end with an anchor; neighbours share one. A gap too wide for one sampling is cut into
        several with the same two anchors. Gaps without a target make no chunk.
    """
    gaps = [(left, right, [target for target in targets if left < target < right]) for left, right in pairwise(anchors)]
    chunks: list[Chunk] = []
    held: list[float] = []
    made: list[float] = []

    def close() -> None:
        if made:
            chunks.append(Chunk(tuple(held), tuple(made)))
        held.clear()
        made.clear()

    for left, right, between in gaps:
        size = len(held or [left]) + 1 + len(made) + len(between)
        if made and size > limit:
            close()
        if 2 + len(between) > limit:
            close()
            step = limit - 2
            chunks += [
                Chunk((left, right), tuple(between[start : start + step])) for start in range(0, len(between), step)
            ]
            continue
        if not between:
            close()
            continue
        held += [right] if held else [left, right]
        made += between
    close()
    return chunks
