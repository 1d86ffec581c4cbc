"""The views of a training: whether they can be used, which are kept out, and what tells trainings apart.

Example:
    >>> train, heldout = split_views(scene.train, heldout_every=8)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldexplorer.engine import Poses, SplatScene, Views
from worldexplorer.errors import DefectError, UsageError
from worldexplorer.fingerprint import canonical_json
from worldexplorer.models.splatting.recipe import Recipe

ALGORITHM_VERSION = 1


def split_views(views: Views, heldout_every: int | None) -> tuple[Views, Views | None]:
    """The views to train on, and those kept out (:func:`kept_out`; None where none are asked for)."""
    if heldout_every is None:
        return views, None
    out = kept_out(len(views.images), heldout_every)
    return _some(views, ~out), _some(views, out)


def kept_out(count: int, heldout_every: int) -> NDArray[np.bool_]:
    """[count] which views are kept out of training: the n-th, the 2n-th and so on.

    Raises:
        UsageError: none would be, or all.
    """
    out = np.arange(1, count + 1) % heldout_every == 0
    if out.all() or not out.any():
        found = "all" if out.any() else "none"
        raise UsageError(
            f"splat_heldout_every is {heldout_every}, which keeps {found} of {count} frames out of training",
            where="--splat_heldout_every",
            remedy=f"give a number from 2 to {count}" if count > 1 else "leave it out",
        )
    return out


def _some(views: Views, which: NDArray[np.bool_]) -> Views:
    return replace(views, images=views.images[which], c2w=views.c2w[which], intrinsics=views.intrinsics[which])


def training_fingerprint(recipe: Recipe, scene: SplatScene, seed: int, heldout_every: int | None) -> str:
    """A hash of what the trained Gaussians depend on; of the pictures every eighth pixel of every eighth row."""
    values: Mapping[str, Any] = recipe.described() | {"checkpoint_interval": 0}
    basis = {"version": ALGORITHM_VERSION, "seed": seed, "recipe": values, "heldout_every": heldout_every}
    found = hashlib.sha256(canonical_json(basis).encode())
    views: tuple[np.ndarray[Any, Any], ...] = (scene.train.images[:, ::8, ::8], scene.train.c2w, scene.train.intrinsics)
    for array in (*views, scene.points, scene.colours):
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def check_views(views: Views) -> None:
    """Refuse views that cannot be trained on; DefectError."""
    images, count = views.images, len(views.images)
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8 or not images.size:
        raise DefectError(f"training views must be [N, H, W, 3] uint8; they are {images.shape} {images.dtype}")
    if views.c2w.shape != (count, 4, 4) or views.intrinsics.shape != (count, 3, 3):
        raise DefectError(f"{count} views have poses {views.c2w.shape} and intrinsics {views.intrinsics.shape}")
    poses: Poses = views.c2w
    if not (np.isfinite(poses).all() and np.isfinite(views.intrinsics).all()):
        raise DefectError("poses or intrinsics of training views are not finite")
