"""Which frames of stage 1's camera path are made together, and from which.

A model of new views makes a limited number of frames in one sampling, and only frames of one sampling see each other.
So the first sampling, the joint one, spreads over the whole path: the eight frames that become views, and as many in
between as it holds (with SEVA 24: every 15 degrees of a turn). The frames between those are made afterwards, each
sampling from frames on both sides; on a path that leads back to its start, the last frames from the first one too.

The two-step way makes the joint frames of a turn in two samplings: first those that look ahead of the camera, up to 90
degrees to the left and right, then those behind it, from five of the first.

Example:
    >>> joint, between = plan_samplings(80, closed=True, window=Window(joint=24, between=21))
    >>> [len(sampling.frames) for sampling in (*joint, *between)]
    [24, 21, 21, 21, 21]
"""

from __future__ import annotations

from dataclasses import dataclass

from worldexplorer.chunks import second_pass_chunks
from worldexplorer.engine import Guider
from worldexplorer.errors import DefectError
from worldexplorer.scaffold.poses import VIEW_COUNT, key_frame_indices

PHOTO = -1
"""In place of a frame's number: the photo itself through its own lens, where it does not fill frame 0."""
LEAST_JOINT_FRAMES = 2 * VIEW_COUNT
"""A frame between any two views, at least: views alone overlap too little to be made together."""
_STEP_VIEWS = (0, 1, 2, 6, 7)
"""The views that the second of two steps starts from."""


@dataclass(frozen=True)
class Window:
    """Most frames of one sampling, given ones included: of the joint one, and of those between given frames."""

    joint: int
    between: int


@dataclass(frozen=True)
class PlannedSampling:
    """One sampling.

    Attributes:
        name: of its seed.
        frames: numbers of its frames in their order, the number of all frames standing for frame 0 seen at the end of
            a closed path; :data:`PHOTO` comes first.
        given: those of them that there are already.
        guider: see NovelViewRequest.
        second_pass: whether the guidance scale is that of the second pass.
    """

    name: str
    frames: tuple[int, ...]
    given: frozenset[int]
    guider: Guider = "multiview"
    second_pass: bool = False

    @property
    def made(self) -> tuple[int, ...]:
        """The frames that are not given."""
        return tuple(frame for frame in self.frames if frame not in self.given)


Step = tuple[PlannedSampling, ...]
"""Samplings that do not need each other."""


def plan_samplings(
    frame_count: int,
    *,
    closed: bool,
    window: Window | None,
    two_steps: bool = False,
    photo_fills_first: bool = True,
) -> list[Step]:
    """The samplings of a path, step after step; every frame that is not given at first is made once.

    Args:
        frame_count: N, a multiple of eight.
        closed: whether the path leads back to its start.
        window: None where any number of frames can be made in one sampling.
        two_steps: make the joint frames ahead first; the path must be a turn on the spot.
        photo_fills_first: whether the photo is the whole of frame 0. Where not, frame 0 is made as well: with a window
            from the photo beside it, else from what the model knows otherwise.

    Raises:
        UsageError: `frame_count` is no such multiple.
        DefectError: the window is too small.
    """
    key_frame_indices(frame_count)  # refuses counts that eight views cannot share
    anchors = joint_frames(frame_count, closed=closed, window=window, photo_fills_first=photo_fills_first)
    start = (0,) if photo_fills_first else () if window is None else (PHOTO,)
    steps: list[Step]
    if two_steps:
        ahead = [frame for frame in anchors if 4 * min(frame, frame_count - frame) <= frame_count]
        keys = [key_frame_indices(frame_count)[view] for view in _STEP_VIEWS]
        behind = sorted({*keys, *anchors} - {frame for frame in ahead if frame not in keys})
        steps = [
            (_from_first("views-ahead", ahead, start),),
            (PlannedSampling("views-behind", tuple(behind), frozenset(keys)),),
        ]
    else:
        steps = [(_from_first("views", anchors, start),)]
    if window is not None:
        steps.append(_between(frame_count, anchors, closed, window.between))
    return [step for step in steps if step]


def joint_frames(frame_count: int, *, closed: bool, window: Window | None, photo_fills_first: bool = True) -> list[int]:
    """The frames that are made together at first, the eight that become views among them; see plan_samplings."""
    room = frame_count if window is None else window.joint - (0 if photo_fills_first else 1)
    if frame_count <= room:
        return list(range(frame_count))
    if room < LEAST_JOINT_FRAMES:
        raise DefectError(f"a joint sampling of {room} frames was planned; it takes {LEAST_JOINT_FRAMES}")
    per_view = room // VIEW_COUNT
    count = per_view * VIEW_COUNT
    frames = [_rounded(number * frame_count, count) for number in range(count)]
    if not closed:  # no frame follows the last one, so it has to be there itself
        last_view = frames[-per_view]
        span = frame_count - 1 - last_view
        frames[-per_view:] = [last_view + _rounded(number * span, per_view - 1) for number in range(per_view)]
    return frames


def _from_first(name: str, frames: list[int], start: tuple[int, ...]) -> PlannedSampling:
    beside = tuple(one for one in start if one not in frames)
    return PlannedSampling(name, (*beside, *frames), frozenset(start))


def _between(frame_count: int, anchors: list[int], closed: bool, limit: int) -> Step:
    """The frames between the joint ones; the frames in the order of the path, which the temporal guider goes by."""
    ends = [*anchors, frame_count] if closed else anchors
    missing = sorted({*range(frame_count)} - {*anchors})
    chunks = second_pass_chunks(missing, ends, limit)
    return tuple(
        PlannedSampling(
            name=f"views-between-{int(chunk.targets[0])}",
            frames=tuple(sorted(int(frame) for frame in (*chunk.anchors, *chunk.targets))),
            given=frozenset(int(frame) for frame in chunk.anchors),
            guider="temporal",
            second_pass=True,
        )
        for chunk in chunks
    )


def _rounded(numerator: int, denominator: int) -> int:
    """The nearest whole number, halves up."""
    return (2 * numerator + denominator) // (2 * denominator)
