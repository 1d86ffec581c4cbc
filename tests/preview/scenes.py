"""Pictures of places whose geometry is known, for the tests of the preview world."""

from __future__ import annotations

import math

import numpy as np
import skimage.data

CAMERA_HEIGHT = 1.5


def photo_of_court(
    width: int = 480,
    height: int = 320,
    hfov_deg: float = 75.0,
    wall: float = 5.0,
    wall_top: float = 2.0,
    has_ceiling: bool = False,
) -> np.ndarray:
    """[height, width, 3] uint8: gravel, a brick wall straight ahead, and above it sky or a plain ceiling.

    The wall is `wall` metres ahead and ends `wall_top` metres above the camera, which looks level from 1.5 m.
    """
    focal = width / 2 / math.tan(math.radians(hfov_deg) / 2)
    samples = 2
    across = ((np.arange(width * samples) + 0.5) / samples - width / 2) / focal
    up = -((np.arange(height * samples) + 0.5) / samples - height / 2) / focal
    x, y = np.meshgrid(across, up)
    colours = np.empty((*x.shape, 3))
    colours[:] = (225, 215, 190) if has_ceiling else np.stack([165 - 60 * y, 195 - 50 * y, 240 - 20 * y], axis=-1)
    floor = y < -CAMERA_HEIGHT / wall
    far = CAMERA_HEIGHT / -y[floor]
    colours[floor] = _looked_up(skimage.data.gravel(), x[floor] * far, far) * (0.75, 0.72, 0.62)
    brick = ~floor & (y < wall_top / wall)
    colours[brick] = _looked_up(skimage.data.brick(), x[brick] * wall, y[brick] * wall) * (1.0, 0.66, 0.5)
    small = colours.reshape(height, samples, width, samples, 3).mean(axis=(1, 3))
    return np.clip(small, 0, 255).astype(np.uint8)


def _looked_up(texture: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A grey texture of 3.4 m at places in metres, as [n, 1]."""
    index = (np.floor(np.stack([v, u]) * 150).astype(int)) % texture.shape[0]
    return texture[index[0], index[1]].astype(float)[:, None]
