"""How far an image is from the one it should be, and the gradient of that: 0.8 L1 + 0.2 (1 - SSIM) + 0.1 mean transmittance.

SSIM is the structural similarity of Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural
similarity" (2004), with a Gaussian window of 11 x 11 pixels (standard deviation 1.5), zeros beyond the border, constants
0.01² and 0.03² for colours from 0 to 1, as Gaussian splatting trains with. The weight on the light that comes through keeps
holes from opening where the world is black.

How: of an image x and its target y only x + y and x - y are filtered, and their squares, since means, the sum of variances and the
covariance follow from these. The window is separable and equal to its own adjoint, so the gradient takes three more filters.

Example:
    >>> loss = compare(rendering.image, target, rendering.transmittance)
    >>> loss.value, loss.by_image.shape
    (0.0213, (3, 256, 256))
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldexplorer.preview import threads as _threads  # noqa: F401  before numba, which reads its settings on import

from numba import njit, prange  # isort: skip

SSIM_WEIGHT = 0.2
TRANSMITTANCE_WEIGHT = 0.1

_RADIUS = 5
_WINDOW = np.exp(-(np.arange(-_RADIUS, _RADIUS + 1) ** 2) / (2.0 * 1.5**2))
_WINDOW = (_WINDOW / _WINDOW.sum()).astype(np.float32)
_C1 = np.float32(0.01**2)
_C2 = np.float32(0.03**2)
_HALF = np.float32(0.5)
_TWO = np.float32(2.0)


@dataclass(frozen=True)
class Loss:
    """A loss and its gradient.

    Attributes:
        value: of the whole.
        mean_squared_error: of the colours, for the record.
        by_image: [3, H, W] float32.
        by_transmittance: [H, W] float32.
    """

    value: float
    mean_squared_error: float
    by_image: NDArray[np.float32]
    by_transmittance: NDArray[np.float32]


def compare(
    image: NDArray[np.float32], target: NDArray[np.float32], transmittance: NDArray[np.float32], ssim_weight: float = SSIM_WEIGHT
) -> Loss:
    """The loss of an image.

    Args:
        image: [3, H, W] float32 as rendered.
        target: [3, H, W] float32, 0 to 1.
        transmittance: [H, W] float32 of the rendering.
        ssim_weight: share of 1 - SSIM in the colours' loss, the rest being L1.
    """
    channels, height, width = image.shape
    across = np.empty((4, channels, height, width), np.float32)
    back = np.empty((3, channels, height, width), np.float32)
    back_across = np.empty_like(back)
    by_image = np.empty_like(image)
    sums = np.empty((channels, height, 3))
    with _threads.PARALLEL_REGION:
        _filter_across(image, target, across)
        _similarity(across, back, sums)
        _filter_back_across(back, back_across)
        _finish(image, target, back_across, np.float32(ssim_weight), by_image, sums)
    similarity, absolute, squared = (float(total) / image.size for total in sums.sum(axis=(0, 1)))
    value = (1.0 - ssim_weight) * absolute + ssim_weight * (1.0 - similarity) + TRANSMITTANCE_WEIGHT * float(transmittance.mean())
    by_transmittance = np.full_like(transmittance, TRANSMITTANCE_WEIGHT / transmittance.size)
    return Loss(value, squared, by_image, by_transmittance)


@njit(cache=True)
def _filter_line(padded, output):  # type: ignore[no-untyped-def]
    """Filter one line, which has _RADIUS zeros at both ends."""
    for x in range(len(output)):
        output[x] = _WINDOW[0] * padded[x]
    for tap in range(1, 2 * _RADIUS + 1):
        for x in range(len(output)):
            output[x] += _WINDOW[tap] * padded[x + tap]


@njit(cache=True, parallel=True, fastmath={"contract"})
def _filter_across(image, target, across):  # type: ignore[no-untyped-def]
    """Filter x + y, x - y and their squares along the rows."""
    channels, height, width = image.shape
    for line in prange(channels * height):
        channel, row = line // height, line % height
        padded = np.zeros((4, width + 2 * _RADIUS), np.float32)
        for column in range(width):
            x, y = image[channel, row, column], target[channel, row, column]
            total, difference = x + y, x - y
            padded[0, column + _RADIUS] = total
            padded[1, column + _RADIUS] = difference
            padded[2, column + _RADIUS] = total * total
            padded[3, column + _RADIUS] = difference * difference
        for which in range(4):
            _filter_line(padded[which], across[which, channel, row])


@njit(cache=True)
def _filter_down(lines, row, output):  # type: ignore[no-untyped-def]
    """Filter one row of [H, W] along the columns."""
    output[:] = np.float32(0.0)
    for tap in range(2 * _RADIUS + 1):
        source = row + tap - _RADIUS
        if 0 <= source < lines.shape[0]:
            for x in range(len(output)):
                output[x] += _WINDOW[tap] * lines[source, x]


@njit(cache=True, parallel=True, error_model="numpy", fastmath={"contract"})
def _similarity(across, back, sums):  # type: ignore[no-untyped-def]
    """Finish the filter, sum the similarity, and leave its gradients by the filtered maps in `back`.

    With m, n the filtered x + y and x - y and s, d the filtered squares, similarity = a c / (b e) where a = (m² - n²) / 2 + C1,
    b = (m² + n²) / 2 + C1, c = (s - d) / 2 - (m² - n²) / 2 + C2, e = (s + d) / 2 - (m² + n²) / 2 + C2.
    """
    _, channels, height, width = across.shape
    for line in prange(channels * height):
        channel, row = line // height, line % height
        filtered = np.empty((4, width), np.float32)
        for which in range(4):
            _filter_down(across[which, channel], row, filtered[which])
        total = 0.0
        for x in range(width):
            m, n, s, d = filtered[0, x], filtered[1, x], filtered[2, x], filtered[3, x]
            product, squares = _HALF * (m * m - n * n), _HALF * (m * m + n * n)
            a, b = product + _C1, squares + _C1
            c, e = _HALF * (s - d) - product + _C2, _HALF * (s + d) - squares + _C2
            similarity = a * c / (b * e)
            total += similarity
            both, cross = similarity * (np.float32(1.0) / e - np.float32(1.0) / b), (c - a) / (b * e)
            back[0, channel, row, x] = m * (both + cross) + n * (both - cross)
            back[1, channel, row, x] = _HALF * (a / (b * e) - similarity / e)
            back[2, channel, row, x] = _HALF * (-a / (b * e) - similarity / e)
        sums[channel, row, 0] = total


@njit(cache=True, parallel=True, fastmath={"contract"})
def _filter_back_across(back, back_across):  # type: ignore[no-untyped-def]
    _, channels, height, width = back.shape
    for line in prange(channels * height):
        channel, row = line // height, line % height
        padded = np.zeros(width + 2 * _RADIUS, np.float32)
        for which in range(3):
            padded[_RADIUS : _RADIUS + width] = back[which, channel, row]
            _filter_line(padded, back_across[which, channel, row])


@njit(cache=True, parallel=True, error_model="numpy", fastmath={"contract"})
def _finish(image, target, back_across, ssim_weight, by_image, sums):  # type: ignore[no-untyped-def]
    """The gradient by the image, and the sums of the absolute and squared errors."""
    channels, height, width = image.shape
    of_similarity = -ssim_weight / np.float32(image.size)
    of_error = (np.float32(1.0) - ssim_weight) / np.float32(image.size)
    for line in prange(channels * height):
        channel, row = line // height, line % height
        filtered = np.empty((3, width), np.float32)
        for which in range(3):
            _filter_down(back_across[which, channel], row, filtered[which])
        absolute, squared = 0.0, 0.0
        for column in range(width):
            x, y = image[channel, row, column], target[channel, row, column]
            total, difference = x + y, x - y
            similarity = filtered[0, column] + _TWO * (total * filtered[1, column] + difference * filtered[2, column])
            by_image[channel, row, column] = of_similarity * similarity + of_error * np.sign(difference)
            absolute += abs(difference)
            squared += difference * difference
        sums[channel, row, 1] = absolute
        sums[channel, row, 2] = squared
