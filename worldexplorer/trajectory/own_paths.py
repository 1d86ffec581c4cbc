"""Own trajectories: a folder of them, in the form of the predefined trajectories of the WorldExplorer system.

The folder (`--root_dir`) has one folder a trajectory, whose name is the trajectory's, with a `transforms.json` in it:
`frames` named by number (`./000.png` ...), OpenGL camera-to-world matrices, frames 0 to 7 the scaffold's eight views,
the rest the trajectory as it starts at view 0. The world frame is arbitrary: every pose is read relative to frame 0.
The images that the file names need not exist, and intrinsics are not read, because every view of the pipeline has the
scaffold's camera. The folder may lie in a bucket (:func:`trajectories_folder`).

Example:
    >>> own = load_trajectories(trajectories_folder("my_trajectories"))
    >>> poses = trajectory_poses(scaffold_view, own["spiral-stairs"], target_parameters(own["spiral-stairs"], None))
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import BaseModel, Field

from worldexplorer.config import PUBLISHED_TRAJECTORIES
from worldexplorer.dataset.remote import is_remote, mirror_folder, open_remote
from worldexplorer.errors import UserError
from worldexplorer.geometry.cameras import pose
from worldexplorer.geometry.rotations import (
    is_rotation,
    matrix_to_quaternion,
    nearest_rotation,
    quaternion_to_matrix,
)
from worldexplorer.geometry.transforms import TRANSFORMS_NAME, Row, read_checked
from worldexplorer.scaffold.poses import VIEW_COUNT, ring_deviation
from worldexplorer.storage import NotFoundError
from worldexplorer.trajectory.paths import Parameters, Trajectory

if TYPE_CHECKING:
    from worldexplorer.engine import Poses

LEAST_TARGETS = 2
_ROTATION_TOLERANCE = 1e-3
"""Files printed with four digits are still rotations; they are projected on the nearest one."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_FORM = (
    f"write one folder a trajectory, each with a {TRANSFORMS_NAME} whose frames 000 to 007 are the scaffold's views "
    f"and whose other frames are the trajectory from view 000"
)


def trajectories_folder(root_dir: str) -> Path:
    """The folder on this machine that `--root_dir` names: itself, or the mirror of a bucket's folder.

    A bucket's files are brought once a process.

    Raises:
        UserError: the bucket's folder cannot be read, or nothing is in it.
    """
    return _fetched(root_dir) if is_remote(root_dir) else Path(root_dir)


def load_trajectories(root_dir: Path) -> dict[str, Trajectory]:
    """Read a folder of own trajectories.

    Args:
        root_dir: the folder. Folders in it whose name begins with a dot, and plain files, are left alone.

    Returns:
        Trajectories by name: the names of the built-in four first and in their order, then the others by name.

    Raises:
        UserError: the folder is missing or empty, or a trajectory in it is not of the form above; names the file, the
            frame and what to do.
    """
    if not root_dir.is_dir():
        raise UserError("the folder of own trajectories does not exist", where=str(root_dir), remedy=_FORM)
    folders = [entry for entry in root_dir.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    if not folders:
        raise UserError("the folder of own trajectories has no folder in it", where=str(root_dir), remedy=_FORM)
    names = sorted((folder.name for folder in folders), key=_place)
    return {name: load_trajectory(root_dir / name) for name in names}


def load_trajectory(folder: Path) -> Trajectory:
    """Read one own trajectory, named like its folder.

    Between its frames a trajectory is interpolated: positions linearly, rotations along the shortest turn.

    Raises:
        UserError: as in :func:`load_trajectories`.
    """
    if not _NAME.fullmatch(folder.name):
        raise UserError(
            f"{folder.name!r} cannot name a trajectory",
            where=str(folder),
            remedy="rename the folder: up to 64 letters, digits, - and _, beginning with a letter or digit",
        )
    path = folder / TRANSFORMS_NAME
    poses = _ordered_poses(read_checked(path, _TrajectoryFile, _FORM), path)
    deviation = ring_deviation(poses[:VIEW_COUNT])
    if not deviation.is_ring:
        raise UserError(
            f"frames 000 to 007 are not the scaffold's views: they stand up to {deviation.centre_distance:.3g} units "
            f"apart, and look up to {deviation.yaw_deg:.3g} degrees past 45 times their number to the left of frame "
            f"000, tilted by up to {deviation.tilt_deg:.3g} degrees",
            where=str(path),
            remedy="let the first eight frames turn on the spot to the left, 45 degrees a frame, in OpenGL axes",
        )
    seen_from_first = np.linalg.inv(poses[0]) @ poses[VIEW_COUNT:]
    return Trajectory(folder.name, len(seen_from_first), _Polyline(seen_from_first))


@cache
def _fetched(uri: str) -> Path:
    """The mirror of a bucket's folder, with every trajectory's folder and its file."""
    storage = open_remote(uri, "the folder of own trajectories cannot be opened")
    keys = [info.key for info in storage.list("")]
    if not keys:
        raise UserError("the folder of own trajectories does not exist", where=uri, remedy=_FORM)
    mirror = mirror_folder(storage.uri)
    below = [parts for key in keys if len(parts := key.split("/")) > 1 and not parts[0].startswith(".")]
    for name in {parts[0] for parts in below}:
        (mirror / name).mkdir(parents=True, exist_ok=True)
    wanted = ["/".join(parts) for parts in below if parts[1:] == [TRANSFORMS_NAME]]
    try:
        storage.local_copies(wanted, mirror)
    except NotFoundError as error:
        raise UserError(
            "a trajectory was removed while it was read", where=error.where, remedy="run the same command again"
        ) from None
    return mirror


class _Polyline:
    """Evaluates a sampled path between its samples."""

    def __init__(self, poses: Poses) -> None:
        self._positions = poses[:, :3, 3]
        self._rotations = poses[:, :3, :3]
        self._quaternions = matrix_to_quaternion(self._rotations)

    def __call__(self, k: Parameters) -> Poses:
        first = np.minimum(np.floor(k).astype(np.int64), len(self._positions) - 2)
        part = (k - first)[:, None]
        positions = (1 - part) * self._positions[first] + part * self._positions[first + 1]
        start, end = self._quaternions[first], self._quaternions[first + 1]
        # q and -q are one rotation: of the two turns between the samples the one below 180 degrees is meant.
        end = np.where((start * end).sum(axis=1, keepdims=True) < 0, -end, end)
        # The angle between them as vectors, from lengths: accurate for small turns too.
        angle = 2 * np.arctan2(np.linalg.norm(end - start, axis=1), np.linalg.norm(end + start, axis=1))[:, None]
        # Weights sin((1 - p) a) and sin(p a), over a: sinc keeps the limit for equal samples. Length does not matter.
        blended = (1 - part) * np.sinc((1 - part) * angle / np.pi) * start + part * np.sinc(part * angle / np.pi) * end
        rotations = quaternion_to_matrix(blended)
        # At a sample the file's own matrix, not its way through a quaternion.
        on_sample = (part[:, 0] == 0) | (part[:, 0] == 1)
        rotations[on_sample] = self._rotations[(first + part[:, 0].astype(np.int64))[on_sample]]
        return pose(rotations, positions)


class _Frame(BaseModel):
    file_path: str
    transform_matrix: Annotated[list[Row], Field(min_length=3, max_length=4)]


class _TrajectoryFile(BaseModel):
    frames: list[_Frame]


def _place(name: str) -> tuple[int, str]:
    known = PUBLISHED_TRAJECTORIES
    return (known.index(name), "") if name in known else (len(known), name)


def _ordered_poses(file: _TrajectoryFile, path: Path) -> Poses:
    """All frames' poses [n, 4, 4] by frame number, checked one by one."""
    poses: dict[int, Poses] = {}
    for index, frame in enumerate(file.frames):
        stem = PurePosixPath(frame.file_path).stem
        if not re.fullmatch(r"[0-9]{1,6}", stem):
            raise UserError(
                f"{frame.file_path!r} has no frame number",
                where=f"{path}: frames[{index}].file_path",
                remedy="name the frames by number: ./000.png, ./001.png and so on",
            )
        if int(stem) in poses:
            raise UserError(
                f"frame {stem} is there twice",
                where=f"{path}: frames[{index}].file_path",
                remedy="give every frame a number of its own",
            )
        poses[int(stem)] = _checked_pose(frame.transform_matrix, f"{path}: frames[{index}].transform_matrix")
    needed = VIEW_COUNT + LEAST_TARGETS
    if len(poses) < needed:
        raise UserError(
            f"there are {len(poses)} frames, fewer than the {VIEW_COUNT} views and {LEAST_TARGETS} of the trajectory",
            where=f"{path}: frames",
            remedy=_FORM,
        )
    missing = sorted(set(range(len(poses))) - set(poses))
    if missing:
        raise UserError(
            f"frame {missing[0]:03d} is missing",
            where=f"{path}: frames",
            remedy="number the frames from 000 without gaps",
        )
    return np.stack([poses[number] for number in range(len(poses))])


def _checked_pose(rows: list[Row], where: str) -> Poses:
    matrix = np.array(rows if len(rows) == 4 else [*rows, (0.0, 0.0, 0.0, 1.0)])
    if (matrix[3] != (0.0, 0.0, 0.0, 1.0)).any() or not is_rotation(matrix[:3, :3], _ROTATION_TOLERANCE):
        raise UserError(
            "the matrix is not a camera-to-world pose: a proper rotation, a position and, as fourth row, 0 0 0 1",
            where=where,
            remedy="write rigid OpenGL camera-to-world matrices, without scale or mirroring",
        )
    matrix[:3, :3] = nearest_rotation(matrix[:3, :3])
    return matrix
