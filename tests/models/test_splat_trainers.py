"""Which trainer a command gets, what it needs, and what of it enters a fingerprint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_splats import scene

from worldexplorer.config import BatchConfig, RunConfig, SplatConfig
from worldexplorer.engines import load_engine
from worldexplorer.errors import UsageError
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.models.engine import FullEngine
from worldexplorer.models.nerfstudio.trainer import NerfstudioTrainer
from worldexplorer.models.splat_trainers import described_training, make_trainer, missing_for_training
from worldexplorer.models.splatting import rasterizer
from worldexplorer.models.splatting.plain_rasterizer import rasterization
from worldexplorer.models.splatting.settings import SplatTraining
from worldexplorer.models.splatting.trainer import GsplatTrainer
from worldexplorer.progress import silent


def run_of(engine: str = "full", **splat: object) -> RunConfig:
    return RunConfig(BatchConfig(dataset_dir="data", engine=engine), splat=SplatConfig(**splat))


def test_the_command_chooses_the_trainer() -> None:
    assert type(FullEngine().splat_trainer()) is GsplatTrainer
    assert type(load_engine(run_of(splat_trainer="nerfstudio")).splat_trainer()) is NerfstudioTrainer
    assert type(make_trainer(SplatConfig(splat_profile="fast"))) is GsplatTrainer


@pytest.mark.parametrize(
    "changes",
    [
        {"splat_trainer": "nerfstudio"},
        {"splat_profile": "fast"},
        {"splat_steps": 7000},
        {"splat_heldout_every": 8},
        {"splat_heldout_every": 8, "splat_stop_psnr": 30.0},
    ],
)
def test_what_changes_a_world_enters_the_fingerprint_of_stage_3_alone(changes) -> None:
    plain, other = load_engine(run_of()), load_engine(run_of(**changes))
    assert plain.defaults.splat_training == described_training(SplatConfig())
    assert other.defaults.splat_training != plain.defaults.splat_training
    assert other.describe() == plain.describe()


def test_what_changes_no_world_does_not() -> None:
    assert described_training(SplatConfig(keep_training=True)) == described_training(SplatConfig())
    assert described_training(SplatConfig(splat_steps=30_000)) == described_training(SplatConfig())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_what_is_missing_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rasterizer.importlib.util, "find_spec", lambda name: None if name == "gsplat" else object())
    assert list(missing_for_training(SplatConfig())) == ["the package gsplat is not installed"]
    no_gpu = f"gsplat needs a CUDA GPU, and torch {torch.__version__} finds none here"
    assert FullEngine().check([3], "single_image", "orbit") == [no_gpu, "the package gsplat is not installed"]
    assert FullEngine().check([2], "single_image", "orbit").count("the package gsplat is not installed") == 0


@pytest.mark.parametrize(
    ("run", "match"),
    [
        ({"engine": "preview", "splat_steps": 500}, r"--splat_steps is about training on a GPU"),
        ({"engine": "preview", "splat_trainer": "nerfstudio"}, r"--splat_trainer is about training"),
        ({"splat_trainer": "nerfstudio", "splat_profile": "fast"}, r"--splat_profile is for the gsplat trainer"),
    ],
)
def test_settings_of_another_trainer_are_refused(run, match) -> None:
    with pytest.raises(UsageError, match=match):
        load_engine(run_of(**run))


@pytest.mark.parametrize(
    ("splat", "match"),
    [
        ({"splat_steps": 99}, "splat_steps is 99"),
        ({"splat_heldout_every": 1}, "splat_heldout_every is 1"),
        ({"splat_stop_psnr": 30.0}, "none are kept out of training"),
        ({"splat_stop_psnr": float("nan"), "splat_heldout_every": 8}, "splat_stop_psnr is nan"),
    ],
)
def test_settings_out_of_range_are_refused(splat, match) -> None:
    with pytest.raises(UsageError, match=match):
        SplatConfig(**splat)


def test_gaussians_are_drawn_as_they_are_meant() -> None:
    of = scene(2, 16)
    modes: list[str] = []

    def noting(*arguments: Any, **named: Any) -> Any:
        modes.append(named["rasterize_mode"])
        return rasterization(*arguments, **named)

    trainer = GsplatTrainer(SplatTraining(), device="cpu", rasterizer=lambda: noting)
    ball = Gaussians(
        np.array([[0.0, 0.0, -4.0]], np.float32),
        np.full((1, 3), -4.0, np.float32),  # smaller than a pixel
        np.array([[1.0, 0.0, 0.0, 0.0]], np.float32),
        np.full(1, 3.0, np.float32),
        np.full((1, 1, 3), 1.5, np.float32),
    )
    camera = np.eye(4)[None], of.train.intrinsics[:1], 16
    faint, strong = (int(trainer.drawing(antialiased=how).render(ball, *camera).sum()) for how in (True, False))
    assert 0 < faint < strong
    assert int(trainer.render(ball, *camera).sum()) == faint  # as its recipe trains
    trainer.drawing(antialiased=False).render_depth(ball, *camera)
    assert modes == ["antialiased", "classic", "antialiased", "classic"]


def test_contributions_are_shares_of_the_pictures(tmp_path: Path) -> None:
    of = scene(6, 16)
    trainer = GsplatTrainer(SplatTraining(images=20), device="cpu", rasterizer=lambda: rasterization)
    gaussians = trainer.train(of, 0, tmp_path, silent).gaussians
    seen: list[int] = []
    shares = trainer.contributions(
        gaussians, of.train.c2w, of.train.intrinsics, 16, lambda done, total, what: seen.append(done)
    )
    assert shares.shape == (gaussians.count,)
    assert (shares >= 0).all()
    assert seen == [1, 2, 3, 4, 5, 6]
    white = np.zeros((gaussians.count, 1, 3), np.float32)
    white[:] = 0.5 / 0.28209479177387814
    pictures = trainer.render(replace(gaussians, sh=white), of.train.c2w, of.train.intrinsics, 16)
    assert shares.sum() == pytest.approx(pictures[..., 0].astype(float).sum() / 255, rel=0.01)
    hidden = replace(gaussians, opacity_logits=np.full_like(gaussians.opacity_logits, -20.0))
    assert not trainer.contributions(hidden, of.train.c2w, of.train.intrinsics, 16, silent).any()
