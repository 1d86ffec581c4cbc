"""The full engine: what it says it lacks, and SEVA through its own loading of weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_seva import request, save_tiny_weights

from worldexplorer.engine import Engine
from worldexplorer.errors import UsageError, UserError
from worldexplorer.models import engine as module
from worldexplorer.models.engine import FullEngine
from worldexplorer.models.seva import model as seva
from worldexplorer.models.seva.settings import SevaSettings
from worldexplorer.progress import silent


def test_its_novel_views_are_seva_from_the_named_folder(tmp_path, monkeypatch) -> None:
    save_tiny_weights(tmp_path)
    monkeypatch.setenv("WORLDEXPLORER_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(seva, "_first_gpu", lambda: torch.device("cpu"))
    engine: Engine = FullEngine(SevaSettings(precision="float32", shorter_chunks=True))
    model = engine.novel_views()
    assert engine.novel_views() is model
    (frames,) = model.sample([request(steps=1)], silent)
    assert frames.shape == (6, 64, 64, 3)
    assert frames.dtype == np.uint8


def test_the_check_names_gpu_and_weights(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WORLDEXPLORER_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    missing = FullEngine().check([1], "single_image", "pan-in-place")
    assert "SEVA needs a CUDA GPU" in missing[0]
    assert [text.split(":")[0] for text in missing[1:]] == [
        "novel views",
        "latents of the novel views",
        "image features of the novel views",
    ]


def test_the_check_is_empty_where_all_is_there(tmp_path, monkeypatch) -> None:
    save_tiny_weights(tmp_path)
    (tmp_path / "seva-clip" / "config.json").touch()
    monkeypatch.setenv("WORLDEXPLORER_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (79 * 2**30, 80 * 2**30))
    assert FullEngine().check([1], "single_image", "pan-in-place") == []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (3 * 2**30, 8 * 2**30))
    assert "too little GPU memory" in FullEngine().check([1], "single_image", "pan-in-place")[0]


def test_missing_packages_are_named(monkeypatch) -> None:
    monkeypatch.setattr(module, "_PACKAGES", {"no_such_module": "no-such-package"})
    assert "the package no-such-package is not installed" in FullEngine().check([1], "single_image", "orbit")
    with pytest.raises(UserError, match="SEVA needs no-such-package"):
        FullEngine().novel_views()


def test_models_that_are_not_built_in_say_so() -> None:
    engine = FullEngine()
    assert "stage 3 needs the splatfacto-big trainer and gsplat" in engine.check([3], "single_image", "orbit")[0]
    assert len(engine.check([3], "single_image", "orbit")) == 1
    for ask in (engine.depth, engine.geometry, engine.splat_trainer):
        with pytest.raises(UsageError, match="not built into this version's full engine yet"):
            ask()


def test_a_fingerprint_changes_with_what_changes_results() -> None:
    plain = FullEngine().describe()
    assert FullEngine(SevaSettings(compile=False, fused=False)).describe() == plain
    assert FullEngine(SevaSettings(precision="bfloat16")).describe() != plain
    assert FullEngine(SevaSettings(steps=25)).describe()["shortcuts"] == {"steps": 25}
    assert plain["weights"]["seva"]["repository"] == "stabilityai/stable-virtual-camera"
