"""The floor below the photo, grown from the floor that the photo shows, as seen from above.

Example:
    >>> synthesise_floor(filled, ring.known, ring.layout, seed=0)      # [H, W, 3], what was below the photo now floor
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from patchmatch import patch_match

from worldexplorer.preview.equirectangular import azimuths, column_of, elevations, row_of
from worldexplorer.preview.layout_prior import Layout

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

CAMERA_HEIGHT = 1.5
"""Metres from the floor to the camera."""

_LARGEST_RADIUS = 6.0
_HOLE_PIXELS = 60_000
_PATCH_RADIUS = 2
_LEAST_SOURCE = 0.15
_EXAMPLE_DEGREES = 14
_EXAMPLE_DISTANCE = 3.0
_UNUSUAL = 2.5


def synthesise_floor(filled: Floats, known: Mask, layout: Layout, plain: Mask, seed: int) -> Floats:
    """Replace what lies below the ring by floor.

    The ring's floor is drawn as a map (bird's eye), the hole around the camera is filled by PatchMatch inpainting
    (Barnes et al., "PatchMatch", SIGGRAPH 2009), and the map is looked at from the camera again. What lies on the floor
    but does not look like it is neither copied nor continued. Where the ring hardly shows any floor, its plainest
    columns serve as the example of the ground, at the size they would have three metres away.

    Args:
        filled: [H, W, 3] float32 panorama without gaps.
        known: [H, W] bool, the pixels that the ring gave.
        layout: of all W columns.
        plain: [W] bool, the columns that show the subject least.
        seed: of the search.
    """
    height, width = known.shape
    plan = _drawn_plan(filled, known)
    if not plan.hole.any():
        return filled
    column = np.mod(np.rint(plan.column).astype(np.int64), width)
    is_floor = plan.seen & (-plan.elevation > -layout.foot[column] + math.radians(0.7)) & layout.foot_seen[column]
    is_floor &= ~_unusual(plan.colours, is_floor)
    colours, hole, source = plan.colours, plan.hole, is_floor
    if is_floor.sum() < _LEAST_SOURCE * plan.hole.sum():
        example = _example(filled, known, plain, colours.shape[1], plan.scale)
        touching = cv2.dilate(plan.hole.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool) & plan.seen
        touching &= plain[column]
        colours = np.concatenate([colours, example])
        hole = np.concatenate([hole, np.zeros(example.shape[:2], dtype=bool)])
        source = np.concatenate([touching, np.ones(example.shape[:2], dtype=bool)])
    patch_match.set_random_seed(seed)
    drawn = patch_match.inpaint(
        np.clip(np.rint(colours), 0, 255).astype(np.uint8),
        hole.astype(np.uint8),
        global_mask=(~(hole | source)).astype(np.uint8),
        patch_size=_PATCH_RADIUS,
    )[: len(plan.hole)].astype(np.float32)
    return _looked_at(drawn, plan, filled, known, layout)


@dataclass(frozen=True)
class _Plan:
    """The floor from above: colours, pixels seen in the ring, pixels to fill, and where the panorama shows each."""

    colours: Floats
    seen: Mask
    hole: Mask
    column: NDArray[np.float64]
    elevation: NDArray[np.float64]
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
    scale = math.sqrt(_HOLE_PIXELS / (math.pi * radius**2))
    size = 2 * round(half * scale)
    at = ((np.arange(size) + 0.5) / size * 2 - 1) * half
    right, ahead = np.meshgrid(at, -at)
    away = np.hypot(right, ahead)
    column = column_of(np.arctan2(right, ahead), width)
    elevation = -np.arctan2(CAMERA_HEIGHT, away)
    row = row_of(elevation, height)
    wrapped = np.concatenate([filled[:, -1:], filled, filled[:, :1]], axis=1)
    colours = cv2.remap(wrapped, (column + 1).astype(np.float32), row.astype(np.float32), cv2.INTER_LINEAR)
    nearest = np.mod(np.rint(column).astype(np.int64), width)
    seen = known[np.clip(np.rint(row).astype(np.int64) + 1, 0, height - 1), nearest] & (away < half)
    return _Plan(colours, seen, ~seen & (away < radius), column, elevation, half, scale)


def _unusual(colours: Floats, floor: Mask) -> Mask:
    """What lies on the floor but differs in colour from most of it."""
    if not floor.any():
        return np.zeros_like(floor)
    lab = cv2.cvtColor(cv2.GaussianBlur(colours, (0, 0), 1.0) / 255, cv2.COLOR_RGB2LAB)
    usual = np.median(lab[floor], axis=0)
    spread = np.median(np.abs(lab[floor] - usual), axis=0) * 1.48 + 3.0
    odd = (np.abs(lab - usual) / spread).max(axis=-1) > _UNUSUAL
    return cv2.dilate(odd.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)


def _example(filled: Floats, known: Mask, plain: Mask, width: int, scale: float) -> Floats:
    """[h, width, 3] the lowest part of the plainest columns side by side, in the plan's scale."""
    height = known.shape[0]
    degree = height / 180
    columns = np.flatnonzero(plain) if plain.any() else np.arange(known.shape[1])
    rows = np.arange(round(_EXAMPLE_DEGREES * degree))
    last = height - 1 - np.argmax(known[::-1], axis=0)
    strip = filled[np.maximum(last[columns] - rows[::-1, None], 0), columns[None, :]]
    factor = scale * _EXAMPLE_DISTANCE * math.pi / 180 / degree
    size = (max(8, round(strip.shape[1] * factor)), max(8, round(strip.shape[0] * factor)))
    small = cv2.resize(strip, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    while small.shape[1] < width:
        small = np.concatenate([small, small[:, ::-1]], axis=1)
    lines = [small[:, start : start + width] for start in range(0, small.shape[1] - width + 1, width)]
    return np.concatenate(lines[:4])


def _looked_at(drawn: Floats, plan: _Plan, filled: Floats, known: Mask, layout: Layout) -> Floats:
    """The panorama with the plan's hole in place of what was below the ring."""
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
    gently = np.clip(below / np.where(layout.foot_seen, 0.5, 4.0)[None, :], 0, 1)  # what is cut off may end softly
    share = np.clip(share, 0, 1) * ~known[first:] * gently
    result = filled.copy()
    result[first:] += share[..., None] * (np.clip(seen, 0, 255) - filled[first:])
    return result
