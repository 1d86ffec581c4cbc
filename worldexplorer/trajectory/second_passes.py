"""Second passes: the frames of all trajectories, from the anchors that are left of them.

No sampling needs another one, so all of them go to the engine in one list, which it may spread over GPUs. A trajectory
is written as soon as its last sampling has arrived, beside the sampling of the next ones. A request is made when its
turn comes: of the anchors only few are in memory at a time.

Example:
    >>> shots = SecondPasses(shared, store).run(walks, verdicts, silent)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from worldexplorer.chunks import Chunk, second_pass_chunks
from worldexplorer.engine import Images, NovelViewRequest
from worldexplorer.progress import Progress
from worldexplorer.trajectory.collision import CollisionVerdict
from worldexplorer.trajectory.sampling_requests import SECOND_PASS_CFG, MadeWhenAsked
from worldexplorer.trajectory.scene_work import SceneWork, shown_name
from worldexplorer.trajectory.shots import Shot, ShotStore

if TYPE_CHECKING:
    from worldexplorer.trajectory.walks import Walk


@dataclass(frozen=True)
class _Sampling:
    """One of the samplings of a trajectory, which has `of` in all."""

    walk: Walk
    verdict: CollisionVerdict
    chunk: Chunk
    number: int
    of: int


class SecondPasses:
    """Makes the frames of trajectories, and finds again those that are made.

    Args:
        shared: the scene.
        store: where they go.
    """

    def __init__(self, shared: SceneWork, store: ShotStore) -> None:
        self._shared = shared
        self._store = store

    def run(self, walks: Sequence[Walk], verdicts: Sequence[CollisionVerdict], progress: Progress) -> list[Shot]:
        """A shot of every trajectory."""
        shots: dict[str, Shot] = {}
        samplings: list[_Sampling] = []
        for walk, verdict in zip(walks, verdicts, strict=True):
            found = self._found(walk, verdict)
            if found is not None:
                shots[walk.folder] = found
            elif verdict.kept_targets:
                samplings += self._planned(walk, verdict)
            else:
                shots[walk.folder], _ = self._store.add(walk.folder, [], walk.poses(()), verdict)
        if samplings:
            shots |= self._made(samplings, progress)
        return [shots[walk.folder] for walk in walks]

    def _found(self, walk: Walk, verdict: CollisionVerdict) -> Shot | None:
        """A finished shot, unless it was made from anchors that another GPU has made anew since, and cut elsewhere."""
        shot = self._store.find(walk.folder, lambda _: walk.poses(verdict.kept_targets))
        return shot if shot is not None and shot.verdict == verdict else None

    def _planned(self, walk: Walk, verdict: CollisionVerdict) -> list[_Sampling]:
        places = walk.anchor_places[: verdict.kept_anchors].tolist()
        chunks = second_pass_chunks(verdict.kept_targets, places, self._shared.limit)
        return [_Sampling(walk, verdict, chunk, number, len(chunks)) for number, chunk in enumerate(chunks)]

    def _made(self, samplings: Sequence[_Sampling], progress: Progress) -> dict[str, Shot]:
        shown = ""

        def request(number: int) -> NovelViewRequest:
            nonlocal shown
            shown = shown_name(samplings[number].walk.folder)
            return self._request(samplings[number])

        def listen(done: int, total: int, what: str) -> None:
            progress(done, total, shown)

        shots: dict[str, Shot] = {}
        arrived: dict[str, dict[int, Images]] = {}
        model = self._shared.engine.novel_views()
        for number, frames in model.sample_each(MadeWhenAsked(len(samplings), request), listen):
            one = samplings[number]
            folder = one.walk.folder
            parts = arrived.setdefault(folder, {})
            parts[one.number] = frames[[not given for _, given in one.chunk.frames()]]
            if len(parts) == one.of:
                del arrived[folder]
                ordered = [parts.pop(place) for place in range(one.of)]
                c2w = one.walk.poses(one.verdict.kept_targets)
                shots[folder], _ = self._store.add(folder, ordered, c2w, one.verdict)
                del ordered
        return shots

    def _request(self, one: _Sampling) -> NovelViewRequest:
        walk, frames = one.walk, one.chunk.frames()
        numbers = {place: number for number, place in enumerate(walk.anchor_places.tolist())}
        return self._shared.requests.make(
            (self._shared.anchors.get(walk.folder, numbers[anchor]) for anchor in one.chunk.anchors),
            walk.poses([walk.anchors[numbers[place]] if given else place for place, given in frames]),
            np.array([given for _, given in frames]),
            SECOND_PASS_CFG,
            *(walk.folder, "second-pass", one.number),
        )
