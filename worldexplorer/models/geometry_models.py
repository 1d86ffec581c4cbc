"""The models of stage 2 besides SEVA by name: metric depth and points; their weights and what they take of a GPU.

The sizes of the models of points are measured peaks with a margin of at least 0.6 GiB (docs/points.md): what lies on
the GPU once a network is loaded, and what each frame that is looked at takes besides; those of depth follow from the
shapes of its tensors. Nothing here needs torch.

Example:
    >>> frames_together(GEOMETRY["vggt"], frames=48, free_bytes=10 * GIB)
    48
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass

from worldexplorer.config import GEOMETRY_MODELS
from worldexplorer.errors import UsageError, UserError
from worldexplorer.units import GIB

SHARED_FRAMES = 8
"""The first frames, which every pass looks at: the scaffold's views, which see all around."""
_LEAST_OWN_FRAMES = 4
"""What a pass has room for besides, at the least: the shared ones stand in one place and tell no scale."""


@dataclass(frozen=True)
class FrameModel:
    """A network that looks at frames.

    Attributes:
        name: in the command, or of the kind of place.
        title: for a person.
        weights: name of its weight set.
        size: side of a frame as the network takes it, pixels.
        weights_gib: on the GPU once it is loaded.
        work_gib: what it takes besides, however few the frames are.
        frame_gib: what every frame takes that is looked at together with others.
        packages: that it needs besides the full engine's own, its own first.
        install: how they get here.
    """

    name: str
    title: str
    weights: str
    size: int
    weights_gib: float
    work_gib: float
    frame_gib: float
    packages: tuple[str, ...] = ()
    install: str = ""

    def absent_packages(self) -> str | None:
        """The packages that are missing, in one phrase; None where all are here."""
        absent = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if not absent:
            return None
        what = f"the package {absent[0]}" if len(absent) == 1 else f"the packages {', '.join(absent)}"
        return f"{self.title} needs {what}, not installed here"

    @property
    def least_gib(self) -> float:
        """The free GPU memory with which it can be loaded and look at the fewest frames."""
        fewest = SHARED_FRAMES + _LEAST_OWN_FRAMES if self.packages else 1
        return round(self.wanted_gib(fewest), 1)

    def looking_gib(self, frames: int) -> float:
        """What it takes beside its weights to look at so many frames together."""
        return self.work_gib + frames * self.frame_gib

    def wanted_gib(self, frames: int) -> float:
        """The free GPU memory with which it can be loaded and look at so many frames together."""
        return self.weights_gib + self.looking_gib(frames)


_VGGT_SOURCE = "https://github.com/facebookresearch/vggt/archive/a288dd0f14786c93483e45524328726ab7b1b4ce.tar.gz"

GEOMETRY: Mapping[str, FrameModel] = {
    "vggt": FrameModel(
        "vggt",
        "VGGT",
        "vggt",
        518,
        3.2,
        1.8,
        0.068,
        packages=("vggt", "einops"),
        install=f'pip install --no-deps "vggt @ {_VGGT_SOURCE}" and pip install einops',
    ),
    "depth-anything-3": FrameModel(
        "depth-anything-3",
        "Depth Anything 3",
        "da3-base",
        504,
        0.6,
        1.9,
        0.068,
        packages=("depth_anything_3", "einops", "omegaconf", "addict"),
        install="pip install --no-deps depth-anything-3==0.1.1 and pip install einops omegaconf addict",
    ),
}
DEPTH: Mapping[str, FrameModel] = {
    "indoor": FrameModel("indoor", "Depth Anything V2 (indoor)", "depth-indoor-small", 518, 0.1, 0.3, 0.1),
    "outdoor": FrameModel("outdoor", "Depth Anything V2 (outdoor)", "depth-outdoor-small", 518, 0.1, 0.3, 0.1),
}
assert tuple(GEOMETRY) == GEOMETRY_MODELS


def geometry_model(name: str) -> FrameModel:
    """A model of points by its name; UsageError where there is none."""
    if name not in GEOMETRY:
        raise UsageError(
            f"geometry_model is {name!r}", where="--geometry_model", remedy=f"choose from {', '.join(GEOMETRY)}"
        )
    return GEOMETRY[name]


def depth_model(scene_type: str | None) -> FrameModel:
    """The model of metric depth for a kind of place: the outdoor one outdoors, else the indoor one.

    As for the translation scaling factor, what is not known to be outdoors counts as indoors.
    """
    return DEPTH["outdoor" if scene_type == "outdoor" else "indoor"]


def require_room(model: FrameModel, free_bytes: int) -> None:
    """Refuse a GPU on which a model cannot be run at all; UserError."""
    free = free_bytes / GIB
    if free < model.least_gib:
        raise UserError(
            f"too little GPU memory for {model.title}: {free:.1f} GiB are free, {model.least_gib:.1f} GiB are needed",
            where=model.name,
            remedy="end other programs on this GPU, or take one with more memory",
        )


def frames_together(model: FrameModel, frames: int, free_bytes: int) -> int:
    """How many frames a loaded network can look at together, from the memory that is free beside it.

    Raises:
        UserError: too few to make anything of.
    """
    free = free_bytes / GIB
    together = min(frames, int((free - model.work_gib) / model.frame_gib))
    fewest = min(frames, SHARED_FRAMES + _LEAST_OWN_FRAMES)
    if together < fewest:
        raise UserError(
            f"too little GPU memory for {model.title}: {free:.1f} GiB are free beside its weights, "
            f"{model.looking_gib(fewest):.1f} GiB are needed",
            where=f"--geometry_model {model.name}",
            remedy="end other programs on this GPU, or take one with more memory",
        )
    return together


def plan_passes(frames: int, together: int) -> list[list[int]]:
    """Share frames among passes of at most so many, the first ones in every pass and the others in turn.

    In turn, because neighbouring frames show the same: every pass shall see all of the place.

    Returns:
        The frames of each pass, increasing.
    """
    if frames <= together:
        return [list(range(frames))]
    shared = list(range(SHARED_FRAMES))
    count = -(-(frames - SHARED_FRAMES) // (together - SHARED_FRAMES))
    return [shared + list(range(SHARED_FRAMES + number, frames, count)) for number in range(count)]


def fewer_together(frames: int, together: int) -> int | None:
    """How many frames to try when memory ran out over so many: half of those that are not shared; None at the end."""
    own = min(together, frames) - SHARED_FRAMES
    return SHARED_FRAMES + max(_LEAST_OWN_FRAMES, own // 2) if own > _LEAST_OWN_FRAMES else None
