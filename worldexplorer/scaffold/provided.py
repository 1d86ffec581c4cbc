"""A scaffold that the data set brings: eight finished pictures take the place of stage 1.

Their poses are those of a `scaffold.json` beside them, and without one the plain ring of eight.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from worldexplorer.context import StageContext
from worldexplorer.geometry.cameras import normalised_intrinsics
from worldexplorer.photo import find_scaffold_views, load_photo, validate_scaffold_folder
from worldexplorer.pictures import resized
from worldexplorer.scaffold.poses import VIEW_COUNT, scaffold_poses
from worldexplorer.scaffold.scaffold_file import Source, read_scaffold
from worldexplorer.scaffold.views import ScaffoldViews


def provided_views(context: StageContext[Any]) -> ScaffoldViews:
    """Read and check the eight pictures; UserError naming the first that is not as it should be."""
    folder = context.job.scaffold_path
    assert folder is not None, "the method is chosen by the path"
    paths = validate_scaffold_folder(folder)
    images = np.stack([resized(load_photo(path), context.engine.image_size) for path in paths])
    description = _description(folder, paths)
    if description is None:
        c2w, intrinsics = scaffold_poses(), np.tile(normalised_intrinsics(), (VIEW_COUNT, 1, 1))
    else:
        scaffold = read_scaffold(description)
        c2w, intrinsics = scaffold.poses(), scaffold.intrinsics()
    sources: list[Source] = ["provided"] * VIEW_COUNT
    return ScaffoldViews(images, c2w, intrinsics, tuple(sources), method="provided")


def provided_files(folder: Path) -> list[Path]:
    """Every file that :func:`provided_views` reads: the eight pictures, and what describes them, if there is one."""
    paths = find_scaffold_views(folder)
    description = _description(folder, paths)
    return paths if description is None else [*paths, description]


def _description(folder: Path, paths: Sequence[Path]) -> Path | None:
    """The `scaffold.json` of a folder: in it, or, where the folder is one of ours, beside its `final`."""
    described = [place / "scaffold.json" for place in (folder, paths[0].parent, paths[0].parent.parent)]
    return next((path for path in described if path.is_file()), None)
