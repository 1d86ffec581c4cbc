"""Stage 3 with the nerfstudio trainer, around a nerfstudio that trains nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import (
    SmallEngine,
    Workbench,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
)
from tiny_nerfstudio import SCALE, SHIFT, install, parameters, write_checkpoints

from worldexplorer.engine import SplatTrainer
from worldexplorer.geometry.ply import read_gaussians
from worldexplorer.models.nerfstudio.settings import NerfstudioSettings
from worldexplorer.models.nerfstudio.trainer import NerfstudioTrainer
from worldexplorer.progress import silent
from worldexplorer.records import StageRecord
from worldexplorer.stage import StageFailedError

SETTINGS = NerfstudioSettings(steps=60, checkpoint_interval=20)


class NerfstudioEngine(SmallEngine):
    """The tiny engine with another trainer."""

    def __init__(self, command: list[str]) -> None:
        super().__init__()
        self._command = command

    def splat_trainer(self) -> SplatTrainer:
        return NerfstudioTrainer(SETTINGS, renderer=SmallEngine(), command=self._command)


class Bench:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder, monkeypatch
        self.workbench = Workbench(folder)
        self.values = parameters()
        self.checkpoints = write_checkpoints(folder / "checkpoints", self.values, 20, 40, 59)

    def run(self, fails: str = "", **settings: Any) -> StageRecord:
        command = install(self.folder / "packages", self._patch, self.checkpoints, fails)
        runner = self.workbench.runner(self.workbench.config(**settings), engine=NerfstudioEngine(command))
        for stage in ("scaffold", "trajectory", "splat"):
            record = runner.run(self.workbench.job(), stage, silent)
        return record


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_a_world_in_the_scene_frame(bench: Bench) -> None:
    nerf_folder = bench.folder / "nerf output"
    record = bench.run(nerf_folder=str(nerf_folder), keep_training=True)
    world = read_gaussians(bench.workbench.job_path("splat/splat.ply"))
    np.testing.assert_allclose(world.means, bench.values["means"].numpy() / SCALE - SHIFT, atol=1e-6)
    document = json.loads(bench.workbench.job_path("splat/splat.json").read_bytes())
    assert document["training"]["trainer"] == "nerfstudio"
    assert document["training"]["steps"] == 60
    assert record.metrics["gaussians"] == 20
    kept = bench.workbench.job_path("splat/training")
    assert "59 (98.33%)" in (kept / "nerfstudio.log").read_text()
    (run_data,) = nerf_folder.glob("*/*")
    assert (run_data / "nerfstudio" / "splatfacto" / "training" / "dataparser_transforms.json").is_file()
    call = (run_data / "nerfstudio" / "splatfacto" / "training" / "calls.txt").read_text()
    assert f"--data {bench.workbench.job_path('scenes')}" in call  # no frame is written a second time
    assert not (run_data / "scene").exists()


def test_a_failed_stage_goes_on_from_its_checkpoint(bench: Bench) -> None:
    with pytest.raises(StageFailedError, match="something that nobody knows"):
        bench.run("crash@45")
    bench.run()
    document = json.loads(bench.workbench.job_path("splat/splat.json").read_bytes())
    assert document["training"]["resumed_at"] == 41
