"""The preview engine's world: one colour and one range in every direction around camera 000.

Frame: OpenGL axes of camera 000 (x right, y up, z backward), metres, camera 000 at the origin and 1.5 m above the floor.
Images are equirectangular: row 0 is straight up, the centre column looks forward (-z), columns run to the right.

Example:
    >>> world = World.load(Path("scaffold/world"))
    >>> world.panorama.shape[:2] == world.range_m.shape
    True
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class World:
    """A panorama with ranges.

    Attributes:
        panorama: [H, W, 3] uint8 sRGB, W = 2 H.
        range_m: [H, W] float32, metres from the origin along each pixel's ray.
        backdrop: [H, W, 3] uint8 sRGB: what is seen where a view looks past an edge of the near surfaces.
        backdrop_range_m: [H, W] float32, its metres along the ray; nowhere nearer than `range_m`.
    """

    panorama: NDArray[np.uint8]
    range_m: NDArray[np.float32]
    backdrop: NDArray[np.uint8]
    backdrop_range_m: NDArray[np.float32]

    def save(self, folder: Path) -> None:
        """Write `panorama.png`, `backdrop.png` and `range.npz` (the two range maps, float32) into `folder`."""
        raise NotImplementedError

    @staticmethod
    def load(folder: Path) -> World:
        """Read what :meth:`save` wrote; raises DefectError naming the file where one is damaged."""
        raise NotImplementedError
