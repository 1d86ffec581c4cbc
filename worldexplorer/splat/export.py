"""The files of a world.

`splat.ply` is in the scene frame: y up, camera 000 at the origin, trajectory units. `splat_rotated.ply` is the same
world turned half around x into the y-down frame of SuperSplat and the INRIA viewers, where it opens upright:
positions, orientations and spherical harmonics are turned alike. Smaller files come from
:mod:`worldexplorer.splat.formats`: `splat.spz` in the scene frame, `splat.compressed.ply` in that of the viewers.

Example:
    >>> export_gaussians(Path("splat.ply"), Path("splat_rotated.ply"), gaussians, label="synthesised preview")
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from worldexplorer.errors import DefectError
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.geometry.ply import write_gaussians
from worldexplorer.splat.formats import ANTIALIASED_COMMENT, LEAST_LOGIT, write_compressed_ply, write_spz

VIEWER_ROTATION = np.diag([1.0, -1.0, -1.0])
FRAME_COMMENTS = {
    "y-up": "frame: y up, camera 000 at the origin",
    "y-down": "frame: y down, for viewers of the INRIA convention",
}
"""What the header of a PLY file says of its frame, by which way is up."""


def export_gaussians(
    plain: Path, rotated: Path, gaussians: Gaussians, label: str, *, antialiased: bool = False
) -> None:
    """Write both files; DefectError for a world that is empty or not finite.

    Args:
        plain: the file in the scene frame.
        rotated: the file for viewers.
        gaussians: in the scene frame.
        label: of the engine that made them.
        antialiased: as of :class:`worldexplorer.engine.TrainingResult`; the headers then say so.
    """
    check_gaussians(gaussians)
    mode = [ANTIALIASED_COMMENT] if antialiased else []
    write_gaussians(plain, gaussians, [f"worldexplorer, {label}", FRAME_COMMENTS["y-up"], *mode])
    write_gaussians(
        rotated,
        gaussians.rotated(VIEWER_ROTATION),
        [f"worldexplorer, {label}", FRAME_COMMENTS["y-down"], *mode],
    )


def export_smaller(
    spz: Path, compressed_ply: Path, gaussians: Gaussians, formats: Iterable[str], *, antialiased: bool = False
) -> dict[str, dict[str, int]]:
    """Write those of the smaller files that `formats` names; what each holds, by the file's name."""
    written = {}
    if "spz" in formats:
        written[spz.name] = write_spz(spz, gaussians, antialiased=antialiased)
    if "compressed-ply" in formats:
        turned = gaussians.rotated(VIEWER_ROTATION)
        written[compressed_ply.name] = write_compressed_ply(compressed_ply, turned, antialiased=antialiased)
    return written


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
    if not (gaussians.opacity_logits >= LEAST_LOGIT).any():
        raise DefectError(f"all {gaussians.count} Gaussians are more transparent than anything that is drawn")
