"""The full engine's models of depth and points: which, from where, and what is said before anything runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_vggt
import torch
from safetensors.torch import save_file
from tiny_depth import FACTS, save_depth, views

from worldexplorer.engine import Engine
from worldexplorer.errors import UsageError
from worldexplorer.models import engine as module
from worldexplorer.models import geometry_models
from worldexplorer.models.depth import DepthAnythingModel
from worldexplorer.models.depth_anything_3 import DepthAnything3Model
from worldexplorer.models.engine import FullEngine
from worldexplorer.models.picture_models import TextSettings
from worldexplorer.models.vggt import VggtModel

DA3 = TextSettings(geometry_model="depth-anything-3")


def test_the_kind_of_place_says_which_depth_model_and_the_command_which_points() -> None:
    engine: Engine = FullEngine()
    indoor, outdoor = engine.depth(), engine.depth("outdoor")
    assert isinstance(indoor, DepthAnythingModel)
    assert isinstance(outdoor, DepthAnythingModel)
    assert (indoor.model.weights, outdoor.model.weights) == ("depth-indoor-small", "depth-outdoor-small")
    assert engine.depth("indoor") is indoor is engine.depth("cave")
    assert engine.scene_models("outdoor") == {"depth": "outdoor", "points": "vggt"}
    assert FullEngine(text=DA3).scene_models(None) == {"depth": "indoor", "points": "depth-anything-3"}
    assert isinstance(engine.geometry(), VggtModel)
    assert isinstance(FullEngine(text=DA3).geometry(), DepthAnything3Model)
    with pytest.raises(UsageError, match="choose from vggt, depth-anything-3"):
        FullEngine(text=TextSettings(geometry_model="vggt2")).geometry()


def test_they_look_with_the_weights_of_the_named_folder(tmp_path: Path, monkeypatch: Any) -> None:
    save_depth(tmp_path / "depth-outdoor-small")
    (tmp_path / "depth-outdoor-small" / "preprocessor_config.json").write_text("{}")
    (tmp_path / "vggt").mkdir()
    (tmp_path / "vggt" / "config.json").write_text("{}")
    save_file(tiny_vggt.random_vggt().state_dict(), tmp_path / "vggt" / "model.safetensors")
    tiny_vggt.pretend_installed(monkeypatch)
    monkeypatch.setenv("WORLDEXPLORER_WEIGHTS", str(tmp_path))
    outdoor = replace(FACTS, name="outdoor", weights="depth-outdoor-small")
    monkeypatch.setattr(module, "depth_model", lambda scene_type: outdoor)
    tiny = replace(geometry_models.GEOMETRY["vggt"], size=tiny_vggt.SIZE)
    monkeypatch.setattr(module, "geometry_model", lambda name: tiny)
    engine = FullEngine()
    depth, points = engine.depth("outdoor"), engine.geometry()
    depth._device = points._device = torch.device("cpu")  # type: ignore[attr-defined]
    assert depth.depth(views(2), None, 3.0).shape == (2, 72, 72)
    maps = points.points(views(3), None, 3.0)
    assert maps.points.shape == (3, tiny_vggt.SIZE, tiny_vggt.SIZE, 3)
    assert np.isfinite(maps.points).all()


def test_the_check_names_packages_memory_and_weights(tmp_path: Path, monkeypatch: Any, gpu_seen: Any) -> None:
    monkeypatch.setenv("WORLDEXPLORER_WEIGHTS", str(tmp_path))
    gpu_seen(1)
    tiny_vggt.pretend_installed(monkeypatch)
    plain = module.importlib.util.find_spec
    monkeypatch.setattr(
        module.importlib.util,
        "find_spec",
        lambda name: None if name in ("einops", "depth_anything_3", "imageio_ffmpeg") else plain(name),
    )
    missing = FullEngine().check([2], "single_image", "pan-in-place")
    assert any(line.startswith("VGGT needs the package einops, not installed here: pip install") for line in missing)
    assert "the package imageio-ffmpeg is not installed" in missing
    assert any("too little GPU memory for VGGT: 1.0 GiB are free" in line for line in missing)
    assert any(line.startswith("points: ") and str(tmp_path / "vggt") in line for line in missing)
    assert sum(line.startswith("metric depth: ") for line in missing) == 2
    other = FullEngine(text=DA3).check([2], "single_image", "pan-in-place")
    assert not any("VGGT" in line for line in other)
    assert any("depth-anything-3==0.1.1" in line for line in other)
    assert not any("metric depth" in line for line in FullEngine().check([1], "single_image", "pan-in-place"))
