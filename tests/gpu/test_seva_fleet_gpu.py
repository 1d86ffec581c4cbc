"""SEVA in several processes: the frames of one, on all GPUs of the machine or side by side on its only one."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from seva_fixtures import tiny_config
from tiny_seva import request, save_tiny_weights

from worldexplorer.models.gpus import equal_gpus
from worldexplorer.models.seva.config import SevaConfig
from worldexplorer.models.seva.fleet import Fleet
from worldexplorer.models.seva.model import SevaFiles, load_on
from worldexplorer.models.seva.network import SevaNetwork
from worldexplorer.models.seva.settings import SevaSettings
from worldexplorer.progress import silent

SETTINGS = SevaSettings(compile=False)
SIZE = 192


def save_weights(folder: Path) -> SevaFiles:
    """The tiny encoders, and a network that is wide enough for the kernels."""
    files = save_tiny_weights(folder)
    torch.manual_seed(0)
    config = SevaConfig(model_channels=64, context_dim=tiny_config().context_dim)
    network = SevaNetwork(config)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(0, parameter[0].numel() ** -0.5)
    sizes = {
        "model_channels": config.model_channels,
        "num_head_channels": config.head_channels,
        "context_dim": config.context_dim,
        "channel_mult": config.channel_mult,
    }
    save_file(network.state_dict(), files.network, {"config": json.dumps(sizes)})
    return files


@pytest.mark.parametrize("several", [True, False], ids=["all GPUs", "one GPU"])
def test_a_fleet_makes_the_frames_of_one_model(tmp_path: Path, several: bool) -> None:
    gpus = list(equal_gpus(None)) if several else ["cuda:0"] * 2
    if len(gpus) < 2:
        pytest.skip("two GPUs of one kind")
    files = save_weights(tmp_path)
    asked = [request(frames=6 + seed % 2, given=2 + seed % 2, seed=seed, steps=4, size=SIZE) for seed in range(4)]
    expected = load_on("cuda:0", files, SETTINGS).sample(asked, silent)
    with Fleet({f"{place}": partial(load_on, device, files, SETTINGS) for place, device in enumerate(gpus)}) as fleet:
        found = fleet.sample(asked, silent)
        again = fleet.sample(asked[::-1], silent)[::-1]
    for one, two, three in zip(expected, found, again, strict=True):
        assert one[2:].std() > 1
        assert np.array_equal(one, two)
        assert np.array_equal(one, three)
