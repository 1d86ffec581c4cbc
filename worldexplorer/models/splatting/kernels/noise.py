"""MCMC's noise on the means, drawn and turned in one pass.

Example:
    >>> add_noise(state, amplitude=80.0, seed=7)
"""

from __future__ import annotations

import triton
import triton.language as tl

from worldexplorer.models.splatting.operations import NOISE_MIDDLE, NOISE_STEEPNESS
from worldexplorer.models.splatting.state import GaussianState

_BLOCK = 512


def add_noise(state: GaussianState, amplitude: float, seed: int) -> None:
    """See :meth:`worldexplorer.models.splatting.operations.Operations.add_noise`; its draws are the kernel's own."""
    values = state.values
    _noise[(triton.cdiv(max(state.count, 1), _BLOCK),)](
        values["means"], values["log_scales"], values["quaternions"], values["opacity_logits"], state.count,
        amplitude, seed & 0x7FFFFFFF, STEEPNESS=NOISE_STEEPNESS, MIDDLE=NOISE_MIDDLE, BLOCK=_BLOCK, num_warps=4,
    )  # fmt: skip


@triton.jit(do_not_specialize=["seed"])
def _noise(
    means, log_scales, quaternions, logits, count, amplitude, seed,
    STEEPNESS: tl.constexpr, MIDDLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = row < count
    a, b, c, _ = tl.randn4x(seed, row)
    opacity = 1.0 / (1.0 + tl.exp(-tl.load(logits + row, mask=inside, other=0.0)))
    weight = amplitude / (1.0 + tl.exp(-STEEPNESS * (1.0 - opacity - MIDDLE)))
    w = tl.load(quaternions + row * 4, mask=inside, other=1.0)
    x = tl.load(quaternions + row * 4 + 1, mask=inside, other=0.0)
    y = tl.load(quaternions + row * 4 + 2, mask=inside, other=0.0)
    z = tl.load(quaternions + row * 4 + 3, mask=inside, other=0.0)
    over = 1.0 / tl.sqrt(w * w + x * x + y * y + z * z)
    w *= over
    x *= over
    y *= over
    z *= over
    xx = 1.0 - 2.0 * (y * y + z * z)
    xy = 2.0 * (x * y - w * z)
    xz = 2.0 * (x * z + w * y)
    yx = 2.0 * (x * y + w * z)
    yy = 1.0 - 2.0 * (x * x + z * z)
    yz = 2.0 * (y * z - w * x)
    zx = 2.0 * (x * z - w * y)
    zy = 2.0 * (y * z + w * x)
    zz = 1.0 - 2.0 * (x * x + y * y)
    first = tl.exp(2.0 * tl.load(log_scales + row * 3, mask=inside, other=0.0)) * (xx * a + yx * b + zx * c)
    second = tl.exp(2.0 * tl.load(log_scales + row * 3 + 1, mask=inside, other=0.0)) * (xy * a + yy * b + zy * c)
    third = tl.exp(2.0 * tl.load(log_scales + row * 3 + 2, mask=inside, other=0.0)) * (xz * a + yz * b + zz * c)
    at = means + row * 3
    tl.store(at, tl.load(at, mask=inside) + weight * (xx * first + xy * second + xz * third), mask=inside)
    tl.store(at + 1, tl.load(at + 1, mask=inside) + weight * (yx * first + yy * second + yz * third), mask=inside)
    tl.store(at + 2, tl.load(at + 2, mask=inside) + weight * (zx * first + zy * second + zz * third), mask=inside)
