"""Pictures and depths of a preview world from any place within it.

The world's range map is a triangle mesh (:mod:`worldexplorer.preview.mesh`), its backdrop a second one that is never
cut and shows where the first has a gap. Triangles are scan-converted into a buffer of inverse depths, which are linear
over a triangle's picture, so that perspective is exact; the colour of a point is that of the panorama in the direction
from the origin to the point. Pictures average two by two samples a pixel; depths are those at pixel centres.

Every frame is computed by one thread from the same numbers: the result doesn't depend on how many threads there are.

Example:
    >>> renderer = WorldRenderer(world)
    >>> pictures = renderer.render(c2w, intrinsics, size=256)     # metres, OpenGL axes -> [N, 256, 256, 3] uint8
    >>> depths = renderer.depth(c2w, intrinsics, size=256)        # [N, 256, 256] float32, metres
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np

from worldexplorer.geometry.cameras import opengl_to_opencv, pixel_intrinsics
from worldexplorer.preview.mesh import CUT_RATIO, build_mesh
from worldexplorer.preview.threads import for_each
from worldexplorer.progress import Progress, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from worldexplorer.preview.world import World

NEAR = 0.05
"""Metres in front of the camera where surfaces begin to show; also the depth where a view shows no surface at all."""

SAMPLES = 2
"""Samples across and down a pixel of a picture."""

BACK_SCALE = 0.99
"""Inverse depths of the backdrop count this much: where both meshes show one surface, the front one is seen."""

FRONT, BACK = np.uint8(0), np.uint8(1)
"""The two layers, by their place among the colours."""

TOUCH = 1e-6
"""Samples' widths by which triangles reach over their borders, to make up for rounding."""


class WorldRenderer:
    """Renders one world; its meshes are built once.

    Args:
        world: the world; its panorama and ranges are not changed.
        threads: frames rendered at a time; None for as many as there are processors to use.
    """

    def __init__(self, world: World, threads: int | None = None) -> None:
        front, back = build_mesh(world.range_m, CUT_RATIO), build_mesh(world.backdrop_range_m, np.inf)
        self._surfaces = (front.vertices, front.triangles, back.vertices, back.triangles)
        self._colours = np.stack([_with_border(world.panorama), _with_border(world.backdrop)])
        self._threads = threads

    def render(
        self, c2w: NDArray[np.float64], intrinsics: NDArray[np.float64], size: int, progress: Progress = silent
    ) -> NDArray[np.uint8]:
        """Pictures.

        Where a view shows no surface at all (only from outside the world) stands the panorama's colour in the
        direction of view.

        Args:
            c2w: [N, 4, 4] OpenGL camera-to-world, world frame, metres.
            intrinsics: [N, 3, 3] normalised by the size of the picture.
            size: pixels across and down.
            progress: told the frames done.

        Returns:
            [N, size, size, 3] uint8 sRGB.
        """
        pictures = np.empty((len(c2w), size, size, 3), dtype=np.uint8)
        rotations, centres, lenses = _cameras(c2w, intrinsics, size * SAMPLES)

        def work(frame: int) -> None:
            camera = rotations[frame], centres[frame], lenses[frame]
            _render(*camera, *self._surfaces, self._colours, pictures[frame])

        for_each(work, len(c2w), self._threads, progress, "views")
        return pictures

    def depth(
        self, c2w: NDArray[np.float64], intrinsics: NDArray[np.float64], size: int, progress: Progress = silent
    ) -> NDArray[np.float32]:
        """Distances along the viewing axis at pixel centres; arguments as for :meth:`render`.

        Returns:
            [N, size, size] float32 metres, finite and positive. Where a view shows no surface the depth is `NEAR`: what
            lies there is unknown, and a camera that sees it has left the world.
        """
        depths = np.empty((len(c2w), size, size), dtype=np.float32)
        rotations, centres, lenses = _cameras(c2w, intrinsics, size)

        def work(frame: int) -> None:
            _depth(rotations[frame], centres[frame], lenses[frame], *self._surfaces, depths[frame])

        for_each(work, len(c2w), self._threads, progress, "depths")
        return depths


def _with_border(panorama: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The panorama with one more pixel on every side: what lies there across the seam and across the poles."""
    half = panorama.shape[1] // 2
    over_poles = np.concatenate(
        [np.roll(panorama[:1], half, axis=1), panorama, np.roll(panorama[-1:], half, axis=1)], axis=0
    )
    return np.ascontiguousarray(np.pad(over_poles, ((0, 0), (1, 1), (0, 0)), mode="wrap"))


def _cameras(
    c2w: NDArray[np.float64], intrinsics: NDArray[np.float64], size: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """OpenCV camera-to-world rotations [N, 3, 3], centres [N, 3] and (fx, fy, cx, cy) [N, 4] of pictures of samples.

    The centre of the sample in column u and row v lies at (u, v).
    """
    poses = opengl_to_opencv(c2w)
    pixels = pixel_intrinsics(intrinsics, size, size)
    lens = np.stack([pixels[:, 0, 0], pixels[:, 1, 1], pixels[:, 0, 2] - 0.5, pixels[:, 1, 2] - 0.5], axis=-1)
    return np.ascontiguousarray(poses[:, :3, :3]), np.ascontiguousarray(poses[:, :3, 3]), lens


@numba.njit(cache=True, nogil=True)
def _render(  # type: ignore[no-untyped-def]
    rotation, centre, lens, front, front_triangles, back, back_triangles, colours, picture
):
    samples = picture.shape[0] * SAMPLES
    nearness = np.zeros((samples, samples), np.float32)
    layer = np.zeros((samples, samples), np.uint8)
    _draw(rotation, centre, lens, front, front_triangles, 1.0, FRONT, nearness, layer)
    _draw(rotation, centre, lens, back, back_triangles, BACK_SCALE, BACK, nearness, layer)
    _shade(rotation, centre, lens, nearness, layer, colours, picture)


@numba.njit(cache=True, nogil=True)
def _depth(rotation, centre, lens, front, front_triangles, back, back_triangles, depth):  # type: ignore[no-untyped-def]
    nearness = np.zeros(depth.shape, np.float32)
    layer = np.zeros(depth.shape, np.uint8)
    _draw(rotation, centre, lens, front, front_triangles, 1.0, FRONT, nearness, layer)
    _draw(rotation, centre, lens, back, back_triangles, BACK_SCALE, BACK, nearness, layer)
    for row in range(depth.shape[0]):
        for column in range(depth.shape[1]):
            scale = BACK_SCALE if layer[row, column] else 1.0
            near = nearness[row, column]
            depth[row, column] = scale / near if near > 0 else NEAR


@numba.njit(cache=True)
def _draw(rotation, centre, lens, vertices, triangles, scale, number, nearness, layer):  # type: ignore[no-untyped-def]
    """Draw triangles into a buffer of inverse depths (times `scale`) and of the number of the layer that is seen."""
    size = nearness.shape[0]
    fx, fy, cx, cy = lens[0], lens[1], lens[2], lens[3]
    count = vertices.shape[0]
    camera = np.empty((count, 3), np.float64)
    screen = np.empty((count, 3), np.float64)
    beyond = np.empty(count, np.uint8)
    last = size - 1.0
    for vertex in range(count):
        x = vertices[vertex, 0] - centre[0]
        y = vertices[vertex, 1] - centre[1]
        z = vertices[vertex, 2] - centre[2]
        right = x * rotation[0, 0] + y * rotation[1, 0] + z * rotation[2, 0]
        down = x * rotation[0, 1] + y * rotation[1, 1] + z * rotation[2, 1]
        ahead = x * rotation[0, 2] + y * rotation[1, 2] + z * rotation[2, 2]
        camera[vertex, 0], camera[vertex, 1], camera[vertex, 2] = right, down, ahead
        # Which borders of the view the vertex lies beyond; the first four as half spaces, valid behind the camera too.
        across, along = fx * right + cx * ahead, fy * down + cy * ahead
        code = 0
        if across < 0:
            code |= 1
        if across > last * ahead:
            code |= 2
        if along < 0:
            code |= 4
        if along > last * ahead:
            code |= 8
        if ahead < NEAR:
            code |= 16
        else:
            inverse = 1.0 / ahead
            screen[vertex, 0] = across * inverse
            screen[vertex, 1] = along * inverse
            screen[vertex, 2] = inverse * scale
        beyond[vertex] = code
    cut = np.empty((4, 3), np.float64)
    for triangle in range(triangles.shape[0]):
        first, second, third = triangles[triangle, 0], triangles[triangle, 1], triangles[triangle, 2]
        if beyond[first] & beyond[second] & beyond[third]:
            continue
        if not (beyond[first] | beyond[second] | beyond[third]) & 16:
            _fill(screen[first], screen[second], screen[third], number, nearness, layer)
            continue
        corners = 0
        for side in range(3):
            start, end = triangles[triangle, side], triangles[triangle, (side + 1) % 3]
            if not beyond[start] & 16:
                for value in range(3):
                    cut[corners, value] = screen[start, value]
                corners += 1
            if (beyond[start] ^ beyond[end]) & 16:
                # From the visible vertex to the hidden one: both triangles of an edge cut it alike.
                if beyond[start] & 16:
                    start, end = end, start
                share = (camera[start, 2] - NEAR) / (camera[start, 2] - camera[end, 2])
                right = camera[start, 0] + share * (camera[end, 0] - camera[start, 0])
                down = camera[start, 1] + share * (camera[end, 1] - camera[start, 1])
                cut[corners, 0] = fx * right / NEAR + cx
                cut[corners, 1] = fy * down / NEAR + cy
                cut[corners, 2] = scale / NEAR
                corners += 1
        for corner in range(1, corners - 1):
            _fill(cut[0], cut[corner], cut[corner + 1], number, nearness, layer)


@numba.njit(cache=True)
def _fill(first, second, third, number, nearness, layer):  # type: ignore[no-untyped-def]
    """Draw one triangle of (column, row, inverse depth) corners.

    A sample on a border, or within `TOUCH` of it, belongs to the triangle, and where a border crosses a row is
    computed from its upper end to its lower one: triangles that share a border leave no gap between them, nor do two
    surfaces that end at one line of sight.
    """
    if first[1] > second[1]:
        first, second = second, first
    if second[1] > third[1]:
        second, third = third, second
    if first[1] > second[1]:
        first, second = second, first
    x0, y0, n0 = first[0], first[1], first[2]
    x1, y1, n1 = second[0], second[1], second[2]
    x2, y2, n2 = third[0], third[1], third[2]
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    size = nearness.shape[0]
    if area == 0.0 or y2 < 0 or y0 > size - 1:
        return
    across = ((n1 - n0) * (y2 - y0) - (n2 - n0) * (y1 - y0)) / area
    along = ((x1 - x0) * (n2 - n0) - (x2 - x0) * (n1 - n0)) / area
    # Interpolated values stay between those of the corners, which slivers would leave by rounding.
    least = np.float32(min(n0, n1, n2))
    most = np.float32(max(n0, n1, n2))
    slope_long = (x2 - x0) / (y2 - y0)
    slope_upper = (x1 - x0) / (y1 - y0) if y1 > y0 else 0.0
    slope_lower = (x2 - x1) / (y2 - y1) if y2 > y1 else 0.0
    for row in range(int(np.ceil(max(y0 - TOUCH, 0.0))), int(min(y2 + TOUCH, size - 1.0)) + 1):
        one = x0 + (row - y0) * slope_long
        other = x0 + (row - y0) * slope_upper if row < y1 else x1 + (row - y1) * slope_lower
        start = max(min(one, other) - TOUCH, 0.0)
        end = min(max(one, other) + TOUCH, size - 1.0)
        if start > end:
            continue
        base = n0 + (row - y0) * along - x0 * across
        for column in range(int(np.ceil(start)), int(end) + 1):
            near = min(max(np.float32(base + column * across), least), most)
            if near > nearness[row, column]:
                nearness[row, column] = near
                layer[row, column] = number


@numba.njit(cache=True)
def _shade(rotation, centre, lens, nearness, layer, colours, picture):  # type: ignore[no-untyped-def]
    """Colour the samples by their direction from the origin and average them.

    In single precision and line by line, places in the panorama first and colours afterwards, so that the first part
    compiles to vector instructions.
    """
    height, width = colours.shape[1] - 2, colours.shape[2] - 2
    turn, start = rotation.astype(np.float32), centre.astype(np.float32)
    columns_a_radian, rows_a_radian = np.float32(width / (2 * np.pi)), np.float32(height / np.pi)
    # Positions in the bordered panorama: pixel (0, 0) has its centre at (1, 1).
    middle_column, middle_row = np.float32(0.5 * width + 0.5), np.float32(0.5 * height + 0.5)
    samples = nearness.shape[1]
    across = np.empty(samples, np.float32)
    under = np.empty(samples, np.float32)
    total = np.empty((samples, 3), np.float32)
    u_step, u_start = np.float32(1 / lens[0]), np.float32(-lens[2] / lens[0])
    for row in range(picture.shape[0]):
        total[:] = 0
        for line in range(row * SAMPLES, (row + 1) * SAMPLES):
            v = np.float32((line - lens[3]) / lens[1])
            for right in range(samples):
                # The surface's place times its inverse depth: the same direction, and that of the ray where there is no
                # surface.
                u = u_start + np.float32(right) * u_step
                near = nearness[line, right] / (_BACK_SCALE if layer[line, right] else _ONE)
                x = near * start[0] + turn[0, 0] * u + turn[0, 1] * v + turn[0, 2]
                y = near * start[1] + turn[1, 0] * u + turn[1, 1] * v + turn[1, 2]
                z = near * start[2] + turn[2, 0] * u + turn[2, 1] * v + turn[2, 2]
                across[right] = middle_column + columns_a_radian * _angle(x, -z)
                under[right] = middle_row - rows_a_radian * _angle(y, np.sqrt(x * x + z * z))
            for right in range(samples):
                left, top = min(int(across[right]), width), min(int(under[right]), height)
                to_right, to_bottom = across[right] - np.float32(left), under[right] - np.float32(top)
                upper, lower = colours[layer[line, right], top], colours[layer[line, right], top + 1]
                for channel in range(3):
                    a, b = np.float32(upper[left, channel]), np.float32(upper[left + 1, channel])
                    c, d = np.float32(lower[left, channel]), np.float32(lower[left + 1, channel])
                    above, below = a + to_right * (b - a), c + to_right * (d - c)
                    total[right, channel] += above + to_bottom * (below - above)
        for column in range(picture.shape[1]):
            for channel in range(3):
                mean = _HALF
                for right in range(column * SAMPLES, (column + 1) * SAMPLES):
                    mean += total[right, channel] * _SHARE
                picture[row, column, channel] = np.uint8(mean)


@numba.njit(cache=True)
def _angle(y, x):  # type: ignore[no-untyped-def]
    """The angle of the single-precision (x, y) from the x axis. Polynomial: Abramowitz and Stegun, 4.4.49."""
    wide, tall = abs(x), abs(y)
    ratio = min(wide, tall) / max(max(wide, tall), _TINY)
    s = ratio * ratio
    series = _ARCTANGENT[0] * s + _ARCTANGENT[1]
    series = series * s + _ARCTANGENT[2]
    series = series * s + _ARCTANGENT[3]
    series = series * s + _ARCTANGENT[4]
    series = series * s + _ARCTANGENT[5]
    series = series * s + _ARCTANGENT[6]
    series = series * s + _ARCTANGENT[7]
    angle = ratio * (series * s + _ONE)
    angle = _QUARTER_TURN - angle if tall > wide else angle
    angle = _QUARTER_TURN + _QUARTER_TURN - angle if x < 0 else angle
    return -angle if y < 0 else angle


# Single-precision constants: one double among them makes the whole expression double.
_ONE, _HALF, _TINY = np.float32(1.0), np.float32(0.5), np.float32(1e-30)
_QUARTER_TURN = np.float32(0.5 * np.pi)
_BACK_SCALE = np.float32(BACK_SCALE)
_SHARE = np.float32(1 / SAMPLES**2)
_ARCTANGENT = tuple(
    np.float32(coefficient)
    for coefficient in (
        *(0.0028662257, -0.0161657367, 0.0429096138, -0.07528964),
        *(0.1065626393, -0.1420889944, 0.1999355085, -0.3333314528),
    )
)
