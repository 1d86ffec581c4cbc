"""An upsampling convolution as four smaller ones, one for each place of a pixel in its doubled one.

Repeating every pixel twice each way and convolving 3 x 3 meets each source pixel two or four times. Convolving the
source itself 2 x 2 with the sums of those weights gives the same at 4/9 of the multiplications.

Example:
    >>> upsampling_weights(convolution.weight).shape         # of [640, 640, 3, 3]
    torch.Size([2560, 640, 2, 2])
"""

from __future__ import annotations

import torch
from torch import Tensor


def upsampling_weights(weight: Tensor) -> Tensor:
    """[C_out, C_in, 3, 3] -> [4 C_out, C_in, 2, 2], place (a, b) first; convolve with padding 1.

    The result for source pixel (i, j) at place (a, b) lies at (i + a, j + b).
    """
    # A doubled row is met by the upper weight alone and the lower two together, or the other way round.
    fold = torch.tensor([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]], dtype=torch.float32, device=weight.device)
    folded = torch.einsum("apy,bqx,oiyx->aboipq", fold, fold, weight.float())
    return folded.flatten(0, 2).to(weight.dtype).contiguous(memory_format=torch.channels_last)
