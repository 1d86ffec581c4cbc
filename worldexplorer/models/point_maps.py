"""What models of points share: loading, passes that fit into memory, and what can go wrong.

All frames are looked at together where there is room, because what a network knows of one frame it uses for the others.
Where there is not, the other networks leave the GPU; if that is not enough, they come in passes that share the first
frames; each pass has a frame and scale of its own, which the alignment finds out. When memory runs out all the same,
fewer frames are looked at together, down to twelve; only when that fails is it an OutOfMemoryError. The answer says in
how many passes it came.

Example:
    >>> maps = VggtModel(GEOMETRY["vggt"], folder, residents).points(views, None, 3.0)
    >>> maps.points.shape, maps.notes
    ((48, 518, 518, 3), ())
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from worldexplorer.engine import PointMaps, Poses, Views, World
from worldexplorer.errors import DefectError, OutOfMemoryError, UserError
from worldexplorer.models.frame_network import FrameNetwork
from worldexplorer.models.geometry_models import fewer_together, frames_together, plan_passes
from worldexplorer.models.gpus import first_gpu
from worldexplorer.models.pipelines import loading_errors
from worldexplorer.models.residents import free_gpu_bytes
from worldexplorer.units import GIB

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """What a network says of the frames of one pass, in a frame and scale of its own.

    Attributes:
        depth: [n, H, W] float32 z-depth, on the network's device.
        confidence: [n, H, W] float32, on the network's device.
        c2w: [n, 4, 4] OpenCV camera-to-world.
        intrinsics: [n, 3, 3] normalised.
    """

    depth: Tensor
    confidence: Tensor
    c2w: Poses
    intrinsics: Poses


class PointMapModel(FrameNetwork, ABC):
    """A model of :class:`worldexplorer.engine.GeometryModel` that is a network; made as every :class:`FrameNetwork`."""

    role = "points"

    @abstractmethod
    def _load(self, folder: Path, device: torch.device) -> Any:
        """The network with the weights in a folder, on a device, ready to look."""

    @abstractmethod
    def _look(self, network: Any, views: Views, device: torch.device) -> Seen:
        """What the network says of frames, all of which it looks at together."""

    def points(self, views: Views, world: World | None, translation_scaling_factor: float) -> PointMaps:
        """See GeometryModel. The confidence is the network's own; the known cameras' intrinsics come back with depth.

        Raises:
            UserError: there is no usable GPU, its package is missing, or the files are not this model's weights.
            OutOfMemoryError: the GPU's memory ran out over the fewest frames.
            DefectError: what the network says is not finite, or a depth is not positive.
        """
        device = self._device or first_gpu(self.model.title)
        count = len(views.images)
        together: int | None = None
        while True:
            network = self._network(count, device)
            together = self._room(count, device) if together is None else together
            passes = plan_passes(count, together)
            try:
                with torch.inference_mode():
                    answers = [self._answer(network, _some(views, frames), device) for frames in passes]
                break
            except torch.OutOfMemoryError as error:
                message = str(error).splitlines()[0]
                error.__traceback__ = None  # its frames hold the tensors that are to be freed
            del network
            together = self._fewer(count, together, message)
        return _put_together(views, passes, answers, self._notes(count, passes))

    def _answer(self, network: Any, views: Views, device: torch.device) -> PointMaps:
        seen = self._look(network, views, device)
        self._check(seen)
        points = unproject(seen.depth, seen.c2w, seen.intrinsics)
        return PointMaps(points.cpu().numpy(), seen.confidence.cpu().numpy(), seen.c2w, seen.depth.cpu().numpy())

    def _network(self, count: int, device: torch.device) -> Any:
        wanted = int(self.model.wanted_gib(count) * GIB)
        return self._residents.get(self._key, wanted, lambda: self._loaded(device))

    def _loaded(self, device: torch.device) -> Any:
        if (absent := self.model.absent_packages()) is not None:
            raise UserError(
                absent,
                where=f"--geometry_model {self.model.name}",
                remedy=self.model.install,
            )
        folder = self._folder()
        start = time.perf_counter()
        with loading_errors(self.model.title, folder):
            network = self._load(folder, device)
        _log.info("%s loaded in %.1f s", self.model.title, time.perf_counter() - start)
        return network

    def _room(self, count: int, device: torch.device) -> int:
        """How many frames can be looked at together; passes change points, so the other networks leave before."""
        if device.type != "cuda":
            return count
        free = free_gpu_bytes()
        if free is not None and free < self.model.looking_gib(count) * GIB and self._residents.keep_only(self._key):
            free = free_gpu_bytes()
        return count if free is None else frames_together(self.model, count, free)

    def _fewer(self, count: int, together: int, message: str) -> int:
        """How many frames to look at together after memory ran out; OutOfMemoryError at the end."""
        if self._others_left(message):
            return together
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        fewer = fewer_together(count, together)
        if fewer is None:
            raise OutOfMemoryError(
                f"the GPU's memory ran out over {self.model.title} with {min(count, together)} frames ({message})",
                where=f"--geometry_model {self.model.name}",
                remedy="reduce --num_images_for_vggt, end other programs on this GPU, or take one with more memory",
            )
        _log.warning(
            "%s ran out of GPU memory over %d frames (%s): trying again with %d at a time",
            self.model.title,
            together,
            message,
            fewer,
        )
        return fewer

    def _notes(self, count: int, passes: list[list[int]]) -> tuple[str, ...]:
        if len(passes) == 1:
            return ()
        most = max(map(len, passes))
        text = (
            f"{self.model.title} looked at {count} frames in {len(passes)} passes of at most {most}: too little memory"
        )
        _log.warning("%s", text)
        return (text,)

    def _check(self, seen: Seen) -> None:
        whole = {
            "depth": bool(torch.isfinite(seen.depth).all()),
            "confidence": bool(torch.isfinite(seen.confidence).all()),
            "poses": bool(np.isfinite(seen.c2w).all() and np.isfinite(seen.intrinsics).all()),
        }
        wrong = [name for name, finite in whole.items() if not finite]
        if wrong or not bool((seen.depth > 0).all()):
            raise DefectError(
                f"{self.model.title} gave {' and '.join(wrong)} not finite"
                if wrong
                else f"{self.model.title} gave depth that is not positive",
                remedy="check the weights with `worldexplorer weights verify`; if they are whole, report it",
            )


def unproject(depth: Tensor, c2w: Poses, intrinsics: Poses) -> Tensor:
    """The points that cameras see at their pixels' centres.

    Args:
        depth: [n, H, W] z-depth.
        c2w: [n, 4, 4] OpenCV camera-to-world.
        intrinsics: [n, 3, 3] normalised, without skew.

    Returns:
        [n, H, W, 3] float32 in the frame of the poses, on the depth's device.
    """
    height, width = depth.shape[1:]
    pose = torch.from_numpy(c2w).to(depth)
    K = torch.from_numpy(intrinsics).to(depth)
    across = (torch.arange(width, device=depth.device) + 0.5) / width
    down = (torch.arange(height, device=depth.device) + 0.5) / height
    x = ((across - K[:, 0, 2, None]) / K[:, 0, 0, None])[:, None, :] * depth
    y = ((down - K[:, 1, 2, None]) / K[:, 1, 1, None])[:, :, None] * depth
    inside = torch.stack([x, y, depth], dim=-1)
    return inside @ pose[:, None, :3, :3].transpose(-1, -2) + pose[:, None, None, :3, 3]


def _some(views: Views, frames: list[int]) -> Views:
    return Views(views.images[frames], views.c2w[frames], views.intrinsics[frames])


def _put_together(views: Views, passes: list[list[int]], answers: list[PointMaps], notes: tuple[str, ...]) -> PointMaps:
    """One answer of several passes; a frame that several looked at is the first pass's."""
    first, count = answers[0], len(views.images)
    assert first.depth is not None
    if len(answers) == 1:
        return replace(first, intrinsics=views.intrinsics)
    points = np.empty((count, *first.points.shape[1:]), dtype=np.float32)
    depth = np.empty((count, *first.depth.shape[1:]), dtype=np.float32)
    confidence, c2w = np.empty_like(depth), np.empty((count, 4, 4))
    number_of = np.empty(count, dtype=np.intp)
    for number in reversed(range(len(passes))):
        frames, one = passes[number], answers[number]
        points[frames], depth[frames], confidence[frames] = one.points, one.depth, one.confidence
        c2w[frames], number_of[frames] = one.c2w, number
    looks = tuple((np.array(frames), one.c2w) for frames, one in zip(passes, answers, strict=True))
    return PointMaps(points, confidence, c2w, depth, views.intrinsics, number_of, looks, notes)
