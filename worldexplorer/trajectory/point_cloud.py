"""The point cloud that training starts from: a sample of the pixels of aligned point maps.

Every pixel of every view is a candidate. Pixels the geometry model was least sure of are dropped; of the others a
seeded sample without replacement is drawn, in which pixels with detail around them are likelier than plain ones, since
detail needs more Gaussians. Only for the sampled pixels a normal is worked out, from the points beside them.

Example:
    >>> cloud = build_point_cloud(points, maps.confidence, views.images, views.c2w, count=80_000, seed=7)
    >>> cloud.points.shape
    (80000, 3)
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from worldexplorer.errors import DefectError
from worldexplorer.geometry.ply import PointCloud

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from worldexplorer.engine import Images, Poses

_log = logging.getLogger(__name__)

DROPPED_PERCENTILE = 30.0
"""Percent of the pixels, the least sure ones, that give no points. Equal confidence everywhere drops nothing."""
PLAIN_WEIGHT = 0.06
"""Sampling weight of a pixel without any detail, beside the square root of the brightness gradient (0 to 1 a pixel)."""
LARGEST_RANGE_RATIO = 1.3
"""Neighbouring pixels whose distances from the camera differ by more belong to different surfaces."""
_UNEVEN_STEPS = 3.0
"""Of two neighbours, one this many times further away than the other is taken to lie across an edge."""
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32) / 255
_VOXELS_A_SIDE = 2**21


def build_point_cloud(
    points: NDArray[np.float32],
    confidence: NDArray[np.float32],
    images: Images,
    c2w: Poses,
    *,
    count: int | None,
    seed: int,
    dropped_percentile: float = DROPPED_PERCENTILE,
    voxel_size: float | None = None,
    use: NDArray[np.bool_] | None = None,
) -> PointCloud:
    """Sample a point cloud.

    Args:
        points: [N, H, W, 3] aligned points, scene frame, trajectory units; points that are not finite are left out.
        confidence: [N, H, W], higher is surer; compared over all views together.
        images: [N, h, w, 3] uint8, the views; resized to H x W where their size differs.
        c2w: [N, 4, 4] OpenGL camera-to-world, scene frame, trajectory units.
        count: points to sample; all candidates where there are fewer, or for None.
        seed: of the sample; the same arguments give the same cloud.
        dropped_percentile: percent of the candidates with the lowest confidence to leave out, 0 to below 100.
        voxel_size: keep only the surest point of every cube of this size (trajectory units), before sampling.
        use: [N] views to take points from; None for all.

    Returns:
        The cloud, its points in the order of their pixels.

    Raises:
        DefectError: shapes that do not match, confidence that is not finite, or no candidate at all.
    """
    _check(points, confidence, images, c2w, dropped_percentile, use)
    candidates = _candidates(points, confidence, dropped_percentile, use)
    if voxel_size is not None:
        candidates = _surest_of_voxels(candidates, points, confidence, voxel_size)
    resized = _resized(images, points.shape[1:3])
    if count is not None and count < candidates.size:
        weights = detail_weights(resized).ravel()[candidates]
        candidates = candidates[_weighted_sample(weights, count, seed)]
    _log.info("The point cloud has %d points.", candidates.size)
    return PointCloud(
        points=np.ascontiguousarray(points.reshape(-1, 3)[candidates], dtype=np.float32),
        normals=pixel_normals(points, c2w, candidates),
        colours=np.ascontiguousarray(resized.reshape(-1, 3)[candidates]),
    )


def detail_weights(images: Images) -> NDArray[np.float32]:
    """Sampling weights [N, H, W]: 0.06 + sqrt(brightness gradient), brightness from 0 to 1, gradient a pixel."""
    weights = np.empty(images.shape[:3], dtype=np.float32)
    for image, weight in zip(images, weights, strict=True):
        brightness = image.astype(np.float32) @ _LUMINANCE
        down, across = (_slope(brightness, axis) for axis in (0, 1))
        weight[:] = PLAIN_WEIGHT + np.sqrt(np.hypot(down, across))
    return weights


def pixel_normals(points: NDArray[np.float32], c2w: Poses, pixels: NDArray[np.intp]) -> NDArray[np.float32]:
    """Surface normals at some pixels of point maps, from the points of the pixels beside them.

    Along each image axis the surface direction is the central difference, or the difference to one side where the
    other side is across an edge. Where an axis has neither, the point is a speck on its own, and its normal looks at
    the camera.

    Args:
        points: [N, H, W, 3] scene frame.
        c2w: [N, 4, 4] camera-to-world; only the positions are used.
        pixels: [P] indices into the N * H * W pixels, of finite points.

    Returns:
        [P, 3] float32, unit length, on the camera's side of the surface.
    """
    view, row, column = np.unravel_index(pixels, points.shape[:3])
    centre = np.asarray(c2w, dtype=np.float64)[view, :3, 3]
    here = points[view, row, column].astype(np.float64)
    height, width = points.shape[1:3]

    def neighbour(rows: int, columns: int) -> NDArray[np.float64]:
        at = (view, np.clip(row + rows, 0, height - 1), np.clip(column + columns, 0, width - 1))
        return points[at].astype(np.float64)

    across = _surface_direction(neighbour(0, -1), here, neighbour(0, 1), centre)
    down = _surface_direction(neighbour(-1, 0), here, neighbour(1, 0), centre)
    normals = np.cross(down, across)
    to_camera = centre - here
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    scale = np.linalg.norm(down, axis=1, keepdims=True) * np.linalg.norm(across, axis=1, keepdims=True)
    # Directions that are missing, or parallel up to the rounding of float32 points, span no surface.
    spanned = length > 1e-4 * scale
    normals = np.where(spanned, normals, to_camera)
    normals *= np.where((normals * to_camera).sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
    unit: NDArray[np.float32] = (normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _surface_direction(
    before: NDArray[np.float64], here: NDArray[np.float64], after: NDArray[np.float64], centre: NDArray[np.float64]
) -> NDArray[np.float64]:
    """[P, 3] the direction along the surface at `here`; zero where neither neighbour is on it."""
    backward, forward = here - before, after - here
    back_length, front_length = np.linalg.norm(backward, axis=1), np.linalg.norm(forward, axis=1)
    back_good = _same_surface(before, here, centre) & (back_length > 0)
    front_good = _same_surface(after, here, centre) & (front_length > 0)
    both = back_good & front_good
    back_good &= ~(both & (back_length > _UNEVEN_STEPS * front_length))
    front_good &= ~(both & (front_length > _UNEVEN_STEPS * back_length))
    direction: NDArray[np.float64] = np.where(back_good[:, None], backward, 0.0) + np.where(
        front_good[:, None], forward, 0.0
    )
    return direction


def _same_surface(
    other: NDArray[np.float64], here: NDArray[np.float64], centre: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether the distances from the camera are within the ratio; False for points that are not finite."""
    one, two = np.linalg.norm(other - centre, axis=1), np.linalg.norm(here - centre, axis=1)
    same: NDArray[np.bool_] = np.maximum(one, two) <= LARGEST_RANGE_RATIO * np.minimum(one, two)
    return same


def _check(
    points: NDArray[np.float32],
    confidence: NDArray[np.float32],
    images: Images,
    c2w: Poses,
    dropped_percentile: float,
    use: NDArray[np.bool_] | None,
) -> None:
    shapes = f"points {points.shape}, confidence {confidence.shape}, images {images.shape}, poses {c2w.shape}"
    views = len(points)
    if (
        points.ndim != 4
        or points.shape[3] != 3
        or confidence.shape != points.shape[:3]
        or images.ndim != 4
        or images.shape[3] != 3
        or images.dtype != np.uint8
        or len(images) != views
        or c2w.shape != (views, 4, 4)
        or (use is not None and use.shape != (views,))
    ):
        raise DefectError(f"the arrays of a point cloud do not match: {shapes}")
    if not np.isfinite(confidence).all():
        raise DefectError("the confidence of the point maps is not finite")
    if not 0 <= dropped_percentile < 100:
        raise DefectError(f"{dropped_percentile} percent of the points cannot be dropped")


def _candidates(
    points: NDArray[np.float32], confidence: NDArray[np.float32], dropped: float, use: NDArray[np.bool_] | None
) -> NDArray[np.intp]:
    """Pixels that may become points, increasing."""
    good = np.isfinite(points).all(axis=-1)
    missing = int(good.size - good.sum())
    if missing:
        _log.info("%d of %d pixels have no finite point and are left out.", missing, good.size)
    if use is not None:
        good &= use[:, None, None]
    if dropped > 0 and good.any():
        good &= confidence >= np.percentile(confidence[good], dropped)
    candidates = np.flatnonzero(good)
    if candidates.size == 0:
        raise DefectError("no pixel of the point maps can be used", remedy="look at the geometry model's answer")
    return candidates


def _surest_of_voxels(
    candidates: NDArray[np.intp], points: NDArray[np.float32], confidence: NDArray[np.float32], size: float
) -> NDArray[np.intp]:
    """Of the candidates in each cube the one with the highest confidence, the first of equals; increasing."""
    if not size > 0:
        raise DefectError(f"a voxel of size {size} is empty")
    positions = points.reshape(-1, 3)[candidates].astype(np.float64)
    cells = np.floor((positions - positions.min(axis=0)) / size)
    if cells.max() >= _VOXELS_A_SIDE:
        raise DefectError(f"voxels of size {size} are too small for this cloud")
    x, y, z = cells.astype(np.int64).T
    voxels = (x * _VOXELS_A_SIDE + y) * _VOXELS_A_SIDE + z
    surest_first = np.argsort(-confidence.ravel()[candidates], kind="stable")
    _, first_of_voxel = np.unique(voxels[surest_first], return_index=True)
    return np.sort(candidates[surest_first[first_of_voxel]])


def _weighted_sample(weights: NDArray[np.float32], count: int, seed: int) -> NDArray[np.intp]:
    """`count` different indices, drawn one after the other with probability proportional to weight; increasing.

    The index with the smallest exponential variate over its weight comes first, and so on: P. Efraimidis, P. Spirakis,
    "Weighted random sampling with a reservoir", Information Processing Letters 97, 2006. One pass, whatever `count` is.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    arrival = generator.standard_exponential(weights.size, dtype=np.float32) / weights
    return np.sort(np.argpartition(arrival, count - 1)[:count]) if count else np.empty(0, dtype=np.intp)


def _resized(images: Images, size: tuple[int, ...]) -> Images:
    """The images at height and width `size`."""
    height, width = size
    if images.shape[1:3] == (height, width):
        return images
    bigger, smaller = images.shape[1] * width, images.shape[2] * height
    # One pixel of rounding in either side is no change of shape.
    if abs(bigger - smaller) > max(images.shape[1:3]) + max(height, width):
        raise DefectError(f"images {images.shape[1:3]} and point maps {(height, width)} differ in shape")
    resize = [Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR) for image in images]
    return np.stack([np.asarray(image) for image in resize])


def _slope(brightness: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Central differences along an axis, to one side at the borders; zero along an axis of one pixel."""
    if brightness.shape[axis] < 2:
        return np.zeros_like(brightness)
    slope: NDArray[np.float32] = np.gradient(brightness, axis=axis)
    return slope
