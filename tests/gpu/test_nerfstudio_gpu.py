"""nerfstudio itself, called as stage 3 calls it, on a scene small enough for a minute."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_splats import scene

from worldexplorer.models.nerfstudio.settings import NerfstudioSettings, missing_for_nerfstudio
from worldexplorer.models.nerfstudio.trainer import NerfstudioTrainer
from worldexplorer.models.splatting.settings import SplatTraining
from worldexplorer.models.splatting.trainer import GsplatTrainer
from worldexplorer.progress import silent
from worldexplorer.splat.metrics import psnr

if list(missing_for_nerfstudio()):
    pytest.skip("nerfstudio is not installed", allow_module_level=True)

SETTINGS = NerfstudioSettings(steps=1000, checkpoint_interval=100)


def test_a_training_in_two_parts_ends_in_the_scene_frame(tmp_path: Path) -> None:
    """Drawn by this program at the scene's own poses, so that frame, colours and opacities must all be right."""
    views = scene(side=64)
    fits = []
    for until in (100, None):
        trainer = NerfstudioTrainer(replace(SETTINGS, until=until), GsplatTrainer(SplatTraining()))
        result = trainer.train(views, 3, tmp_path, silent)
        drawn = trainer.render(result.gaussians, views.train.c2w, views.train.intrinsics, 64)
        fits.append(psnr(drawn, views.train.images))
    assert (result.log["resumed_at"], result.log["steps"]) == (100, 1000)
    mean = np.broadcast_to(views.train.images.mean(axis=(0, 1, 2)), views.train.images.shape).astype(np.uint8)
    assert fits[1] > fits[0] + 1.0
    assert fits[1] > psnr(mean, views.train.images) + 3.0
