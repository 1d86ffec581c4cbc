"""Which frames the geometry model looks at: the eight scaffold views and a fair share of every trajectory.

The scaffold views are always taken and are no part of the counts here. The other places are shared among the
trajectories in proportion to how far each one moves (largest remainders), because a camera that moves sees new things;
within a trajectory they are spread evenly. The first frame of a trajectory is never taken where there is another: it
stands where the scaffold view stands, tells the model nothing about distances, and a choice of first frames alone
would leave the scale of the world open.

Example:
    >>> choose_frames([45, 135, 135, 45], [1.04, 1.68, 1.68, 0.93], 8)
    [[11, 33], [22, 67, 112], [33, 101], [22]]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from worldexplorer.errors import DefectError

if TYPE_CHECKING:
    from collections.abc import Sequence

_LENGTH_STEP = 1e-6
"""Lengths are counted in these steps: integers make the shares exact, and lengths equal but for rounding tie."""


def choose_frames(frame_counts: Sequence[int], lengths: Sequence[float], num_images: int) -> list[list[int]]:
    """Choose frames of trajectories.

    Args:
        frame_counts: of each trajectory, 0 where a collision left none.
        lengths: how far each trajectory's camera moves, any unit; only their ratios matter. Where no trajectory moves,
            all count the same.
        num_images: places to share, besides the scaffold views.

    Returns:
        For each trajectory the chosen frame indices, increasing. Their number in all is `num_images`, or every frame
        that may be taken where there are fewer: `n - 1` of a trajectory with n > 1 frames, the one frame of n = 1.

    Raises:
        DefectError: lists of different lengths, or a negative or non-finite number.
    """
    if len(frame_counts) != len(lengths):
        raise DefectError(f"{len(frame_counts)} frame counts came with {len(lengths)} lengths")
    if num_images < 0 or any(count < 0 for count in frame_counts):
        raise DefectError("a number of frames is negative")
    if not all(0 <= length < float("inf") for length in lengths):
        raise DefectError("the length of a trajectory is not a number from 0")
    weights = [round(length / _LENGTH_STEP) for length in lengths]
    quotas = _shares([_available(count) for count in frame_counts], weights, num_images)
    return [_spread(count, quota) for count, quota in zip(frame_counts, quotas, strict=True)]


def _available(count: int) -> int:
    return count - 1 if count > 1 else count


def _shares(limits: list[int], weights: list[int], places: int) -> list[int]:
    """Share places in proportion to weights, none beyond its limit, by largest remainders; exact integer arithmetic."""
    places = min(places, sum(limits))
    quotas = [0] * len(limits)
    open_ones = [index for index, limit in enumerate(limits) if limit]
    while open_ones:
        if not any(weights[index] for index in open_ones):
            weights = [1] * len(weights)
        total = sum(weights[index] for index in open_ones)
        # Who would get all it has, or more, gets that; the rest is shared again among the others.
        full = [index for index in open_ones if places * weights[index] >= limits[index] * total]
        if not full:
            break
        for index in full:
            quotas[index] = limits[index]
            places -= limits[index]
        open_ones = [index for index in open_ones if index not in full]
    if not open_ones:
        return quotas
    for index in open_ones:
        quotas[index] = places * weights[index] // total
    left = places - sum(quotas[index] for index in open_ones)
    remainders = {index: places * weights[index] % total for index in open_ones}
    for remainder in sorted(set(remainders.values()), reverse=True):
        equals = _scattered([index for index in open_ones if remainders[index] == remainder])
        for index in equals[:left]:
            quotas[index] += 1
        left -= min(left, len(equals))
    return quotas


def _scattered(equals: list[int]) -> list[int]:
    """Equals in an order whose every beginning is spread over all of them: by multiples of the golden ratio.

    Trajectories of one kind tie across the eight views. Serving the first ones first would favour the views in front.
    """
    return [index for _, index in sorted((rank * 2654435769 % 2**32, index) for rank, index in enumerate(equals))]


def _spread(count: int, quota: int) -> list[int]:
    """`quota` of `count` frames: floor((j + 1/2) count / quota).

    Where that would begin with frame 0 though there are others, the same formula runs over the frames after it.
    """
    first = 1 if count > 1 and 2 * quota > count else 0
    return [first + (2 * j + 1) * (count - first) // (2 * quota) for j in range(quota)]
