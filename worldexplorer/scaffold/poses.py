"""Where the cameras of stage 1 stand: the scaffold's ring of eight, and the priors that lead through it.

The scaffold is eight views from one place, each turned 45 degrees further to the left. A trajectory prior is the camera
path on which stage 1 makes its frames; eight of them become the scaffold. `pan-in-place` is the one whose eight frames
are the ring. The other names are the presets of SEVA; they are kept for the guide's sake, with their real poses, and
:func:`prior_warning` says what is wrong with them here.

Everything is in the scene frame (OpenGL axes of camera 000, which stands at the origin) and in trajectory units.

Example:
    >>> path = prior_path("pan-in-place", 80, translation_scaling_factor=3.0)
    >>> ring_deviation(path.c2w[key_frame_indices(80)]).is_ring
    True
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from worldexplorer.config import require_frame_count
from worldexplorer.errors import DefectError, UsageError
from worldexplorer.geometry.cameras import (
    FOCAL_NORMALISED,
    focal_of_horizontal_fov,
    look_at,
    normalised_intrinsics,
    pose,
    yaw_degrees,
    yaw_matrix,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from worldexplorer.engine import Poses

VIEW_COUNT = 8
VIEW_STEP_DEG = 360.0 / VIEW_COUNT

DEFAULT_PRIOR = "pan-in-place"
RING_CENTRE_TOLERANCE = 1e-3
"""Trajectory units that a scaffold camera may stand away from camera 000."""
RING_ANGLE_TOLERANCE_DEG = 1.0
"""Degrees that a scaffold camera may look past its place in the ring, sideways or tilted."""


@dataclass(frozen=True)
class PriorPath:
    """The camera path of one prior.

    Attributes:
        c2w: [N, 4, 4] OpenGL camera-to-world, scene frame, trajectory units; the first is the identity.
        intrinsics: [N, 3, 3] normalised; some priors zoom.
        closed: whether the frame after the last one would be the first again.
    """

    c2w: Poses
    intrinsics: Poses
    closed: bool


@dataclass(frozen=True)
class RingDeviation:
    """How far eight cameras are from the ring around the first of them.

    Attributes:
        centre_distance: largest distance of a camera from the first, in the poses' units.
        yaw_deg: largest angle between a camera's yaw and its place in the ring, 45 degrees times its number.
        tilt_deg: largest angle between a camera's up axis and the first one's: pitch and roll together.
    """

    centre_distance: float
    yaw_deg: float
    tilt_deg: float

    @property
    def is_ring(self) -> bool:
        """Whether stage 2 may take the cameras for the ring."""
        return (
            self.centre_distance <= RING_CENTRE_TOLERANCE
            and max(self.yaw_deg, self.tilt_deg) <= RING_ANGLE_TOLERANCE_DEG
        )


def scaffold_poses() -> Poses:
    """The ring: [8, 4, 4] OpenGL camera-to-world, view i turned 45 i degrees to the left, all at the origin."""
    return _turns(VIEW_STEP_DEG * np.arange(VIEW_COUNT))


def ring_deviation(c2w: Poses) -> RingDeviation:
    """Compare eight poses [8, 4, 4], OpenGL camera-to-world in any world frame, with the ring around the first."""
    poses = np.asarray(c2w, dtype=np.float64)
    if poses.shape != (VIEW_COUNT, 4, 4):
        raise DefectError(f"a scaffold has poses of shape ({VIEW_COUNT}, 4, 4), not {poses.shape}")
    seen_from_first = np.linalg.inv(poses[0]) @ poses
    up = seen_from_first[:, :3, 1]
    off_place = (
        yaw_degrees(seen_from_first[:, :3, :3]) - VIEW_STEP_DEG * np.arange(VIEW_COUNT) + 180.0
    ) % 360.0 - 180.0
    # atan2 rather than arccos: exact zero for an upright camera.
    tilt = np.degrees(np.arctan2(np.hypot(up[:, 0], up[:, 2]), up[:, 1]))
    return RingDeviation(
        centre_distance=float(np.linalg.norm(seen_from_first[:, :3, 3], axis=1).max()),
        yaw_deg=float(np.abs(off_place).max()),
        tilt_deg=float(tilt.max()),
    )


def key_frame_indices(frame_count: int) -> list[int]:
    """The frames that become views 000 to 007: `i * frame_count / 8`, of `frame_count` with the photo as frame 0.

    Raises:
        UsageError: the count is not a multiple of 8 from 8 to 360; the remedy names the nearest that are.
    """
    require_frame_count(frame_count)
    return [i * frame_count // VIEW_COUNT for i in range(VIEW_COUNT)]


def prior_names() -> tuple[str, ...]:
    """All priors, the default first."""
    return tuple(_PRIORS)


def canonical_prior(name: str) -> str:
    """The prior's name as this module writes it; upper case, spaces and underscores are forgiven.

    Raises:
        UsageError: there is no such prior.
    """
    wanted = _folded(name)
    for known in _PRIORS:
        if _folded(known) == wanted:
            return known
    raise UsageError(
        f"there is no trajectory prior named {name!r}",
        where="traj_prior",
        remedy=f"choose from: {', '.join(_PRIORS)}",
    )


def prior_warning(name: str) -> str | None:
    """What a person who chose this prior should know, or None for the one that fits."""
    canonical = canonical_prior(name)
    reason = _PRIORS[canonical].reason
    if reason is None:
        return None
    return (
        f"The trajectory prior {canonical!r} does not make a scaffold that looks around: {reason} "
        f"Stage 2 starts from the views' real poses, but the world between and behind them is invented without any "
        f"view of it. Use {DEFAULT_PRIOR!r} unless this is what you want."
    )


def prior_path(name: str, frame_count: int, translation_scaling_factor: float) -> PriorPath:
    """The camera path of a prior.

    SEVA's presets are printed in units of their own. SEVA centres the path's cameras and scales them so that the first
    one lies at distance 2 from their centre (or by 2 where it lies in the centre); those are the units its network
    knows. In this project every translation that goes into the network's conditioning is multiplied by the translation
    scaling factor. So that the network sees what SEVA would show it, trajectory units here are SEVA's scaled units
    divided by that factor; the centring is left out because conditioning is relative to a frame anyway. Frames of
    closed paths leave out the end, which is the start; open paths include both ends.

    Args:
        name: see :func:`prior_names`.
        frame_count: N >= 1, the photo included.
        translation_scaling_factor: trajectory units to conditioning units, > 0.

    Raises:
        UsageError: there is no such prior.
        DefectError: no frames, or a factor that is not a positive number.
    """
    prior = _PRIORS[canonical_prior(name)]
    if frame_count < 1:
        raise DefectError(f"a prior of {frame_count} frames was asked for", where=name)
    if not (math.isfinite(translation_scaling_factor) and translation_scaling_factor > 0):
        raise DefectError(f"the translation scaling factor is {translation_scaling_factor}", where=name)
    c2w, hfov_deg = prior.build(frame_count)
    c2w[:, :3, 3] *= _seva_scale(c2w[:, :3, 3]) / translation_scaling_factor
    # The default is the scaffold camera itself, bit for bit, not its field of view turned back into a focal length.
    focals = [FOCAL_NORMALISED] * frame_count if hfov_deg is None else map(focal_of_horizontal_fov, hfov_deg)
    return PriorPath(
        c2w=c2w, intrinsics=np.stack([normalised_intrinsics(focal) for focal in focals]), closed=prior.closed
    )


# ---------------------------------------------------------------- the priors, in SEVA's printed units

_SEVA_HFOV_DEG = 54.0
_ZOOM_IN_HFOV_DEG = 0.28 * _SEVA_HFOV_DEG
_ZOOM_OUT_HFOV_DEG = 1.5 * _SEVA_HFOV_DEG
_SEVA_CAMERA_SCALE = 2.0
_AT_CENTRE = 1e-5
_TARGET = np.array([0.0, 0.0, -10.0])
"""What most presets look at: ten units ahead of the photo's camera."""
_MOVE_LENGTH = 0.99
_SPIRAL_RADII = np.array([0.5, 0.5, 0.2])
_SPIRAL_TURNS = 2
_SPIRAL_DEPTH_RATE = 0.5
_SPIRAL_FOCUS = np.array([0.0, 0.0, -3.249])
_LEMNISCATE_RADIUS = 10.0 * math.tan(math.radians(30.0))

Degrees = NDArray[np.float64]


@dataclass(frozen=True)
class _Prior:
    build: Callable[[int], tuple[Poses, Degrees | None]]
    """N -> [N, 4, 4] poses, and [N] horizontal fields of view or None for the scaffold camera's."""
    reason: str | None
    """Why it is not a scaffold, in full sentences; None for the one that is."""
    closed: bool = True
    """Whether the path leads back to its start."""


def _pan(count: int) -> tuple[Poses, Degrees | None]:
    return _turns(360.0 * np.arange(count) / count), None


def _orbit(count: int) -> tuple[Poses, Degrees]:
    angle = _closed(count)
    return look_at(_TARGET + 10.0 * _columns(np.sin(angle), 0, np.cos(angle)), _TARGET), _constant_fov(count)


def _spiral(count: int) -> tuple[Poses, Degrees]:
    angle = _closed(count, turns=_SPIRAL_TURNS)
    positions = _SPIRAL_RADII * _columns(np.cos(angle), np.sin(angle), np.sin(_SPIRAL_DEPTH_RATE * angle))
    poses = look_at(positions, _SPIRAL_FOCUS)
    rebased: Poses = np.linalg.inv(poses[0]) @ poses
    return rebased, _constant_fov(count)


def _lemniscate(count: int) -> tuple[Poses, Degrees]:
    angle = math.pi / 2 + _closed(count)
    size = _LEMNISCATE_RADIUS / (1 + np.sin(angle) ** 2)
    # Downwards first where the formula is positive: it is printed for axes whose y points down.
    positions = _columns(size * np.cos(angle), -size * np.cos(angle) * np.sin(angle), 0)
    return look_at(positions, _TARGET), _constant_fov(count)


def _roll(count: int) -> tuple[Poses, Degrees]:
    angle = _closed(count)
    # Seen from behind the camera it turns anticlockwise: its up axis starts towards the left.
    up = _columns(-np.sin(angle), np.cos(angle), 0)
    return look_at(np.zeros((count, 3)), _TARGET, up), _constant_fov(count)


def _straight(direction: tuple[float, float, float], end_hfov_deg: float) -> Callable[[int], tuple[Poses, Degrees]]:
    """Move along `direction` while looking at the target, the field of view changing linearly to its end."""

    def build(count: int) -> tuple[Poses, Degrees]:
        positions = np.linspace(0.0, _MOVE_LENGTH, count)[:, None] * np.array(direction)
        return look_at(positions, _TARGET), np.linspace(_SEVA_HFOV_DEG, end_hfov_deg, count)

    return build


_AHEAD_ONLY = (
    "it keeps facing the photo's direction, so all eight views show what the photo shows and none what lies beside or "
    "behind it."
)
_STILL, _FORWARD, _BACKWARD = (0.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 0.0, 1.0)

_PRIORS: dict[str, _Prior] = {
    DEFAULT_PRIOR: _Prior(_pan, None),
    "orbit": _Prior(
        _orbit,
        "it circles a point ahead of the photo and looks inward, so the eight views show one object from eight sides "
        "and none what surrounds the camera.",
    ),
    "spiral": _Prior(_spiral, _AHEAD_ONLY),
    "lemniscate": _Prior(_lemniscate, _AHEAD_ONLY),
    "zoom-in": _Prior(_straight(_STILL, _ZOOM_IN_HFOV_DEG), _AHEAD_ONLY, closed=False),
    "zoom-out": _Prior(_straight(_STILL, _ZOOM_OUT_HFOV_DEG), _AHEAD_ONLY, closed=False),
    "dolly zoom-in": _Prior(_straight(_BACKWARD, _ZOOM_IN_HFOV_DEG), _AHEAD_ONLY, closed=False),
    "dolly zoom-out": _Prior(_straight(_FORWARD, _ZOOM_OUT_HFOV_DEG), _AHEAD_ONLY, closed=False),
    "move-forward": _Prior(_straight(_FORWARD, _SEVA_HFOV_DEG), _AHEAD_ONLY, closed=False),
    "move-backward": _Prior(_straight(_BACKWARD, _SEVA_HFOV_DEG), _AHEAD_ONLY, closed=False),
    "move-up": _Prior(_straight((0.0, 1.0, 0.0), _SEVA_HFOV_DEG), _AHEAD_ONLY, closed=False),
    "move-down": _Prior(_straight((0.0, -1.0, 0.0), _SEVA_HFOV_DEG), _AHEAD_ONLY, closed=False),
    "move-left": _Prior(_straight((-1.0, 0.0, 0.0), _SEVA_HFOV_DEG), _AHEAD_ONLY, closed=False),
    "move-right": _Prior(_straight((1.0, 0.0, 0.0), _SEVA_HFOV_DEG), _AHEAD_ONLY, closed=False),
    "roll": _Prior(_roll, _AHEAD_ONLY),
}


def _folded(name: str) -> str:
    return name.strip().lower().replace(" ", "-").replace("_", "-")


def _turns(degrees_left: NDArray[np.floating]) -> Poses:
    return pose(yaw_matrix(degrees_left), np.zeros(3))


def _closed(count: int, turns: int = 1) -> NDArray[np.float64]:
    """[count] angles in radians over whole turns, the end (which is the start) left out."""
    return 2 * math.pi * turns * np.arange(count) / count


def _columns(x: NDArray[np.float64] | float, y: NDArray[np.float64] | float, z: NDArray[np.float64] | float) -> Poses:
    return np.stack(np.broadcast_arrays(x, y, z), axis=-1).astype(np.float64)


def _constant_fov(count: int) -> Degrees:
    return np.full(count, _SEVA_HFOV_DEG)


def _seva_scale(centres: NDArray[np.float64]) -> float:
    """SEVA's scaling of a path with these camera centres [N, 3], the first at the origin."""
    # SEVA first drops centres more than ten times further out than the 97th percentile; no preset has any.
    first_from_centre = float(np.linalg.norm(centres[0] - centres.mean(axis=0)))
    return _SEVA_CAMERA_SCALE / (first_from_centre if first_from_centre > _AT_CENTRE else 1.0)
