"""The two PLY files of a world.

`splat.ply` is in the scene frame: y up, camera 000 at the origin, trajectory units. `splat_rotated.ply` is the same
world turned half around x into the y-down frame of SuperSplat and the INRIA viewers, where it opens upright:
positions, orientations and spherical harmonics are turned alike.

Example:
    >>> export_gaussians(Path("splat"), gaussians, label="synthesised preview")
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from worldexplorer.errors import DefectError
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.geometry.ply import write_gaussians

VIEWER_ROTATION = np.diag([1.0, -1.0, -1.0])


def export_gaussians(plain: Path, rotated: Path, gaussians: Gaussians, label: str) -> None:
    """Write both files; DefectError for a world that is empty or not finite."""
    check_gaussians(gaussians)
    write_gaussians(plain, gaussians, [f"worldexplorer, {label}", "frame: y up, camera 000 at the origin"])
    write_gaussians(
        rotated,
        gaussians.rotated(VIEWER_ROTATION),
        [f"worldexplorer, {label}", "frame: y down, for viewers of the INRIA convention"],
    )


def check_gaussians(gaussians: Gaussians) -> None:
    """Refuse what no viewer could show; DefectError."""
    if gaussians.count == 0:
        raise DefectError("the training left no Gaussians")
    for name in ("means", "log_scales", "quaternions", "opacity_logits", "sh"):
        values = getattr(gaussians, name)
        if len(values) != gaussians.count:
            raise DefectError(f"{len(values)} {name} for {gaussians.count} Gaussians")
        flawed = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
        if flawed.size:
            raise DefectError(f"{flawed.size} Gaussians have {name} that are not finite, the first is {flawed[0]}")
