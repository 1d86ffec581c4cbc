"""The engine's models over a preview world: new views, depth and points are rendered from it.

Lengths: a world is in metres; `METRES_A_SCALED_UNIT` times the translation scaling factor turns trajectory units into
metres, so that the factor means the same as for a network: how far the cameras reach into the place.

Example:
    >>> renderers = WorldRenderers()
    >>> frames = PreviewNovelViews(renderers).sample([request], silent)[0]              # [T, H, W, 3] uint8
    >>> metres = PreviewDepth(renderers).depth(views, world, translation_scaling_factor=3.0)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from worldexplorer.engine import Images, NovelViewRequest, PointMaps, Poses, Views
from worldexplorer.errors import DefectError
from worldexplorer.geometry.cameras import (
    camera_rays,
    opencv_to_opengl,
    opengl_to_opencv,
    pitch_matrix,
    pose,
    yaw_matrix,
)
from worldexplorer.preview.equirectangular import column_of, row_of
from worldexplorer.preview.mesh import CUT_RATIO
from worldexplorer.preview.range_map import CAMERA_HEIGHT
from worldexplorer.preview.renderer import NEAR, WorldRenderer
from worldexplorer.preview.world import World
from worldexplorer.progress import Progress, part, silent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from worldexplorer.engine import World as EngineWorld

METRES_A_SCALED_UNIT = 0.5
"""Metres of a trajectory unit times the translation scaling factor: 1.5 m a unit indoors (3), 5 m outdoors (10)."""

CAP_PITCH_DEG = 42.0
CAP_COUNT = 5

_FREE_SHARE = 0.9
"""Of the range in a direction: how far out a camera may stand."""

_GRAZING = 0.1
"""Cosine between the ray and a surface's normal below which a point is the less sure the smaller it is (84 degrees)."""

_EVEN_RATIO = 1.1
"""Neighbouring depths that differ by no more than this factor lie on one surface beyond doubt."""


class WorldRenderers:
    """The renderer of the world at hand, made once for as long as that world is asked for."""

    def __init__(self) -> None:
        self._latest: tuple[World, WorldRenderer] | None = None

    def of(self, world: EngineWorld | None) -> WorldRenderer:
        """The renderer of `world`.

        Raises:
            DefectError: there is no world, or one of another engine.
        """
        if not isinstance(world, World):
            raise DefectError(
                "the preview engine renders its views from a world, and "
                + ("none was given" if world is None else f"got a {type(world).__name__}"),
                remedy="run stage 1 with the preview engine, or load the world from the eight scaffold views",
            )
        if self._latest is None or self._latest[0] is not world:
            self._latest = world, WorldRenderer(world)
        return self._latest[1]


class PreviewNovelViews:
    """Renders the frames that are not given (:class:`worldexplorer.engine.NovelViewModel`).

    Seeds, steps and guidance scales change nothing: a world has one look from every place.
    """

    def __init__(self, renderers: WorldRenderers) -> None:
        self._renderers = renderers

    def sample(self, requests: Sequence[NovelViewRequest], progress: Progress) -> list[Images]:
        """All frames of each request, given ones as they were given.

        Raises:
            DefectError: a request without a preview world, or pictures that are not square.
        """
        return [frames for _, frames in self.sample_each(requests, progress)]

    def sample_each(self, requests: Sequence[NovelViewRequest], progress: Progress) -> Iterator[tuple[int, Images]]:
        """As `sample`, one request after the other."""
        for index, request in enumerate(requests):
            share = part(progress, index / len(requests), (index + 1) / len(requests))
            wanted = ~request.given
            frames = request.images.copy()
            metres = _scaled(opencv_to_opengl(request.c2w[wanted]), METRES_A_SCALED_UNIT)
            frames[wanted] = self._renderers.of(request.world).render(
                metres, request.intrinsics[wanted], _side(request.images), share
            )
            yield index, frames


class PreviewDepth:
    """The depth of the world's surfaces (:class:`worldexplorer.engine.DepthModel`)."""

    def __init__(self, renderers: WorldRenderers) -> None:
        self._renderers = renderers

    def depth(self, views: Views, world: EngineWorld | None, translation_scaling_factor: float) -> NDArray[np.float32]:
        """[N, H, W] float32 z-depth in metres, of the world rather than of the pictures in `views`.

        A camera without room (behind a wall, or so close to it that its lens would touch) has the nearest depth
        everywhere, whatever it sees.
        """
        metres = _scaled(views.c2w, METRES_A_SCALED_UNIT * translation_scaling_factor)
        depth = self._renderers.of(world).depth(metres, views.intrinsics, _side(views.images), silent)
        assert isinstance(world, World)
        depth[~has_room(world, metres[:, :3, 3])] = NEAR
        return depth


class PreviewGeometry:
    """Points on the world's surfaces (:class:`worldexplorer.engine.GeometryModel`).

    The answer is in metres and in the OpenCV axes of the first view, as that of a network would be: bringing it into
    the scene frame is the pipeline's work.
    """

    def __init__(self, renderers: WorldRenderers) -> None:
        self._renderers = renderers

    def points(self, views: Views, world: EngineWorld | None, translation_scaling_factor: float) -> PointMaps:
        """One point map a view; confidence 1, less at grazing angles and beside edges, 0 where no surface is seen."""
        metres = _scaled(views.c2w, METRES_A_SCALED_UNIT * translation_scaling_factor)
        size = _side(views.images)
        depth = self._renderers.of(world).depth(metres, views.intrinsics, size, silent)
        cameras = opengl_to_opencv(metres)
        from_first = np.linalg.inv(cameras[0]) @ cameras
        points = np.empty((*depth.shape, 3), dtype=np.float32)
        confidence = np.empty(depth.shape, dtype=np.float32)
        for view, intrinsics in enumerate(views.intrinsics):
            rays = camera_rays(intrinsics, size, size) * (1.0, -1.0, -1.0)
            seen = rays * (depth[view] / rays[..., 2])[..., None]
            confidence[view] = _confidence(seen)
            points[view] = seen @ from_first[view, :3, :3].T + from_first[view, :3, 3]
        return PointMaps(points=points, confidence=confidence, c2w=from_first)


def has_room(world: World, places: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether cameras can stand at places [N, 3] (metres, world frame).

    Both the place and the one at half its height above the floor must be free: a camera that rises over a hedge would
    look down on what no view has seen.
    """
    lowered = places.copy()
    lowered[:, 1] = (places[:, 1] - CAMERA_HEIGHT) / 2
    return in_free_space(world, places) & in_free_space(world, lowered)


def in_free_space(world: World, places: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether places [N, 3] (metres, world frame) lie in front of the surfaces that are seen from the origin.

    The world has one range in every direction, so its free space is what lies nearer than that; the last tenth is kept
    clear.
    """
    distance = np.linalg.norm(places, axis=1)
    away = places / np.maximum(distance, np.finfo(np.float64).tiny)[:, None]
    height, width = world.range_m.shape
    rows = np.rint(row_of(np.arcsin(np.clip(away[:, 1], -1.0, 1.0)), height)).astype(np.int64)
    columns = np.rint(column_of(np.arctan2(away[:, 0], -away[:, 2]), width)).astype(np.int64)
    reach = world.range_m[np.clip(rows, 0, height - 1), columns % width]
    return np.asarray(distance <= _FREE_SHARE * reach)


def cap_views() -> Poses:
    """The views above and below the ring of eight, which together with it see every direction; all at the origin.

    Twelve: straight up, straight down, and between each of them and the ring five that look `CAP_PITCH_DEG` up or down,
    turned on their corners (45 degrees about the viewing axis), since a square is widest from corner to corner.

    Returns:
        [12, 4, 4] OpenGL camera-to-world.
    """
    yaws = yaw_matrix(np.arange(CAP_COUNT) * 360.0 / CAP_COUNT)
    corner_down = _roll_matrix(45.0)
    upper = yaws @ pitch_matrix(CAP_PITCH_DEG) @ corner_down
    lower = yaws @ pitch_matrix(-CAP_PITCH_DEG) @ corner_down
    poles = pitch_matrix([90.0, -90.0])
    return pose(np.concatenate([upper, lower, poles]), np.zeros(3))


def _roll_matrix(degrees: float) -> NDArray[np.float64]:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _scaled(c2w: Poses, factor: float) -> Poses:
    """The same poses with positions multiplied by a factor."""
    scaled = np.array(c2w, dtype=np.float64)
    scaled[:, :3, 3] *= factor
    return scaled


def _side(images: Images) -> int:
    """Pixels across and down of square pictures [N, S, S, 3]."""
    height, width = images.shape[1:3]
    if height != width:
        raise DefectError(f"the preview engine renders square pictures, not {width} x {height}")
    return int(width)


def _confidence(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """[H, W] how sure a view's points [H, W, 3] (its own OpenCV axes) are."""
    depth = points[..., 2]
    padded = np.pad(np.log(depth), 1, mode="edge")
    jump = np.zeros_like(depth)
    for rows, columns in ((slice(None, -2), slice(1, -1)), (slice(2, None), slice(1, -1))):
        for neighbour in (padded[rows, columns], padded.T[rows, columns].T):
            jump = np.maximum(jump, np.abs(neighbour - padded[1:-1, 1:-1]))
    normals = np.cross(np.gradient(points, axis=1), np.gradient(points, axis=0))
    length = np.linalg.norm(normals, axis=-1) * np.linalg.norm(points, axis=-1)
    cosine = np.abs((normals * points).sum(axis=-1)) / np.maximum(length, np.finfo(np.float64).tiny)
    even = (np.log(CUT_RATIO) - jump) / np.log(CUT_RATIO / _EVEN_RATIO)
    seen = depth > NEAR * (1 + 1e-6)
    return np.asarray(seen * np.clip(even, 0.0, 1.0) * np.clip(cosine / _GRAZING, 0.0, 1.0))
