"""Colours of Gaussians by the direction they are seen from, and their gradients.

Most Gaussians of a scene lie outside a camera's view, so those that show are listed first, without waiting for how
many they are: programs beyond the list's end have nothing to do. A program takes 32 Gaussians with all their
coefficients, so that memory is read and written in whole lines; the gradients of several cameras are added up on the
way.

Example:
    >>> colours = harmonic_colours(means, sh, cameras, radii, degree=3)      # [C, N, 3], never below 0
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from worldexplorer.models.splatting import spherical_harmonics as table

_ROWS = 32
_LIST_BLOCK = 1024
_WIDTH = 64
_BAND_0 = tl.constexpr(table.BAND_0)
_BAND_1 = tl.constexpr(table.BAND_1)
_CROSS_2, _MIDDLE_2, _SIDE_2 = (tl.constexpr(factor) for factor in table.BAND_2)
_OUTER_3, _CROSS_3, _INNER_3, _MIDDLE_3, _SIDE_3 = (tl.constexpr(factor) for factor in table.BAND_3)


def harmonic_colours(means: Tensor, sh: Tensor, places: Tensor, radii: Tensor, degree: int) -> Tensor:
    """Colours of N Gaussians for C cameras; those that do not show are black and have no gradient.

    Args:
        means: [N, 3].
        sh: [N, K, 3], K at most 16.
        places: [C, 3] of the cameras.
        radii: [C, N, 2] int32, both above 0 where a Gaussian shows.
        degree: of the coefficients to use.

    Returns:
        [C, N, 3], 0.5 added, cut at 0.
    """
    found: Tensor = _Colours.apply(means, sh, places, radii, degree)
    return found


class _Colours(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, means: Tensor, sh: Tensor, places: Tensor, radii: Tensor, degree: int) -> Tensor:
        count, cameras = len(means), len(places)
        means, sh, places, radii = (array.contiguous() for array in (means, sh, places, radii))
        colours = torch.zeros(cameras, count, 3, device=means.device)
        listed = torch.empty(count, dtype=torch.int32, device=means.device)
        total = torch.zeros(1, dtype=torch.int32, device=means.device)
        _list[(triton.cdiv(count, _LIST_BLOCK),)](
            radii, listed, total, count, CAMERAS=cameras, BLOCK=_LIST_BLOCK, num_warps=4
        )
        _forward[(triton.cdiv(count, _ROWS), cameras)](
            means, sh, places, radii, listed, total, colours, count,
            DEGREE=degree, SIZE=3 * sh.shape[1], ROWS=_ROWS, WIDTH=_WIDTH, num_warps=4,
        )  # fmt: skip
        ctx.save_for_backward(means, sh, places, radii, listed, total, colours)
        ctx.degree = degree
        return colours

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        means, sh, places, radii, listed, total, colours = ctx.saved_tensors
        count = len(means)
        by_means, by_sh = torch.zeros_like(means), torch.zeros_like(sh)
        _backward[(triton.cdiv(count, _ROWS),)](
            means, sh, places, radii, listed, total, colours, gradients[0].contiguous(), by_means, by_sh, count,
            CAMERAS=len(places), DEGREE=ctx.degree, SIZE=3 * sh.shape[1], ROWS=_ROWS, WIDTH=_WIDTH, num_warps=4,
        )  # fmt: skip
        return by_means, by_sh, None, None, None


@triton.jit
def _pick(wanted, number: tl.constexpr, value, found):
    return tl.where(wanted == number, value, found)


@triton.jit
def _functions(k, x, y, z, DEGREE: tl.constexpr):
    """[ROWS, WIDTH] the functions k at directions x, y, z of [ROWS, 1]."""
    found = _pick(k, 0, _BAND_0 + 0.0 * x, 0.0 * x)
    if DEGREE >= 1:
        found = _pick(k, 1, -_BAND_1 * y, found)
        found = _pick(k, 2, _BAND_1 * z, found)
        found = _pick(k, 3, -_BAND_1 * x, found)
    if DEGREE >= 2:
        found = _pick(k, 4, _CROSS_2 * x * y, found)
        found = _pick(k, 5, -_CROSS_2 * y * z, found)
        found = _pick(k, 6, _MIDDLE_2 * (3.0 * z * z - 1.0), found)
        found = _pick(k, 7, -_CROSS_2 * x * z, found)
        found = _pick(k, 8, _SIDE_2 * (x * x - y * y), found)
    if DEGREE >= 3:
        found = _pick(k, 9, -_OUTER_3 * y * (3.0 * x * x - y * y), found)
        found = _pick(k, 10, _CROSS_3 * x * y * z, found)
        found = _pick(k, 11, -_INNER_3 * y * (5.0 * z * z - 1.0), found)
        found = _pick(k, 12, _MIDDLE_3 * z * (5.0 * z * z - 3.0), found)
        found = _pick(k, 13, -_INNER_3 * x * (5.0 * z * z - 1.0), found)
        found = _pick(k, 14, _SIDE_3 * z * (x * x - y * y), found)
        found = _pick(k, 15, -_OUTER_3 * x * (x * x - 3.0 * y * y), found)
    return found


@triton.jit
def _slopes(k, x, y, z, DEGREE: tl.constexpr):
    """The derivatives of the functions k by x, y and z."""
    zero = 0.0 * x
    by_x = _pick(k, 3, -_BAND_1 + zero, zero)
    by_y = _pick(k, 1, -_BAND_1 + zero, zero)
    by_z = _pick(k, 2, _BAND_1 + zero, zero)
    if DEGREE >= 2:
        by_x = _pick(k, 4, _CROSS_2 * y, by_x)
        by_y = _pick(k, 4, _CROSS_2 * x, by_y)
        by_y = _pick(k, 5, -_CROSS_2 * z, by_y)
        by_z = _pick(k, 5, -_CROSS_2 * y, by_z)
        by_z = _pick(k, 6, 6.0 * _MIDDLE_2 * z, by_z)
        by_x = _pick(k, 7, -_CROSS_2 * z, by_x)
        by_z = _pick(k, 7, -_CROSS_2 * x, by_z)
        by_x = _pick(k, 8, 2.0 * _SIDE_2 * x, by_x)
        by_y = _pick(k, 8, -2.0 * _SIDE_2 * y, by_y)
    if DEGREE >= 3:
        side = x * x - y * y
        high = 5.0 * z * z - 1.0
        by_x = _pick(k, 9, -6.0 * _OUTER_3 * x * y, by_x)
        by_y = _pick(k, 9, -3.0 * _OUTER_3 * side, by_y)
        by_x = _pick(k, 10, _CROSS_3 * y * z, by_x)
        by_y = _pick(k, 10, _CROSS_3 * x * z, by_y)
        by_z = _pick(k, 10, _CROSS_3 * x * y, by_z)
        by_y = _pick(k, 11, -_INNER_3 * high, by_y)
        by_z = _pick(k, 11, -10.0 * _INNER_3 * y * z, by_z)
        by_z = _pick(k, 12, _MIDDLE_3 * (15.0 * z * z - 3.0), by_z)
        by_x = _pick(k, 13, -_INNER_3 * high, by_x)
        by_z = _pick(k, 13, -10.0 * _INNER_3 * x * z, by_z)
        by_x = _pick(k, 14, 2.0 * _SIDE_3 * x * z, by_x)
        by_y = _pick(k, 14, -2.0 * _SIDE_3 * y * z, by_y)
        by_z = _pick(k, 14, _SIDE_3 * side, by_z)
        by_x = _pick(k, 15, -3.0 * _OUTER_3 * side, by_x)
        by_y = _pick(k, 15, 6.0 * _OUTER_3 * x * y, by_y)
    return by_x, by_y, by_z


@triton.jit
def _seen(means, places, radii, row, inside, camera, count):
    """Direction [ROWS] from a camera, distance, and whether the Gaussian shows."""
    at = (camera * count + row) * 2
    first = tl.load(radii + at, mask=inside, other=0)
    shown = inside & (first > 0) & (tl.load(radii + at + 1, mask=inside, other=0) > 0)
    x = tl.load(means + row * 3, mask=shown, other=1.0) - tl.load(places + camera * 3)
    y = tl.load(means + row * 3 + 1, mask=shown, other=1.0) - tl.load(places + camera * 3 + 1)
    z = tl.load(means + row * 3 + 2, mask=shown, other=1.0) - tl.load(places + camera * 3 + 2)
    over = 1.0 / tl.maximum(tl.sqrt(x * x + y * y + z * z), 1e-12)
    return x * over, y * over, z * over, over, shown


@triton.jit
def _list(radii, listed, total, count, CAMERAS: tl.constexpr, BLOCK: tl.constexpr):
    """The Gaussians that any camera shows, and how many they are."""
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    shown = tl.zeros([BLOCK], tl.int32)
    for camera in tl.static_range(CAMERAS):
        at = (camera * count + row) * 2
        wide = tl.load(radii + at, mask=row < count, other=0) > 0
        shown |= (wide & (tl.load(radii + at + 1, mask=row < count, other=0) > 0)).to(tl.int32)
    first = tl.atomic_add(total, tl.sum(shown))
    tl.store(listed + first + tl.cumsum(shown) - 1, row.to(tl.int32), mask=shown > 0)


@triton.jit
def _forward(
    means, sh, places, radii, listed, total, colours, count,
    DEGREE: tl.constexpr, SIZE: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    camera = tl.program_id(1)
    known = tl.load(total)
    if tl.program_id(0) * ROWS >= known:
        return
    inside = place < known
    row = tl.load(listed + place, mask=inside, other=0).to(tl.int64)
    x, y, z, _, shown = _seen(means, places, radii, row, inside, camera, count)
    column = tl.arange(0, WIDTH)[None, :]
    used = shown[:, None] & (column < 3 * (DEGREE + 1) * (DEGREE + 1))
    value = tl.load(sh + row[:, None] * SIZE + column, mask=used, other=0.0)
    value *= _functions(column // 3, x[:, None], y[:, None], z[:, None], DEGREE)
    channel = column % 3
    to = colours + (camera * count + row) * 3
    red = tl.sum(tl.where(channel == 0, value, 0.0), axis=1) + 0.5
    green = tl.sum(tl.where(channel == 1, value, 0.0), axis=1) + 0.5
    blue = tl.sum(tl.where(channel == 2, value, 0.0), axis=1) + 0.5
    tl.store(to, tl.where(shown & (red > 0.0), red, 0.0), mask=inside)
    tl.store(to + 1, tl.where(shown & (green > 0.0), green, 0.0), mask=inside)
    tl.store(to + 2, tl.where(shown & (blue > 0.0), blue, 0.0), mask=inside)


@triton.jit
def _backward(
    means, sh, places, radii, listed, total, colours, gradients, by_means, by_sh, count,
    CAMERAS: tl.constexpr, DEGREE: tl.constexpr, SIZE: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    known = tl.load(total)
    if tl.program_id(0) * ROWS >= known:
        return
    inside = place < known
    row = tl.load(listed + place, mask=inside, other=0).to(tl.int64)
    column = tl.arange(0, WIDTH)[None, :]
    channel = column % 3
    used = column < 3 * (DEGREE + 1) * (DEGREE + 1)
    slope = tl.zeros([ROWS, WIDTH], tl.float32)
    mean_x = tl.zeros([ROWS], tl.float32)
    mean_y = tl.zeros([ROWS], tl.float32)
    mean_z = tl.zeros([ROWS], tl.float32)
    for camera in tl.static_range(CAMERAS):
        x, y, z, over, shown = _seen(means, places, radii, row, inside, camera, count)
        at = (camera * count + row) * 3
        red = tl.load(gradients + at, mask=shown, other=0.0)
        green = tl.load(gradients + at + 1, mask=shown, other=0.0)
        blue = tl.load(gradients + at + 2, mask=shown, other=0.0)
        red = tl.where(tl.load(colours + at, mask=shown, other=0.0) > 0.0, red, 0.0)
        green = tl.where(tl.load(colours + at + 1, mask=shown, other=0.0) > 0.0, green, 0.0)
        blue = tl.where(tl.load(colours + at + 2, mask=shown, other=0.0) > 0.0, blue, 0.0)
        pull = tl.where(channel == 0, red[:, None], tl.where(channel == 1, green[:, None], blue[:, None]))
        slope += tl.where(used, pull * _functions(column // 3, x[:, None], y[:, None], z[:, None], DEGREE), 0.0)
        if DEGREE >= 1:
            load = used & shown[:, None]
            value = pull * tl.load(sh + row[:, None] * SIZE + column, mask=load, other=0.0)
            by_x, by_y, by_z = _slopes(column // 3, x[:, None], y[:, None], z[:, None], DEGREE)
            across_x = tl.sum(value * by_x, axis=1)
            across_y = tl.sum(value * by_y, axis=1)
            across_z = tl.sum(value * by_z, axis=1)
            along = across_x * x + across_y * y + across_z * z
            mean_x += (across_x - along * x) * over
            mean_y += (across_y - along * y) * over
            mean_z += (across_z - along * z) * over
    tl.store(by_sh + row[:, None] * SIZE + column, slope, mask=inside[:, None] & (column < SIZE))
    tl.store(by_means + row * 3, mean_x, mask=inside)
    tl.store(by_means + row * 3 + 1, mean_y, mask=inside)
    tl.store(by_means + row * 3 + 2, mean_z, mask=inside)
