"""The floor below the photo, grown from the floor that the photo shows, as seen from above.

Example:
    >>> synthesise_floor(filled, ring.known, ring.layout, ring.plain, seed=0)   # [H, W, 3], with a floor
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from patchmatch import patch_match

from worldexplorer.preview.equirectangular import azimuths, column_of, elevations, row_of
from worldexplorer.preview.layout_prior import Layout
from worldexplorer.preview.range_map import CAMERA_HEIGHT

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]

_LARGEST_RADIUS = 6.0
_HOLE_PIXELS = 60_000
_PIXELS_A_METRE = 7.5
"""For each of the panorama's pixels a degree: as sharp as the panorama shows the floor three metres away, at most."""
_PATCH_RADIUS = 2
_LEAST_SOURCE = 0.01
_EXAMPLE_DEGREES, _EXAMPLE_SHARE = 14.0, 0.3
_EXAMPLE_DISTANCE = 3.0
_LEAST_EXAMPLE = 0.1
_UNUSUAL = 2.0
_THING_METRES = 0.08
_SOFT_OUTDOORS, _SOFT_INDOORS = 4.0, 1.2
"""Degrees over which what the photo's lower edge cuts off passes into the floor."""
_SEARCH = threading.Lock()
"""The search's seed belongs to the whole process."""
_GRAIN_DEGREES, _GRAIN_PIXELS, _GRAIN_SHARE = 5.0, 1.5, 0.8


def synthesise_floor(filled: Floats, known: Mask, layout: Layout, plain: Mask, seed: int) -> Floats:
    """Replace what lies below the ring by floor.

    The ring's floor is drawn as a map (bird's eye), the hole around the camera is filled by PatchMatch inpainting
    (Barnes et al., "PatchMatch", SIGGRAPH 2009), and the map is looked at from the camera again. What lies on the floor
    but does not look like it is neither copied nor continued. Where hardly any floor is near, what the
    ring shows of it farther away, or else its plainest columns, serve as the example of the ground, at the size they
    would have three metres away.

    Args:
        filled: [H, W, 3] float32 panorama without gaps.
        known: [H, W] bool, the pixels that the ring gave.
        layout: of all W columns.
        plain: [W] bool, the columns that show the subject least.
        seed: of the search.
    """
    width = known.shape[1]
    plan = _drawn_plan(filled, known)
    if not plan.hole.any():
        return filled
    column = np.mod(np.rint(plan.column).astype(np.int64), width)
    is_floor = plan.seen & (-plan.elevation > -layout.foot[column] + math.radians(0.7)) & layout.foot_seen[column]
    is_floor &= ~_unusual(plan.colours, is_floor, plan.scale)
    colours, hole, source = plan.colours.copy(), plan.hole, is_floor
    if is_floor.sum() < _LEAST_SOURCE * plan.hole.sum():
        example = _example(filled, known, layout, plain, colours.shape[1], plan.scale)
        touching = cv2.dilate(plan.hole.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool) & plan.seen
        touching &= plain[column]
        colours = np.concatenate([colours, example])
        hole = np.concatenate([hole, np.zeros(example.shape[:2], dtype=bool)])
        source = np.concatenate([touching, np.ones(example.shape[:2], dtype=bool)])
    excluded = ~(hole | source)
    colours[excluded] = np.median(colours[source], axis=0)  # coarse levels of the search mix neighbours in
    drawn = _inpainted(colours, hole, excluded, seed)[: len(plan.hole)]
    at_border = _floor_at_border(plan, is_floor, column, width)
    softness = _SOFT_OUTDOORS if layout.is_outdoor else _SOFT_INDOORS
    return _looked_at(drawn, plan, filled, known, 0.4 + softness * (1 - at_border))


def _inpainted(colours: Floats, hole: Mask, excluded: Mask, seed: int) -> Floats:
    """The colours with the hole filled from what is neither hole nor excluded."""
    with _SEARCH:
        patch_match.set_random_seed(seed)
        drawn = patch_match.inpaint(
            np.clip(np.rint(colours), 0, 255).astype(np.uint8),
            hole.astype(np.uint8),
            global_mask=excluded.astype(np.uint8),
            patch_size=_PATCH_RADIUS,
        )
    return drawn.astype(np.float32)


@dataclass(frozen=True)
class _Plan:
    """The floor from above: colours, pixels seen in the ring, pixels to fill, and where the panorama shows each."""

    colours: Floats
    seen: Mask
    hole: Mask
    column: Doubles
    elevation: Doubles
    half: float  # metres from the camera to the plan's edges
    scale: float  # pixels a metre


def _drawn_plan(filled: Floats, known: Mask) -> _Plan:
    """The plan around the camera, large enough for the hole and some of the ring beyond it."""
    height, width = known.shape
    up = elevations(height)
    lower = up < math.radians(-3)
    last = np.where(lower[:, None] & known, up[:, None], math.radians(-3)).min(axis=0)  # how far down a column is known
    radius = min(_LARGEST_RADIUS, float((CAMERA_HEIGHT / np.tan(-last)).max()) + 0.1)
    half = radius * 1.3 + 0.2
    scale = min(math.sqrt(_HOLE_PIXELS / (math.pi * radius**2)), _PIXELS_A_METRE * height / 180)
    size = 2 * round(half * scale)
    at = ((np.arange(size) + 0.5) / size * 2 - 1) * half
    right, ahead = np.meshgrid(at, -at)
    away = np.hypot(right, ahead)
    column = column_of(np.arctan2(right, ahead), width)
    elevation = -np.arctan2(CAMERA_HEIGHT, away)
    row = row_of(elevation, height)
    wrapped = np.concatenate([filled[:, -1:], filled, filled[:, :1]], axis=1)
    colours = _remapped(wrapped, column + 1, row, cv2.INTER_LINEAR)
    nearest = np.mod(np.rint(column).astype(np.int64), width)
    seen = known[np.clip(np.rint(row).astype(np.int64) + 1, 0, height - 1), nearest] & (away < half)
    return _Plan(colours, seen, ~seen & (away < radius), column, elevation, half, scale)


def _remapped(image: Floats, column: Doubles, row: Doubles, interpolation: int) -> Floats:
    """The image's colours at the given places; beyond its edges those of the edges."""
    at = column.astype(np.float32), row.astype(np.float32)
    return np.asarray(cv2.remap(image, *at, interpolation, borderMode=cv2.BORDER_REPLICATE), dtype=np.float32)


def _unusual(colours: Floats, floor: Mask, scale: float) -> Mask:
    """What lies on the floor but differs in colour from most of it, larger than a tile or a tuft."""
    if not floor.any():
        return np.zeros_like(floor)
    weight = cv2.GaussianBlur(floor.astype(np.float32), (0, 0), _THING_METRES * scale)
    smooth = cv2.GaussianBlur(colours * floor[..., None], (0, 0), _THING_METRES * scale)
    lab = cv2.cvtColor(smooth / np.maximum(weight, 1e-3)[..., None] / 255, cv2.COLOR_RGB2LAB)
    usual = np.median(lab[floor], axis=0)
    spread = np.median(np.abs(lab[floor] - usual), axis=0) * 1.48 + 2.5
    odd = ((np.abs(lab - usual) / spread).max(axis=-1) > _UNUSUAL) & floor
    if odd.sum() > 0.5 * floor.sum():
        return np.zeros_like(floor)
    odd = cv2.morphologyEx(odd.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    return cv2.dilate(odd, np.ones((5, 5), np.uint8)).astype(bool)


def _example(filled: Floats, known: Mask, layout: Layout, plain: Mask, width: int, scale: float) -> Floats:
    """[h, width, 3] the lowest part of some columns side by side, in the plan's scale.

    These are the columns that show floor, farther away than the plan reaches, or else the plainest ones.
    """
    height = known.shape[0]
    degree = height / 180
    last = height - 1 - np.argmax(known[::-1], axis=0)
    foot = np.ceil(row_of(layout.foot, height) + degree / 2).astype(np.int64)
    on_floor = layout.foot_seen & (last - foot >= 2)
    if on_floor.mean() > _LEAST_EXAMPLE:
        columns = np.flatnonzero(on_floor)
        depth = float(np.median((last - foot)[columns]))
    else:
        columns = np.flatnonzero(plain)
        depth = _EXAMPLE_SHARE * float(np.median(known[:, columns].sum(axis=0)))
    rows = np.arange(max(2, round(min(_EXAMPLE_DEGREES * degree, depth))))
    strip = filled[np.maximum(last[columns] - rows[::-1, None], 0), columns[None, :]]
    factor = scale * _EXAMPLE_DISTANCE * math.pi / 180 / degree
    size = (max(8, round(strip.shape[1] * factor)), max(8, round(strip.shape[0] * factor)))
    small = cv2.resize(strip, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    while small.shape[1] < width:
        small = np.concatenate([small, small[:, ::-1]], axis=1)
    lines = [small[:, start : start + width] for start in range(0, small.shape[1] - width + 1, width)]
    return np.concatenate(lines[:4])


def _floor_at_border(plan: _Plan, is_floor: Mask, column: NDArray[np.int64], width: int) -> Floats:
    """[W] share of floor among what each column of the ring shows next to the hole."""
    near = cv2.dilate(plan.hole.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool) & plan.seen
    floor = np.bincount(column[near], weights=is_floor[near], minlength=width)
    pixels = np.bincount(column[near], minlength=width)
    smooth = cv2.blur(np.stack([floor, pixels])[None].transpose(0, 2, 1), (15, 1), borderType=cv2.BORDER_REFLECT_101)[0]
    return np.asarray(smooth[:, 0] / np.maximum(smooth[:, 1], 1e-6), dtype=np.float32)


def _looked_at(drawn: Floats, plan: _Plan, filled: Floats, known: Mask, softness: Floats) -> Floats:
    """The panorama with the plan's hole in place of what was below the ring; `softness` [W] degrees of transition."""
    height, width = known.shape
    size = drawn.shape[0]
    up = elevations(height)
    first = int(np.argmax(up < -math.atan2(CAMERA_HEIGHT, plan.half)))
    away = CAMERA_HEIGHT / np.tan(-up[first:, None])
    across = azimuths(width)[None, :]
    x = ((away * np.sin(across) / plan.half + 1) / 2 * size - 0.5).astype(np.float32)
    y = ((-away * np.cos(across) / plan.half + 1) / 2 * size - 0.5).astype(np.float32)
    seen = cv2.remap(drawn, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    share = cv2.remap(plan.hole.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    last = height - 1 - np.argmax(known[::-1], axis=0)
    below = (np.arange(first, height)[:, None] - last[None, :]) * (180 / height)
    gently = np.clip(below / softness[None, :], 0, 1)
    share = np.clip(share, 0, 1) * ~known[first:] * gently
    result = filled.copy()
    result[first:] += share[..., None] * (seen + _grain(filled, known, last, first) - filled[first:])
    return np.clip(result, 0, 255)


def _grain(filled: Floats, known: Mask, last: NDArray[np.int64], first: int) -> Floats:
    """[rows, W, 3] the finest detail just above the hole, mirrored to and fro down to the nadir, where it fades.

    The plan has fewer pixels than the ring near it; without this the ground would turn smooth where the photo ends.
    """
    height = known.shape[0]
    degree = height / 180
    band = max(2, round(_GRAIN_DEGREES * degree))
    rows = np.arange(first, height)[:, None]
    below = np.maximum(rows - last[None, :] - 1, 0)
    folded = np.mod(below, 2 * band)
    source = np.clip(last[None, :] - np.minimum(folded, 2 * band - 1 - folded), 0, height - 1)
    upper = max(0, int(last.min()) - 3 * band)
    lower = int(last.max()) + 1
    part = np.ascontiguousarray(filled[upper:lower])
    detail = part - cv2.GaussianBlur(part, (0, 0), _GRAIN_PIXELS)
    usual = np.median(np.abs(detail[-2 * band :])) * 1.48
    detail = np.clip(detail, -2 * usual, 2 * usual)  # grain, not the edges of things
    fading = np.cos(elevations(height)[first:])[:, None]
    return np.asarray(_GRAIN_SHARE * fading[..., None] * detail[source - upper, np.arange(len(last))[None, :]])
