"""First passes: the anchors of all trajectories in turn, and how much of them a collision leaves.

The passes run in order, since each may be given anchors of the earlier ones. What is left of the anchors lies in the
work folder (`first_passes/`) with a mark that holds the verdict, so a resumed run knows all there is to know of a
finished pass and samples nothing again. Where every frame is an anchor the frames are finished at once.

Example:
    >>> passes = FirstPasses(shared, store)
    >>> verdicts = passes.run(walks, silent)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from worldexplorer.engine import Images, Picture, Views
from worldexplorer.pictures import frame_name, write_pictures
from worldexplorer.progress import Progress, part, saying
from worldexplorer.trajectory.collision import CollisionVerdict, clearance_cut, legacy_cut
from worldexplorer.trajectory.first_pass import FirstPassChunk, plan_first_pass, plan_without_collisions
from worldexplorer.trajectory.marks import Marks
from worldexplorer.trajectory.memory import Memory
from worldexplorer.trajectory.sampling_requests import lenses
from worldexplorer.trajectory.scene_work import SceneWork, shown_name
from worldexplorer.trajectory.shots import Shot, ShotStore, require_pictures

if TYPE_CHECKING:
    from worldexplorer.trajectory.walks import Walk

_FOLDER = "first_passes"


class FirstPasses:
    """Makes anchors, and finds again those that are made.

    Args:
        shared: the scene.
        store: of shots that need no second pass.
    """

    def __init__(self, shared: SceneWork, store: ShotStore) -> None:
        self._shared = shared
        self._store = store
        self._folder = shared.work / _FOLDER
        self._marks = Marks(self._folder)
        self._memory = Memory()
        self.samplings: dict[str, list[list[str]]] = {}
        """The frames of every sampling, by the trajectory's folder; see FirstPassChunk.words."""
        self.shots: dict[str, Shot] = {}
        """What is finished already, by folder."""

    def run(self, walks: Sequence[Walk], progress: Progress) -> list[CollisionVerdict]:
        """The verdict on every trajectory."""
        ends = np.cumsum([0, *map(len, plan_without_collisions(walks, self._shared.limit))])
        verdicts = []
        for walk, start, end in zip(walks, ends, ends[1:], strict=False):
            share = saying(part(progress, start / ends[-1], end / ends[-1]), shown_name(walk.folder))
            share(0, 1, "")
            verdict = self._found(walk)
            if verdict is None:
                verdict = self._made(walk, share)
            self._memory.remember(walk, verdict.kept_anchors)
            verdicts.append(verdict)
        return verdicts

    def _found(self, walk: Walk) -> CollisionVerdict | None:
        """The verdict on a trajectory whose first pass is finished and whole."""
        if walk.shortened:
            shot = self._store.find(walk.folder, lambda verdict: walk.poses(verdict.kept_targets if verdict else ()))
            if shot is None or shot.verdict is None:
                return None
            self.shots[walk.folder] = shot
            verdict, facts, paths = shot.verdict, shot.facts, shot.paths
        else:
            kept = self._marks.read(walk.folder, self._folder / walk.folder)
            if kept is None:
                return None
            verdict, facts = CollisionVerdict.from_json(kept.facts["verdict"]), kept.facts
            paths = tuple(kept.paths)
        self.samplings[walk.folder] = facts["samplings"]
        self._shared.anchors.add(walk.folder, dict(zip(_left(walk, verdict), paths, strict=True)))
        return verdict

    def _made(self, walk: Walk, progress: Progress) -> CollisionVerdict:
        plan = plan_first_pass(walk, self._memory, self._shared.limit)
        self.samplings[walk.folder] = [chunk.words() for chunk in plan]
        pictures = self._sampled(walk, plan, progress)
        verdict = self._judged(walk, pictures)
        left = _left(walk, verdict)
        if walk.shortened:
            self._finish(walk, verdict, pictures[left.start : left.stop])
        else:
            self._keep(walk, verdict, {anchor: pictures[anchor] for anchor in left})
        return verdict

    def _sampled(self, walk: Walk, plan: Sequence[FirstPassChunk], progress: Progress) -> Images:
        """[A, S, S, 3] all anchors, the scaffold view among them where the trajectory takes it for one."""
        shared = self._shared
        c2w = walk.poses(walk.anchors)
        pictures = np.empty((len(c2w), *shared.scaffold.images.shape[1:]), dtype=np.uint8)
        pictures[: walk.given_anchors] = shared.scaffold.images[walk.view]
        for number, chunk in enumerate(plan):
            own, new = list(chunk.anchors), list(chunk.new)
            request = shared.requests.beside_the_scaffold(
                [*(shared.anchors.get(one.folder, one.anchor) for one in chunk.memory), *pictures[own]],
                np.concatenate([self._memory.c2w(chunk.memory), c2w[own]]),
                c2w[new],
                *(walk.folder, "first-pass", number),
            )
            share = part(progress, number / len(plan), (number + 1) / len(plan))
            pictures[new] = shared.engine.novel_views().sample([request], share)[0][-len(new) :]
        require_pictures(walk.folder, pictures[walk.given_anchors :])
        return pictures

    def _judged(self, walk: Walk, anchors: Images) -> CollisionVerdict:
        shared = self._shared
        views = Views(anchors, walk.poses(walk.anchors), lenses(len(anchors)))
        depth = shared.engine.depth(shared.scene_type).depth(views, shared.world, shared.scale)
        if shared.clearance_m is None:
            return legacy_cut(depth, walk.anchors, walk.targets)
        return clearance_cut(depth, walk.anchors, walk.targets, shared.clearance_m)

    def _finish(self, walk: Walk, verdict: CollisionVerdict, frames: Images) -> None:
        """The anchors that are left are the frames."""
        facts = {"samplings": self.samplings[walk.folder]}
        c2w = walk.poses(verdict.kept_targets)
        shot, written = self._store.add(walk.folder, [frames], c2w, verdict, facts)
        left = _left(walk, verdict)
        paths, pictures = dict(zip(left, shot.paths, strict=True)), dict(zip(left, frames, strict=True))
        self._shared.anchors.add(walk.folder, paths, pictures, written)
        self.shots[walk.folder] = shot

    def _keep(self, walk: Walk, verdict: CollisionVerdict, pictures: Mapping[int, Picture]) -> None:
        """Have the anchors that are left written, then the mark that makes them count."""
        folder = self._folder / walk.folder
        facts = {"verdict": verdict.to_json(), "samplings": self.samplings[walk.folder]}

        def write() -> None:
            paths = write_pictures(folder, np.stack(list(pictures.values()))) if pictures else []
            self._marks.write(walk.folder, paths, facts)
            self._shared.keep()

        paths = {anchor: folder / frame_name(place) for place, anchor in enumerate(pictures)}
        self._shared.anchors.add(walk.folder, paths, pictures, self._shared.writer.submit(write))


def _left(walk: Walk, verdict: CollisionVerdict) -> range:
    """Numbers of the anchors that were made and are left."""
    return range(walk.given_anchors, max(walk.given_anchors, verdict.kept_anchors))
