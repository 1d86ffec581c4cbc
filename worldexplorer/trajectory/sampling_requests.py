"""Samplings of a scene as requests to a model of new views.

Poses go in as the stage has them (OpenGL, scene frame, trajectory units) and come out as a model takes them (OpenCV,
translations multiplied by the translation scaling factor).

Example:
    >>> requests = RequestMaker(scaffold, size=576, scale=3.0, seed=0, world=None)
    >>> request = requests.beside_the_scaffold(pictures, given_c2w, wanted_c2w, "003_left", "first-pass", 0)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from worldexplorer.engine import PUBLISHED_CFG_MIN, PUBLISHED_STEPS, NovelViewRequest, Poses, Views, World
from worldexplorer.geometry.cameras import normalised_intrinsics, opengl_to_opencv
from worldexplorer.seeds import derive_seed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from worldexplorer.engine import Picture

FIRST_PASS_CFG = 3.0
SECOND_PASS_CFG = 2.3

_Item = TypeVar("_Item")


class RequestMaker:
    """Makes the requests of one scene.

    Args:
        scaffold: the eight views.
        size: pixels across and down.
        scale: the translation scaling factor.
        seed: the run's.
        world: what stage 1 left for the engine, or None.
    """

    def __init__(self, scaffold: Views, *, size: int, scale: float, seed: int, world: World | None) -> None:
        self._scaffold = scaffold
        self._size = size
        self._scale = scale
        self._seed = seed
        self._world = world

    def make(
        self,
        pictures: Iterable[Picture],
        c2w: Poses,
        given: NDArray[np.bool_],
        cfg: float,
        *work: str | int,
        intrinsics: Poses | None = None,
    ) -> NovelViewRequest:
        """One sampling.

        Args:
            pictures: [S, S, 3] uint8 each, of the given frames in their order.
            c2w: [T, 4, 4] of all frames.
            given: [T] which frames are given.
            cfg: guidance scale.
            work: names the work; its seed follows from it.
            intrinsics: [T, 3, 3]; those of the pipeline's camera unless given.
        """
        images = np.zeros((len(c2w), self._size, self._size, 3), dtype=np.uint8)
        for place, picture in zip(np.flatnonzero(given), pictures, strict=True):
            images[place] = picture
        cameras = opengl_to_opencv(c2w)
        cameras[:, :3, 3] *= self._scale
        return NovelViewRequest(
            images=images,
            given=given,
            c2w=cameras,
            intrinsics=lenses(len(c2w)) if intrinsics is None else intrinsics,
            translation_scaling_factor=self._scale,
            cfg=cfg,
            cfg_min=PUBLISHED_CFG_MIN,
            steps=PUBLISHED_STEPS,
            seed=derive_seed(self._seed, "trajectory", *work),
            world=self._world,
        )

    def beside_the_scaffold(
        self, pictures: Sequence[Picture], given_c2w: Poses, wanted_c2w: Poses, *work: str | int
    ) -> NovelViewRequest:
        """A sampling of the eight views, further given frames and wanted ones, in this order."""
        views = self._scaffold
        count = len(views.images) + len(given_c2w) + len(wanted_c2w)
        return self.make(
            [*views.images, *pictures],
            np.concatenate([views.c2w, given_c2w, wanted_c2w]),
            np.arange(count) < count - len(wanted_c2w),
            FIRST_PASS_CFG,
            *work,
            intrinsics=np.concatenate([views.intrinsics, lenses(count - len(views.images))]),
        )


class MadeWhenAsked(Sequence[_Item]):
    """A sequence whose items are made when they are looked up, each time anew.

    Args:
        count: its length.
        make: the item of a number.
    """

    def __init__(self, count: int, make: Callable[[int], _Item]) -> None:
        self._numbers = range(count)
        self._make = make

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> _Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[_Item]: ...
    def __getitem__(self, index: int | slice) -> _Item | list[_Item]:
        if isinstance(index, slice):
            return [self._make(number) for number in self._numbers[index]]
        return self._make(self._numbers[index])

    def __iter__(self) -> Iterator[_Item]:
        return map(self._make, self._numbers)


def lenses(count: int) -> Poses:
    """[N, 3, 3] normalised intrinsics of the pipeline's camera."""
    return np.tile(normalised_intrinsics(), (count, 1, 1))
