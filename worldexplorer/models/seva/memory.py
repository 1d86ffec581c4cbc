"""What a GPU's free memory allows.

| free GiB, 21 frames | 24 frames | what happens | cards |
|---|---|---|---|
| under 7.7 | under 8.3 | an error that says what is needed | 8 GB |
| 7.7 to 10.7 | 8.3 to 11.3 | the picture encoders leave the GPU meanwhile, steps are launched one by one | 10 GB |
| over 10.7 | over 11.3 | everything stays on the GPU, steps are replayed as a CUDA graph | 12 GB; 16 GB |

Cards of 20 GiB and more keep the weights of wide convolutions a second time (:mod:`.winograd`), which takes 2.1 GiB
more of each row: under 9.8 GiB free there is an error, over 12.8 everything stays. It goes by the size of the card and
not by what is free, since frames must not depend on who else uses it.

24 frames are stage 1's joint sampling, of a path of 24 frames or more; all others have 21. The figures are measured
peaks at 576 pixels and 21 frames in half precision (docs/seva-speed.md) with a margin, scaled for other sizes.

Example:
    >>> choose_placement(free_bytes=23 * GIB, frames=21, pixels=576 * 576, bytes_a_value=2)
    Placement(resident=True, recorded=True)
"""

from __future__ import annotations

from dataclasses import dataclass

from worldexplorer.errors import UserError
from worldexplorer.models.seva.config import TRAINED_FRAMES
from worldexplorer.units import GIB

PUBLISHED_PIXELS = 576 * 576
"""Of a picture."""
FEWER_FRAMES = "--num_seva_frames 8 or 16"
"""What keeps stage 1 to as many frames at once as stage 2."""
WITHOUT_WINOGRAD = "--precision bfloat16"
"""What does without the second weights of wide convolutions."""
_HALF_BYTES = 2
_NETWORK_GIB = 3.2
"""The network's weights in half precision, and those kept in a second arrangement."""
_WORK_GIB = 4.5
"""What a step of one published sampling takes besides the weights."""
_WINOGRAD_GIB = 2.1
"""The weights of wide convolutions arranged for Winograd's filtering, and the largest map so arranged."""
_WINOGRAD_FROM = 20 * GIB
"""Bytes of a card."""
_ENCODERS_GIB = 3.0
"""Both picture encoders and their work, while a recorded step keeps its memory."""


@dataclass(frozen=True)
class Placement:
    """How to use a GPU.

    Attributes:
        resident: whether the picture encoders stay on the GPU too.
        recorded: whether there is room to keep a step's memory for its CUDA graph.
    """

    resident: bool
    recorded: bool


def winograd_fits(card_bytes: int) -> bool:
    """Whether a card of so many bytes has room for the weights of wide convolutions a second time."""
    return card_bytes >= _WINOGRAD_FROM


def least_gib(frames: int, pixels: int, bytes_a_value: int, *, winograd: bool = False) -> float:
    """The least free GPU memory for one sampling; `winograd` where the second weights are kept."""
    return round(_network(bytes_a_value, winograd) + _work(frames, pixels, bytes_a_value), 1)


def wanted_gib(frames: int, pixels: int, bytes_a_value: int, *, winograd: bool = False) -> float:
    """The free GPU memory with which everything stays on the GPU."""
    return _network(bytes_a_value, winograd) + _ENCODERS_GIB + _work(frames, pixels, bytes_a_value)


def choose_placement(
    free_bytes: int, frames: int, pixels: int, bytes_a_value: int, *, winograd: bool = False
) -> Placement:
    """Decide from the free memory before anything is loaded.

    Raises:
        UserError: there is too little for one sampling.
    """
    free = free_bytes / GIB
    least = least_gib(frames, pixels, bytes_a_value, winograd=winograd)
    if free < least:
        fewer = least_gib(TRAINED_FRAMES, pixels, bytes_a_value, winograd=winograd)
        way_out = f" ({fewer:.1f} for {TRAINED_FRAMES}, with {FEWER_FRAMES})" if frames > TRAINED_FRAMES else ""
        raise UserError(
            f"too little GPU memory for SEVA: {free:.1f} GiB are free, {least:.1f} GiB are needed for "
            f"{frames} frames at once{way_out}",
            remedy="end other programs on this GPU, or take one with more memory"
            + (f" or {FEWER_FRAMES}" if free >= fewer else "")
            + (f" or {WITHOUT_WINOGRAD}" if winograd and free >= least_gib(frames, pixels, bytes_a_value) else ""),
        )
    fits = free >= wanted_gib(frames, pixels, bytes_a_value, winograd=winograd)
    return Placement(resident=fits, recorded=fits)


def _network(bytes_a_value: int, winograd: bool) -> float:
    return _NETWORK_GIB * bytes_a_value / _HALF_BYTES + _WINOGRAD_GIB * winograd


def _work(frames: int, pixels: int, bytes_a_value: int) -> float:
    size = frames / TRAINED_FRAMES * pixels / PUBLISHED_PIXELS
    return _WORK_GIB * size * bytes_a_value / _HALF_BYTES
