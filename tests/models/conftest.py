"""The tests of the models need torch and its companions; test_required_packages.py says where they are missing."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from worldexplorer.models.gpus import Sight

sys.path.insert(0, str(Path(__file__).parent))  # the helpers beside the tests
os.environ.setdefault("HF_HUB_OFFLINE", "1")

if any(importlib.util.find_spec(name) is None for name in ("torch", "diffusers", "transformers", "safetensors")):
    collect_ignore_glob = [
        "test_depth*.py",
        "test_frame_pixels.py",
        "test_point_maps.py",
        "test_vggt.py",
        "test_seva_*.py",
        "test_flux.py",
        "test_inpaint.py",
        "test_nerfstudio_*.py",
        "test_prompt_score.py",
        "test_splat*.py",
        "test_text_*.py",
    ]
else:
    import torch

    torch.set_num_threads(1)  # the networks are tiny: threads that wait for each other cost more than they save


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing goes to, or comes from, the caches of this machine."""
    monkeypatch.setenv("WORLDEXPLORER_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("WORLDEXPLORER_WEIGHTS", raising=False)


@pytest.fixture
def gpu_seen(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Says what the full engine sees of the GPUs."""

    def see(free_gib: float, names: tuple[str, ...] = ("a card",), capability: tuple[int, int] = (9, 0)) -> None:
        sight = Sight("9.9", names, capability, int(free_gib * 2**30))
        monkeypatch.setattr("worldexplorer.models.engine.look_at_gpus", lambda: sight)

    return see
