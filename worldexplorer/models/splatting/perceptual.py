"""How far pictures are from true ones to the eye: LPIPS with AlexNet, by torchmetrics.

It is measured where torchmetrics, torchvision and AlexNet's weights lie on the machine already, the weights in the
folder of torch's hub (`hub/checkpoints` below TORCH_HOME). Nothing is downloaded, and no network is taken for it
that was not trained.

Example:
    >>> network = perceptual_network(torch.device("cuda"))
    >>> network if isinstance(network, NotMeasured) else distance_of(network, draw(...), views.images)
    0.0712
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from worldexplorer.engine import Images, NotMeasured
from worldexplorer.models.splatting.drawing import to_bytes

LEAST_SIDE = 32
"""Pixels: of a smaller picture AlexNet's last layers see nothing."""
_PACKAGES = ("torchmetrics", "torchvision")

Network = Callable[[Tensor, Tensor], Tensor]
"""The distance of two pictures [1, 3, H, W], 0 to 1; a tensor without dimensions."""


def perceptual_network(device: torch.device) -> Network | NotMeasured:
    """The network of LPIPS on a device, or what is missing for it."""
    absent = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        return NotMeasured(f"it needs {' and '.join(absent)}: install them beside torch, at versions made for it")
    import torchvision

    address = torchvision.models.AlexNet_Weights.IMAGENET1K_V1.url
    weights = Path(torch.hub.get_dir()) / "checkpoints" / Path(address).name
    if not weights.is_file():
        return NotMeasured(
            f"AlexNet's weights are not on this machine: put {address} into hub/checkpoints below TORCH_HOME"
        )
    if not _is_whole(weights):
        return NotMeasured(f"AlexNet's weights are damaged: put {address} into hub/checkpoints below TORCH_HOME again")
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    network: Network = LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True).to(device)
    return network


def distance_of(network: Network, drawn: Iterable[Tensor], truths: Images) -> float | NotMeasured:
    """The mean distance of pictures [H, W, 3] (0 to 1, as 8-bit ones) to true ones [N, H, W, 3]."""
    if min(truths.shape[1:3]) < LEAST_SIDE:
        return NotMeasured(f"pictures of less than {LEAST_SIDE} pixels are too small for it")
    distances = []
    with torch.no_grad():
        for picture, truth in zip(drawn, truths, strict=True):
            shown = to_bytes(picture).float() / 255.0
            target = torch.from_numpy(truth).to(picture.device).float() / 255.0
            distances.append(network(shown.permute(2, 0, 1)[None], target.permute(2, 0, 1)[None]))
    return float(torch.stack(distances).mean())


def _is_whole(weights: Path) -> bool:
    """Whether a file of torch's hub is what its name says, which ends with the first digits of its SHA-256."""
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().startswith(weights.stem.rpartition("-")[2])
