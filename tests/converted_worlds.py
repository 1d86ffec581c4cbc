"""What the tests of `worldexplorer convert` have in common: an engine of their own, worlds, and what is looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from builders import SmallEngine, Workbench

from worldexplorer.engine import SplatScene, TrainingResult
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.verify import verify_all

needs_gsply = pytest.mark.requires_part("gsply")
MIP = "SplatRenderMode: mip"


class Engine(SmallEngine):
    """Its worlds have one floater, right before the cameras, and Gaussians that touch each other."""

    def train(self, scene: SplatScene, *arguments: Any) -> TrainingResult:
        result = super().train(scene, *arguments)
        result.gaussians.means[0] = 0.01
        result.gaussians.log_scales[:] = np.log(2.0)
        return result


def on_the_whole(bench: Workbench) -> None:
    """Every record is kept to."""
    found = list(verify_all(bench.storage))
    assert len(found) >= 8
    assert [changed for _, changed in found if changed] == []


def shown_error(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("error: ").rstrip("\n")


def a_world(count: int = 8, bands: int = 16) -> Gaussians:
    random = np.random.default_rng(7)
    quaternions = random.normal(size=(count, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    return Gaussians(
        means=random.normal(size=(count, 3)).astype(np.float32),
        log_scales=random.normal(-2, 0.3, size=(count, 3)).astype(np.float32),
        quaternions=quaternions.astype(np.float32),
        opacity_logits=random.normal(1, 1, size=count).astype(np.float32),
        sh=random.normal(0, 0.2, size=(count, bands, 3)).astype(np.float32),
    )


def same(found: Gaussians, expected: Gaussians) -> None:
    for name in ("means", "log_scales", "quaternions", "opacity_logits", "sh"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
