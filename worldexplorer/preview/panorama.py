"""A photo, or a ring of eight views, made into a :class:`worldexplorer.preview.world.World`.

The steps: put the photo on a panorama, estimate its layout, walk over its columns to fill the ring around it, make sky
or ceiling and floor, and derive ranges from the layout. Nothing here knows the place beyond the photo: what is invented
repeats and mirrors what the photo shows, and :func:`panorama_truth_psnr` says how far from the truth it is.

Example:
    >>> world = build_world(photo, hfov_deg=81.8, scene_type="outdoor", seed=0, pixels_per_degree=6)
    >>> world.panorama.shape
    (1080, 2160, 3)
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from worldexplorer.engine import Views
from worldexplorer.errors import UserError
from worldexplorer.preview.equirectangular import project_photo, project_pinhole
from worldexplorer.preview.floor import synthesise_floor
from worldexplorer.preview.layout_prior import estimate_layout
from worldexplorer.preview.poles import fill_caps
from worldexplorer.preview.range_map import backdrop_layer, range_map
from worldexplorer.preview.ring import Ring, make_ring
from worldexplorer.preview.world import World
from worldexplorer.progress import Progress, silent

Images = NDArray[np.uint8]
Mask = NDArray[np.bool_]

NARROWEST, WIDEST = 10.0, 160.0
"""Horizontal fields of view (degrees) that a photo may have."""
LOWEST, TALLEST = 5.0, 160.0
"""Vertical ones."""

_STEPS = 6
_BLEND_SHARPNESS = 8
"""Power of the distance from a view's border by which it is weighted: high, so that views hardly mix."""


def build_world(
    photo: Images,
    hfov_deg: float,
    scene_type: str | None = None,
    seed: int = 0,
    pixels_per_degree: int = 6,
    pitch_deg: float = 0.0,
    progress: Progress = silent,
) -> World:
    """The world of one photo.

    The photo appears exactly where it was taken. The world is level: with a pitch, camera 000 (which looks at the
    horizon) sees the photo higher or lower in its picture.

    Args:
        photo: [h, w, 3] uint8 sRGB, square pixels.
        hfov_deg: horizontal field of view of the whole photo, degrees.
        scene_type: "indoor", "outdoor" or None to judge by the photo.
        seed: the same seed gives the same bytes.
        pixels_per_degree: the panorama has 360 times as many columns and 180 times as many rows.
        pitch_deg: how far above the horizon the camera looked.
        progress: told after each step.

    Raises:
        UserError: the photo is no colour picture of at least 2 x 2 pixels, or its field of view is out of range.
    """
    _check_photo(photo, hfov_deg, pitch_deg)
    height = 180 * pixels_per_degree
    colours, known = project_photo(photo, hfov_deg, pitch_deg, height)
    progress(1, _STEPS, "panorama")
    columns = _photo_columns(known)
    layout = estimate_layout(colours[:, columns], known[:, columns], closed=False, scene_type=scene_type, seed=seed)
    progress(2, _STEPS, "layout")
    ring = make_ring(colours, known, layout, columns, seed)
    ring.colours[known] = colours[known]  # also what a pitched photo shows beside its columns
    ring.known[known] = True
    progress(3, _STEPS, "ring")
    return _finished(ring, seed, progress)


def stitch_world(
    views: Views,
    scene_type: str | None = None,
    seed: int = 0,
    pixels_per_degree: int = 6,
    progress: Progress = silent,
) -> World:
    """The world of a ring of views that together look all around, such as the eight of a scaffold.

    Args:
        views: posed views; of the poses only the rotations count.
        scene_type: "indoor", "outdoor" or None to judge by the views.
        seed: the same seed gives the same bytes.
        pixels_per_degree: the panorama has 360 times as many columns and 180 times as many rows.
        progress: told after each step.

    Raises:
        UserError: the views leave a gap around the horizon.
    """
    height = 180 * pixels_per_degree
    total = np.zeros((height, 2 * height, 3), dtype=np.float32)
    weights = np.zeros((height, 2 * height), dtype=np.float32)
    for image, c2w, intrinsics in zip(views.images, views.c2w, views.intrinsics, strict=True):
        colours, known, inside = project_pinhole(image, c2w[:3, :3], (intrinsics[0, 0], intrinsics[1, 1]), height)
        weight = (inside + 1e-3) ** _BLEND_SHARPNESS * known  # the view that sees a pixel nearest to its centre wins
        total += colours * weight[..., None]
        weights += weight
    known = weights > 0
    if not known[height // 2].all():
        raise UserError(
            "the scaffold's views leave a gap in the ring around the camera",
            remedy="give the eight views 000.png to 007.png, 45 degrees apart",
        )
    ring_colours = (total / np.maximum(weights, 1e-30)[..., None]).astype(np.float32)
    progress(2, _STEPS, "panorama")
    pixels = np.clip(np.rint(ring_colours), 0, 255).astype(np.uint8)
    layout = estimate_layout(pixels, known, closed=True, scene_type=scene_type, seed=seed)
    progress(3, _STEPS, "layout")
    return _finished(Ring(ring_colours, known, layout, np.ones(2 * height, dtype=bool)), seed, progress)


def panorama_truth_psnr(
    world: World, truth: Images, hfov_deg: float, aspect: float, pitch_deg: float = 0.0
) -> dict[str, float]:
    """How near a world's panorama is to a real one of the same place, in decibels over the sphere's area.

    Args:
        world: made of a photo of the place.
        truth: [h, 2 h, 3] uint8 panorama with its sky up, whose centre column is the photo's centre.
        hfov_deg: horizontal field of view of the photo, degrees.
        aspect: the photo's width over its height.
        pitch_deg: how far above the horizon the photo's camera looked.

    Returns:
        `inside`: PSNR within the photo's field of view; `outside`: elsewhere, where everything is invented;
        `outside_band`: the part of it within 30 degrees of the horizon. Both panoramas are compared at the size of the
        smaller one.
    """
    height = min(len(truth), len(world.panorama))
    size = (2 * height, height)
    made, real = (
        cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float64) for image in (world.panorama, truth)
    )
    _, inside = project_photo(np.zeros((64, max(2, round(64 * aspect)), 3), np.uint8), hfov_deg, pitch_deg, height)
    up = (0.5 - (np.arange(height) + 0.5) / height) * math.pi
    error = ((made - real) ** 2).mean(axis=-1)
    area = np.broadcast_to(np.cos(up)[:, None], error.shape)
    band = ~inside & (np.abs(up) < math.radians(30))[:, None]
    return {
        name: _psnr(float((error * area)[part].sum() / area[part].sum()))
        for name, part in {"inside": inside, "outside": ~inside, "outside_band": band}.items()
    }


def _psnr(mean_squared_error: float) -> float:
    return math.inf if mean_squared_error == 0 else 10 * math.log10(255**2 / mean_squared_error)


def _check_photo(photo: Images, hfov_deg: float, pitch_deg: float) -> None:
    """Raise UserError for what cannot be a photo."""
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or min(photo.shape[:2]) < 2:
        raise UserError(f"the photo is {photo.dtype} {photo.shape}", remedy="give an 8-bit colour picture")
    if not NARROWEST <= hfov_deg <= WIDEST:
        raise UserError(
            f"a photo {hfov_deg:g} degrees wide cannot be used",
            remedy=f"state a horizontal field of view between {NARROWEST:g} and {WIDEST:g} degrees",
        )
    tall = math.degrees(2 * math.atan(math.tan(math.radians(hfov_deg) / 2) * photo.shape[0] / photo.shape[1]))
    if not LOWEST <= tall <= TALLEST:
        raise UserError(
            f"a photo {tall:.1f} degrees tall ({photo.shape[1]} x {photo.shape[0]} pixels, {hfov_deg:g} degrees wide) "
            "cannot be used",
            remedy=f"crop it so that it is between {LOWEST:g} and {TALLEST:g} degrees tall",
        )
    if not -60 <= pitch_deg <= 60:
        raise UserError(f"a pitch of {pitch_deg:g} degrees cannot be used", remedy="state one between -60 and 60")


def _photo_columns(known: Mask) -> slice:
    """The columns around the centre that the photo fills over at least half of its usual height."""
    count = known.sum(axis=0)
    middle = known.shape[1] // 2
    full = count >= 0.5 * np.median(count[count > 0])
    right = middle + int(np.argmin(np.append(full[middle:], False)))
    left = middle - int(np.argmin(np.append(full[:middle][::-1], False)))
    return slice(left, right)


def _finished(ring: Ring, seed: int, progress: Progress) -> World:
    """Poles, ranges and backdrop of a ring."""
    filled = fill_caps(ring.colours, ring.known, ring.layout)
    progress(4, _STEPS, "sky")
    filled = synthesise_floor(filled, ring.known, ring.layout, ring.plain, seed)
    progress(5, _STEPS, "floor")
    panorama = np.clip(np.rint(filled), 0, 255).astype(np.uint8)
    ranges = range_map(ring.layout, len(panorama))
    backdrop, backdrop_ranges = backdrop_layer(panorama, ranges, ring.layout)
    progress(6, _STEPS, "ranges")
    return World(panorama, ranges, backdrop, backdrop_ranges)
