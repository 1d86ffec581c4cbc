"""A triangle mesh of a range map, coarse where the surface is flat, cut where it jumps.

Every pixel of the equirectangular map is a cell whose four corners take the mean inverse range of the pixels that meet
there *and* belong to the same surface (inverse range is linear over a plane). Two neighbouring pixels belong to one
surface when their ranges differ by at most `cut_ratio`; where they don't, each side ends at the border between them,
smoothed so that it doesn't run in steps. Seen from the origin the mesh still covers every direction.

Cells are merged into larger ones as long as their corners lie on one plane to within `FLATNESS`. A merged cell beside
smaller ones takes over their corners, so that no crack opens between them.

Frame: that of the world (x right, y up, z backward; row 0 straight up, the centre column forward, columns to the
right).

Example:
    >>> mesh = build_mesh(np.full((180, 360), 25.0), cut_ratio=CUT_RATIO)     # a dome
    >>> mesh.triangles.shape[1]
    3
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numba
import numpy as np

from worldexplorer.errors import DefectError
from worldexplorer.preview import threads as _threads  # noqa: F401  sets numba up

if TYPE_CHECKING:
    from numpy.typing import NDArray

CUT_RATIO = 1.3
"""Neighbouring pixels of a range map that differ by more than this factor belong to different surfaces."""

FLATNESS = 1e-3
"""How far, relative to the range, a corner may lie off the plane of the merged cell it belongs to."""

CUT_SMOOTHING = 4
"""Rounds in which every corner along a cut moves half way to the middle between its neighbours there."""

MAXIMUM_CELL_DEGREES = 8.0
"""The largest size a cell is tried at; of larger ones a view would show so few that nothing is saved."""


@dataclass(frozen=True)
class Mesh:
    """Triangles in space.

    Attributes:
        vertices: [V, 3] float64, metres, world frame.
        triangles: [T, 3] int32 indices of vertices.
    """

    vertices: NDArray[np.float64]
    triangles: NDArray[np.int32]


def build_mesh(range_m: NDArray[np.floating], cut_ratio: float) -> Mesh:
    """The mesh of a range map.

    Args:
        range_m: [H, W] metres along each pixel's ray, W = 2 H.
        cut_ratio: largest factor between neighbours of one surface; infinity for a mesh that is never cut.

    Raises:
        DefectError: the map has another shape, or a range that is not finite and positive.
    """
    height, width = range_m.shape
    if width != 2 * height or not (np.isfinite(range_m).all() and (range_m > 0).all()):
        raise DefectError(f"a range map of {height} x {width} is not a full sphere of finite, positive ranges")
    inverse = 1.0 / range_m.astype(np.float64)
    corner_inverse, corner_surface, moved = _corners(inverse, np.log(cut_ratio))
    cell_size = _merge_cells(corner_inverse, corner_surface, _cell_sizes(height), FLATNESS)
    nothing = np.empty((0, 3), dtype=np.int64)
    triangles = np.empty((_triangulate(cell_size, corner_surface, nothing), 3), dtype=np.int64)
    _triangulate(cell_size, corner_surface, triangles)
    keys, indices = np.unique(triangles.ravel(), return_inverse=True)
    corner, surface = np.divmod(keys, 4)
    row, column = np.divmod(corner, width)
    places = np.stack([row, column], axis=-1) + moved[row, column]
    vertices = _directions(places, width) / corner_inverse[row, column, surface, None]
    return Mesh(np.ascontiguousarray(vertices), indices.reshape(-1, 3).astype(np.int32))


def _cell_sizes(height: int) -> NDArray[np.int64]:
    """Sizes in pixels that cells of a map may have, largest first; each divides those before it, and the height."""
    sizes = [1]
    for factor in (2, 3, 5):
        while height % (sizes[-1] * factor) == 0 and sizes[-1] * factor * 180 <= MAXIMUM_CELL_DEGREES * height:
            sizes.append(sizes[-1] * factor)
    return np.array(sizes[::-1], dtype=np.int64)


def _directions(places: NDArray[np.floating], width: int) -> NDArray[np.float64]:
    """[..., 3] unit vectors to places [..., (row, column)] of a panorama `width` pixels wide; (0, 0) is its corner."""
    up = np.pi / 2 - places[..., 0] * (2 * np.pi / width)
    right = places[..., 1] * (2 * np.pi / width) - np.pi
    return np.stack([np.cos(up) * np.sin(right), np.sin(up), -np.cos(up) * np.cos(right)], axis=-1)


def _corners(
    inverse: NDArray[np.float64], log_cut: float
) -> tuple[NDArray[np.float64], NDArray[np.int8], NDArray[np.float32]]:
    """Inverse ranges at the corners of pixels, one for each surface that ends there.

    Returns:
        [H + 1, W, 4] inverse ranges and [H + 1, W, 4] surfaces. The last axis is the pixel around the corner:
        north-west, north-east, south-east, south-west. Pixels of one surface share its number (the least of their
        places) and value. Last, [H + 1, W, 2] how far corners on cuts move, in rows and columns.
    """
    height = inverse.shape[0]
    # The rows beyond the poles hold the pixel across the pole's corner; they are dealt with below.
    padded = np.pad(inverse, ((1, 1), (0, 0)), mode="edge")
    west = np.roll(padded, 1, axis=1)
    # Whether neighbours around a corner are one surface: north-west with north-east, that with south-east, and so on.
    level = np.abs(np.log(west / padded)) <= log_cut
    upright = np.abs(np.log(padded[1:] / padded[:-1])) <= log_cut
    joined = np.stack([level[:-1], upright, level[1:], np.roll(upright, 1, axis=1)], axis=-1)
    surface = _SURFACES[joined @ np.array([1, 2, 4, 8])]
    mean = 0.25 * (west[:-1] + padded[:-1] + padded[1:] + west[1:])
    corner_inverse = np.repeat(mean[..., None], 4, axis=-1)
    row, column = np.nonzero(surface.any(axis=-1))
    around = np.stack([grid[row + down, column] for grid, down in ((west, 0), (padded, 0), (padded, 1), (west, 1))], -1)
    for place in range(4):
        same = surface[row, column] == surface[row, column, place, None]
        corner_inverse[row, column, place] = (around * same).sum(axis=-1) / same.sum(axis=-1)
    for corner_row, pixel_row in ((0, 0), (height, height - 1)):
        around_pole = np.log(inverse[pixel_row])
        if np.ptp(around_pole) <= log_cut:
            corner_inverse[corner_row] = inverse[pixel_row].mean()
    return corner_inverse, surface, _smooth_cuts(~joined)


def _smooth_cuts(cut: NDArray[np.bool_]) -> NDArray[np.float32]:
    """How far to move the corners along cuts so that these don't run in steps: [H + 1, W, 2] rows and columns.

    Args:
        cut: [H + 1, W, 4] whether a cut goes north, east, south and west from a corner.
    """
    moved = np.zeros((*cut.shape[:2], 2), dtype=np.float32)
    between = cut.sum(axis=-1) == 2  # corners where cuts end or meet stay, and so do the poles
    between[[0, -1]] = False
    rows, columns = np.nonzero(between)
    around = ((-1, 0), (0, 1), (1, 0), (0, -1))
    for _ in range(CUT_SMOOTHING):
        mean = np.zeros((len(rows), 2), dtype=np.float32)
        for direction, (down, right) in enumerate(around):
            neighbour = moved[rows + down, (columns + right) % cut.shape[1]] + np.array([down, right], dtype=np.float32)
            mean += 0.5 * cut[rows, columns, direction, None] * neighbour
        moved[rows, columns] = 0.5 * (moved[rows, columns] + mean)
    return moved


def _surface_table() -> NDArray[np.int8]:
    """[16, 4] the surface of each of four pixels in a ring, by the bits of which neighbours are joined."""
    table = np.empty((16, 4), dtype=np.int8)
    for bits in range(16):
        surface = [0, 1, 2, 3]
        for _ in range(4):
            for place in range(4):
                if bits >> place & 1:
                    neighbour = (place + 1) % 4
                    surface[place] = surface[neighbour] = min(surface[place], surface[neighbour])
        table[bits] = surface
    return table


_SURFACES = _surface_table()


@numba.njit(cache=True)
def _merge_cells(corner_inverse, corner_surface, sizes, flatness):  # type: ignore[no-untyped-def]
    """[H, W] the size in pixels of the square cell that every pixel belongs to: the largest that is whole and flat."""
    rows, width = corner_inverse.shape[0] - 1, corner_inverse.shape[1]
    size = np.zeros((rows, width), np.int32)
    for cell in sizes:
        for top in range(0, rows, cell):
            for left in range(0, width, cell):
                if size[top, left] == 0 and (
                    cell == 1
                    or (
                        _is_one_surface(corner_surface, top, left, cell)
                        and _is_flat(corner_inverse, top, left, cell, 2 * np.pi / width, flatness)
                    )
                ):
                    size[top : top + cell, left : left + cell] = cell
    return size


@numba.njit(cache=True)
def _is_one_surface(corner_surface, top, left, cell):  # type: ignore[no-untyped-def]
    """Whether no cut runs through the inside of a cell."""
    for row in range(top + 1, top + cell):
        for column in range(left + 1, left + cell):
            for place in range(4):
                if corner_surface[row, column, place] != 0:
                    return False
    return True


@numba.njit(cache=True)
def _is_flat(corner_inverse, top, left, cell, step, flatness):  # type: ignore[no-untyped-def]
    """Whether all corners of a cell lie on the plane q . x = 1 fitted to them, by relative range."""
    width = corner_inverse.shape[1]
    points = np.empty(((cell + 1) * (cell + 1), 3))
    count = 0
    sx, sy, sz, xx, xy, xz, yy, yz, zz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for row in range(top, top + cell + 1):
        up = np.pi / 2 - row * step
        for column in range(left, left + cell + 1):
            distance = 1.0 / corner_inverse[row, column % width, _inner_place(row == top + cell, column == left + cell)]
            right = column * step - np.pi
            x, y, z = (
                distance * np.cos(up) * np.sin(right),
                distance * np.sin(up),
                -distance * np.cos(up) * np.cos(right),
            )
            points[count, 0], points[count, 1], points[count, 2] = x, y, z
            sx, sy, sz = sx + x, sy + y, sz + z
            xx, xy, xz = xx + x * x, xy + x * y, xz + x * z
            yy, yz, zz = yy + y * y, yz + y * z, zz + z * z
            count += 1
    # The normal equations by Cramer's rule. Points on a line fit any plane through it: the ridge picks one.
    ridge = 1e-12 * (xx + yy + zz)
    xx, yy, zz = xx + ridge, yy + ridge, zz + ridge
    cxx, cxy, cxz = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    cyy, cyz, czz = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    determinant = xx * cxx + xy * cxy + xz * cxz
    if determinant <= 0.0:  # rounding left nothing of it: the cell is too thin to tell a plane
        return False
    qx = (cxx * sx + cxy * sy + cxz * sz) / determinant
    qy = (cxy * sx + cyy * sy + cyz * sz) / determinant
    qz = (cxz * sx + cyz * sy + czz * sz) / determinant
    for point in range(count):
        if abs(points[point, 0] * qx + points[point, 1] * qy + points[point, 2] * qz - 1.0) > flatness:
            return False
    return True


@numba.njit(cache=True)
def _inner_place(at_bottom, at_right):  # type: ignore[no-untyped-def]
    """The place, in the ring around a corner of a cell, of a pixel inside the cell."""
    if at_bottom:
        return 0 if at_right else 1
    return 3 if at_right else 2


@numba.njit(cache=True)
def _triangulate(size, corner_surface, triangles):  # type: ignore[no-untyped-def]
    """Fill `triangles` ([T, 3], corner number * 4 + surface) if it has room, and return T.

    A cell with no smaller neighbour is two triangles (one at a pole), any other a fan around its centre.
    """
    rows, width = size.shape
    largest = 1
    for row in range(rows):
        for column in range(width):
            largest = max(largest, size[row, column])
    outline = np.empty(4 * largest, np.int64)
    count = 0
    for top in range(rows):
        for left in range(width):
            cell = size[top, left]
            if top % cell or left % cell:
                continue
            corners = 0
            bottom, right = top + cell, left + cell
            # Clockwise from the north-west corner; each side stops where cells beyond it that are smaller stop. On a
            # pole the side has no length and is one corner.
            row, column = top, left
            while column < right:
                outline[corners] = _key(corner_surface, row, column, row == bottom, column == right)
                corners += 1
                column += min(size[top - 1, column], cell) if top > 0 else cell
            while row < bottom:
                if row > 0:
                    outline[corners] = _key(corner_surface, row, column, row == bottom, column == right)
                    corners += 1
                row += min(size[row, right % width], cell)
            while column > left:
                outline[corners] = _key(corner_surface, row, column, row == bottom, column == right)
                corners += 1
                column -= min(size[bottom, column - 1], cell) if bottom < rows else cell
            while row > top:
                if row < rows:
                    outline[corners] = _key(corner_surface, row, column, row == bottom, column == right)
                    corners += 1
                row -= min(size[row - 1, left - 1], cell)
            if corners <= 4:
                for corner in range(1, corners - 1):
                    if triangles.shape[0]:
                        triangles[count, 0] = outline[0]
                        triangles[count, 1] = outline[corner]
                        triangles[count, 2] = outline[corner + 1]
                    count += 1
                continue
            centre = _key(corner_surface, top + cell // 2, left + cell // 2, row == bottom, column == right)
            for side in range(corners):
                if triangles.shape[0]:
                    triangles[count, 0] = centre
                    triangles[count, 1] = outline[side]
                    triangles[count, 2] = outline[(side + 1) % corners]
                count += 1
    return count


@numba.njit(cache=True)
def _key(corner_surface, row, column, at_bottom, at_right):  # type: ignore[no-untyped-def]
    """The number of a vertex: its corner and which of the surfaces that meet there the cell belongs to."""
    width = corner_surface.shape[1]
    place = _inner_place(at_bottom, at_right)
    return (row * width + column % width) * 4 + corner_surface[row, column % width, place]
