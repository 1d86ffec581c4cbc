"""Eight-bit products on a CUDA GPU: what :mod:`worldexplorer.models.seva.eight_bit` defines, by torch's products.

Example:
    >>> network.operations = FusedEightBitOperations()
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from worldexplorer.models.seva.eight_bit import LEAST_CHANNELS, LEAST_GATED_CHANNELS, quantise
from worldexplorer.models.seva.fused import FusedOperations
from worldexplorer.models.seva.kernels import eight_bit, gated
from worldexplorer.models.seva.operations import PlainOperations


class FusedEightBitOperations(FusedOperations):
    """See EightBitOperations, in kernels.

    Args:
        packages: whether kernels of installed packages may be taken for the other steps.
        winograd: as of FusedOperations.
    """

    def __init__(self, *, packages: bool = True, winograd: bool = True) -> None:
        super().__init__(packages=packages, winograd=winograd)
        self._rounded: WeakKeyDictionary[nn.Module, tuple[Tensor, Tensor]] = WeakKeyDictionary()

    def linear(self, x: Tensor, layer: nn.Linear) -> Tensor:
        """See Operations."""
        return super().linear(x, layer) if layer.in_features < LEAST_CHANNELS else self._product(x, layer)

    def gated(self, x: Tensor, projection: nn.Linear) -> Tensor:
        """See Operations."""
        if projection.in_features < LEAST_GATED_CHANNELS:
            return super().gated(x, projection)
        return gated.gated(self._product(x, projection) + projection.bias)

    def close(
        self, x: Tensor, gate: nn.Linear, last: nn.Linear, seen: Tensor, projection: nn.Linear, base: Tensor
    ) -> Tensor:
        """See Operations."""
        if gate.in_features < LEAST_GATED_CHANNELS:
            return super().close(x, gate, last, seen, projection, base)
        return PlainOperations.close(self, x, gate, last, seen, projection, base)

    def _product(self, x: Tensor, layer: nn.Linear) -> Tensor:
        """Without the layer's bias."""
        arranged = self._rounded.get(layer)
        if arranged is None:
            rows, columns = quantise(layer.weight)
            arranged = self._rounded[layer] = rows, columns.T.contiguous()
        weight, columns = arranged
        values, scales = eight_bit.quantise(x.flatten(0, -2))
        result = torch._scaled_mm(values, weight.T, scales[:, None], columns, out_dtype=torch.bfloat16)
        return result.to(x.dtype).unflatten(0, x.shape[:-1])
