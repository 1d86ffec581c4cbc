"""The eight views of a scaffold and the files they become.

Example:
    >>> deviation = write_views(context, views)
    >>> deviation.is_ring
    True
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from worldexplorer import layout
from worldexplorer.checksum import file_sha256
from worldexplorer.context import StageContext
from worldexplorer.engine import Images, Poses, World
from worldexplorer.errors import DefectError, UserError
from worldexplorer.geometry.cameras import yaw_degrees
from worldexplorer.geometry.transforms import TRANSFORMS_NAME, Transforms, write_transforms
from worldexplorer.pictures import frame_name, is_blank, write_pictures
from worldexplorer.records import Quality
from worldexplorer.scaffold.poses import RingDeviation, ring_deviation
from worldexplorer.scaffold.scaffold_file import ScaffoldFile, ScaffoldView, Source, write_scaffold


@dataclass(frozen=True)
class ScaffoldViews:
    """What a method made.

    Attributes:
        images: [8, S, S, 3] uint8.
        c2w: [8, 4, 4] OpenGL camera-to-world, scene frame, trajectory units.
        intrinsics: [8, 3, 3] normalised.
        sources: where each view comes from.
        method: `single_image`, `scaffold_gen` or `provided`.
        prior: the camera path, where the method follows one.
        frames: [N, S, S, 3] uint8, every frame generated on the way; None where there are none.
        world: what the engine keeps for its later stages.
        quality: what the method itself says of the views.
    """

    images: Images
    c2w: Poses
    intrinsics: Poses
    sources: tuple[Source, ...]
    method: str
    prior: str | None = None
    frames: Images | None = None
    world: World | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    quality: Quality = "ok"
    notes: tuple[str, ...] = ()


def write_views(context: StageContext[Any], views: ScaffoldViews) -> RingDeviation:
    """Write a scaffold's files below `context.out`; returns how far the views are from the ring of eight.

    Raises:
        DefectError: a generated view shows nothing.
        UserError: a view that was given does.
    """
    _require_pictures(views)
    out = context.out
    final = write_pictures(out / layout.SCAFFOLD_FINAL, views.images)
    if views.frames is not None:
        write_pictures(out / layout.GENERATED_VIEWS, views.frames)
    if views.world is not None:
        world = out / layout.SCAFFOLD_WORLD
        world.mkdir(parents=True, exist_ok=True)
        views.world.save(world)
    keys = out / layout.SCAFFOLD_KEYS
    names = [path.name for path in write_pictures(keys / "images", views.images)]
    size = views.images.shape[1]
    write_transforms(
        keys / TRANSFORMS_NAME,
        Transforms(tuple(f"images/{name}" for name in names), views.c2w, views.intrinsics, size, size),
    )
    yaws = yaw_degrees(views.c2w[:, :3, :3])
    entries = [
        ScaffoldView(
            id=number,
            file=f"final/{frame_name(number)}",
            sha256=file_sha256(path),
            yaw_deg=round(float(yaws[number]), 6) + 0.0,
            c2w=_rows(views.c2w[number]),
            k_norm=_lens(views.intrinsics[number]),
            source=views.sources[number],
        )
        for number, path in enumerate(final)
    ]
    write_scaffold(
        out / layout.SCAFFOLD_JSON,
        ScaffoldFile(
            size=size,
            method=views.method,
            prior=views.prior,
            engine=context.engine.name,
            seed=context.seed,
            views=entries,
        ),
    )
    return ring_deviation(views.c2w)


def _require_pictures(views: ScaffoldViews) -> None:
    for number in np.flatnonzero(is_blank(views.images)):
        what = f"scaffold view {number:03d} is of one colour"
        if views.sources[number] in ("generated", "inpainted", "input+generated"):
            raise DefectError(
                what, remedy="the model failed without saying so; run it again, and report it if it stays"
            )
        raise UserError(what, remedy="use a photo that shows something")


def _rows(pose: Poses) -> Any:
    return tuple(tuple(round(float(value), 12) + 0.0 for value in row) for row in np.asarray(pose))


def _lens(intrinsics: Poses) -> Any:
    return tuple(float(intrinsics[row, column]) for row, column in ((0, 0), (1, 1), (0, 2), (1, 2)))
