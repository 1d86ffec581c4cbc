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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldexplorer.context import StageContext, nothing_to_keep
from worldexplorer.engine import NovelViewRequest, Picture, Poses, World
from worldexplorer.errors import DefectError
from worldexplorer.geometry.cameras import normalised_intrinsics, opengl_to_opencv
from worldexplorer.photo import photo_focal, view_zero
from worldexplorer.pictures import frame_name, is_blank
from worldexplorer.progress import Progress, part
from worldexplorer.scaffold.kept_pictures import KeptPictures
from worldexplorer.scaffold.poses import PriorPath
from worldexplorer.scaffold.samplings import PHOTO, PlannedSampling, Step
from worldexplorer.seeds import derive_seed

NEAR_INPUT_CFG = 1.2
"""Guidance scale of frames next to a given one."""
STEPS = 50
_AT_ONCE = 2
"""Independent samplings handed to the model together: what a large GPU computes at once, and what a kill costs."""


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


def start_view(photo: Picture, hfov_deg: float | None, size: int) -> StartView:
    """The photo [H, W, 3] as the path's cameras take it; `hfov_deg` as in :mod:`worldexplorer.photo.view`."""
    view, covered = view_zero(photo, hfov_deg, size)
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
            for together in _by(_AT_ONCE, step):
                span = part(progress, done / total, (done + len(together)) / total)
                requests = [self._request(sampling, found) for sampling in together]
                found |= self._finished(together, requests) or self._made(together, requests, span)
                done += len(together)
        del found[PHOTO]
        return found

    def _finished(
        self, together: Sequence[PlannedSampling], requests: Sequence[NovelViewRequest]
    ) -> dict[int, Picture]:
        """The frames of samplings that an earlier run finished; empty unless it finished all of them."""
        if not self._keeps:
            return {}
        sources = _sources(together, requests)
        if not all(self._kept.has(_kept_name(frame), made_from=source) for frame, source in sources.items()):
            return {}
        pictures = self._kept.read_all([_kept_name(frame) for frame in sources])
        return dict(zip(sources, pictures, strict=True))

    def _made(
        self, together: Sequence[PlannedSampling], requests: Sequence[NovelViewRequest], progress: Progress
    ) -> dict[int, Picture]:
        sampled = self._context.engine.novel_views().sample(requests, progress)
        made: dict[int, Picture] = {}
        for sampling, pictures in zip(together, sampled, strict=True):
            by_number = dict(zip(sampling.frames, pictures, strict=True))
            made |= {frame: by_number[frame] for frame in sampling.made}
        if 0 in made:
            made[0] = np.where(self._start.covered[..., None], self._start.view, made[0])
        if self._keeps:
            _require_pictures(made)  # what was kept would come again
            for frame, source in _sources(together, requests).items():
                self._kept.add(_kept_name(frame), made[frame], made_from=source)
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
            cfg_min=NEAR_INPUT_CFG,
            steps=STEPS,
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


def _sources(together: Sequence[PlannedSampling], requests: Sequence[NovelViewRequest]) -> dict[int, str]:
    """What a kept frame must say it was made from, by number."""
    return {
        frame: source
        for sampling, source in zip(together, map(_digest, requests), strict=True)
        for frame in sampling.made
    }


def _digest(request: NovelViewRequest) -> str:
    """A hash of everything that a sampling follows from, but for the world, which follows from the photo."""
    numbers = (request.translation_scaling_factor, request.cfg, request.cfg_min, request.steps, request.seed)
    found = hashlib.sha256(repr((*numbers, request.guider, request.images.shape)).encode())
    for values in (request.given, request.c2w, request.intrinsics, request.images[request.given]):
        found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()


def _kept_name(frame: int) -> str:
    return frame_name(frame).removesuffix(".png")


def _by(size: int, step: Step) -> Iterator[Step]:
    for start in range(0, len(step), size):
        yield step[start : start + size]
