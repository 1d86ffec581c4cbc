"""Whether views from one point agree: the free acceptance test of a scaffold.

Two pictures taken from one point are related by an exact homography, whatever the depth of what they show. Where
neighbouring views overlap (15 degrees of the ring of eight), they must therefore show the same thing; a model that
invents the surroundings piece by piece, loses the order of its frames or turns by another angle than it was told does
not. The test asks no model, so it says nothing about how the views look, only whether they can be one place.

Both views are looked up along the rays of a camera halfway between them, so that resampling blurs them alike.

Example:
    >>> neighbour_psnr(views.images, views.c2w, normalised_intrinsics()).min()      # the worst of 8 pairs
    32.8
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from worldexplorer.errors import DefectError
from worldexplorer.geometry.cameras import pose
from worldexplorer.scaffold.homography import turned_view

if TYPE_CHECKING:
    from worldexplorer.engine import Images, Poses
    from worldexplorer.records import Quality

DEFAULT_OVERLAP_DB = 20.0
"""Overlap PSNR below which two neighbouring views do not show one place (docs/formats.md says how it was chosen)."""
_ROUNDING_VARIANCE = 1.0 / 12.0
"""Of 8-bit values, in squared steps: pictures cannot agree better."""


@dataclass(frozen=True)
class Acceptance:
    """What the test found.

    Attributes:
        metrics: `overlap_psnr` (dB, one a pair: 0-1, 1-2, ... 7-0) and `overlap_psnr_min`.
        quality: `degraded` where a pair is below the threshold.
        notes: the pairs that are.
    """

    metrics: dict[str, Any]
    quality: Quality
    notes: tuple[str, ...]


def accept_ring(images: Images, c2w: Poses, intrinsics: Poses, threshold_db: float) -> Acceptance:
    """Test views around one point, each against the next and the last against the first.

    Args:
        images: [N, S, S, 3] uint8.
        c2w: [N, 4, 4] OpenGL camera-to-world, all at one place.
        intrinsics: [3, 3] normalised, of all of them.
        threshold_db: overlap PSNR that a pair must reach.
    """
    psnr = [round(float(value), 2) for value in neighbour_psnr(images, c2w, intrinsics)]
    count = len(psnr)
    bad = [f"{view}-{(view + 1) % count} ({value:.1f} dB)" for view, value in enumerate(psnr) if value < threshold_db]
    notes: tuple[str, ...] = ()
    if bad:
        notes = (
            f"neighbouring views do not show one place where they overlap, below {threshold_db:g} dB: {', '.join(bad)}",
        )
    return Acceptance(
        metrics={"overlap_psnr": psnr, "overlap_psnr_min": min(psnr)},
        quality="degraded" if bad else "ok",
        notes=notes,
    )


def neighbour_psnr(images: Images, c2w: Poses, intrinsics: Poses) -> NDArray[np.float64]:
    """[N] PSNR in dB over what view i and view i + 1 (0 after the last) both see; arguments as :func:`accept_ring`.

    Raises:
        DefectError: two neighbours have no overlap, or stand at two places.
    """
    following = np.roll(np.arange(len(images)), -1)
    return np.array([_pair_psnr(images, c2w, intrinsics, i, int(j)) for i, j in enumerate(following)])


def _pair_psnr(images: Images, c2w: Poses, intrinsics: Poses, one: int, other: int) -> float:
    size = images.shape[1]
    turn = c2w[one, :3, :3].T @ c2w[other, :3, :3]
    half = Rotation.from_rotvec(Rotation.from_matrix(turn).as_rotvec() / 2.0).as_matrix()
    between = pose(c2w[one, :3, :3] @ half, c2w[one, :3, 3])
    first, seen_first = turned_view(images[one], c2w[one], between, intrinsics, size)
    second, seen_second = turned_view(images[other], c2w[other], between, intrinsics, size)
    both = seen_first & seen_second
    if not both.any():
        raise DefectError(f"views {one:03d} and {other:03d} of a ring do not overlap")
    error = float(np.mean((first[both] - second[both]) ** 2))
    return float(10.0 * np.log10(255.0**2 / max(error, _ROUNDING_VARIANCE)))
