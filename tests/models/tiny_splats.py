"""A scene small enough to train on a CPU: 200 Gaussians in a box, seen from inside at 32 pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from worldexplorer.engine import SplatScene, Views
from worldexplorer.geometry.cameras import normalised_intrinsics, pose, yaw_matrix
from worldexplorer.models.splatting.drawing import draw, to_bytes
from worldexplorer.models.splatting.frame import TrainingFrame
from worldexplorer.models.splatting.operations import Operations, PlainOperations
from worldexplorer.models.splatting.plain_rasterizer import rasterization
from worldexplorer.models.splatting.rasterizer import Rasterizer
from worldexplorer.models.splatting.recipe import Recipe, shortened
from worldexplorer.models.splatting.training import Training

SIDE, POINTS, IMAGES = 32, 200, 60


def gaussians(count: int = POINTS, seed: int = 0) -> dict[str, torch.Tensor]:
    """What a rasteriser takes: coloured spots on a sphere of radius 3."""
    random = np.random.default_rng(seed)
    means = random.standard_normal((count, 3))
    means *= 3.0 / np.linalg.norm(means, axis=1, keepdims=True)
    sh = np.zeros((count, 16, 3))
    sh[:, 0] = random.uniform(-1.5, 1.5, (count, 3))
    sh[:, 1:] = random.normal(0, 0.1, (count, 15, 3))
    values = {
        "means": means,
        "quaternions": random.standard_normal((count, 4)),
        "scales": random.uniform(0.1, 0.6, (count, 3)),
        "opacities": random.uniform(0.4, 0.99, count),
        "sh": sh,
    }
    return {name: torch.from_numpy(value.astype(np.float32)) for name, value in values.items()}


def cameras(count: int) -> np.ndarray[Any, Any]:
    """Poses around the middle that look outwards."""
    angles = 360.0 * np.arange(count) / count
    places = np.stack([0.3 * np.sin(angles), 0.1 * np.cos(angles), 0.2 * np.cos(3 * angles)], axis=1)
    return pose(yaw_matrix(angles), places)


def scene(views: int = 16, side: int = SIDE, points: int = POINTS) -> SplatScene:
    """Pictures of the spots, and points near them."""
    truth, c2w = gaussians(points), cameras(views)
    intrinsics = np.tile(normalised_intrinsics(), (views, 1, 1))
    still = TrainingFrame(np.zeros(3), 1.0)
    drawn = draw(
        rasterization,
        truth,
        torch.from_numpy(still.cameras(c2w)),
        intrinsics,
        (side, side),
        near=0.01,
        antialiased=True,
    )
    images = np.stack([to_bytes(picture).numpy() for picture in drawn])
    random = np.random.default_rng(1)
    places = truth["means"].numpy() + random.normal(0, 0.05, (points, 3)).astype(np.float32)
    colours = random.integers(60, 200, (points, 3), dtype=np.uint8)
    normals = -places / np.linalg.norm(places, axis=1, keepdims=True)
    return SplatScene(Views(images, c2w, intrinsics), places.astype(np.float32), normals.astype(np.float32), colours)


def recipe(**changes: Any) -> Recipe:
    """The published one for 60 images, at full size from the 20th."""
    short = replace(shortened(Recipe(), IMAGES), refine_from=5, refine_until=55, refine_interval=10, downscales=1)
    return replace(short, checkpoint_interval=20, downscale_interval=20, cap=10 * POINTS, **changes)


def training(
    how: Recipe | None = None,
    of: SplatScene | None = None,
    *,
    rasterize: Rasterizer = rasterization,
    operations: Operations | None = None,
    device: str = "cpu",
    **arguments: Any,
) -> Training:
    """A training on the scene above."""
    chosen = how or recipe()
    return Training(
        of or scene(),
        chosen,
        cap=arguments.pop("cap", chosen.cap),
        seed=arguments.pop("seed", 0),
        device=torch.device(device),
        rasterize=rasterize,
        operations=operations or PlainOperations(),
        **arguments,
    )
