"""The worlds that `worldexplorer convert` reads: files that a person names, and those of a batch's jobs.

A job's world is read through its record, so that a damaged one is not converted. Fewer Gaussians want the scene too: of
a file it is looked for in the folder of its job.

Example:
    >>> with JobSource(storage, JobId(0, "photorealistic")) as source:
    ...     world, cameras = source.world("auto"), source.scene().cameras
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from worldexplorer import layout
from worldexplorer.checksum import file_sha256
from worldexplorer.cli.named_files import checked_cameras, checked_world, in_the_way, recorded
from worldexplorer.config import STAGE_NAMES
from worldexplorer.errors import DamagedInputError, UsageError, UserError
from worldexplorer.geometry.ply import read_points
from worldexplorer.geometry.transforms import TRANSFORMS_NAME, Transforms, read_transforms
from worldexplorer.inputs import RecordedInputs
from worldexplorer.layout import JobId
from worldexplorer.records import StageRecord
from worldexplorer.splat.world_file import World, read_world, scene_of
from worldexplorer.storage import NotFoundError, Storage

_TRAJECTORY, _SPLAT = STAGE_NAMES[2], STAGE_NAMES[3]


@dataclass(frozen=True)
class Scene:
    """What a world was trained on.

    Attributes:
        cameras: the training views.
        points: reads the point cloud's [P, 3] points.
    """

    cameras: Transforms
    points: Callable[[], NDArray[np.float32]]


@dataclass(frozen=True)
class Target:
    """Where a file goes, and how a person is told."""

    storage: Storage
    key: str
    shown: str

    def require_room(self) -> None:
        """UserError where no file can be made there: a folder has its name, or a file that of a folder above it."""
        root = self.storage.local_root()
        if root is None:
            return  # a bucket has no folders
        path = root / self.key
        if path.is_dir():
            raise UserError("a folder lies where the file is to go", where=str(path), remedy="move it away")
        blocking = in_the_way(path.parent)
        if blocking is not None:
            raise UserError("a file lies where a folder is to go", where=str(blocking), remedy="move it away")


class Source(Protocol):
    """A world to convert; what it fetched goes at the end of its `with`."""

    name: str

    def there_already(self, targets: Mapping[str, Target], *, overwrite: bool) -> Collection[str]:
        """The kinds that need not be made."""

    def scene(self) -> Scene:
        """What it was trained on; UserError where that cannot be found."""

    def world(self, up: str) -> World:
        """What it holds."""

    def require_current(self) -> None:
        """UserError where another world has taken its place since it was read."""

    def __enter__(self) -> Self:
        """Begin to read."""

    def __exit__(self, *_: object) -> None:
        """Remove what was fetched."""


class FileSource:
    """A PLY file that a person named; `scene` is the transforms.json they named, if they did."""

    def __init__(self, ply: Path, scene: Path | None = None) -> None:
        self.name = str(ply)
        self._ply = ply
        self._scene = scene

    def there_already(self, targets: Mapping[str, Target], *, overwrite: bool) -> Collection[str]:
        """None: what exists was refused before."""
        return ()

    def scene(self) -> Scene:
        """See Source."""
        path = self._scene or scene_of(self._ply)
        if path is None:
            raise UsageError(
                "the scene's cameras are not found: the file does not lie in the folder of a job with one scene",
                where=self.name,
                remedy=f"name its {TRANSFORMS_NAME} with --scene",
            )
        cameras = checked_cameras(path)

        def points() -> NDArray[np.float32]:
            if cameras.ply_file_path is None:
                raise UsageError(
                    "the scene names no point cloud, and floaters are told by it",
                    where=f"{path}: ply_file_path",
                    remedy="leave --filter_floaters out, or name another --scene",
                )
            return read_points(path.parent / cameras.ply_file_path).points

        return Scene(cameras, points)

    def world(self, up: str) -> World:
        """See Source."""
        found = recorded(self._ply.resolve())
        if found is not None and file_sha256(self._ply) != found.entry.sha256:
            raise UsageError(
                "the file is not what the record of its job says",
                where=f"{self.name}, {found.record}",
                remedy="run the command of its batch again: it heals; or convert a copy of it in another folder",
            )
        return checked_world(self._ply, up)

    def require_current(self) -> None:
        """A file is what it was when it was read."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was fetched."""


class JobSource:
    """The world of a job, as its record says."""

    def __init__(self, storage: Storage, job: JobId) -> None:
        self.name = str(job)
        self._storage = storage
        self._job = job
        self._opened = ExitStack()
        self._inputs: dict[str, RecordedInputs] = {}

    def there_already(self, targets: Mapping[str, Target], *, overwrite: bool) -> Collection[str]:
        """Those that the record names, and without `overwrite` those younger than the world.

        Raises:
            UserError: one is older, or there is no room for it.
        """
        key = layout.record(self._job, _SPLAT)
        record = StageRecord.from_json(self._storage.read(key), where=key)
        recorded = {f"{layout.job_folder(self._job)}/{entry.path}" for entry in record.files}
        made = datetime.fromisoformat(record.finished_at).timestamp()
        there = []
        for kind, target in targets.items():
            target.require_room()
            found = target.storage.stat(target.key)
            if target.storage is self._storage and target.key in recorded:
                there.append(kind)
            elif found is not None and not overwrite:
                if found.modified < made:
                    raise UserError(
                        "the file is older than its world", where=target.key, remedy="make it again with --overwrite"
                    )
                there.append(kind)
        return there

    def scene(self) -> Scene:
        """See Source."""
        with _healing():
            try:
                splat, scene = self._read(_SPLAT), self._read(_TRAJECTORY)
            except NotFoundError as error:
                raise UserError(
                    "the job has no finished scene, which says what is seen",
                    where=error.where,
                    remedy="leave --max_gaussians and --filter_floaters out, or name the file with --ply and --scene",
                ) from error
            made_from = splat.record.input
            if made_from is None or (made_from.fingerprint, made_from.content) != (
                scene.record.fingerprint,
                scene.record.content,
            ):
                raise UserError(
                    "the world was trained on another scene than the one that is there now",
                    where=layout.record(self._job, _TRAJECTORY),
                    remedy="train it again (--only_stages 3), or leave --max_gaussians and --filter_floaters out",
                )
            folder = scene.record.outputs["scene_path"]
            cameras = read_transforms(scene.path(f"{folder}/{TRANSFORMS_NAME}"))

        def points() -> NDArray[np.float32]:
            with _healing():
                return read_points(scene.path(f"{folder}/{cameras.ply_file_path}")).points

        return Scene(cameras, points)

    def world(self, up: str) -> World:
        """See Source."""
        with _healing():
            inputs = self._read(_SPLAT)
            return read_world(inputs.path(inputs.record.outputs["export_path"]), up)

    def require_current(self) -> None:
        """See Source."""
        key = layout.record(self._job, _SPLAT)
        if StageRecord.from_json(self._storage.read(key), where=key).content != self._read(_SPLAT).record.content:
            raise UserError("the world was trained again meanwhile", where=key, remedy="run it again")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._inputs.clear()
        self._opened.close()

    def _read(self, stage: str) -> RecordedInputs:
        """What the record of a stage names, the same for everything that is read within one `with`."""
        if stage not in self._inputs:
            inputs = RecordedInputs(self._storage, self._job, stage)
            self._inputs[stage] = self._opened.enter_context(closing(inputs))
        return self._inputs[stage]


@contextmanager
def _healing() -> Iterator[None]:
    """What heals a damaged file is the batch, not the command that meets it."""
    try:
        yield
    except DamagedInputError as error:
        raise DamagedInputError(
            error.what, where=error.where, remedy="run the command of its batch again: it heals"
        ) from None
