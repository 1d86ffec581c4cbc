"""Files that a person names: worlds and their cameras, read with what to name instead where they are none.

Example:
    >>> world = checked_world(Path("splat/splat.ply"), "auto")
    >>> found = recorded(Path("splat/splat.ply"))
    >>> found.record, found.entry.sha256[:8]
    (PosixPath('/data/output/photorealistic/index_0000/records/splat.json'), '1c291ca3')
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from worldexplorer.config import STAGE_NAMES
from worldexplorer.errors import UsageError, UserError
from worldexplorer.geometry.transforms import Transforms, read_transforms
from worldexplorer.records import FileEntry, StageRecord
from worldexplorer.splat.world_file import World, read_world

NAME_A_WORLD = "name a PLY file in the INRIA layout, such as splat/splat.ply of a job; packed files are not read"
NAME_CAMERAS = "name a scene's transforms.json, such as scenes/*/img2trajvid/transforms.json of a job"


@dataclass(frozen=True)
class Recorded:
    """A file of a finished job.

    Attributes:
        record: where it is named.
        entry: what is said of it there.
    """

    record: Path
    entry: FileEntry


def require_file(path: Path, flag: str, remedy: str) -> None:
    """UsageError where there is none."""
    if not path.is_file():
        raise UsageError("there is no such file", where=f"{flag} {path}", remedy=remedy)


def checked_world(ply: Path, up: str) -> World:
    """What a file named by a person holds; UsageError where that is none, or empty."""
    try:
        world = read_world(ply, up)
    except UserError as error:
        raise UsageError(error.what, where=error.where, remedy=NAME_A_WORLD) from error
    if not world.gaussians.count:
        raise UsageError("the file holds no Gaussians", where=str(ply), remedy=NAME_A_WORLD)
    return world


def checked_cameras(path: Path) -> Transforms:
    """The cameras of a file named by a person; UsageError where it has none."""
    try:
        return read_transforms(path)
    except UserError as error:
        raise UsageError(error.what, where=error.where, remedy=NAME_CAMERAS) from error


def recorded(place: Path) -> Recorded | None:
    """What the record of a finished job says of a file; None where none names it.

    Args:
        place: absolute, its folder without links.

    Raises:
        DefectError: a record above it is damaged.
    """
    for folder in place.parents:
        for stage in STAGE_NAMES.values():
            record = folder / "records" / f"{stage}.json"
            if record.is_file():
                found = StageRecord.from_json(record.read_bytes(), where=str(record))
                entry = found.file(place.relative_to(folder).as_posix())
                if entry is not None:
                    return Recorded(record, entry)
    return None


def in_the_way(folder: Path) -> Path | None:
    """What keeps a folder from being made: the nearest that exists of it and those above it, where that is no folder.

    Args:
        folder: absolute.
    """
    nearest = next(one for one in (folder, *folder.parents) if one.exists() or one.is_symlink())
    return None if nearest.is_dir() else nearest
