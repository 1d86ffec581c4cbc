"""Noise levels of SEVA.

Example:
    >>> round(sampling_sigmas(50)[0].item(), 2)
    84.92
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEVELS = 1000
_BETA_RANGE = (5e-6, 0.012)
_LOG_SNR_SHIFT = 2.4


def training_sigmas() -> Tensor:
    """[1000] float64, increasing: DDPM with betas linear in their square roots, shifted towards more noise."""
    first, last = (math.sqrt(beta) for beta in _BETA_RANGE)
    betas = torch.linspace(first, last, LEVELS, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, dim=0)
    return torch.sqrt((1 - kept) / kept) * math.exp(_LOG_SNR_SHIFT)


def sampling_timesteps(steps: int) -> Tensor:
    """[steps] int64, decreasing from 999."""
    last = LEVELS - 1
    return torch.tensor([math.floor(last - last * number / steps) for number in range(steps)])


def sampling_sigmas(steps: int) -> Tensor:
    """[steps + 1] float64, decreasing; the last is 0."""
    return torch.cat([training_sigmas()[sampling_timesteps(steps)], torch.zeros(1, dtype=torch.float64)])
