"""How well drawn pictures match true ones, measured where they were drawn.

Example:
    >>> fit_of(draw(...), views.images).psnr
    37.1
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from worldexplorer.engine import Images
from worldexplorer.models.splatting.drawing import to_bytes
from worldexplorer.models.splatting.operations import ssim

_MOST_DB = 99.0


@dataclass(frozen=True)
class Fit:
    """Means over pictures.

    Attributes:
        psnr: in dB, of 8-bit pictures; at most 99 for equal ones.
        ssim: of Wang et al. 2004, with the window of training.
    """

    psnr: float
    ssim: float


def fit_of(drawn: Iterable[Tensor], truths: Images) -> Fit:
    """The fit of pictures [H, W, 3] to true ones [N, H, W, 3]."""
    ratios, similarities = [], []
    for picture, truth in zip(drawn, truths, strict=True):
        target = torch.from_numpy(truth).to(picture.device).float() / 255.0
        shown = to_bytes(picture).float() / 255.0
        error = (shown - target).square().mean(dtype=torch.float64)
        ratios.append((-10.0 * torch.log10(error)).clamp(max=_MOST_DB))
        similarities.append(ssim(shown[None], target[None]))
    return Fit(float(torch.stack(ratios).mean()), float(torch.stack(similarities).mean()))
