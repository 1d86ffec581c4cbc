"""The frames of all trajectories of a scene, one trajectory at a time, each done once.

A finished trajectory leaves a mark in the work folder that names its frames and their checksums; a resumed run takes
what the marks name and makes only the rest. Every sampling has a seed of its own, so a resumed scene equals an
uninterrupted one.

Example:
    >>> shots = [generator.trajectory(view, name) for view, name in job_order(order)]
    >>> shots[0].c2w.shape
    (4, 4, 4)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldexplorer.checksum import file_sha256
from worldexplorer.context import nothing_to_keep
from worldexplorer.engine import Engine, Images, NovelViewRequest, Poses, Views, World
from worldexplorer.errors import DefectError
from worldexplorer.geometry.cameras import normalised_intrinsics, opengl_to_opencv
from worldexplorer.pictures import is_blank, read_pictures, write_pictures
from worldexplorer.progress import Progress
from worldexplorer.seeds import derive_seed
from worldexplorer.trajectory.chunks import second_pass_chunks
from worldexplorer.trajectory.collision import CollisionVerdict, clearance_cut, legacy_cut
from worldexplorer.trajectory.paths import (
    Trajectory,
    anchor_parameters,
    folder_name,
    target_parameters,
    trajectory_poses,
)
from worldexplorer.trajectory.scene import FRAMES_FOLDER, SCAFFOLD_VIEWS

FIRST_PASS_CFG = 3.0
SECOND_PASS_CFG = 2.3
CFG_MIN = 1.2
STEPS = 50


@dataclass(frozen=True)
class Shot:
    """The frames of one trajectory.

    Attributes:
        folder: its name in the scene.
        frames: [n, S, S, 3] uint8; n is 0 where a collision left nothing.
        c2w: [n, 4, 4] OpenGL camera-to-world, scene frame, trajectory units.
        verdict: what the collision rule found; None for views that no rule is asked about.
    """

    folder: str
    frames: Images
    c2w: Poses
    verdict: CollisionVerdict | None


class ShotGenerator:
    """Makes shots into a scene folder, and finds again those that are made.

    Args:
        engine: supplies the models.
        scaffold: the eight views.
        world: what stage 1 left for the engine, or None.
        scale: the translation scaling factor.
        clearance_m: from :func:`worldexplorer.trajectory.collision.clearance_threshold`; None for the legacy rule.
        seed: the run's.
        scene: the scene folder, where frames go.
        marks: a folder for the marks of finished shots.
        keep: called after every shot that was made.
    """

    def __init__(
        self,
        engine: Engine,
        scaffold: Views,
        world: World | None,
        scale: float,
        clearance_m: float | None,
        seed: int,
        scene: Path,
        marks: Path,
        keep: Callable[[], None] = nothing_to_keep,
    ) -> None:
        self._engine = engine
        self._scaffold = scaffold
        self._world = world
        self._scale = scale
        self._clearance_m = clearance_m
        self._seed = seed
        self._scene = scene
        self._marks = marks
        self._keep = keep
        self._size = engine.image_size

    def trajectory(self, view: int, trajectory: Trajectory, progress: Progress) -> Shot:
        """One trajectory of one scaffold view: anchors, collision cut, the frames between."""
        folder = folder_name(view, trajectory.name)
        targets = target_parameters(trajectory, self._engine.defaults.frames_per_trajectory)
        base = self._scaffold.c2w[view]
        made = self._made(folder)
        if made is not None:
            verdict = CollisionVerdict.from_json(made["verdict"])
            kept = trajectory_poses(base, trajectory, verdict.kept_targets)
            return Shot(folder, self._read(folder, made), kept, verdict)
        anchors = anchor_parameters(targets)
        poses = trajectory_poses(base, trajectory, anchors)
        pictures = self._first_pass(view, folder, poses, starts_at_view=targets[0] > 0, progress=progress)
        depth = self._engine.depth().depth(self._views(pictures, poses), self._world, self._scale)
        if self._clearance_m is None:
            verdict = legacy_cut(depth, anchors, targets)
        else:
            verdict = clearance_cut(depth, anchors, targets, self._clearance_m)
        frames = self._second_pass(folder, base, trajectory, verdict, pictures, progress)
        if len(frames) and is_blank(frames).all():
            raise DefectError(
                "every frame of a trajectory is of one colour",
                where=folder,
                remedy="the model failed without saying so; run it again, and report it if it stays",
            )
        kept = trajectory_poses(base, trajectory, verdict.kept_targets)
        return self._finished(Shot(folder, frames, kept, verdict))

    def views(self, folder: str, c2w: Poses, progress: Progress) -> Shot:
        """Views at given poses, without a collision rule."""
        made = self._made(folder)
        if made is not None:
            return Shot(folder, self._read(folder, made), c2w, None)
        return self._finished(Shot(folder, self.sample(folder, c2w, progress), c2w, None))

    def sample(self, name: str, c2w: Poses, progress: Progress) -> Images:
        """Views at given poses from the scaffold, not kept: [N, S, S, 3] uint8."""
        request = self._request(self._scaffold, c2w, FIRST_PASS_CFG, derive_seed(self._seed, "trajectory", name))
        return self._engine.novel_views().sample([request], progress)[0][SCAFFOLD_VIEWS:]

    def _first_pass(self, view: int, folder: str, poses: Poses, *, starts_at_view: bool, progress: Progress) -> Images:
        """The anchors; where the first stands at the scaffold view itself, that view is taken."""
        wanted = poses[1:] if starts_at_view else poses
        seed = derive_seed(self._seed, "trajectory", folder, "first-pass")
        request = self._request(self._scaffold, wanted, FIRST_PASS_CFG, seed)
        sampled = self._engine.novel_views().sample([request], progress)[0][SCAFFOLD_VIEWS:]
        return np.concatenate([self._scaffold.images[view : view + 1], sampled]) if starts_at_view else sampled

    def _second_pass(
        self,
        folder: str,
        base: Poses,
        trajectory: Trajectory,
        verdict: CollisionVerdict,
        anchor_pictures: Images,
        progress: Progress,
    ) -> Images:
        """The kept frames in order: anchors where a frame stands at one, the others made between them."""
        kept = verdict.anchors[: verdict.kept_anchors]
        found: dict[float, NDArray[np.uint8]] = dict(zip(kept, anchor_pictures, strict=False))
        chunks = second_pass_chunks(verdict.kept_targets, kept)
        requests = []
        for number, chunk in enumerate(chunks):
            given = Views(
                np.stack([found[k] for k in chunk.anchors]),
                trajectory_poses(base, trajectory, chunk.anchors),
                self._intrinsics(len(chunk.anchors)),
            )
            seed = derive_seed(self._seed, "trajectory", folder, "second-pass", number)
            poses = trajectory_poses(base, trajectory, chunk.targets)
            requests.append(self._request(given, poses, SECOND_PASS_CFG, seed))
        if requests:
            sampled = self._engine.novel_views().sample(requests, progress)
            for chunk, pictures in zip(chunks, sampled, strict=True):
                found |= dict(zip(chunk.targets, pictures[len(chunk.anchors) :], strict=True))
        if not verdict.kept_targets:
            return self._no_frames()
        return np.stack([found[k] for k in verdict.kept_targets])

    def _request(self, given: Views, wanted: Poses, cfg: float, seed: int) -> NovelViewRequest:
        """Given views first, wanted ones after them."""
        count = len(given.images) + len(wanted)
        images = np.zeros((count, self._size, self._size, 3), dtype=np.uint8)
        images[: len(given.images)] = given.images
        c2w = opengl_to_opencv(np.concatenate([given.c2w, wanted]))
        c2w[:, :3, 3] *= self._scale
        return NovelViewRequest(
            images=images,
            given=np.arange(count) < len(given.images),
            c2w=c2w,
            intrinsics=np.concatenate([given.intrinsics, self._intrinsics(len(wanted))]),
            translation_scaling_factor=self._scale,
            cfg=cfg,
            cfg_min=CFG_MIN,
            steps=STEPS,
            seed=seed,
            world=self._world,
        )

    def _views(self, images: Images, c2w: Poses) -> Views:
        return Views(images, c2w, self._intrinsics(len(c2w)))

    def _intrinsics(self, count: int) -> Poses:
        return np.tile(normalised_intrinsics(), (count, 1, 1))

    def _mark(self, folder: str) -> Path:
        return self._marks / f"{folder}.json"

    def _made(self, folder: str) -> Mapping[str, Any] | None:
        """The mark of a finished shot whose frames are all there, None for any other."""
        try:
            made: dict[str, Any] = json.loads(self._mark(folder).read_bytes())
        except (FileNotFoundError, ValueError):  # ValueError: the power failed while it was written
            return None
        frames = self._scene / folder / FRAMES_FOLDER
        whole = all(
            (frames / name).is_file() and file_sha256(frames / name) == checksum
            for name, checksum in made["frames"].items()
        )
        return made if whole else None

    def _read(self, folder: str, made: Mapping[str, Any]) -> Images:
        """The frames that a mark names, in order."""
        if not made["frames"]:
            return self._no_frames()
        return read_pictures(self._scene / folder / FRAMES_FOLDER / name for name in sorted(made["frames"]))

    def _no_frames(self) -> Images:
        return np.empty((0, self._size, self._size, 3), dtype=np.uint8)

    def _finished(self, shot: Shot) -> Shot:
        """Write the frames, then the mark that makes them count, and keep both."""
        paths: Sequence[Path] = []
        if len(shot.frames):
            paths = write_pictures(self._scene / shot.folder / FRAMES_FOLDER, shot.frames)
        mark = {
            "frames": {path.name: file_sha256(path) for path in paths},
            "verdict": shot.verdict.to_json() if shot.verdict is not None else None,
        }
        temporary = self._mark(shot.folder).with_suffix(".part")
        temporary.write_text(json.dumps(mark))
        temporary.replace(self._mark(shot.folder))
        self._keep()
        return shot
