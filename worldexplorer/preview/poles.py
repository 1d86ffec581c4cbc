"""The parts of a panorama above and below the photo: sky, ceiling, and ground where no floor was seen.

Example:
    >>> filled = fill_caps(ring.colours, ring.known, ring.layout)    # [H, W, 3] float32, no gap left
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

from worldexplorer.preview.equirectangular import elevations, row_of
from worldexplorer.preview.layout_prior import Layout

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Mask = NDArray[np.bool_]

_FADE_DEGREES = 12.0
_BOUNDARY_DEGREES = 1.5
_TREND_DEGREES = 8.0
_TREND_REACH_DEGREES = 18.0
_LARGEST_TREND = 28.0
_CLEAR_DEGREES = 1.5
_TIP_DEGREES = 1.5
_UNSEEN_SKY = np.array([0.84, 0.90, 0.96])
"""An overcast sky's colour as a share of the photo's bright parts, where the photo shows no sky."""


def fill_caps(colours: Floats, known: Mask, layout: Layout) -> Floats:
    """Colours in every direction from a ring of known ones.

    Towards each pole the ring's border colours go on as the solution of Laplace's equation on the sphere (a Fourier
    series along the parallel, each term falling with its own power of the tangent of half the polar distance): sharp at
    the border, ever smoother, one colour at the pole. Next to the border the ring's own texture is mirrored, blurred
    the more the farther, until it has faded. Outdoors the upper cap is a sky: only sky gives its colours, whose change
    with elevation goes on for some way, and what the photo's upper edge cuts off ends a little above it.

    Args:
        colours: [H, W, 3] float32, 0 to 255.
        known: [H, W] bool; every column has known pixels.
        layout: of all W columns.
    """
    height = known.shape[0]
    filled = np.where(known[..., None], colours, 0).astype(np.float32)
    top = np.rint(row_of(layout.top, height)).astype(np.int64)
    _fill_upper(filled, known, _Border(top, layout.top_seen, layout.is_outdoor))
    foot = height - 1 - np.rint(row_of(layout.foot, height)).astype(np.int64)
    _fill_upper(filled[::-1], known[::-1], _Border(foot, layout.foot_seen, False))
    return filled


@dataclass(frozen=True)
class _Border:
    """What stands at the ring's upper edge: the row where walls begin, whether that is seen, whether above is sky."""

    wall_row: NDArray[np.int64]
    seen: Mask
    is_sky: bool


def _fill_upper(colours: Floats, known: Mask, kind: _Border) -> None:
    """Fill the unknown pixels above the ring, in place."""
    height, width = known.shape
    degree = height / 180
    border = np.argmax(known, axis=0)
    if not border.any():
        return
    border = np.where(known.any(axis=0), border, int(np.median(border)))
    fade = round(_FADE_DEGREES * degree)
    own_fade = np.where(kind.seen, fade, fade / 2)  # what the edge cuts off ends sooner than sky or ceiling
    lowest = int(border.max())
    rows = np.arange(lowest + 1)
    base = _harmonic(_border_colour(colours, known, border, kind, degree), np.pi / 2 - elevations(height)[rows])

    distance = border[None, :] - rows[:, None]  # rows above the border, positive where unknown
    away = np.clip(distance / own_fade, 0, 1)
    texture = _blurred_by(_mirrored(colours, border, lowest, fade), away, degree)
    share = (1 - away) ** 2 * (1 + 2 * away)
    # Where sky or ceiling reaches the border, only sky or ceiling is mirrored, not what stands below it.
    # Tips are thinner than the layout sees: keep some distance from them.
    clear_row = scipy.ndimage.minimum_filter1d(kind.wall_row, 2 * round(_TIP_DEGREES * degree) + 1, mode="wrap")
    clear_row = clear_row - round(_TIP_DEGREES * degree)
    left_over = clear_row[None, :] - (2 * border[None, :] - rows[:, None])
    share = share * np.where(kind.seen[None, :], np.clip(left_over / (2 * degree), 0, 1), 1)
    share = np.where(distance > 0, cv2.blur(share.astype(np.float32), (round(2 * degree) | 1, 1)), 1)
    at_border = base[np.minimum(border, lowest), np.arange(width)]
    own = colours[border, np.arange(width)] - at_border
    own = own[None] * np.exp(-distance / (1.5 * degree))[..., None]  # what the border itself differs by, soon forgotten
    result = base + own + share[..., None] * (texture - at_border[None] - own)
    if kind.is_sky:
        reach = _TREND_REACH_DEGREES * degree
        result += (
            _trend(colours, known, border, kind.seen, degree)[None, None, :]
            * (reach * (1 - np.exp(-np.maximum(distance, 0) / reach)))[..., None]
        )
    unknown = ~known[: lowest + 1] & (distance > 0)
    colours[: lowest + 1][unknown] = np.clip(result, 0, 255)[unknown]


def _harmonic(border_colour: Doubles, polar: Doubles) -> Floats:
    """[rows, W, 3] Laplace's solution on the cap whose border, at the last polar distance, has the given colours."""
    spectrum = np.fft.rfft(border_colour, axis=0)
    shrink = np.tan(polar / 2) / math.tan(polar[-1] / 2)
    damping = np.exp(np.arange(len(spectrum))[None, :] * np.log(shrink)[:, None])
    cap = np.empty((len(polar), *border_colour.shape), dtype=np.float32)
    for row, factors in enumerate(damping):
        cap[row] = np.fft.irfft(spectrum * factors[:, None], n=len(border_colour), axis=0)
    return cap


def _border_colour(colours: Floats, known: Mask, border: NDArray[np.integer], kind: _Border, degree: float) -> Doubles:
    """[W, 3] mean colour of the known pixels next to the border; of sky only, where there is sky to ask."""
    columns = np.arange(known.shape[1])
    total = np.zeros((known.shape[1], 3))
    count = np.zeros((known.shape[1], 1))
    for row in range(max(1, round(_BOUNDARY_DEGREES * degree))):
        at = np.minimum(border + row, known.shape[0] - 1)
        weight = known[at, columns][:, None]
        total += colours[at, columns] * weight
        count += weight
    colour = total / np.maximum(count, 1)
    clear = kind.seen & (kind.wall_row > border + 2 * degree)
    clear = scipy.ndimage.minimum_filter1d(clear, 2 * round(_CLEAR_DEGREES * degree) + 1, mode="wrap")
    if kind.is_sky and clear.mean() > 0.05:
        asked = columns[clear]
        colour = np.stack([np.interp(columns, asked, colour[asked, k], period=len(columns)) for k in range(3)], axis=-1)
    elif kind.is_sky:
        bright = float(np.percentile(colours[known].max(axis=-1)[::97], 90))
        colour = np.broadcast_to(bright * _UNSEEN_SKY, colour.shape)
    return colour


def _blurred_by(image: Floats, away: Doubles, degree: float) -> Floats:
    """The image, blurred the more the larger `away` (0 to 1) is."""
    level = np.clip(away * 6, 0, 3)[..., None]
    result = image
    for index, sigma in enumerate((0.25, 0.6, 1.2)):
        blurred = _blurred_around(image, sigma * degree)
        result = result + np.clip(level - index, 0, 1) * (blurred - result)
    return np.asarray(result, dtype=np.float32)


def _mirrored(colours: Floats, border: NDArray[np.integer], lowest: int, fade: int) -> Floats:
    """[lowest + 1, W, 3] the picture and above its border its mirror image, as far as it is used."""
    height, width = colours.shape[:2]
    rows = np.arange(lowest + 1)[:, None]
    source = np.where(rows < border, 2 * border - 1 - rows, rows)
    source = np.minimum(source, np.minimum(border + fade, height - 1))
    return np.asarray(colours[source, np.arange(width)[None, :]])


def _blurred_around(image: Floats, sigma: float) -> Floats:
    """Gaussian blur that wraps around the ring."""
    pad = math.ceil(4 * sigma)
    wrapped = cv2.copyMakeBorder(image, 0, 0, pad, pad, cv2.BORDER_WRAP)
    blurred = cv2.GaussianBlur(wrapped, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(blurred[:, pad : pad + image.shape[1]], dtype=np.float32)


def _trend(colours: Floats, known: Mask, border: NDArray[np.integer], seen: Mask, degree: float) -> Floats:
    """[3] colour change a row upward at the border, where the columns are smooth there."""
    depth = round(_TREND_DEGREES * degree)
    columns = np.arange(known.shape[1])
    near = np.minimum(border + round(degree), known.shape[0] - 1)
    far = np.minimum(border + depth, known.shape[0] - 1)
    change = colours[near, columns] - colours[far, columns]
    smooth = seen & known[near, columns] & known[far, columns] & (np.abs(change).max(axis=1) < 40)
    if smooth.mean() < 0.1:
        return np.zeros(3, dtype=np.float32)
    slope = np.median(change[smooth], axis=0) / max(depth - round(degree), 1)
    most = _LARGEST_TREND / (_TREND_REACH_DEGREES * degree)
    return np.asarray(np.clip(slope, -most, most * 0.3), dtype=np.float32)
