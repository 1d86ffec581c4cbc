"""The training pictures where the steps can reach them, and the order they come in.

Pictures stay 8-bit: on the GPU where they fit (2,856 of 576 pixels take 2.7 GiB), else in pinned host memory, from
which the next step's are fetched while this one works. Which pictures a step sees, and every other draw of it, follows
from the seed and the number of images seen before, so a training that goes on draws what it would have drawn.

Example:
    >>> order = PictureOrder(count=240, seed=0)
    >>> pictures = stored(images, torch.device("cuda"), room=2**33)
    >>> pictures.fetch(order.of(image=5, batch=4), then=order.of(image=9, batch=4)).shape
    torch.Size([4, 576, 576, 3])
"""

from __future__ import annotations

import logging
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from worldexplorer.engine import Images
from worldexplorer.units import GIB

_log = logging.getLogger(__name__)


class PictureOrder:
    """Which pictures each step sees: all of them in a random order, then all in another.

    Args:
        count: of pictures.
        seed: of the orders.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed
        self._epoch, self._permutation = -1, np.empty(0, np.int64)

    def of(self, image: int, batch: int) -> list[int]:
        """The numbers of `batch` pictures, after `image` were seen."""
        return [self._one(place) for place in range(image, image + batch)]

    def _one(self, place: int) -> int:
        epoch, within = divmod(place, self._count)
        if epoch != self._epoch:
            self._epoch = epoch
            self._permutation = np.random.default_rng([self._seed, 1, epoch]).permutation(self._count)
        return int(self._permutation[within])


class StoredPictures(Protocol):
    """Pictures [N, H, W, 3] uint8 somewhere."""

    place: str

    def fetch(self, numbers: list[int], then: list[int]) -> Tensor:
        """[C, H, W, 3] uint8 on the training's device; `then` are the numbers of the next call."""


class ResidentPictures:
    """All pictures on the training's device."""

    def __init__(self, images: Images, device: torch.device) -> None:
        self.place = "device"
        self._images = torch.from_numpy(images).to(device)

    def fetch(self, numbers: list[int], then: list[int]) -> Tensor:
        """See StoredPictures."""
        return self._images[numbers] if len(numbers) > 1 else self._images[numbers[0] : numbers[0] + 1]


class HostPictures:
    """Pictures in pinned host memory; the next ones cross over while a step works."""

    def __init__(self, images: Images, device: torch.device) -> None:
        self.place = "host"
        self._images, self._device = torch.from_numpy(images).pin_memory(), device
        self._stream = torch.cuda.Stream(device)
        self._coming: tuple[list[int], Tensor] | None = None

    def fetch(self, numbers: list[int], then: list[int]) -> Tensor:
        """See StoredPictures."""
        if self._coming is None or self._coming[0] != numbers:
            self._send(numbers)
        assert self._coming is not None
        pictures = self._coming[1]
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)
        pictures.record_stream(current)
        self._send(then)
        return pictures

    def _send(self, numbers: list[int]) -> None:
        with torch.cuda.stream(self._stream):
            rows = [self._images[number].to(self._device, non_blocking=True) for number in numbers]
            self._coming = numbers, torch.stack(rows)


def stored(images: Images, device: torch.device, room: int | None) -> StoredPictures:
    """Pictures on the device, or in host memory where they take more than `room` bytes of it (None: no limit)."""
    if room is None or images.nbytes <= room or device.type != "cuda":
        return ResidentPictures(np.ascontiguousarray(images), device)
    _log.info("%.1f GiB of pictures stay in host memory; the GPU has no room for them", images.nbytes / GIB)
    return HostPictures(np.ascontiguousarray(images), device)


def smaller(pictures: Tensor, factor: int) -> Tensor:
    """[C, H, W, 3] uint8 as float32 from 0 to 1, at 1 / factor of the size: each pixel the mean of those it covers."""
    if factor == 1:
        return pictures.float() / 255.0
    count, height, width = pictures.shape[0], pictures.shape[1] // factor, pictures.shape[2] // factor
    blocks = pictures[:, : height * factor, : width * factor].reshape(count, height, factor, width, factor, 3)
    return blocks.float().mean(dim=(2, 4)) / 255.0
