"""Where a trajectory has to stop because it would run into something.

The first pass makes the anchors of a trajectory; a depth map of each says how much room is in front of the camera. The
trajectory is cut at the first anchor that is too close to something, and with fewer than two anchors left it yields no
frames.

Two rules. `clearance` compares metres with metres: the near end of the depth in the middle of the anchor with a fixed
distance and with the size of the place. `legacy` is the rule of the WorldExplorer system: mean inverse depth in the
middle, after normalising it over all anchors of the trajectory; there it ran on the relative depth of
Video-Depth-Anything, here it runs on the metric depth of the engine's own model.

Example:
    >>> threshold = clearance_threshold(scaffold_depth)
    >>> verdict = clearance_cut(anchor_depth, anchor_parameters(targets), targets, threshold)
    >>> verdict.kept_targets
    (0.0, 1.0, 2.0)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from worldexplorer.errors import DefectError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from worldexplorer.trajectory.paths import Parameters

Rule = str
RULES: tuple[Rule, ...] = ("clearance", "legacy")

LEAST_ANCHORS = 2
LEAST_CLEARANCE_M = 0.4
CLEARANCE_SHARE = 0.2
"""Of the median depth in the middle of the scaffold's views."""
NEAR_PERCENTILE = 10.0
LEGACY_THRESHOLD = 120 / 255
_CENTRE_SHARE = 100 / 576
"""The middle that is looked at, as a share of either side."""


@dataclass(frozen=True)
class CollisionVerdict:
    """What was measured and what is left of the trajectory; all fields are JSON values.

    Attributes:
        rule: `clearance` or `legacy`.
        threshold: `clearance`: metres, an anchor nearer than this collides; `legacy`: normalised inverse depth, an
            anchor above this collides.
        scores: each anchor's, in the units of the threshold.
        anchors: each anchor's trajectory parameter.
        kept_anchors: how many anchors lie before the cut; 0 where fewer than two did.
        kept_targets: parameters of the frames to make, those up to the last kept anchor, that one included.
    """

    rule: Rule
    threshold: float
    scores: tuple[float, ...]
    anchors: tuple[float, ...]
    kept_anchors: int
    kept_targets: tuple[float, ...]

    @property
    def collided(self) -> bool:
        """Whether anything was cut."""
        return self.kept_anchors < len(self.anchors)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON scalars and lists."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @staticmethod
    def from_json(document: dict[str, Any]) -> CollisionVerdict:
        """What :meth:`to_json` gave."""
        lists = {name: tuple(document[name]) for name in ("scores", "anchors", "kept_targets")}
        return CollisionVerdict(
            rule=document["rule"],
            threshold=document["threshold"],
            kept_anchors=document["kept_anchors"],
            **lists,
        )


def central_region(depth: NDArray[np.floating]) -> NDArray[np.floating]:
    """The middle of depth maps [N, H, W]: what 100 of 576 pixels are of either side, at least one pixel.

    Raises:
        DefectError: the maps are missing, or hold a value that is not a positive number. A depth model that failed
            must not read as an obstacle, nor as open space.
    """
    if depth.ndim != 3 or depth.size == 0:
        raise DefectError(f"depth maps have shape {depth.shape}, not frames x height x width")
    flawed = ~(np.isfinite(depth) & (depth > 0))
    if flawed.any():
        frame, row, column = (int(index) for index in np.argwhere(flawed)[0])
        raise DefectError(
            f"{int(flawed.sum())} depth values are not positive numbers, the first is {depth[frame, row, column]}",
            where=f"depth map {frame}, row {row}, column {column}",
            remedy="the depth model failed on this frame; run the stage again, and report it if it stays",
        )
    height, width = depth.shape[1:]
    rows, columns = max(1, round(_CENTRE_SHARE * height)), max(1, round(_CENTRE_SHARE * width))
    top, left = (height - rows) // 2, (width - columns) // 2
    return depth[:, top : top + rows, left : left + columns]


def clearance_threshold(scaffold_depth: NDArray[np.floating]) -> float:
    """The distance in metres below which an anchor collides.

    Args:
        scaffold_depth: [8, H, W] metric depth of the scaffold's views.

    Returns:
        0.4 m, or a fifth of the median over all central pixels of the views where that is more: in a wide place a
        camera keeps further away than in a narrow one.
    """
    return max(LEAST_CLEARANCE_M, CLEARANCE_SHARE * float(np.median(central_region(scaffold_depth))))


def clearance_cut(
    anchor_depth: NDArray[np.floating], anchors: Parameters, targets: Parameters, threshold_m: float
) -> CollisionVerdict:
    """Cut where the near tenth of the middle comes closer than the threshold.

    The first anchor is the scaffold view itself, which the scene starts from; it never collides.

    Args:
        anchor_depth: [A, H, W] metric depth of the anchors.
        anchors: [A] their trajectory parameters, increasing.
        targets: [n] parameters of the trajectory's frames, increasing.
        threshold_m: from :func:`clearance_threshold`.

    Raises:
        DefectError: depth that is not positive numbers, or numbers of maps and anchors that differ.
    """
    centre = central_region(anchor_depth)
    scores = np.percentile(centre.reshape(len(centre), -1).astype(np.float64), NEAR_PERCENTILE, axis=1)
    collides = scores < threshold_m
    collides[0] = False
    return _verdict("clearance", threshold_m, scores, collides, anchors, targets)


def legacy_cut(anchor_depth: NDArray[np.floating], anchors: Parameters, targets: Parameters) -> CollisionVerdict:
    """Cut where the mean inverse depth of the middle, normalised over the anchors, exceeds 120 of 255.

    Unlike in the original the last kept frame is kept, not dropped, and nothing is rounded to 8 bits. Where all depths
    are equal there is nothing to normalise by and nothing collides.

    Args:
        anchor_depth: [A, H, W] metric depth of the anchors.
        anchors: [A] their trajectory parameters, increasing.
        targets: [n] parameters of the trajectory's frames, increasing.

    Raises:
        DefectError: depth that is not positive numbers, or numbers of maps and anchors that differ.
    """
    centre = 1.0 / central_region(anchor_depth).astype(np.float64)
    lowest, highest = 1.0 / float(anchor_depth.max()), 1.0 / float(anchor_depth.min())
    normalised = (centre - lowest) / (highest - lowest) if highest > lowest else np.zeros_like(centre)
    scores = normalised.mean(axis=(1, 2))
    return _verdict("legacy", LEGACY_THRESHOLD, scores, scores > LEGACY_THRESHOLD, anchors, targets)


def _verdict(
    rule: Rule,
    threshold: float,
    scores: NDArray[np.float64],
    collides: NDArray[np.bool_],
    anchors: Parameters,
    targets: Parameters,
) -> CollisionVerdict:
    if len(scores) != len(anchors):
        raise DefectError(f"there are {len(scores)} depth maps for {len(anchors)} anchors")
    first = int(np.argmax(collides)) if collides.any() else len(collides)
    kept = first if first >= LEAST_ANCHORS else 0
    kept_targets = targets[targets <= anchors[kept - 1]] if kept else targets[:0]
    return CollisionVerdict(
        rule=rule,
        threshold=threshold,
        scores=tuple(scores.tolist()),
        anchors=tuple(anchors.tolist()),
        kept_anchors=kept,
        kept_targets=tuple(kept_targets.tolist()),
    )
