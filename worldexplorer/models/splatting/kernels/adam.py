"""One step of Adam over everything, the gradients of activations and of regularisers worked out on the way.

Example:
    >>> step(state, gradients, rates, (0.9, 0.999), 1e-15, regularisation)
"""

from __future__ import annotations

from collections.abc import Mapping

import triton
import triton.language as tl
from torch import Tensor

from worldexplorer.models.splatting.operations import Rates, Regularisation
from worldexplorer.models.splatting.state import GaussianState

_BLOCK = 1024


def step(
    state: GaussianState,
    gradients: Mapping[str, Tensor],
    rates: Rates,
    decays: tuple[float, float],
    epsilon: float,
    regularisation: Regularisation,
) -> None:
    """See :meth:`worldexplorer.models.splatting.operations.Operations.adam`."""
    state.steps += 1
    first_scale = 1.0 / (1.0 - decays[0] ** state.steps)
    second_scale = (1.0 - decays[1] ** state.steps) ** -0.5
    count = max(state.count, 1)
    common = {"FIRST": decays[0], "SECOND": decays[1], "EPSILON": epsilon, "BLOCK": _BLOCK, "num_warps": 4}

    def arrays(name: str, gradient: str) -> tuple[Tensor, ...]:
        kept = state.values[name], state.first[name], state.second[name]
        return gradients[gradient].contiguous(), *kept

    for name, rate, rest in (
        ("means", rates.means, rates.means),
        ("quaternions", rates.quaternions, rates.quaternions),
        ("sh", rates.colours, rates.directional),
    ):
        size, row = state.values[name].numel(), state.values[name][0].numel()
        _plain[(triton.cdiv(size, _BLOCK),)](
            *arrays(name, name), size, rate * first_scale, rest * first_scale, second_scale, ROW=row, HEAD=3, **common
        )
    _scales[(triton.cdiv(count, _BLOCK),)](
        *arrays("log_scales", "scales"), state.count, rates.log_scales * first_scale, second_scale,
        regularisation.scale / (3 * count), regularisation.ratio / count, regularisation.ratio_limit, **common,
    )  # fmt: skip
    _opacities[(triton.cdiv(count, _BLOCK),)](
        *arrays("opacity_logits", "opacities"), state.count, rates.opacity_logits * first_scale, second_scale,
        regularisation.opacity / count, **common,
    )  # fmt: skip


@triton.jit
def _moved(
    value, gradient, first, second, at, inside, rate, second_scale,
    FIRST: tl.constexpr, SECOND: tl.constexpr, EPSILON: tl.constexpr,
):  # fmt: skip
    """Update the memory at a place and give the new value."""
    average = FIRST * tl.load(first + at, mask=inside, other=0.0) + (1.0 - FIRST) * gradient
    square = SECOND * tl.load(second + at, mask=inside, other=0.0) + (1.0 - SECOND) * gradient * gradient
    tl.store(first + at, average, mask=inside)
    tl.store(second + at, square, mask=inside)
    return value - rate * average / (tl.sqrt(square) * second_scale + EPSILON)


@triton.jit
def _plain(
    gradients, values, first, second, size, rate, rest, second_scale,
    ROW: tl.constexpr, HEAD: tl.constexpr,
    FIRST: tl.constexpr, SECOND: tl.constexpr, EPSILON: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    own_rate = tl.where(at % ROW < HEAD, rate, rest)
    value = tl.load(values + at, mask=inside, other=0.0)
    gradient = tl.load(gradients + at, mask=inside, other=0.0)
    moved = _moved(value, gradient, first, second, at, inside, own_rate, second_scale, FIRST, SECOND, EPSILON)
    tl.store(values + at, moved, mask=inside)


@triton.jit
def _scales(
    gradients, values, first, second, count, rate, second_scale, weight, ratio_weight, limit,
    FIRST: tl.constexpr, SECOND: tl.constexpr, EPSILON: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = row < count
    at = row * 3
    a = tl.load(values + at, mask=inside, other=0.0)
    b = tl.load(values + at + 1, mask=inside, other=0.0)
    c = tl.load(values + at + 2, mask=inside, other=0.0)
    longest = tl.maximum(tl.maximum(a, b), c)
    shortest = tl.minimum(tl.minimum(a, b), c)
    ratio = tl.exp(longest - shortest)
    pull = tl.where(ratio > limit, ratio, 0.0) * ratio_weight
    a_longest = a == longest
    b_longest = (b == longest) & (a != longest)
    c_longest = (a != longest) & (b != longest)
    a_shortest = a == shortest
    b_shortest = (b == shortest) & (a != shortest)
    c_shortest = (a != shortest) & (b != shortest)
    ga = (tl.load(gradients + at, mask=inside, other=0.0) + weight) * tl.exp(a)
    gb = (tl.load(gradients + at + 1, mask=inside, other=0.0) + weight) * tl.exp(b)
    gc = (tl.load(gradients + at + 2, mask=inside, other=0.0) + weight) * tl.exp(c)
    ga += tl.where(a_longest, pull, 0.0) - tl.where(a_shortest, pull, 0.0)
    gb += tl.where(b_longest, pull, 0.0) - tl.where(b_shortest, pull, 0.0)
    gc += tl.where(c_longest, pull, 0.0) - tl.where(c_shortest, pull, 0.0)
    a = _moved(a, ga, first, second, at, inside, rate, second_scale, FIRST, SECOND, EPSILON)
    b = _moved(b, gb, first, second, at + 1, inside, rate, second_scale, FIRST, SECOND, EPSILON)
    c = _moved(c, gc, first, second, at + 2, inside, rate, second_scale, FIRST, SECOND, EPSILON)
    tl.store(values + at, a, mask=inside)
    tl.store(values + at + 1, b, mask=inside)
    tl.store(values + at + 2, c, mask=inside)


@triton.jit
def _opacities(
    gradients, values, first, second, count, rate, second_scale, weight,
    FIRST: tl.constexpr, SECOND: tl.constexpr, EPSILON: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    value = tl.load(values + at, mask=inside, other=0.0)
    opacity = 1.0 / (1.0 + tl.exp(-value))
    gradient = (tl.load(gradients + at, mask=inside, other=0.0) + weight) * opacity * (1.0 - opacity)
    moved = _moved(value, gradient, first, second, at, inside, rate, second_scale, FIRST, SECOND, EPSILON)
    tl.store(values + at, moved, mask=inside)
