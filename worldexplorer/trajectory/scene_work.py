"""What the passes of a scene share.

Example:
    >>> shared = SceneWork(engine, scaffold, world, 3.0, "indoor", clearance_m=0.4, seed=0, work=folder, writer=writer)
    >>> shared.requests.beside_the_scaffold([], c2w[:0], c2w, "heldout")
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from worldexplorer.context import nothing_to_keep
from worldexplorer.engine import Engine, Views, World
from worldexplorer.trajectory.anchor_pictures import AnchorPictures
from worldexplorer.trajectory.sampling_requests import RequestMaker

if TYPE_CHECKING:
    from worldexplorer.trajectory.writing import BackgroundWriter


@dataclass(frozen=True)
class SceneWork:
    """One scene at work.

    Attributes:
        engine: supplies the models.
        scaffold: the eight views.
        world: what stage 1 left for the engine, or None.
        scale: the translation scaling factor.
        scene_type: `indoor`, `outdoor`, another kind of place or None; the depth model goes by it.
        clearance_m: from :func:`worldexplorer.trajectory.collision.clearance_threshold`; None for the legacy rule.
        seed: the run's.
        work: a folder for what a resumed stage goes on from.
        writer: writes beside the sampling.
        keep: called, by the writer, after everything that a resumed stage need not do again.
        anchors: pictures of what the first passes have made.
    """

    engine: Engine
    scaffold: Views
    world: World | None
    scale: float
    scene_type: str | None
    clearance_m: float | None
    seed: int
    work: Path
    writer: BackgroundWriter
    keep: Callable[[], None] = nothing_to_keep
    anchors: AnchorPictures = field(default_factory=AnchorPictures)

    @property
    def limit(self) -> int | None:
        """Most frames of a sampling; None where there is no limit."""
        return self.engine.defaults.sampling_frames

    @cached_property
    def requests(self) -> RequestMaker:
        """Makes requests to the model of new views."""
        return RequestMaker(
            self.scaffold, size=self.engine.image_size, scale=self.scale, seed=self.seed, world=self.world
        )


def shown_name(folder: str) -> str:
    """A trajectory in reports of progress: `003 left`."""
    return folder.replace("_", " ", 1)
