"""Winograd's convolutions: the arranged weights exactly, the kernels in Triton's interpreter, the rule, the network."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from worldexplorer.models.seva.config import SevaConfig
from worldexplorer.models.seva.layers import ResidualBlock
from worldexplorer.models.seva.network import SevaNetwork
from worldexplorer.models.seva.winograd import pays, winograd_weights

INTO = torch.tensor([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], dtype=torch.float64)
OUT_OF = torch.tensor([[1, 1, 1, 0], [0, 1, -1, -1]], dtype=torch.float64)


def by_tiles(x: Tensor, weights: Tensor) -> Tensor:
    """The definition, for even sizes: every tile's sums, their products over the channels, every tile's results."""
    tiles = functional.pad(x, (1, 1, 1, 1)).unfold(2, 4, 2).unfold(3, 4, 2)
    sums = torch.einsum("ay,bx,ncrsyx->abncrs", INTO, INTO, tiles)
    products = torch.einsum("abncrs,abco->abnors", sums, weights.unflatten(0, (4, 4)))
    return torch.einsum("ya,xb,abnors->norysx", OUT_OF, OUT_OF, products).flatten(4).flatten(2, 3)


@pytest.mark.parametrize(("height", "width"), [(2, 2), (6, 10), (8, 4)])
def test_it_is_the_convolution_exactly(height: int, width: int) -> None:
    """Whole numbers: every sum of the float64 arithmetic is exact, so the results are equal and not only close."""
    torch.manual_seed(0)
    x = torch.randint(-9, 10, (2, 3, height, width), dtype=torch.float64)
    weight = torch.randint(-9, 10, (5, 3, 3, 3), dtype=torch.float64)
    assert torch.equal(by_tiles(x, winograd_weights(weight)), functional.conv2d(x, weight, padding=1))


def test_weights_keep_their_type() -> None:
    weight = torch.randn(6, 4, 3, 3)
    assert winograd_weights(weight).shape == (16, 4, 6)
    rounded = winograd_weights(weight.half())
    assert rounded.dtype == torch.float16
    torch.testing.assert_close(rounded.float(), winograd_weights(weight.half().float()), atol=0, rtol=2**-11)


@pytest.mark.parametrize(
    ("channels", "worth"),
    [((320, 320), False), ((64, 2560), False), ((640, 320), True), ((640, 640), True), ((2560, 1280), True)],
)
def test_wide_ones_pay(channels: tuple[int, int], worth: bool) -> None:
    assert pays(*channels) == pays(*reversed(channels)) == worth


def test_the_memory_of_the_second_weights_is_as_stated() -> None:
    """FusedOperations says 1.6 GiB."""
    with torch.device("meta"):
        network = SevaNetwork(SevaConfig())
    convolutions = [
        convolution
        for block in network.modules()
        if isinstance(block, ResidualBlock)
        for convolution in (block.in_layers[2], block.out_layers[3])
    ]
    taken = [one for one in convolutions if pays(one.in_channels, one.out_channels)]
    assert (len(convolutions), len(taken)) == (44, 37)
    assert sum(16 * one.in_channels * one.out_channels * 2 for one in taken) / 2**30 == pytest.approx(1.6, abs=0.05)


INTERPRETED = """
import torch
from worldexplorer.models.seva.kernels import winograd
from worldexplorer.models.seva.winograd import winograd_weights

torch.set_num_threads(1)
torch.manual_seed(0)
pieces = winograd._MOST_BYTES
for count, channels_in, channels_out, height, width, most in (
    (2, 64, 128, 9, 9, pieces),
    (3, 128, 64, 6, 7, pieces),
    (5, 64, 64, 1, 3, pieces),
    (5, 64, 64, 4, 5, 16 * 6 * 64 * 4 * 2),
):
    winograd._MOST_BYTES = most
    x, base = (
        torch.randn(count, size, height, width).contiguous(memory_format=torch.channels_last)
        for size in (channels_in, channels_out)
    )
    weight, bias = torch.randn(channels_out, channels_in, 3, 3), torch.randn(channels_out)
    expected = torch.nn.functional.conv2d(x, weight, padding=1)
    alone = winograd.convolve(x, winograd_weights(weight))
    assert alone.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(alone, expected, atol=1e-3, rtol=1e-4)
    found = winograd.convolve(x, winograd_weights(weight), base, bias)
    torch.testing.assert_close(found, expected + base + bias[:, None, None], atol=1e-3, rtol=1e-4)
    half = winograd.transform(x.half()).float()
    torch.testing.assert_close(half, winograd.transform(x.half().float()), atol=1e-3, rtol=2**-11)
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="the kernels are written in Triton")
def test_the_kernels_convolve() -> None:
    """In a process of their own: what interprets them is chosen when Triton is imported."""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
