"""Loading the network's weights, strictly.

Example:
    >>> network = load_network(Path("modelv1.1.safetensors"), SevaConfig(), torch.device("cuda"), torch.float16)
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from worldexplorer.errors import UserError
from worldexplorer.models.seva.config import SevaConfig
from worldexplorer.models.seva.network import SevaNetwork

_SHOWN = 3


def load_network(path: Path, config: SevaConfig | None, device: torch.device, kind: torch.dtype) -> SevaNetwork:
    """A network with the weights of a file, ready to compute.

    Args:
        path: a safetensors file with the published parameter names.
        config: sizes; None for those the file states of itself, or else the published ones.
        device: to compute on.
        kind: to compute in.

    Raises:
        UserError: the file is no safetensors file, or its names or shapes are not the network's.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            stated = (file.metadata() or {}).get("config")
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise UserError(
            f"not a safetensors file ({error})", where=str(path), remedy="download it again, or give the right file"
        ) from error
    if config is None:
        config = SevaConfig.from_metadata(json.loads(stated)) if stated else SevaConfig()
    with torch.device("meta"):
        network = SevaNetwork(config)
    _compare(network, weights, path)
    layout = torch.channels_last if device.type == "cuda" else torch.preserve_format
    moved = {name: _moved(weights.pop(name), device, kind, layout) for name in list(weights)}
    network.load_state_dict(moved, strict=True, assign=True)
    return network.eval().requires_grad_(requires_grad=False)


def _moved(tensor: Tensor, device: torch.device, kind: torch.dtype, layout: torch.memory_format) -> Tensor:
    four = tensor.ndim == 4
    return tensor.to(device=device, dtype=kind, memory_format=layout if four else torch.preserve_format)


def _compare(network: SevaNetwork, weights: dict[str, Tensor], path: Path) -> None:
    """Say in a person's words what load_state_dict would say in a page of names."""
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wrong = [f"lacks {name}" for name in expected if name not in found]
    wrong += [f"has {name}, which the network has not" for name in found if name not in expected]
    wrong += [
        f"has {name} as {list(found[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise UserError(
            f"these are not SEVA's weights: the file {'; '.join(wrong[:_SHOWN])}{more}",
            where=str(path),
            remedy="give modelv1.1.safetensors or model.safetensors of stabilityai/stable-virtual-camera",
        )
