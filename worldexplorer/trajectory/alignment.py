"""Bring a geometry model's points into the scene frame, and say how well that went.

A geometry model answers in a frame and scale of its own. The poses of its frames are known here, so the similarity
between its camera poses and the known ones carries its points into the scene frame and trajectory units. The fit
follows the majority of the views (:mod:`worldexplorer.geometry.similarity`); this module judges it. A model that did
not understand the frames must not become a point cloud that looks like one.

Example:
    >>> points, report = align(maps, chosen.c2w)                 # [N, H, W, 3], scene frame
    >>> cloud = build_point_cloud(points, ..., use=report.usable)
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from worldexplorer.errors import DefectError, UserError
from worldexplorer.geometry.cameras import opengl_to_opencv
from worldexplorer.geometry.similarity import Residuals, Similarity, fit_similarity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from worldexplorer.engine import PointMaps, Poses

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AlignmentLimits:
    """How far the model's cameras may be from the known ones.

    Distances are shares of the camera spread: the root mean square distance of the known camera centres from their
    mean. It is the size of what the cameras saw of the world's depth, so the same limits fit every scene.

    Attributes:
        median_centre: largest median distance of a camera from its place.
        median_rotation_deg: largest median turn of a camera from its orientation.
        view_centre: distance from which on one view's points are left out.
        view_rotation_deg: turn from which on one view's points are left out.
        least_usable: smallest share of the views that must be left.
    """

    median_centre: float = 0.10
    median_rotation_deg: float = 5.0
    view_centre: float = 0.35
    view_rotation_deg: float = 15.0
    least_usable: float = 0.75


@dataclass(frozen=True)
class AlignmentReport:
    """The similarity, what is left unexplained, and the verdict.

    Attributes:
        similarity: from the model's frame to the scene frame, trajectory units.
        residuals: of each view, in trajectory units and degrees.
        camera_spread: root mean square distance of the known camera centres from their mean, trajectory units.
        limits: what the residuals were compared with.
    """

    similarity: Similarity
    residuals: Residuals
    camera_spread: float
    limits: AlignmentLimits

    @property
    def usable(self) -> NDArray[np.bool_]:
        """[N] the views whose points may be used."""
        return (self.residuals.centre <= self.limits.view_centre * self.camera_spread) & (
            self.residuals.rotation_deg <= self.limits.view_rotation_deg
        )

    @property
    def failures(self) -> list[str]:
        """The limits that do not hold, one phrase each; empty when the alignment is good."""
        limits, residuals = self.limits, self.residuals
        usable = int(self.usable.sum())
        found = []
        if residuals.centre_median > limits.median_centre * self.camera_spread:
            found.append(
                f"half of the cameras are more than {residuals.centre_median:.3g} units from their place "
                f"(limit {limits.median_centre * self.camera_spread:.3g})"
            )
        if residuals.rotation_median_deg > limits.median_rotation_deg:
            found.append(
                f"half of the cameras are turned by more than {residuals.rotation_median_deg:.3g} degrees "
                f"(limit {limits.median_rotation_deg:g})"
            )
        if usable < limits.least_usable * len(self.usable):
            found.append(f"only {usable} of {len(self.usable)} views fit (limit {limits.least_usable:.0%})")
        return found

    @property
    def ok(self) -> bool:
        """Whether the points may be used."""
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON scalars, lists and objects."""
        return {
            "scale": self.similarity.scale,
            "rotation": self.similarity.rotation.tolist(),
            "translation": self.similarity.translation.tolist(),
            "camera_spread": self.camera_spread,
            "residuals": self.residuals.summary(),
            "usable": self.usable.tolist(),
            "limits": asdict(self.limits),
            "ok": self.ok,
        }


def align(
    maps: PointMaps, c2w: Poses, limits: AlignmentLimits | None = None
) -> tuple[NDArray[np.float32], AlignmentReport]:
    """Align point maps with the known poses of their frames.

    Args:
        maps: the model's answer for N frames.
        c2w: [N, 4, 4] the frames' known poses, OpenGL camera-to-world, scene frame, trajectory units.
        limits: None for the defaults.

    Returns:
        [N, H, W, 3] float32 points in the scene frame, trajectory units, and the report. Points of views that are not
        `usable` in the report lie where the model put them and are not to be trusted.

    Raises:
        UserError: the model's cameras do not fit the known ones: the limits do not hold, or no similarity can be found
            (see :func:`worldexplorer.geometry.similarity.fit_similarity`).
        DefectError: the shapes of poses and points do not match.
    """
    if maps.points.ndim != 4 or maps.points.shape[-1] != 3 or len(maps.points) != len(c2w):
        raise DefectError(f"{len(c2w)} poses came with point maps of shape {maps.points.shape}")
    similarity, residuals = fit_similarity(opengl_to_opencv(c2w), maps.c2w)
    centres = np.asarray(c2w, dtype=np.float64)[:, :3, 3]
    report = AlignmentReport(
        similarity=similarity,
        residuals=residuals,
        camera_spread=float(np.sqrt(((centres - centres.mean(axis=0)) ** 2).sum(axis=1).mean())),
        limits=limits or AlignmentLimits(),
    )
    if not report.ok:
        raise UserError(
            f"the geometry model's cameras do not fit the poses its frames were made for: {'; '.join(report.failures)}",
            remedy="use more frames (--num_images_for_vggt), or look at the frames: they may contradict one another",
        )
    if not report.usable.all():
        views = ", ".join(map(str, np.flatnonzero(~report.usable)))
        _log.warning("The geometry model misplaced views %s; their points are left out.", views)
    # View by view: the float64 products of all views at once would double the memory of the points.
    points = np.empty(maps.points.shape, dtype=np.float32)
    for view, view_points in enumerate(maps.points):
        points[view] = similarity.apply(view_points)
    return points, report
