"""How far an image is from the one it should be, and the gradient of that: L1, structural similarity, transmittance.

SSIM is the structural similarity of Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility
to structural similarity" (2004), with a Gaussian window of 11 x 11 pixels (standard deviation 1.5), zeros beyond the
border, constants 0.01² and 0.03² for colours from 0 to 1, as Gaussian splatting trains with. The weight on the light
that comes through keeps holes from opening where the world is black.

How: of an image x and its target y only x + y and x - y are filtered, and their squares, since means, the sum of
variances and the covariance follow from these. The window is separable and equal to its own adjoint, so the gradient
takes three more filters.

Example:
    >>> loss = ImageLoss(256, 256, ssim_weight=0.3)(rendering.image, target, rendering.transmittance)
    >>> loss.value, loss.by_image.shape
    (0.0213, (3, 256, 256))
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldexplorer.preview import threads as _threads  # noqa: F401  before numba, which reads its settings on import
from worldexplorer.preview.workers import ALONE, Workers

from numba import njit  # isort: skip

TRANSMITTANCE_WEIGHT = 0.1
"""Of the mean transmittance, beside a weight of 1 for the loss of colours."""

_RADIUS = 5
_TAPS = 2 * _RADIUS + 1
_WINDOW = np.exp(-(np.arange(-_RADIUS, _RADIUS + 1) ** 2) / (2.0 * 1.5**2))
_WINDOW = (_WINDOW / _WINDOW.sum()).astype(np.float32)
_FLAGS = {"contract", "reassoc", "nsz"}
"""What the compiler may do to sums: it adds in another order, always the same."""
_C1 = np.float32(0.01**2)
_C2 = np.float32(0.03**2)
_HALF = np.float32(0.5)
_ONE = np.float32(1.0)
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


class ImageLoss:
    """The loss of images of one size; its memory is kept between calls, since new memory costs as much as a filter.

    Args:
        height: of the images, pixels.
        width: of the images, pixels.
        ssim_weight: share of 1 - SSIM in the colours' loss, the rest being L1.
    """

    def __init__(self, height: int, width: int, ssim_weight: float) -> None:
        self.height, self.width = height, width
        self._ssim_weight = ssim_weight
        self._across = np.zeros((3, 4, height + 2 * _RADIUS, width), np.float32)
        self._back = np.zeros((3, 3, height, width + 2 * _RADIUS), np.float32)
        self._back_across = np.zeros((3, 3, height + 2 * _RADIUS, width), np.float32)
        self._lines = np.zeros((3, height, 4, width + 2 * _RADIUS), np.float32)
        self._sums = np.empty((3, height, 3))

    def __call__(
        self,
        image: NDArray[np.float32],
        target: NDArray[np.float32],
        transmittance: NDArray[np.float32],
        workers: Workers = ALONE,
    ) -> Loss:
        """The loss of an image.

        Args:
            image: [3, H, W] float32 as rendered.
            target: [3, H, W] float32, 0 to 1.
            transmittance: [H, W] float32 of the rendering.
            workers: who work at it.
        """
        by_image = np.empty_like(image)
        workers(_filter_across, image, target, self._lines, self._across)
        workers(_similarity, self._across, self._back, self._sums)
        workers(_filter_back_across, self._back, self._back_across)
        workers(_finish, image, target, self._back_across, np.float32(self._ssim_weight), by_image, self._sums)
        similarity, absolute, squared = (float(total) / image.size for total in self._sums.sum(axis=(0, 1)))
        value = (
            (1.0 - self._ssim_weight) * absolute
            + self._ssim_weight * (1.0 - similarity)
            + TRANSMITTANCE_WEIGHT * float(transmittance.mean())
        )
        by_transmittance = np.full_like(transmittance, TRANSMITTANCE_WEIGHT / transmittance.size)
        return Loss(value, squared, by_image, by_transmittance)


@njit(cache=True, nogil=True, fastmath=_FLAGS)
def _filter_across(part, parts, image, target, lines, across):  # type: ignore[no-untyped-def]
    """Filter x + y, x - y and their squares along the rows; `lines` and `across` have zeros at the borders."""
    channels, height, width = image.shape
    for number in range(channels * height * part // parts, channels * height * (part + 1) // parts):
        channel, row = number // height, number % height
        padded = lines[channel, row]
        for column in range(width):
            x, y = image[channel, row, column], target[channel, row, column]
            padded[0, column + _RADIUS] = x + y
            padded[1, column + _RADIUS] = x - y
            padded[2, column + _RADIUS] = (x + y) * (x + y)
            padded[3, column + _RADIUS] = (x - y) * (x - y)
        for which in range(4):
            for column in range(width):
                total = np.float32(0.0)
                for tap in range(_TAPS):
                    total += _WINDOW[tap] * padded[which, column + tap]
                across[channel, which, row + _RADIUS, column] = total


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FLAGS)
def _similarity(part, parts, across, back, sums):  # type: ignore[no-untyped-def]
    """Finish the filter, sum the similarity, and leave its gradients by the filtered maps in `back`.

    With m, n the filtered x + y and x - y and s, d the filtered squares, similarity = a c / (b e) where a = (m² - n²) /
    2 + C1, b = (m² + n²) / 2 + C1, c = (s - d) / 2 - (m² - n²) / 2 + C2, e = (s + d) / 2 - (m² + n²) / 2 + C2.
    """
    channels, height, width = back.shape[0], back.shape[2], across.shape[3]
    filtered = np.empty((4, width), np.float32)
    for number in range(channels * height * part // parts, channels * height * (part + 1) // parts):
        channel, row = number // height, number % height
        for which in range(4):
            for x in range(width):
                mean = np.float32(0.0)
                for tap in range(_TAPS):
                    mean += _WINDOW[tap] * across[channel, which, row + tap, x]
                filtered[which, x] = mean
        total = np.float32(0.0)
        for x in range(width):
            m, n, s, d = filtered[0, x], filtered[1, x], filtered[2, x], filtered[3, x]
            product, squares = _HALF * (m * m - n * n), _HALF * (m * m + n * n)
            a, b = product + _C1, squares + _C1
            c, e = _HALF * (s - d) - product + _C2, _HALF * (s + d) - squares + _C2
            inverse = _ONE / (b * e)
            similarity = a * c * inverse
            both, cross = similarity * (b - e) * inverse, (c - a) * inverse
            back[channel, 0, row, x + _RADIUS] = m * (both + cross) + n * (both - cross)
            back[channel, 1, row, x + _RADIUS] = _HALF * inverse * (a - similarity * b)
            back[channel, 2, row, x + _RADIUS] = -_HALF * inverse * (a + similarity * b)
            total += similarity
        sums[channel, row, 0] = total


@njit(cache=True, nogil=True, fastmath=_FLAGS)
def _filter_back_across(part, parts, back, back_across):  # type: ignore[no-untyped-def]
    channels, height, width = back.shape[0], back.shape[2], back_across.shape[3]
    for number in range(channels * height * part // parts, channels * height * (part + 1) // parts):
        channel, row = number // height, number % height
        for which in range(3):
            for column in range(width):
                total = np.float32(0.0)
                for tap in range(_TAPS):
                    total += _WINDOW[tap] * back[channel, which, row, column + tap]
                back_across[channel, which, row + _RADIUS, column] = total


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FLAGS)
def _finish(part, parts, image, target, back_across, ssim_weight, by_image, sums):  # type: ignore[no-untyped-def]
    """The gradient by the image, and the sums of the absolute and squared errors."""
    channels, height, width = image.shape
    of_similarity = -ssim_weight / np.float32(image.size)
    of_error = (_ONE - ssim_weight) / np.float32(image.size)
    for number in range(channels * height * part // parts, channels * height * (part + 1) // parts):
        channel, row = number // height, number % height
        absolute, squared = np.float32(0.0), np.float32(0.0)
        for column in range(width):
            mean, plus, minus = np.float32(0.0), np.float32(0.0), np.float32(0.0)
            for tap in range(_TAPS):
                mean += _WINDOW[tap] * back_across[channel, 0, row + tap, column]
                plus += _WINDOW[tap] * back_across[channel, 1, row + tap, column]
                minus += _WINDOW[tap] * back_across[channel, 2, row + tap, column]
            x, y = image[channel, row, column], target[channel, row, column]
            similarity = mean + _TWO * ((x + y) * plus + (x - y) * minus)
            by_image[channel, row, column] = of_similarity * similarity + (
                of_error if x > y else (-of_error if x < y else np.float32(0.0))
            )
            absolute += abs(x - y)
            squared += (x - y) * (x - y)
        sums[channel, row, 1] = absolute
        sums[channel, row, 2] = squared
