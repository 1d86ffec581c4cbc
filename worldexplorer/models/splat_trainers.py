"""The trainers of stage 3 by name: which one a command wants, what it needs, what of it changes results.

Example:
    >>> make_trainer(SplatConfig(splat_trainer="gsplat")).train(scene, seed=0, checkpoint=folder, progress=silent)
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from worldexplorer.config import SplatConfig
from worldexplorer.models.gpus import equal_gpus
from worldexplorer.models.nerfstudio.settings import NerfstudioSettings, missing_for_nerfstudio
from worldexplorer.models.splatting.settings import SplatTraining

if TYPE_CHECKING:
    from worldexplorer.engine import SplatTrainer

_PACKAGES = ("torch", "safetensors", "scipy", "gsplat")
"""What both trainers import here; the packages have these names too."""


def described_training(config: SplatConfig) -> dict[str, Any]:
    """The trainer and everything of its settings that changes results: part of stage 3's fingerprint."""
    own = SplatTraining.of(config) if config.splat_trainer == "gsplat" else NerfstudioSettings.of(config)
    return {"trainer": config.splat_trainer} | own.described()


def make_trainer(config: SplatConfig, gpus: int | None = None) -> SplatTrainer:
    """The trainer that a command names; loads torch, and gsplat when it first draws.

    Args:
        config: what the command says.
        gpus: on how many of the visible GPUs the gsplat trainer may train; one unless given, since every step then
            sends all gradients from GPU to GPU, which was measured to pay with NVLink alone (docs/splats.md).
    """
    from worldexplorer.models.splatting.team_process import Place
    from worldexplorer.models.splatting.trainer import GsplatTrainer

    def places() -> list[Place]:
        return [Place(device, f"{device} ({name})") for device, name in equal_gpus(gpus).items()]

    gsplat = GsplatTrainer(SplatTraining.of(config), places=None if gpus is None else places)
    if config.splat_trainer == "gsplat":
        return gsplat
    from worldexplorer.models.nerfstudio.trainer import NerfstudioTrainer

    return NerfstudioTrainer(NerfstudioSettings.of(config), renderer=gsplat)


def missing_for_training(config: SplatConfig) -> Iterator[str]:
    """What stage 3 needs besides a GPU and is not here, one sentence each."""
    for name in _PACKAGES:
        if importlib.util.find_spec(name) is None:
            yield f"the package {name} is not installed"
    if config.splat_trainer == "nerfstudio":
        yield from missing_for_nerfstudio()
