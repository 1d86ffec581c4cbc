"""The finished frames of trajectories, on disk, each written once beside the sampling.

Example:
    >>> store = ShotStore(scene, marks, writer)
    >>> shot, written = store.add("003_left", [frames], c2w, verdict)
    >>> store.find("003_left").pictures([7, 22]).shape           # once it is written, in any later run
    (2, 576, 576, 3)
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from worldexplorer.context import nothing_to_keep
from worldexplorer.engine import Images, Poses
from worldexplorer.errors import DefectError
from worldexplorer.pictures import frame_name, is_blank, read_pictures, write_pictures
from worldexplorer.trajectory.collision import CollisionVerdict
from worldexplorer.trajectory.marks import Marks
from worldexplorer.trajectory.scene import FRAMES_FOLDER

if TYPE_CHECKING:
    from worldexplorer.trajectory.writing import BackgroundWriter


@dataclass(frozen=True)
class Shot:
    """The frames of one trajectory.

    Attributes:
        folder: its name in the scene.
        paths: the n pictures, in order; none where a collision left nothing.
        c2w: [n, 4, 4] OpenGL camera-to-world, scene frame, trajectory units.
        verdict: what the collision rule found; None for views that no rule is asked about.
        facts: what else is known of it, JSON values.
    """

    folder: str
    paths: tuple[Path, ...]
    c2w: Poses
    verdict: CollisionVerdict | None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.paths)

    def pictures(self, frames: Sequence[int]) -> Images:
        """[N, S, S, 3] uint8 of one or more frames, by number."""
        return read_pictures(self.paths[frame] for frame in frames)


class ShotStore:
    """The shots of a scene.

    Args:
        scene: the scene folder, where frames go.
        marks: a folder for the marks that make them count.
        writer: writes them.
        keep: called, by the writer, after every shot.
        finished: called, by the writer, with a shot's own folder and its frames once they count; left out where the
            writer ends early.
    """

    def __init__(
        self,
        scene: Path,
        marks: Path,
        writer: BackgroundWriter,
        keep: Callable[[], None] = nothing_to_keep,
        finished: Callable[[Path, Images], None] = lambda folder, frames: None,
    ) -> None:
        self._scene = scene
        self._marks = Marks(marks)
        self._writer = writer
        self._keep = keep
        self._finished = finished

    def find(self, folder: str, poses: Callable[[CollisionVerdict | None], Poses]) -> Shot | None:
        """A finished shot whose frames are all there; `poses` says where they were taken, given its verdict."""
        kept = self._marks.read(folder, self._place(folder))
        if kept is None:
            return None
        found = kept.facts["verdict"]
        verdict = CollisionVerdict.from_json(found) if found is not None else None
        return Shot(folder, tuple(kept.paths), poses(verdict), verdict, kept.facts["more"])

    def add(
        self,
        folder: str,
        parts: Sequence[Images],
        c2w: Poses,
        verdict: CollisionVerdict | None,
        facts: Mapping[str, Any] | None = None,
    ) -> tuple[Shot, Future[None]]:
        """Have frames written, then the mark that makes them count.

        Args:
            folder: the shot's name.
            parts: its frames, [n, S, S, 3] in all; they are left to the store.
            c2w: [n, 4, 4] where they were taken.
            verdict: of the collision rule.
            facts: what else is to be known of it later, JSON values.

        Returns:
            The shot, and what tells when its files are there.
        """
        place = self._place(folder)
        more = dict(facts or {})
        waiting = list(parts)
        kept = {"verdict": verdict.to_json() if verdict is not None else None, "more": more}

        def write() -> None:
            if place.parent.exists():  # of a run that was killed, or whose frames do not count any more
                shutil.rmtree(place.parent)
            if not len(c2w):
                self._marks.write(folder, [], kept)
                self._keep()
                return
            frames = np.concatenate(waiting)
            waiting.clear()  # a long trajectory need not be in memory twice while it is written
            require_pictures(folder, frames)
            self._marks.write(folder, write_pictures(place, frames), kept)
            self._keep()
            if not self._writer.ends_early:
                self._finished(place.parent, frames)

        paths = tuple(place / frame_name(frame) for frame in range(len(c2w)))
        return Shot(folder, paths, c2w, verdict, more), self._writer.submit(write)

    def _place(self, folder: str) -> Path:
        return self._scene / folder / FRAMES_FOLDER


def require_pictures(folder: str, frames: Images) -> None:
    """Refuse what a model leaves that failed without saying so."""
    if is_blank(frames).all():
        raise DefectError(
            "every frame of a trajectory is of one colour",
            where=folder,
            remedy="the model failed without saying so; run it again, and report it if it stays",
        )
