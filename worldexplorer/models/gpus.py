"""Which of this machine's GPUs are used.

A process that computes on a GPU asks torch. All others, the one above all that starts the workers of a run and stays as
long as they do, look through :func:`look_at_gpus`: a context of their own would take half a GiB from the workers.

Example:
    >>> visible_gpus(limit=None)               # as the variable CUDA_VISIBLE_DEVICES names them
    ('0', '1')
    >>> equal_gpus(limit=None)
    {'cuda:0': 'NVIDIA H200', 'cuda:1': 'NVIDIA H200'}
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worldexplorer.errors import UsageError, UserError
from worldexplorer.models import gpu_look

if TYPE_CHECKING:
    import torch

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_LOOK_SECONDS = 300.0
"""torch is some GB of libraries, which may come from a slow disk the first time."""

_seen: dict[str, Sight] = {}
"""The last look at each choice of GPUs, for what does not change while a process runs: which there are."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sight:
    """What torch sees of the GPUs.

    Attributes:
        torch: its version.
        names: what the visible GPUs are, in CUDA's order; empty where torch can use none.
        capability: of the first one, (0, 0) where there is none.
        free_bytes: of the first one, that a process which has just started finds.
        card_bytes: all that the first one has.
    """

    torch: str
    names: tuple[str, ...] = ()
    capability: tuple[int, int] = (0, 0)
    free_bytes: int = 0
    card_bytes: int = 0

    @property
    def kinds(self) -> dict[str, str]:
        """Devices and what they are."""
        return {f"cuda:{number}": name for number, name in enumerate(self.names)}


def look_at_gpus() -> Sight:
    """Look through a process of its own, whose CUDA context ends with it; this process gets none.

    Raises:
        UserError: torch cannot be loaded there, or the driver refuses it.
    """
    # Where modules are found here they are found there, but not beside the file that is run.
    paths = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-P", str(gpu_look.__file__)]
    try:
        done = subprocess.run(
            command,
            env=os.environ | {"PYTHONPATH": paths},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LOOK_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise _unseen(f"no answer for {_LOOK_SECONDS:.0f} s") from None
    said = done.stderr.strip().splitlines()
    told = done.stdout.splitlines()
    found: dict[str, Any] = (
        json.loads(told[-1]) if told else {"error": said[-1] if said else f"exit code {done.returncode}"}
    )
    if "error" in found:
        raise _unseen(found["error"])
    if said:
        _log.warning("torch, looking at the GPUs: %s", " ".join(" ".join(said).split()))
    major, minor = found["capability"]
    sight = Sight(found["torch"], tuple(found["names"]), (major, minor), found["free_bytes"], found["card_bytes"])
    _seen[os.environ.get(_VISIBLE, "")] = sight
    return sight


def _unseen(reason: str) -> UserError:
    return UserError(
        f"torch cannot look at this machine's GPUs: {reason}",
        where=sys.executable,
        remedy="end other programs on the GPU, install a build of torch that fits the driver, or take --engine preview",
    )


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


def card_of(device: torch.device | None = None) -> tuple[tuple[int, int], int]:
    """A GPU's compute capability, and all its memory in bytes, whoever uses it; zeros where there is none.

    Args:
        device: which; the first one unless given.
    """
    import torch

    if not torch.cuda.is_available():
        return (0, 0), 0
    card = torch.cuda.get_device_properties(device or torch.device("cuda", 0))
    return (card.major, card.minor), card.total_memory


def visible_gpus(limit: int | None) -> tuple[str, ...]:
    """Names of the GPUs of the first one's kind, at most `limit`, for CUDA_VISIBLE_DEVICES of another process.

    Workers share them, and a result must not depend on which worker made it (:func:`equal_gpus`).
    """
    if importlib.util.find_spec("torch") is None:
        return ()
    named = os.environ.get(_VISIBLE, "")
    kinds = (_seen.get(named) or look_at_gpus()).names
    count = len(kinds)
    names = [name.strip() for name in named.split(",")] if named else [str(number) for number in range(count)]
    equal = [name for name, kind in zip(names, kinds, strict=False) if kind == kinds[0]]  # CUDA stops at a wrong name
    if len(equal) < count and limit is None:
        _log.warning("of %d GPUs only those like the first one are used: %s", count, ", ".join(equal))
    return tuple(equal[:limit])


def equal_gpus(limit: int | None, kinds: Mapping[str, str] | None = None) -> dict[str, str]:
    """Devices and what they are, of the GPUs that make the same frames: all of the first one's kind.

    Kernels differ between kinds of GPUs, and a frame must not depend on which of them was free.

    Args:
        limit: how many are wanted; None for all there are.
        kinds: devices and what they are; what torch shows this process unless given.

    Raises:
        UsageError: fewer are there than are wanted.
    """
    found = _own_kinds() if kinds is None else kinds
    equal = {device: name for device, name in found.items() if name == found["cuda:0"]}
    if limit is not None and limit > len(equal):
        shown = ", ".join(f"{device} {name}" for device, name in found.items()) or "none"
        raise UsageError(
            f"{limit} GPUs of one kind are asked for, and CUDA shows {len(equal)} ({shown})",
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


def _own_kinds() -> dict[str, str]:
    import torch

    return {f"cuda:{number}": torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())}
