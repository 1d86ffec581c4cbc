"""The frames of stage 1's camera path, sampling after sampling, each sampling done once.

A finished sampling's frames lie in the work folder with marks that hold their checksums; a resumed run takes those and
makes only the rest. Every sampling has a seed of its own, so a resumed path equals an uninterrupted one.

Example:
    >>> maker = PathFrames(context, path, photo, steps, cfg=(4.0, 2.0), world=None, scale=3.0)
    >>> maker.make(silent)[0].shape
    (576, 576, 3)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldexplorer.context import StageContext, nothing_to_keep
from worldexplorer.engine import PUBLISHED_CFG_MIN, PUBLISHED_STEPS, Images, NovelViewRequest, Picture, Poses, World
from worldexplorer.errors import DefectError
from worldexplorer.geometry.cameras import FOCAL_NORMALISED, normalised_intrinsics, opengl_to_opencv
from worldexplorer.photo import photo_focal, view_zero
from worldexplorer.pictures import frame_name, is_blank
from worldexplorer.progress import Progress, part
from worldexplorer.scaffold.kept_pictures import KeptPictures
from worldexplorer.scaffold.poses import PriorPath
from worldexplorer.scaffold.samplings import PHOTO, PlannedSampling, Step
from worldexplorer.seeds import derive_seed


@dataclass(frozen=True)
class StartView:
    """What the photo gives to the path.

    Attributes:
        view: [S, S, 3] uint8, frame 0 as far as the photo covers it.
        covered: [S, S] bool, where it does.
        crop: [S, S, 3] uint8, the photo's square middle.
        crop_intrinsics: [3, 3] normalised, of the crop.
    """

    view: Picture
    covered: NDArray[np.bool_]
    crop: Picture
    crop_intrinsics: Poses

    @property
    def fills_first(self) -> bool:
        """Whether frame 0 is the photo alone."""
        return bool(self.covered.all())


def start_view(photo: Picture, hfov_deg: float | None, size: int, focal: float = FOCAL_NORMALISED) -> StartView:
    """The photo [H, W, 3] as the path's cameras take it; arguments as in :func:`worldexplorer.photo.view.view_zero`."""
    view, covered = view_zero(photo, hfov_deg, size, focal)
    crop, _ = view_zero(photo, None, size)
    height, width = photo.shape[:2]
    focal = photo_focal(width, height, hfov_deg) / min(width, height)
    return StartView(view, covered, crop, normalised_intrinsics(focal))


class PathFrames:
    """Makes the frames of one path.

    Args:
        context: of the stage.
        path: the cameras.
        start: the photo's share.
        steps: from :func:`worldexplorer.scaffold.samplings.plan_samplings`.
        cfg: guidance scales of the first and of the second pass.
        world: what the engine made of the photo, or None.
        scale: the translation scaling factor.
        keeps: whether finished samplings are kept for a resumed run.
    """

    def __init__(
        self,
        context: StageContext[Any],
        path: PriorPath,
        start: StartView,
        steps: Sequence[Step],
        *,
        cfg: Sequence[float],
        world: World | None,
        scale: float,
        keeps: bool = True,
    ) -> None:
        self._context = context
        self._path = path
        self._start = start
        self._steps = steps
        self._cfg = cfg
        self._world = world
        self._scale = scale
        self._keeps = keeps
        work = context.work
        # Kept for other machines once a sampling, not once a frame.
        self._kept = KeptPictures(work / "frames", work / "frame_marks", nothing_to_keep)

    def make(self, progress: Progress) -> dict[int, Picture]:
        """Every frame of the steps by its number, frame 0 with the photo laid over it: [S, S, 3] uint8 each."""
        found: dict[int, Picture] = {PHOTO: self._start.crop}
        if self._start.fills_first:
            found[0] = self._start.view
        total = sum(len(step) for step in self._steps)
        done = 0
        for step in self._steps:
            found |= self._step(step, found, part(progress, done / total, (done + len(step)) / total))
            done += len(step)
        del found[PHOTO]
        return found

    def _step(self, step: Step, found: Mapping[int, Picture], progress: Progress) -> dict[int, Picture]:
        """The frames of samplings that do not need each other: several GPUs make several at a time."""
        asked = [(sampling, self._request(sampling, found)) for sampling in step]
        frames: dict[int, Picture] = {}
        missing = []
        for sampling, request in asked:
            kept = self._kept_frames(sampling, request)
            frames |= kept
            if not kept:
                missing.append((sampling, request))
        if missing:
            model = self._context.engine.novel_views()
            for number, pictures in model.sample_each([request for _, request in missing], progress):
                frames |= self._made(*missing[number], pictures)
        return frames

    def _kept_frames(self, sampling: PlannedSampling, request: NovelViewRequest) -> dict[int, Picture]:
        """The frames of a sampling that an earlier run finished; empty where none did."""
        source = _digest(request)
        if not self._keeps or not all(self._kept.has(_kept_name(one), made_from=source) for one in sampling.made):
            return {}
        return dict(zip(sampling.made, self._kept.read_all([_kept_name(one) for one in sampling.made]), strict=True))

    def _made(self, sampling: PlannedSampling, request: NovelViewRequest, pictures: Images) -> dict[int, Picture]:
        """The frames that a sampling was for, kept."""
        by_number = dict(zip(sampling.frames, pictures, strict=True))
        made = {frame: by_number[frame] for frame in sampling.made}
        if 0 in made:
            made[0] = np.where(self._start.covered[..., None], self._start.view, made[0])
        if self._keeps:
            _require_pictures(made)  # what was kept would come again
            source = _digest(request)
            for frame, picture in made.items():
                self._kept.add(_kept_name(frame), picture, made_from=source)
            self._context.keep()
        return made

    def _request(self, sampling: PlannedSampling, found: Mapping[int, Picture]) -> NovelViewRequest:
        size, count = self._context.engine.image_size, len(self._path.c2w)
        images = np.zeros((len(sampling.frames), size, size, 3), dtype=np.uint8)
        for place, frame in enumerate(sampling.frames):
            if frame in sampling.given:
                images[place] = found[frame % count if frame != PHOTO else PHOTO]
        numbers = [max(frame, 0) % count for frame in sampling.frames]  # the photo was taken where frame 0 is
        c2w = opengl_to_opencv(self._path.c2w[numbers])
        c2w[:, :3, 3] *= self._scale
        intrinsics = self._path.intrinsics[numbers]
        if sampling.frames[0] == PHOTO:
            intrinsics[0] = self._start.crop_intrinsics
        return NovelViewRequest(
            images=images,
            given=np.array([frame in sampling.given for frame in sampling.frames]),
            c2w=c2w,
            intrinsics=intrinsics,
            translation_scaling_factor=self._scale,
            cfg=self._cfg[1] if sampling.second_pass else self._cfg[0],
            cfg_min=PUBLISHED_CFG_MIN,
            steps=PUBLISHED_STEPS,
            seed=derive_seed(self._context.seed, "scaffold", sampling.name),
            world=self._world,
            guider=sampling.guider,
        )


def _require_pictures(frames: Mapping[int, Picture]) -> None:
    for frame, blank in zip(frames, is_blank(np.stack(list(frames.values()))), strict=True):
        if blank:
            raise DefectError(
                f"frame {frame:03d} of the camera path is of one colour",
                remedy="the model failed without saying so; run it again, and report it if it stays",
            )


def _digest(request: NovelViewRequest) -> str:
    """A hash of everything that a sampling follows from, but for the world, which follows from the photo."""
    numbers = (request.translation_scaling_factor, request.cfg, request.cfg_min, request.steps, request.seed)
    found = hashlib.sha256(repr((*numbers, request.guider, request.images.shape)).encode())
    for values in (request.given, request.c2w, request.intrinsics, request.images[request.given]):
        found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()


def _kept_name(frame: int) -> str:
    return frame_name(frame).removesuffix(".png")
