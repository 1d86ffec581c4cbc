"""What a GPU's free memory allows.

| free GiB | what happens | cards |
|---|---|---|
| under 7.7 | an error that says what is needed | 8 GB |
| 7.7 to 10.7 | the picture encoders leave the GPU while the network works, steps are launched one by one | 10 GB |
| 10.7 to 33 | everything stays on the GPU, steps are replayed as a CUDA graph | 12, 16, 24 GB |
| over 33 | the same, two samplings at once | 40, 80 GB |

The figures are measured peaks at 576 pixels and 21 frames in half precision (docs/seva-speed.md) with a margin, scaled
for other sizes.

Example:
    >>> choose_placement(free_bytes=23 * GIB, frames=21, pixels=576 * 576, bytes_a_value=2)
    Placement(resident=True, recorded=True, samplings=1)
"""

from __future__ import annotations

from dataclasses import dataclass

from worldexplorer.errors import UserError

GIB = 2**30
_PUBLISHED_FRAMES = 21
_PUBLISHED_PIXELS = 576 * 576
_HALF_BYTES = 2
_NETWORK_GIB = 3.2
"""The network's weights in half precision, and those kept in a second arrangement."""
_WORK_GIB = 4.5
"""What a step of one published sampling takes besides the weights."""
_ENCODERS_GIB = 3.0
"""Both picture encoders and their work, while a recorded step keeps its memory."""
_MOST_SAMPLINGS = 2
"""One sampling fills the GPU: more at once cost as much each."""
_SAMPLINGS_MARGIN = 3.0
"""Work of a sampling for which there must be room before two are computed at once."""


@dataclass(frozen=True)
class Placement:
    """How to use a GPU.

    Attributes:
        resident: whether the picture encoders stay on the GPU too.
        recorded: whether there is room to keep a step's memory for its CUDA graph.
        samplings: independent samplings computed at once.
    """

    resident: bool
    recorded: bool
    samplings: int


def least_gib(frames: int, pixels: int, bytes_a_value: int) -> float:
    """The least free GPU memory for one sampling."""
    return round(_network(bytes_a_value) + _work(frames, pixels, bytes_a_value), 1)


def choose_placement(free_bytes: int, frames: int, pixels: int, bytes_a_value: int) -> Placement:
    """Decide from the free memory before anything is loaded.

    Raises:
        UserError: there is too little for one sampling.
    """
    free = free_bytes / GIB
    least = least_gib(frames, pixels, bytes_a_value)
    if free < least:
        raise UserError(
            f"too little GPU memory for SEVA: {free:.1f} GiB are free, {least:.1f} GiB are needed",
            where=f"{frames} frames",
            remedy="end other programs on this GPU, take one with more memory, or sample fewer frames at once",
        )
    work = _work(frames, pixels, bytes_a_value)
    room = free - _network(bytes_a_value) - _ENCODERS_GIB
    if room < work:
        return Placement(resident=False, recorded=False, samplings=1)
    return Placement(
        resident=True, recorded=True, samplings=max(1, min(_MOST_SAMPLINGS, int(room / (_SAMPLINGS_MARGIN * work))))
    )


def _network(bytes_a_value: int) -> float:
    return _NETWORK_GIB * bytes_a_value / _HALF_BYTES


def _work(frames: int, pixels: int, bytes_a_value: int) -> float:
    size = frames / _PUBLISHED_FRAMES * pixels / _PUBLISHED_PIXELS
    return _WORK_GIB * size * bytes_a_value / _HALF_BYTES
