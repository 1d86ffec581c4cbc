"""What `worldexplorer convert` is to make of which world, and where that goes.

Where files go that a person named is checked before anything begins: what exists is refused, and so is everything that
a record names. Those of a batch lie beside its worlds, or in a folder of each job below another place.

Example:
    >>> for source, targets in file_sources([Path("splat/splat.ply")], None, None, Wanted(("spz",))):
    ...     targets["spz"].shown
    'splat/splat.spz'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from worldexplorer import layout
from worldexplorer.cli.named_files import NAME_A_WORLD, NAME_CAMERAS, in_the_way, recorded, require_file
from worldexplorer.cli.world_sources import FileSource, JobSource, Source, Target
from worldexplorer.config import STAGE_NAMES
from worldexplorer.errors import UsageError
from worldexplorer.selection import IndexSelection
from worldexplorer.splat.thinning import Thinning
from worldexplorer.splat.world_file import SUFFIXES, kind_of
from worldexplorer.storage import LocalStorage, Storage, open_storage
from worldexplorer.summary import read_plans

_SPLAT = STAGE_NAMES[3]


@dataclass(frozen=True)
class Wanted:
    """What is to be made of every world.

    Attributes:
        formats: kinds of files, of EXPORT_FORMATS.
        thinning: what is taken out.
        up: of the files read, or auto.
        frame: of plain PLY files written; None for that of the file read.
        overwrite: whether files that exist are replaced.
    """

    formats: tuple[str, ...]
    thinning: Thinning = field(default_factory=Thinning)
    up: str = "auto"
    frame: str | None = None
    overwrite: bool = False

    def name(self, stem: str, kind: str) -> str:
        """A file's name, which says what was done: `splat.no-floaters.100000.spz`."""
        parts = [stem]
        if self.thinning.filter_floaters:
            parts.append("no-floaters")
        if self.thinning.max_gaussians is not None:
            parts.append(str(self.thinning.max_gaussians))
        if kind == "ply" and self.frame is not None:
            parts.append(self.frame)
        return ".".join(parts) + SUFFIXES[kind]


Work = Sequence[tuple[Source, Mapping[str, Target]]]


def file_sources(plies: Sequence[Path], scene: Path | None, out: str | None, wanted: Wanted) -> Work:
    """Files that a person named, and what is to be made of them.

    Args:
        plies: to read.
        scene: the transforms.json of the only one.
        out: a file, or a folder for all; None for beside each.
        wanted: what is made.

    Raises:
        UsageError: a file is missing, or one to be written may not be.
    """
    for path, flag, remedy in [(ply, "--ply", NAME_A_WORLD) for ply in plies] + [
        (one, "--scene", NAME_CAMERAS) for one in (scene,) if one is not None
    ]:
        require_file(path, flag, remedy)
    if scene is not None and len(plies) > 1:
        raise UsageError("several files have no scene in common", where="--scene", remedy="name one --ply at a time")
    work: list[tuple[Source, Mapping[str, Target]]] = []
    makers: dict[Path, Path] = {}
    for ply in dict.fromkeys(plies):
        targets = {}
        for kind, path in _paths(ply, out, several=len(plies) > 1, wanted=wanted).items():
            place = path.parent.resolve() / path.name
            if place in makers:
                raise UsageError(
                    f"{makers[place]} and {ply} would both become {path}",
                    where="--out",
                    remedy="convert one at a time, or a batch with --output_base",
                )
            _check_place(path, place, plies, overwrite=wanted.overwrite)
            makers[place] = ply
            targets[kind] = Target(LocalStorage(place.parent), place.name, str(path))
        work.append((FileSource(ply, scene), targets))
    return work


def batch_sources(storage: Storage, indices: Sequence[str], out: str | None, wanted: Wanted) -> tuple[Work, int]:
    """The jobs of all runs over an output folder that have a world, and how many have none yet.

    Raises:
        UsageError: there is no run, no such index, or no world.
    """
    jobs = sorted({job.id for plan in read_plans(storage) for job in plan.jobs})
    if not jobs:
        raise UsageError(
            "there is no run", where=storage.uri, remedy="name the --output_base of a run, or files: --ply"
        )
    if indices:
        selection = IndexSelection.parse(indices)
        selection.require({job.index for job in jobs}, storage.uri)
        jobs = [job for job in jobs if selection.contains(job.index)]
    trained = storage.map(lambda job: storage.stat(layout.record(job, _SPLAT)) is not None, jobs)
    worlds = [job for job, is_there in zip(jobs, trained, strict=True) if is_there]
    if not worlds:
        raise UsageError("no job has a world yet", where=storage.uri, remedy="run stage 3 first")
    if out is not None and kind_of(out) is not None:
        raise UsageError(f"out is {out}, and a batch has many worlds", where="--out", remedy="name a folder")
    place = storage if out is None else _place(out)
    work: list[tuple[Source, Mapping[str, Target]]] = []
    for job in worlds:
        folder = f"{layout.job_folder(job)}/{layout.SPLAT_FOLDER}" if out is None else layout.job_folder(job)
        names = {kind: wanted.name(Path(layout.SPLAT_PLY).stem, kind) for kind in wanted.formats}
        work.append(
            (JobSource(storage, job), {kind: Target(place, f"{folder}/{name}", name) for kind, name in names.items()})
        )
    return work, len(jobs) - len(worlds)


def _place(out: str) -> Storage:
    """Where the folders of a batch's jobs go; UsageError where no folder can be made there."""
    place = open_storage(out)
    root = place.local_root()
    blocking = None if root is None else in_the_way(root)
    if blocking is not None:
        raise UsageError(f"{blocking} is no folder", where=f"--out {out}", remedy="name another --out")
    return place


def _paths(ply: Path, out: str | None, *, several: bool, wanted: Wanted) -> dict[str, Path]:
    """The files to be made of one, by their kind."""
    folder = ply.parent if out is None else Path(out)
    if not folder.absolute().parent.is_dir():
        raise UsageError(f"{folder.parent} is no folder", where="--out", remedy="make it, or name another --out")
    if out is not None and kind_of(out) is not None:
        if several:
            raise UsageError(f"several files cannot all become {out}", where="--out", remedy="name a folder")
        return {wanted.formats[0]: folder}
    if not folder.is_dir() and (folder.suffix or folder.exists()):
        raise UsageError(
            f"out is {folder.name}", where="--out", remedy=f"name a {', '.join(SUFFIXES.values())} file, or a folder"
        )
    return {kind: folder / wanted.name(ply.stem, kind) for kind in wanted.formats}


def _check_place(path: Path, place: Path, plies: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse to write over a world that is read, a record's file, or anything else that was not said to go."""
    found = recorded(place)
    if found is not None:
        raise UsageError(f"{path} is a file of a finished job", where=str(found.record), remedy="name another --out")
    if place.exists():
        if any(place.samefile(ply) for ply in plies):
            raise UsageError(f"{path} is to be read and written", where="--out", remedy="name another --out")
        if place.is_dir() or not overwrite:
            remedy = "name another" if place.is_dir() else "name another --out, or replace it with --overwrite"
            raise UsageError(f"{path} exists", where="--out", remedy=remedy)
