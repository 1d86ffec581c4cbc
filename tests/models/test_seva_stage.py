"""Stage 1 from a photo on the full engine: SEVA and an inpainting model of tiny weights, run by the real code.

What the command says about SEVA is read as a person writes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import (
    Workbench,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
)
from tiny_pipelines import save_sd2
from tiny_seva import SIZE, save_tiny_weights

from worldexplorer import engines, layout
from worldexplorer.cli.arguments import parse_run
from worldexplorer.config import RunConfig
from worldexplorer.errors import OutOfMemoryError
from worldexplorer.models import engine as engine_module
from worldexplorer.models import pipelines
from worldexplorer.models.engine import FullEngine
from worldexplorer.models.seva import model as seva_module
from worldexplorer.models.seva.model import SevaModel
from worldexplorer.photo import load_photo, view_zero
from worldexplorer.pictures import read_pictures
from worldexplorer.progress import silent
from worldexplorer.records import StageRecord
from worldexplorer.scaffold.scaffold_file import read_scaffold

SHORT = ("--precision", "float32", "--steps", "1", "--shorter_chunks")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("weights")
    save_tiny_weights(root)
    save_sd2(root / "sd2-inpainting")
    return root


@pytest.fixture(autouse=True)
def _no_gpu_needed(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLDEXPLORER_WEIGHTS", str(weights))
    monkeypatch.setattr(seva_module, "first_gpu", lambda title: torch.device("cpu"))
    monkeypatch.setattr(pipelines, "first_gpu", lambda title: torch.device("cpu"))
    monkeypatch.setattr(FullEngine, "image_size", SIZE)
    monkeypatch.setattr(engine_module, "equal_gpus", lambda limit: {})


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


def command(bench: Workbench, *words: str) -> RunConfig:
    places = ["--dataset_dir", str(bench.data), "--output_base", str(bench.output), "--engine", "full"]
    return parse_run([*places, *words])


def stage_1(bench: Workbench, *words: str) -> StageRecord:
    run = command(bench, *words)
    return bench.runner(run, engine=engines.load_engine(run)).run(bench.job(), "scaffold", silent)


def views_of(bench: Workbench) -> np.ndarray:
    return read_pictures(sorted(bench.job_path(layout.SCAFFOLD_FINAL).iterdir()))


def test_a_pan_of_eight_frames(bench: Workbench) -> None:
    record = stage_1(bench, "--num_seva_frames", "8", *SHORT)
    views = views_of(bench)
    assert views.shape == (8, SIZE, SIZE, 3)
    assert len({view.tobytes() for view in views}) == 8
    assert (views[0] == view_zero(load_photo(bench.data / "0.png"), None, SIZE)[0]).all()
    assert record.metrics["samplings"] == [8]
    assert len(record.metrics["overlap_psnr"]) == 8
    assert record.quality == "degraded", "random weights do not show one place"
    assert record.shortcuts == {"steps": 1, "shorter_chunks": True}
    assert record.basis["engine"]["precision"] == "float32"
    described = read_scaffold(bench.job_path(layout.SCAFFOLD_JSON))
    assert [view.yaw_deg % 360 for view in described.views] == pytest.approx([45.0 * number for number in range(8)])


def test_the_hybrid(bench: Workbench) -> None:
    words = ("--scaffold_method", "single_image_hybrid", "--num_seva_frames", "8", "--inpaint_steps", "1")
    record = stage_1(bench, *words, *SHORT)
    assert len({view.tobytes() for view in views_of(bench)}) == 8
    described = read_scaffold(bench.job_path(layout.SCAFFOLD_JSON))
    assert [view.source for view in described.views] == ["input"] + ["inpainted", "generated"] * 3 + ["inpainted"]
    assert record.metrics["samplings"] == [8]


@pytest.mark.slow
def test_a_stop_between_samplings_costs_none(bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--num_seva_frames", "32", *SHORT)
    whole = Workbench(tmp_path / "whole")
    samplings = stage_1(whole, *words).metrics["samplings"]
    sampled: list[int] = []
    sample = seva_module.sample

    def stops(*arguments: Any) -> Any:
        if len(sampled) == 1:
            sampled.append(0)
            raise KeyboardInterrupt
        sampled.append(1)
        return sample(*arguments)

    monkeypatch.setattr(seva_module, "sample", stops)
    with pytest.raises(KeyboardInterrupt):
        stage_1(bench, *words)
    stage_1(bench, *words)
    assert sampled == [1, 0, *[1] * (len(samplings) - 1)], "the joint sampling is not made again"
    assert (views_of(bench) == views_of(whole)).all()


@pytest.mark.slow
def test_memory_that_is_too_short_for_the_joint_sampling(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[int] = []

    def refuse(_model: SevaModel, frames: int, pixels: int) -> None:
        if frames > 21:
            refused.append(frames)
            raise OutOfMemoryError("too little GPU memory for SEVA")

    monkeypatch.setattr(SevaModel, "_refuse_what_does_not_fit", refuse)
    record = stage_1(bench, "--num_seva_frames", "24", *SHORT)
    assert refused == [24]
    assert [retry.adjustment for retry in record.retries] == ["joint_frames 21"]
    assert record.metrics["samplings"][0] == 16
