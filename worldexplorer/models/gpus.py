"""Which of this machine's GPUs are used.

Example:
    >>> visible_gpus(limit=None)               # as the variable CUDA_VISIBLE_DEVICES names them
    ('0', '1')
    >>> equal_gpus(limit=None)
    {'cuda:0': 'NVIDIA H200', 'cuda:1': 'NVIDIA H200'}
"""

from __future__ import annotations

import importlib.util
import logging
import os
from typing import TYPE_CHECKING

from worldexplorer.errors import UsageError, UserError

if TYPE_CHECKING:
    import torch

_VISIBLE = "CUDA_VISIBLE_DEVICES"

_log = logging.getLogger(__name__)


def first_gpu(title: str) -> torch.device:
    """The current CUDA GPU; UserError where there is none."""
    import torch

    if not torch.cuda.is_available():
        raise UserError(
            f"{title} needs a CUDA GPU, and torch finds none here",
            where=f"torch {torch.__version__}",
            remedy="run on a machine with an NVIDIA GPU, install a CUDA build of torch, or take --engine preview",
        )
    return torch.device("cuda", torch.cuda.current_device())


def visible_gpus(limit: int | None) -> tuple[str, ...]:
    """Names of the GPUs of the first one's kind, at most `limit`, for CUDA_VISIBLE_DEVICES of another process.

    Workers share them, and a result must not depend on which worker made it (:func:`equal_gpus`).
    """
    if importlib.util.find_spec("torch") is None:
        return ()
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get(_VISIBLE, "")
    names = [name.strip() for name in named.split(",")] if named else [str(number) for number in range(count)]
    equal = [name for number, name in enumerate(names[:count]) if _kind(number) == _kind(0)]
    if len(equal) < count and limit is None:
        _log.warning("of %d GPUs only those like the first one are used: %s", count, ", ".join(equal))
    return tuple(equal[:limit])


def equal_gpus(limit: int | None) -> dict[str, str]:
    """Devices and what they are, of the GPUs that make the same frames: all of the first one's kind.

    Kernels differ between kinds of GPUs, and a frame must not depend on which of them was free.

    Args:
        limit: how many are wanted; None for all there are.

    Raises:
        UsageError: fewer are there than are wanted.
    """
    import torch

    found = {f"cuda:{number}": _kind(number) for number in range(torch.cuda.device_count())}
    equal = {device: name for device, name in found.items() if name == found["cuda:0"]}
    if limit is not None and limit > len(equal):
        kinds = ", ".join(f"{device} {name}" for device, name in found.items()) or "none"
        raise UsageError(
            f"{limit} GPUs of one kind are asked for, and CUDA shows {len(equal)} ({kinds})",
            where="--gpus",
            remedy=f"give a number up to {max(1, len(equal))}, or leave it out; {_VISIBLE} says which GPUs CUDA shows",
        )
    others = [f"{device} {name}" for device, name in found.items() if device not in equal]
    if others and limit is None:
        _log.warning(
            "left out, since other kernels would not make the same frames as those of %s: %s",
            found["cuda:0"],
            ", ".join(others),
        )
    return dict(list(equal.items())[:limit])


def _kind(number: int) -> str:
    import torch

    return torch.cuda.get_device_name(number)
