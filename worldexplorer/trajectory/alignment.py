"""Bring a geometry model's points into the scene frame, and say how well that went.

A geometry model answers in a frame and scale of its own. The poses of its frames are known here, so the similarity
between its camera poses and the known ones carries its answer into the scene frame and trajectory units. The fit
follows the majority of the views (:mod:`worldexplorer.geometry.similarity`); this module judges it. A model that did
not understand the frames must not become a point cloud that looks like one.

Where the model gives depth, a pixel's point is put before the *known* camera, along the pixel's own ray and as far away
as the model says, in the scale of the fit. The frames were made for the known poses and training takes them from there,
so a point lies on the ray of its pixel whatever the model thinks of the camera; an error of its pose or of its focal
length would move all points of the view sideways. Where the model gives points alone they lie where it saw them.

Frames that did not fit into memory together come in passes, each with a frame and scale of its own and a fit of its
own, in which all cameras have a say that the pass saw.

Example:
    >>> points, report = align(maps, chosen.c2w)                 # [N, H, W, 3], scene frame
    >>> cloud = build_point_cloud(points, ..., use=report.usable)
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from worldexplorer.errors import DefectError, UserError
from worldexplorer.geometry.cameras import opengl_to_opencv
from worldexplorer.geometry.similarity import Residuals, Similarity, fit_similarity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from worldexplorer.engine import PointMaps, Poses

Placement = Literal["known", "model"]
"""Before which cameras points are put: the known ones, or those the model found."""

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
    """The similarities, what they leave unexplained, and the verdict.

    Attributes:
        similarities: of each pass, from the model's frame to the scene frame, trajectory units.
        passes: [N] the pass of each view.
        residuals: of each view, in trajectory units and degrees.
        camera_spread: root mean square distance of the known camera centres from their mean, trajectory units.
        limits: what the residuals were compared with.
        placement: before which cameras the points were put.
        notes: what the geometry model says about how its answer was made.
    """

    similarities: tuple[Similarity, ...]
    passes: NDArray[np.intp]
    residuals: Residuals
    camera_spread: float
    limits: AlignmentLimits
    placement: Placement = "model"
    notes: tuple[str, ...] = ()

    @property
    def similarity(self) -> Similarity:
        """That of the only pass, or of the first."""
        return self.similarities[0]

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
            **_numbers(self.similarity),
            "passes": [
                {**_numbers(one), "views": np.flatnonzero(self.passes == number).tolist()}
                for number, one in enumerate(self.similarities)
            ],
            "placement": self.placement,
            "camera_spread": self.camera_spread,
            "residuals": self.residuals.summary(),
            "usable": self.usable.tolist(),
            "limits": asdict(self.limits),
            "notes": list(self.notes),
            "ok": self.ok,
        }


def align(
    maps: PointMaps, c2w: Poses, limits: AlignmentLimits | None = None, placement: Placement | None = None
) -> tuple[NDArray[np.float32], AlignmentReport]:
    """Align point maps with the known poses of their frames.

    Args:
        maps: the model's answer for N frames.
        c2w: [N, 4, 4] the frames' known poses, OpenGL camera-to-world, scene frame, trajectory units.
        limits: None for the defaults.
        placement: before which cameras to put the points; None for the known ones where the model gives depth.

    Returns:
        [N, H, W, 3] float32 points in the scene frame, trajectory units, and the report. Points of views that are not
        `usable` in the report are not to be trusted.

    Raises:
        UserError: the model's cameras do not fit the known ones: the limits do not hold, or no similarity can be found
            (see :func:`worldexplorer.geometry.similarity.fit_similarity`).
        DefectError: the shapes of the maps and poses do not match, or points are to be put before known cameras
            without depth.
    """
    placement = placement or ("known" if maps.depth is not None else "model")
    passes = _check(maps, c2w, placement)
    similarities, residuals = _fit_passes(opengl_to_opencv(c2w), maps, passes)
    centres = np.asarray(c2w, dtype=np.float64)[:, :3, 3]
    report = AlignmentReport(
        similarities=similarities,
        passes=passes,
        residuals=residuals,
        camera_spread=float(np.sqrt(((centres - centres.mean(axis=0)) ** 2).sum(axis=1).mean())),
        limits=limits or AlignmentLimits(),
        placement=placement,
        notes=maps.notes,
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
    for view, similarity in enumerate(similarities[number] for number in passes):
        if placement == "model":
            points[view] = similarity.apply(maps.points[view])
        else:
            assert maps.depth is not None and maps.intrinsics is not None
            points[view] = put_before(maps.depth[view] * similarity.scale, maps.intrinsics[view], c2w[view])
    return points, report


def put_before(depth: NDArray[np.floating[Any]], intrinsics: Poses, c2w: Poses) -> NDArray[np.float64]:
    """The points that a camera sees at its pixels.

    Args:
        depth: [H, W] z-depth, in the units of the pose.
        intrinsics: [3, 3] normalised.
        c2w: [4, 4] OpenGL camera-to-world.

    Returns:
        [H, W, 3] in the frame of the pose.
    """
    height, width = depth.shape
    across, down = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    # A ray that is one unit deep, in the frame of the poses, is a sum of a part of its column and one of its row.
    rays = opengl_to_opencv(c2w)[:3, :3] @ np.linalg.inv(intrinsics)
    points = np.empty((height, width, 3))
    for axis, (by_column, by_row, constant) in enumerate(rays):
        points[..., axis] = depth * (by_column * across + (by_row * down)[:, None] + constant) + c2w[axis, 3]
    return points


def _fit_passes(known: Poses, maps: PointMaps, passes: NDArray[np.intp]) -> tuple[tuple[Similarity, ...], Residuals]:
    """The similarity of each pass, and the residuals of all views in their own order."""
    own = [np.flatnonzero(passes == number) for number in range(passes.max() + 1)]
    looks = maps.looks or [(views, maps.c2w[views]) for views in own]
    fits = [fit_similarity(known[views], found) for views, found in looks]
    rotation_deg, centre, inlier = np.empty(len(known)), np.empty(len(known)), np.empty(len(known), dtype=np.bool_)
    for number, ((views, _), (_, residuals)) in enumerate(zip(looks, fits, strict=True)):
        mine = passes[views] == number
        rotation_deg[views[mine]] = residuals.rotation_deg[mine]
        centre[views[mine]] = residuals.centre[mine]
        inlier[views[mine]] = residuals.inlier[mine]
    scale_error = max(residuals.scale_error for _, residuals in fits)
    return tuple(similarity for similarity, _ in fits), Residuals(rotation_deg, centre, inlier, scale_error)


def _check(maps: PointMaps, c2w: Poses, placement: Placement) -> NDArray[np.intp]:
    """Each view's pass; DefectError where the maps do not fit together."""
    shape = maps.points.shape
    if maps.points.ndim != 4 or shape[-1] != 3 or len(maps.points) != len(c2w):
        raise DefectError(f"{len(c2w)} poses came with point maps of shape {shape}")
    if placement == "known":
        if maps.depth is None or maps.intrinsics is None:
            raise DefectError("points are to be put before the known cameras, but the geometry model gave no depth")
        if maps.depth.shape != shape[:3] or maps.intrinsics.shape != (len(c2w), 3, 3):
            raise DefectError(
                f"point maps of shape {shape} came with depth of shape {maps.depth.shape} and intrinsics of shape "
                f"{maps.intrinsics.shape}"
            )
    passes = np.zeros(len(c2w), dtype=np.intp) if maps.passes is None else np.asarray(maps.passes, dtype=np.intp)
    if len(passes) != len(c2w) or not np.array_equal(np.unique(passes), np.arange(passes.max(initial=0) + 1)):
        raise DefectError(f"{len(c2w)} views came in passes {passes.tolist()}, not each in one of 0, 1, ...")
    if maps.looks:
        own = [set(np.flatnonzero(passes == number).tolist()) for number in range(passes.max() + 1)]
        if len(own) != len(maps.looks) or any(
            not views <= set(seen.tolist()) for views, (seen, _) in zip(own, maps.looks, strict=True)
        ):
            raise DefectError("a pass of the geometry model answers for views that it did not look at")
    return passes


def _numbers(similarity: Similarity) -> dict[str, Any]:
    return {
        "scale": similarity.scale,
        "rotation": similarity.rotation.tolist(),
        "translation": similarity.translation.tolist(),
    }
