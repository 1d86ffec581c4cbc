"""The frame that training happens in: nerfstudio's scale, the scene's axes.

Step lengths of means, the strength of their noise and the thresholds of scales are lengths, so the published values
mean something in the published frame only: positions relative to the middle of the cameras, divided by the largest
coordinate that a camera then has. nerfstudio also turns the scene upright; a scene of this program is upright already,
and a turn would change nothing but the axes that the largest coordinate is read along.

Example:
    >>> frame = TrainingFrame.around(views.c2w)
    >>> gaussians = frame.undone(trained)          # in the scene frame, trajectory units
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from worldexplorer.engine import Poses
from worldexplorer.geometry.cameras import opengl_to_opencv, pixel_intrinsics
from worldexplorer.geometry.gaussians import Gaussians

_STILL = 1e-6
"""Trajectory units: cameras that keep closer together than this stand on one spot, and the scale is left as it is."""


@dataclass(frozen=True)
class TrainingFrame:
    """position in training = (position in the scene - centre) * scale.

    Attributes:
        centre: [3] float64, scene frame.
        scale: training units a trajectory unit.
    """

    centre: NDArray[np.float64]
    scale: float

    @staticmethod
    def around(c2w: Poses) -> TrainingFrame:
        """The frame of training cameras ([N, 4, 4])."""
        places = c2w[:, :3, 3]
        centre = places.mean(axis=0)
        reach = float(np.abs(places - centre).max())
        return TrainingFrame(centre, 1.0 / reach if reach > _STILL else 1.0)

    def points(self, points: NDArray[np.floating]) -> NDArray[np.float32]:
        """[N, 3] points of the scene in this frame."""
        return np.asarray((points.astype(np.float64) - self.centre) * self.scale, dtype=np.float32)

    def cameras(self, c2w: Poses) -> NDArray[np.float32]:
        """[N, 4, 4] world-to-camera matrices (OpenCV axes) of OpenGL poses in the scene."""
        moved = np.array(c2w, dtype=np.float64)
        moved[:, :3, 3] = (moved[:, :3, 3] - self.centre) * self.scale
        return np.linalg.inv(opengl_to_opencv(moved)).astype(np.float32)

    def undone(self, gaussians: Gaussians) -> Gaussians:
        """Gaussians of this frame in the scene."""
        means = gaussians.means.astype(np.float64) / self.scale + self.centre
        return replace(
            gaussians,
            means=np.ascontiguousarray(means, dtype=np.float32),
            log_scales=gaussians.log_scales - np.float32(np.log(self.scale)),
        )


def lenses(intrinsics: Poses, width: int, height: int) -> NDArray[np.float32]:
    """[N, 3, 3] intrinsics in pixels of an image of that size."""
    return pixel_intrinsics(intrinsics, width, height).astype(np.float32)
