"""Where the cameras of stage 2 go: the four built-in trajectories, their frames, their anchors, their order.

A trajectory is a curve of camera poses that starts at a scaffold view. It is written once, relative to that view
(OpenGL axes: x right, y up, z backward; trajectory units), and laid onto each of the eight views. Its parameter `k`
counts the published frames and may lie between them, so a trajectory can be walked in fewer, wider steps.

The built-in four are closed forms of the predefined trajectories of the WorldExplorer system: `in` and `up` are linear,
`left` and `right` are three pieces of a cubic Catmull-Rom spline that walks out, looks back and comes part of the way
home.

Example:
    >>> left = published_trajectories()["left"]
    >>> poses = trajectory_poses(scaffold_view, left, target_parameters(left, None))     # [135, 4, 4]
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldexplorer.errors import DefectError, UsageError
from worldexplorer.geometry.cameras import pitch_matrix, pose, yaw_matrix
from worldexplorer.scaffold.poses import VIEW_COUNT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from worldexplorer.engine import Poses

Parameters = NDArray[np.float64]

ANCHOR_COUNT = 13
"""Anchors of a full-length trajectory: what fits beside the eight views into one joint sampling of 21 frames."""


@dataclass(frozen=True)
class Trajectory:
    """A curve of poses that starts at a scaffold view.

    Attributes:
        name: also its folder's name; letters, digits, `-` and `_`.
        count: frames at full length; the parameter runs from 0 to `count - 1`.
        evaluate: [n] float64 parameters -> [n, 4, 4] OpenGL camera-to-world relative to the scaffold view. Call it
            through :func:`relative`, which checks the range.
    """

    name: str
    count: int
    evaluate: Callable[[Parameters], Poses]


# Forward motion, rise and downward pitch a frame.
_IN_FORWARD = 0.0236442
_UP_FORWARD = 0.0201189
_UP_RISE = 0.0062408
_UP_PITCH_DEG = 1.23267
_LINEAR_COUNT = 45

# Pieces of the spline: a row is one piece, its columns the coefficients of u^0..u^3, where u runs from 0 to 1 over
# the piece's 45 frames. The right turn's yaw is the left turn's, mirrored; its walk is a different one.
_PIECE_FRAMES = 45
_TURN_COUNT = 135
_TURN_YAW_DEG = np.array([[0.0, 135.0, -90.0, 45.0], [90.0, 90.0, 45.0, -45.0], [180.0, 45.0, -90.0, 45.0]])
_LEFT_FORWARD = np.array(
    [[0.0, 1.19661, 0.0, -0.23940], [0.95721, 0.47840, -0.70731, 0.22850], [0.95681, -0.25070, -0.37545, 0.12515]]
)
_LEFT_RIGHTWARD = np.array(
    [[0.0, 0.02985, 0.0, -0.02985], [0.0, -0.0597, -0.1791, 0.1194], [-0.1194, -0.0597, 0.08955, -0.02985]]
)
_RIGHT_FORWARD = np.array(
    [[0.0, 1.21101, 0.0, -0.24200], [0.96901, 0.48500, -0.71550, 0.23150], [0.97001, -0.25150, -0.37876, 0.12625]]
)
_RIGHT_RIGHTWARD = np.array(
    [[0.0, -0.0206, 0.0, 0.0206], [0.0, 0.0412, 0.1236, -0.0824], [0.0824, 0.0412, -0.0618, 0.0206]]
)


def published_trajectories() -> dict[str, Trajectory]:
    """The built-in four by name, in their default order; 45, 135, 135 and 45 frames."""
    four = (
        Trajectory("in", _LINEAR_COUNT, _walk_in),
        Trajectory("left", _TURN_COUNT, _turn_left),
        Trajectory("right", _TURN_COUNT, _turn_right),
        Trajectory("up", _LINEAR_COUNT, _rise),
    )
    return {trajectory.name: trajectory for trajectory in four}


def relative(trajectory: Trajectory, k: ArrayLike) -> Poses:
    """Poses of a trajectory as seen from the scaffold view it starts at.

    Args:
        trajectory: which one.
        k: [n] parameters, real numbers from 0 to `trajectory.count - 1`.

    Returns:
        [n, 4, 4] OpenGL camera-to-world in the frame of the scaffold view, trajectory units.

    Raises:
        DefectError: a parameter is outside the trajectory.
    """
    parameters = np.asarray(k, dtype=np.float64)
    if parameters.ndim != 1:
        raise DefectError(f"trajectory parameters have shape {parameters.shape}, not one axis", where=trajectory.name)
    # `not all` rather than `any outside`: NaN compares false and must not pass.
    if not np.all((parameters >= 0) & (parameters <= trajectory.count - 1)):
        raise DefectError(f"trajectory parameters leave the range 0 to {trajectory.count - 1}", where=trajectory.name)
    return trajectory.evaluate(parameters)


def trajectory_poses(base_c2w: Poses, trajectory: Trajectory, k: ArrayLike) -> Poses:
    """Poses of a trajectory that starts at a given scaffold view.

    Args:
        base_c2w: [4, 4] OpenGL camera-to-world of the scaffold view, scene frame; its position counts too, so a
            scaffold that does not turn on the spot still gets trajectories that start where its views are.
        trajectory: which one.
        k: [n] parameters, real numbers from 0 to `trajectory.count - 1`.

    Returns:
        [n, 4, 4] OpenGL camera-to-world, scene frame, trajectory units.
    """
    poses: Poses = np.asarray(base_c2w, dtype=np.float64) @ relative(trajectory, k)
    return poses


def target_parameters(trajectory: Trajectory, frames: int | None) -> Parameters:
    """The parameters of the frames to make.

    Args:
        trajectory: which one.
        frames: how many; None for the published count.

    Returns:
        [count] 0, 1, ... at full length. A shortened trajectory has `frames` equal steps of which the last ends where
        the full one does, and leaves out k = 0: that pose is the scaffold view itself, so a frame there would spend
        one of the few on a picture that exists.

    Raises:
        DefectError: `frames` is below 1.
    """
    if frames is None:
        return np.arange(trajectory.count, dtype=np.float64)
    if frames < 1:
        raise DefectError(f"a trajectory of {frames} frames was asked for", where=trajectory.name)
    return (trajectory.count - 1) * np.arange(1, frames + 1, dtype=np.float64) / frames


def anchor_parameters(targets: Parameters, count: int = ANCHOR_COUNT) -> Parameters:
    """The parameters of the anchors: the frames of the first pass, between which the second one fills in.

    Args:
        targets: [n] increasing parameters from :func:`target_parameters`.
        count: anchors of a full-length trajectory.

    Returns:
        At full length (targets from k = 0) `min(count, n)` of the targets, evenly spread, first and last included,
        halves rounded to even. For a shortened trajectory the scaffold view's own pose (k = 0) and every target: all
        of its frames are anchors and nothing is left for a second pass.
    """
    if targets.size == 0:
        raise DefectError("a trajectory without targets has no anchors")
    if targets[0] > 0:
        return np.concatenate([[0.0], targets])
    chosen = np.linspace(0, targets.size - 1, min(count, targets.size)).round().astype(np.int64)
    anchors: Parameters = targets[chosen]
    return anchors


def path_length(c2w: Poses) -> float:
    """How far the camera moves over the poses [n, 4, 4], in their units."""
    return float(np.linalg.norm(np.diff(np.asarray(c2w)[:, :3, 3], axis=0), axis=1).sum())


def parse_trajectory_order(
    order: str | Sequence[str] | None, known: Mapping[str, Trajectory], *, where: str = "trajectory_order"
) -> tuple[str, ...]:
    """The trajectories to make, in order.

    Args:
        order: names, in a list or in one string separated by spaces or commas; None for all of `known` in its order.
        known: what there is to choose from.
        where: file and JSON path or flag that `order` came from, for the error.

    Returns:
        Known names without duplicates, at least one.

    Raises:
        UsageError: an unknown or repeated name, or none at all.
    """
    names = tuple(known) if order is None else tuple(_words(order, where))
    remedy = f"choose from: {' '.join(known)}"
    if not names:
        raise UsageError("the trajectory order names no trajectory", where=where, remedy=remedy)
    for name in names:
        if name not in known:
            raise UsageError(f"there is no trajectory named {name!r}", where=where, remedy=remedy)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UsageError(
            f"the trajectory order names {', '.join(repeated)} more than once",
            where=where,
            remedy="name each trajectory once",
        )
    return names


def job_order(order: Sequence[str]) -> list[tuple[int, str]]:
    """Every (scaffold view, trajectory) in the order the first passes run: view by view, and within a view by `order`.

    The order matters: each first pass may look at the frames of all earlier ones.
    """
    return [(view, name) for view in range(VIEW_COUNT) for name in order]


def folder_name(view: int, trajectory: str) -> str:
    """The folder of one trajectory of one scaffold view: `003_left`."""
    return f"{view:03d}_{trajectory}"


def parse_folder_name(name: str) -> tuple[int, str]:
    """Scaffold view and trajectory of a folder named by :func:`folder_name`; trajectory names may hold `_`.

    Raises:
        DefectError: the name has another form.
    """
    match = re.fullmatch(r"(00[0-7])_(.+)", name)
    if match is None:
        raise DefectError(f"{name!r} is not the name of a trajectory's folder, such as 003_left")
    return int(match[1]), match[2]


def _words(order: str | Sequence[str], where: str) -> list[str]:
    if isinstance(order, str):
        return order.replace(",", " ").split()
    if not all(isinstance(name, str) for name in order):
        raise UsageError(
            "the trajectory order holds something that is not a name",
            where=where,
            remedy='give a list of names, such as ["in", "left"]',
        )
    return list(order)


def _compose(
    forward: Parameters, rightward: Parameters, upward: Parameters, yaw_left_deg: Parameters, pitch_down_deg: Parameters
) -> Poses:
    """Translation, then yaw, then pitch; each argument [n], the result [n, 4, 4]."""
    rotations = yaw_matrix(yaw_left_deg) @ pitch_matrix(-pitch_down_deg)
    return pose(rotations, np.stack([rightward, upward, -forward], axis=-1))


def _walk_in(k: Parameters) -> Poses:
    still = np.zeros_like(k)
    return _compose(_IN_FORWARD * k, still, still, still, still)


def _rise(k: Parameters) -> Poses:
    still = np.zeros_like(k)
    return _compose(_UP_FORWARD * k, still, _UP_RISE * k, still, _UP_PITCH_DEG * k)


def _turn_left(k: Parameters) -> Poses:
    still = np.zeros_like(k)
    return _compose(_spline(_LEFT_FORWARD, k), _spline(_LEFT_RIGHTWARD, k), still, _spline(_TURN_YAW_DEG, k), still)


def _turn_right(k: Parameters) -> Poses:
    still = np.zeros_like(k)
    return _compose(_spline(_RIGHT_FORWARD, k), _spline(_RIGHT_RIGHTWARD, k), still, -_spline(_TURN_YAW_DEG, k), still)


def _spline(pieces: NDArray[np.float64], k: Parameters) -> Parameters:
    """Evaluate [pieces, 4] cubic coefficients at the parameters [n]."""
    piece = np.minimum(k // _PIECE_FRAMES, len(pieces) - 1).astype(np.int64)
    u = k / _PIECE_FRAMES - piece
    c = pieces[piece]
    value: Parameters = c[:, 0] + u * (c[:, 1] + u * (c[:, 2] + u * c[:, 3]))
    return value
