"""Metric depth in half precision against float32 on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tiny_depth import FACTS, save_depth, views

from worldexplorer.models.depth import DepthAnythingModel
from worldexplorer.models.residents import Residents


def test_half_precision_gives_the_same_metres(tmp_path: Path) -> None:
    save_depth(tmp_path)
    there, here = (
        DepthAnythingModel(FACTS, lambda: tmp_path, Residents(), device).depth(views(), None, 3.0)
        for device in (None, torch.device("cpu"))
    )
    np.testing.assert_allclose(there, here, rtol=0.02)
    assert np.median(np.abs(there / here - 1)) < 2e-3
