"""The frames of a scene: first passes of all trajectories, then second passes, each done once.

What is finished leaves marks with checksums: a first pass in the work folder's `first_passes/`, the frames of a
trajectory in `marks/`. A resumed run takes what they name and makes the rest. Every sampling has a seed of its own, so
a resumed scene equals an uninterrupted one.

Example:
    >>> verdicts = generator.first_passes(walks, silent)
    >>> generator.second_passes(walks, verdicts, silent)[0].c2w.shape
    (45, 4, 4)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from worldexplorer.chunks import second_pass_chunks
from worldexplorer.engine import Images, Poses
from worldexplorer.progress import Progress, part
from worldexplorer.trajectory.collision import CollisionVerdict
from worldexplorer.trajectory.first_pass import plan_without_collisions
from worldexplorer.trajectory.first_passes import FirstPasses
from worldexplorer.trajectory.scene import SCAFFOLD_VIEWS
from worldexplorer.trajectory.scene_work import SceneWork
from worldexplorer.trajectory.second_passes import SecondPasses
from worldexplorer.trajectory.shots import Shot, ShotStore

if TYPE_CHECKING:
    from worldexplorer.trajectory.walks import Walk


class ShotGenerator:
    """Makes shots into a scene folder, and finds again those that are made.

    Args:
        shared: the scene at work.
        scene: its folder, where frames go.
        finished: called, beside the sampling, with a trajectory's folder and its frames once they count.
    """

    def __init__(
        self,
        shared: SceneWork,
        scene: Path,
        finished: Callable[[Path, Images], None] = lambda folder, frames: None,
    ) -> None:
        self._shared = shared
        self._store = ShotStore(scene, shared.work / "marks", shared.writer, shared.keep, finished)
        self._first = FirstPasses(shared, self._store)
        self._second = SecondPasses(shared, self._store)

    def first_passes(self, walks: Sequence[Walk], progress: Progress) -> list[CollisionVerdict]:
        """The anchors of every trajectory in turn, and what the collision rule says of them."""
        return self._first.run(walks, progress)

    def second_passes(
        self, walks: Sequence[Walk], verdicts: Sequence[CollisionVerdict], progress: Progress
    ) -> list[Shot]:
        """The frames of every trajectory, from the anchors that its verdict keeps."""
        waiting = [
            (walk, verdict)
            for walk, verdict in zip(walks, verdicts, strict=True)
            if walk.folder not in self._first.shots
        ]
        made = self._second.run([walk for walk, _ in waiting], [verdict for _, verdict in waiting], progress)
        shots = self._first.shots | {shot.folder: shot for shot in made}
        return [shots[walk.folder] for walk in walks]

    def views(self, folder: str, c2w: Poses, progress: Progress) -> Shot:
        """Views at given poses, without a collision rule."""
        found = self._store.find(folder, lambda _: c2w)
        if found is None:
            found, _ = self._store.add(folder, [self.sample(folder, c2w, progress)], c2w, None)
        return found

    def sample(self, name: str, c2w: Poses, progress: Progress) -> Images:
        """Views at given poses from the scaffold, not kept: [N, S, S, 3] uint8."""
        shared = self._shared
        room = len(c2w) if shared.limit is None else shared.limit - SCAFFOLD_VIEWS
        made = []
        for number, start in enumerate(range(0, len(c2w), room)):
            some = c2w[start : start + room]
            request = shared.requests.beside_the_scaffold([], c2w[:0], some, name, number)
            share = part(progress, start / len(c2w), (start + len(some)) / len(c2w))
            made.append(shared.engine.novel_views().sample([request], share)[0][SCAFFOLD_VIEWS:])
        return np.concatenate(made)

    @property
    def samplings(self) -> dict[str, list[list[str]]]:
        """The frames of every first pass's samplings, by folder, for people."""
        return self._first.samplings


def planned_samplings(walks: Sequence[Walk], limit: int | None) -> tuple[int, int]:
    """Samplings of the first and of the second passes of a scene in which nothing is in the way."""
    first = sum(map(len, plan_without_collisions(walks, limit)))
    fillings = [
        second_pass_chunks(walk.targets.tolist(), walk.anchor_places.tolist(), limit)
        for walk in walks
        if not walk.shortened
    ]
    return first, sum(map(len, fillings))
