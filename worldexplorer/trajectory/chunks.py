"""How the frames of a trajectory are shared among joint samplings.

The first pass makes the anchors from the scaffold views; the second makes the frames between two kept anchors from
those. A sampling holds at most 21 frames, which is what SEVA was trained for.

Example:
    >>> second_pass_chunks((0.0, 1.0, 2.0, 3.0, 4.0), anchors=(0.0, 2.0, 4.0))
    [Chunk(anchors=(0.0, 2.0, 4.0), targets=(1.0, 3.0))]
"""

from __future__ import annotations

from collections.abc import Sequence

from worldexplorer import chunks
from worldexplorer.chunks import Chunk as Chunk

CHUNK_FRAMES = 21


def second_pass_chunks(targets: Sequence[float], anchors: Sequence[float], limit: int = CHUNK_FRAMES) -> list[Chunk]:
    """See :func:`worldexplorer.chunks.second_pass_chunks`."""
    return chunks.second_pass_chunks(targets, anchors, limit)
