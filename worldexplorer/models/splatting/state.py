"""The Gaussians in training with the optimiser's memory of them.

Example:
    >>> state = GaussianState.start(initial_values(...), device)
    >>> state.append({name: value[chosen] for name, value in state.values.items()})
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from worldexplorer.geometry.gaussians import Gaussians

NAMES = ("means", "log_scales", "quaternions", "opacity_logits", "sh")


@dataclass
class GaussianState:
    """N Gaussians; all arrays float32.

    Attributes:
        values: `means` [N, 3], `log_scales` [N, 3], `quaternions` [N, 4] (any length), `opacity_logits` [N] and `sh`
            [N, K, 3], by name.
        first: Adam's average of the gradients of each.
        second: Adam's average of their squares.
        steps: Adam's steps so far.
    """

    values: dict[str, Tensor]
    first: dict[str, Tensor]
    second: dict[str, Tensor]
    steps: int = 0

    @staticmethod
    def start(values: Mapping[str, NDArray[np.float32]], device: torch.device) -> GaussianState:
        """The state before the first step."""
        tensors = {name: torch.from_numpy(values[name]).to(device) for name in NAMES}
        first, second = ({name: torch.zeros_like(tensor) for name, tensor in tensors.items()} for _ in range(2))
        return GaussianState(tensors, first, second)

    @property
    def count(self) -> int:
        """How many Gaussians there are."""
        return len(self.values["means"])

    def opacities(self) -> Tensor:
        """[N], 0 to 1."""
        return torch.sigmoid(self.values["opacity_logits"])

    def append(self, values: Mapping[str, Tensor]) -> None:
        """Add Gaussians; the optimiser knows nothing of them yet."""
        for name in NAMES:
            added = values[name]
            self.values[name] = torch.cat([self.values[name], added])
            for memory in (self.first, self.second):
                memory[name] = torch.cat([memory[name], torch.zeros_like(added)])

    def keep(self, which: Tensor) -> None:
        """Drop all Gaussians but some ([N] bool, or indices)."""
        for arrays in (self.values, self.first, self.second):
            for name in NAMES:
                arrays[name] = arrays[name][which]

    def forget(self, which: Tensor, names: tuple[str, ...] = NAMES) -> None:
        """Let the optimiser forget what it knows of some Gaussians (indices)."""
        for memory in (self.first, self.second):
            for name in names:
                memory[name][which] = 0.0

    def is_finite(self) -> bool:
        """Whether all values are finite numbers."""
        return all(bool(torch.isfinite(value).all()) for value in self.values.values())

    def arrays(self) -> dict[str, Tensor]:
        """Everything that changes in training, by name; the very tensors."""
        parts = {"value": self.values, "first": self.first, "second": self.second}
        return {f"{part}.{name}": arrays[name] for part, arrays in parts.items() for name in NAMES}

    @staticmethod
    def from_arrays(arrays: Mapping[str, Tensor], steps: int) -> GaussianState:
        """The state that :meth:`arrays` described; KeyError where one is missing."""
        parts = [{name: arrays[f"{part}.{name}"] for name in NAMES} for part in ("value", "first", "second")]
        return GaussianState(parts[0], parts[1], parts[2], steps)

    def gaussians(self, least_opacity: float) -> Gaussians:
        """The Gaussians that are opaque enough, as arrays in the training frame."""
        seen = self.opacities() >= least_opacity
        kept = {name: value[seen] for name, value in self.values.items()}
        kept["quaternions"] = functional.normalize(kept["quaternions"], dim=-1)
        arrays = {name: np.ascontiguousarray(value.cpu().numpy()) for name, value in kept.items()}
        return Gaussians(**arrays)
