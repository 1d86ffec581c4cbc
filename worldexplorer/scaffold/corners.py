"""The corner views 001, 003, 005 and 007: what their two neighbours show of them, and what has to be made.

A corner view looks between two cardinal views (000, 002, 004, 006), 45 degrees from each. All stand at one place, so
what a neighbour shows of the corner is a homography of its picture (:mod:`worldexplorer.scaffold.homography`). At the
scaffold's 60.08 degrees each neighbour covers 26.2 % of a corner view at its side, and 47.5 % in the middle belong to
neither (at 60 degrees 26.1 and 47.8 %); the neighbours have no pixel in common. What is to be made follows from the
geometry alone, so a white wall is as good a picture as any.

Example:
    >>> corner = corner_view(1, cardinals)           # cardinals: {0: picture, 2: picture, 4: picture, 6: picture}
    >>> view = laid_over(corner.image, corner.mask, inpainted)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from worldexplorer.geometry.cameras import normalised_intrinsics
from worldexplorer.scaffold.homography import turned_view
from worldexplorer.scaffold.poses import VIEW_COUNT, scaffold_poses

if TYPE_CHECKING:
    from worldexplorer.engine import Picture

CARDINALS = (0, 2, 4, 6)
"""North, West, South, East: yaw 0, 90, 180 and 270 degrees to the left."""
CORNERS = (1, 3, 5, 7)
MASK_GROWTH = 2
"""Pixels by which what is made reaches into what is given: the outermost given pixels are interpolated with nothing."""
_FEATHER_SHARE = 8 / 576
"""Width over the picture's of the band in which what is made passes into what is given."""
_SQUARE = np.ones((3, 3), dtype=np.bool_)


@dataclass(frozen=True)
class CornerView:
    """A corner view as far as its neighbours show it.

    Attributes:
        number: 1, 3, 5 or 7.
        left: the cardinal view 45 degrees further to the left.
        right: the cardinal view 45 degrees further to the right.
        image: [S, S, 3] uint8, black where neither neighbour shows anything.
        mask: [S, S] bool, True where the picture is to be made.
    """

    number: int
    left: int
    right: int
    image: Picture
    mask: NDArray[np.bool_]

    @property
    def digest(self) -> str:
        """A hash of the pixels and the mask: what is made from an equal corner is good for it."""
        return given_digest(self.image, self.mask)


def given_digest(image: Picture, mask: NDArray[np.bool_]) -> str:
    """A hash of what is given of a picture and of where it is to be made."""
    return hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest()


def neighbours(corner: int) -> tuple[int, int]:
    """The cardinal views to the left and to the right of a corner view.

    Example:
        >>> neighbours(7)
        (0, 6)
    """
    return (corner + 1) % VIEW_COUNT, (corner - 1) % VIEW_COUNT


def corner_view(corner: int, cardinals: Mapping[int, Picture]) -> CornerView:
    """What the cardinal pictures, [S, S, 3] uint8 by number, show of a corner view."""
    left, right = neighbours(corner)
    size = cardinals[left].shape[0]
    poses, intrinsics = scaffold_poses(), normalised_intrinsics()
    views = [turned_view(cardinals[one], poses[one], poses[corner], intrinsics, size) for one in (left, right)]
    values = sum(values for values, _ in views)
    covered = views[0][1] | views[1][1]
    image = np.rint(np.asarray(values)).astype(np.uint8)
    return CornerView(corner, left, right, image, grown(~covered))


def grown(hole: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A hole with :data:`MASK_GROWTH` pixels around it."""
    if not hole.any():
        return hole
    return np.asarray(ndimage.binary_dilation(hole, structure=_SQUARE, iterations=MASK_GROWTH))


def laid_over(image: Picture, mask: NDArray[np.bool_], made: Picture) -> Picture:
    """What was made under the mask, what was given everywhere else, and a narrow band of both beside the mask.

    Models change what they are to leave alone, by what their autoencoder loses: further than the band from the mask
    the result is the given picture, bit for bit.

    Args:
        image: [S, S, 3] uint8 as it was given.
        mask: [S, S] bool, True where it was to be made.
        made: [S, S, 3] uint8 from the model.
    """
    band = round(image.shape[0] * _FEATHER_SHARE)
    if mask.all() or not mask.any():
        return made if mask.all() else image
    distance = ndimage.distance_transform_edt(~mask)
    share = np.clip(1.0 - distance / (band + 1.0), 0.0, 1.0)[..., None]
    return np.asarray(np.rint(share * made + (1.0 - share) * image), dtype=np.uint8)
