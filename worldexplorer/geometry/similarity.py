"""The similarity (scale, rotation, translation) between the poses a model found and the poses the pipeline asked for.

A geometry model answers in a frame and a scale of its own. The known poses of the same views bring its points into the
scene frame: first the rotation, from the orientations alone, then scale and translation, from the camera centres. Both
steps follow the majority: single cameras that the model placed or turned wrongly, the first one included, do not move
the result, and cameras that share one centre are as welcome as others as long as some do not.

Example:
    >>> similarity, residuals = fit_similarity(opengl_to_opencv(views.c2w), maps.c2w)
    >>> points = similarity.apply(maps.points)                  # scene frame, trajectory units
    >>> residuals.inlier_count, residuals.centre_median
    (47, 0.0031)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from worldexplorer.errors import DefectError, UserError
from worldexplorer.geometry.rotations import chordal_mean, nearest_rotation, require_rotation, rotation_angle_deg

Floats = NDArray[np.float64]

_MODEL_ROTATION_TOLERANCE = 1e-2
"""Networks answer with rotations rounded to half precision; they are projected on the nearest rotation."""

_MAXWELL_MEDIAN = 1.5382
"""Median length of a 3-vector of independent normal errors with deviation 1."""

_TUKEY = 4.685
"""Cut-off of the biweight in deviations, for 95 % efficiency on normal errors."""

_LEAST_ROTATION_DEVIATION = np.sqrt(2.0) * np.radians(0.25)
"""Chordal distance of 0.25 degrees an axis: deviations below it are precision, however alike the other cameras are."""

_LEAST_CENTRE_DEVIATION = 1e-3
"""The same for centres, as a share of the known centres' spread."""

_ITERATIONS = 100

_STARTS = 2000
"""Pairs of cameras tried, evenly taken from all of them where there are more."""

_TELLS = 0.1
"""A camera tells the scale if it stands farther from the middle of the cameras than this share of the farthest one."""

_COINCIDENT = 1e-6
"""Centres nearer to one another than this share of their size coincide."""

_LARGEST_SCALE_ERROR = 0.25
"""A relative standard error of the scale above this means that the centres do not tell it."""


@dataclass(frozen=True)
class Similarity:
    """The map p -> scale * rotation @ p + translation.

    Attributes:
        scale: positive.
        rotation: [3, 3] proper, float64.
        translation: [3] float64.
    """

    scale: float
    rotation: Floats
    translation: Floats

    def apply(self, points: ArrayLike) -> Floats:
        """Map points [..., 3]; float64."""
        return self.scale * (np.asarray(points, dtype=np.float64) @ self.rotation.T) + self.translation

    def apply_poses(self, c2w: ArrayLike) -> Floats:
        """Map camera-to-world matrices [..., 4, 4]: centres as points, orientations by the rotation alone."""
        mapped = np.array(c2w, dtype=np.float64)
        mapped[..., :3, 3] = self.apply(mapped[..., :3, 3])
        mapped[..., :3, :3] = self.rotation @ mapped[..., :3, :3]
        return mapped

    def inverse(self) -> Similarity:
        """The map back."""
        return Similarity(
            scale=1.0 / self.scale,
            rotation=self.rotation.T.copy(),
            translation=-(self.rotation.T @ self.translation) / self.scale,
        )


@dataclass(frozen=True)
class Residuals:
    """How well each view fits.

    Attributes:
        rotation_deg: [N] angle between the known orientation and the mapped one of the model.
        centre: [N] distance between the known centre and the mapped one, in the known poses' units.
        inlier: [N] bool, False for views whose orientation or centre was so far off that it had no say in the fit.
        scale_error: relative standard error of the scale, from the residuals of the views that count.
    """

    rotation_deg: Floats
    centre: Floats
    inlier: NDArray[np.bool_]
    scale_error: float

    @property
    def inlier_count(self) -> int:
        """How many views agree."""
        return int(self.inlier.sum())

    @property
    def rotation_median_deg(self) -> float:
        """Median over all views, in degrees."""
        return float(np.median(self.rotation_deg))

    @property
    def rotation_max_deg(self) -> float:
        """The worst view's, in degrees."""
        return float(self.rotation_deg.max())

    @property
    def centre_median(self) -> float:
        """Median over all views, in the known poses' units."""
        return float(np.median(self.centre))

    @property
    def centre_max(self) -> float:
        """The worst view's, in the known poses' units."""
        return float(self.centre.max())

    def summary(self) -> dict[str, Any]:
        """All of it as JSON scalars and lists."""
        return {
            "views": len(self.centre),
            "inliers": self.inlier_count,
            "scale_error": self.scale_error,
            "rotation_median_deg": self.rotation_median_deg,
            "rotation_max_deg": self.rotation_max_deg,
            "centre_median": self.centre_median,
            "centre_max": self.centre_max,
            "rotation_deg": self.rotation_deg.tolist(),
            "centre": self.centre.tolist(),
            "inlier": self.inlier.tolist(),
        }


def fit_similarity(c2w_true: ArrayLike, c2w_model: ArrayLike) -> tuple[Similarity, Residuals]:
    """The similarity that takes the model's frame to the frame of the known poses.

    Args:
        c2w_true: [N, 4, 4] known camera-to-world matrices, N >= 2.
        c2w_model: [N, 4, 4] the model's, of the same views in the same order and with the same camera axes (OpenCV).

    Returns:
        The similarity from the model's frame to the known one, and each view's residuals.

    Raises:
        DefectError: the arrays do not match or hold something other than poses.
        UserError: the centres cannot tell the scale (they coincide, or the model's do not follow the known ones), or
            the model's orientations agree on nothing.
    """
    true, model = np.asarray(c2w_true, dtype=np.float64), np.asarray(c2w_model, dtype=np.float64)
    if true.ndim != 3 or true.shape[1:] != (4, 4) or true.shape != model.shape or len(true) < 2:
        raise DefectError(
            f"a similarity needs two arrays [N, 4, 4] of the same views, N >= 2; "
            f"the shapes are {list(true.shape)} and {list(model.shape)}"
        )
    if not (np.isfinite(true).all() and np.isfinite(model).all()):
        raise DefectError("a pose to be aligned is not finite")
    known = require_rotation(true[:, :3, :3], "known orientation")
    found = nearest_rotation(
        require_rotation(model[:, :3, :3], "the model's orientation", tolerance=_MODEL_ROTATION_TOLERANCE)
    )
    rotation, rotation_weights = fit_rotation(known, found)
    scale, translation, centre_weights, scale_error = fit_scale(true[:, :3, 3], model[:, :3, 3], rotation)
    similarity = Similarity(scale, rotation, translation)
    residuals = Residuals(
        rotation_deg=rotation_angle_deg(known, rotation @ found),
        centre=np.linalg.norm(true[:, :3, 3] - similarity.apply(model[:, :3, 3]), axis=1),
        inlier=(rotation_weights > 0.0) & (centre_weights > 0.0),
        scale_error=scale_error,
    )
    return similarity, residuals


def fit_rotation(known: Floats, found: Floats) -> tuple[Floats, Floats]:
    """The rotation that most cameras agree on, by iteratively reweighted chordal mean.

    Every camera states a whole rotation, known_i @ found_iᵀ. The start is the statement with the least median distance
    to the others, so that up to half of the cameras may be wrong in any way; Tukey's biweight then averages those
    around it. The chordal distance is used throughout, whose square is 6 - 2 trace.

    Source: chordal mean, R. Hartley et al., "Rotation averaging", 2013; start, P. Rousseeuw, "Least median of squares
    regression", 1984; weights, A. Beaton, J. Tukey, "The fitting of power series", 1974.

    Args:
        known: [N, 3, 3] orientations in the known frame.
        found: [N, 3, 3] the model's orientations of the same cameras.

    Returns:
        The rotation [3, 3] from the model's frame to the known one; each camera's weight [N] between 0 and 1.
    """
    statements = known @ np.swapaxes(found, 1, 2)
    flat = statements.reshape(-1, 9)
    squares = 6.0 - 2.0 * flat @ flat.T
    rotation = statements[np.argmin(np.median(squares, axis=1))]
    weights = np.ones(len(statements))
    for _ in range(_ITERATIONS):
        distances = np.asarray(np.linalg.norm(flat - rotation.ravel(), axis=1), dtype=np.float64)
        weights = _biweights(distances, max(float(np.median(distances)) / _MAXWELL_MEDIAN, _LEAST_ROTATION_DEVIATION))
        previous, rotation = rotation, chordal_mean(statements, weights)
        if np.abs(rotation - previous).max() < 1e-14:
            break
    return rotation, weights


def fit_scale(known: Floats, found: Floats, rotation: Floats) -> tuple[float, Floats, Floats, float]:
    """Scale and translation that take centres `found` to `known` when the rotation is given.

    The model's centres are the uncertain ones, the known centres are exact, so the regression runs backwards:
    found = a rotationᵀ known + b, scale = 1 / a. A camera that the model threw far away is then an error of the
    response and not a lever, and noise does not shrink the scale. With weights w and centred values (tilde),
    a = Σ w⟨rotationᵀ known~, found~⟩ / Σ w|known~|². The start is the line through two cameras with the least median
    distance from all, which up to half of the moving cameras cannot spoil; Tukey's biweight follows.

    Source: as for :func:`fit_rotation`.

    Args:
        known: [N, 3] camera centres in the known frame, in units of about the scene's size.
        found: [N, 3] the model's centres of the same cameras, in any unit.
        rotation: [3, 3] from the model's frame to the known one.

    Returns:
        scale, translation [3], each camera's weight [N] between 0 and 1, relative standard error of the scale.

    Raises:
        UserError: the centres coincide, or the model's centres do not follow the known ones.
    """
    _require_spread(known, 1.0, "the cameras stand", "use more frames of trajectories that move")
    _require_spread(found, 0.0, "the geometry model puts the cameras", "use more frames, or other ones")
    turned = known @ rotation
    # Cameras that share a place agree with any scale. Deviations must not come from them alone, or the few that do
    # tell the scale would look wrong beside them.
    size = np.linalg.norm(turned - np.median(turned, axis=0), axis=1)
    tells = size > _TELLS * size.max()
    slope, offset = _start(turned, found, tells)
    least = _LEAST_CENTRE_DEVIATION * abs(slope) * float(size.max())
    weights = np.ones(len(turned))
    for _ in range(_ITERATIONS):
        distances = _distances(turned, found, slope, offset)
        weights = _biweights(distances, max(_deviation(distances, tells), least))
        previous = slope
        slope, offset = _line(turned, found, weights)
        if abs(slope - previous) <= 1e-14 * abs(slope):
            break
    distances = _distances(turned, found, slope, offset)
    centred = turned - np.average(turned, axis=0, weights=weights)
    variance = float(weights @ distances**2) / max(3.0 * float(weights.sum()) - 4.0, 1.0)
    error = float(np.sqrt(variance / float(weights @ (centred**2).sum(axis=1))))
    if not error < _LARGEST_SCALE_ERROR * slope:  # which no slope of 0 or less fulfils
        raise UserError(
            "the scale of the geometry model's answer cannot be found: its camera centres do not follow the known ones",
            remedy="use more frames of trajectories that move, or other frames",
        )
    return 1.0 / slope, -(rotation @ offset) / slope, weights, error / slope


def _start(turned: Floats, found: Floats, tells: NDArray[np.bool_]) -> tuple[float, Floats]:
    """The line found = slope * turned + offset through two cameras that has the least deviation from all."""
    first, second = np.triu_indices(len(turned), k=1)
    step = turned[second] - turned[first]
    length = (step**2).sum(axis=1)
    apart = np.flatnonzero(length > _TELLS**2 * length.max())
    apart = apart[np.linspace(0, len(apart) - 1, min(len(apart), _STARTS)).astype(np.intp)]
    first, second, step, length = first[apart], second[apart], step[apart], length[apart]
    slopes = (step * (found[second] - found[first])).sum(axis=1) / length
    offsets = 0.5 * (found[first] + found[second] - slopes[:, None] * (turned[first] + turned[second]))
    deviations = [
        _deviation(_distances(turned, found, slope, offset), tells)
        for slope, offset in zip(slopes.tolist(), offsets, strict=True)
    ]
    best = int(np.argmin(deviations))
    return float(slopes[best]), np.asarray(offsets[best], dtype=np.float64)


def _line(turned: Floats, found: Floats, weights: Floats) -> tuple[float, Floats]:
    """Weighted least squares of found = slope * turned + offset.

    The weights leave at least one telling camera, so the slope is never without a denominator.
    """
    share = weights / weights.sum()
    middle, found_middle = share @ turned, share @ found
    centred = turned - middle
    spread = float(share @ (centred**2).sum(axis=1))
    slope = float(share @ (centred * (found - found_middle)).sum(axis=1)) / spread
    return slope, found_middle - slope * middle


def _distances(turned: Floats, found: Floats, slope: float, offset: Floats) -> Floats:
    return np.asarray(np.linalg.norm(found - slope * turned - offset, axis=1), dtype=np.float64)


def _deviation(distances: Floats, tells: NDArray[np.bool_]) -> float:
    """Deviation an axis: the larger of those from the median of all cameras and from that of the telling ones.

    Of an even number of telling cameras the lower middle one, so that half of them may be wrong.
    """
    telling = distances[tells]
    middle = (len(telling) - 1) // 2
    return float(max(np.median(distances), np.partition(telling, middle)[middle])) / _MAXWELL_MEDIAN


def _biweights(distances: Floats, deviation: float) -> Floats:
    """Tukey's weights of distances whose deviation an axis is given."""
    return np.asarray(np.maximum(1.0 - (distances / (_TUKEY * deviation)) ** 2, 0.0) ** 2, dtype=np.float64)


def _require_spread(centres: Floats, least_size: float, who: str, remedy: str) -> None:
    spread = float(np.linalg.norm(centres - centres.mean(axis=0), axis=1).max())
    if spread <= _COINCIDENT * max(least_size, float(np.abs(centres).max())):
        raise UserError(
            f"the scale cannot be found: {who} all in one place (within {spread:.1e} of their mean centre)",
            remedy=remedy,
        )
