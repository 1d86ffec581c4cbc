"""Which networks stay on the GPU: those used last, as long as there is room.

A network is loaded when it is first asked for and stays. Before another one is loaded that needs more memory than is
free, those that were not used for the longest time are dropped; whoever needs one again loads it again. What torch has
kept for later is given back first: whoever loads decides by what is free, and may be another process. When memory runs
out all the same while a network is loaded, all others leave and it is loaded once more.

Example:
    >>> residents = Residents()
    >>> pipeline = residents.get("flux1-dev", 34 * GIB, load)
"""

from __future__ import annotations

import gc
import logging
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from worldexplorer.errors import ErrorClass, classify
from worldexplorer.units import GIB

if TYPE_CHECKING:
    import torch

Loaded = TypeVar("Loaded")
_ORDINARY_POOL = (0, 0)
"""Of torch's pools the one that is nobody's own; graphs have others."""

_log = logging.getLogger(__name__)


def free_gpu_bytes(device: torch.device | None = None) -> int | None:
    """Bytes of a GPU that this process can still fill; None where there is no GPU.

    What torch has kept and nobody uses is given back first, so all that the driver then has is counted, exactly. So are
    the gaps in blocks that are used in part: this process alone can fill them, with tensors that fit, so one tensor of
    the whole number may not. What CUDA graphs hold never counts, since every replay writes there; it comes back when
    its graph is gone.

    Args:
        device: which GPU; the current one unless given.
    """
    import torch

    if not torch.cuda.is_available():
        return None
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    number = torch.cuda.current_device() if device is None or device.index is None else device.index
    return int(free) + sum(
        block["size"]
        for segment in torch.cuda.memory_snapshot()
        if segment["device"] == number and tuple(segment["segment_pool_id"]) == _ORDINARY_POOL
        for block in segment["blocks"]
        if block["state"] == "inactive"
    )


class Residents:
    """Loaded networks by name.

    Args:
        free: bytes free on the GPU, None where nothing is short.
    """

    def __init__(self, free: Callable[[], int | None] = free_gpu_bytes) -> None:
        self._free = free
        self._loaded: OrderedDict[str, Any] = OrderedDict()

    def __contains__(self, name: str) -> bool:
        return name in self._loaded

    def get(self, name: str, wanted_bytes: int, load: Callable[[], Loaded]) -> Loaded:
        """What is loaded under a name, loaded now where it is not there."""
        if name not in self._loaded:
            self._make_room(wanted_bytes)
            _release()
            self._loaded[name] = self._load(name, load)
        self._loaded.move_to_end(name)
        return cast("Loaded", self._loaded[name])

    def drop(self, name: str) -> None:
        """Forget what is loaded under a name; fine where nothing is."""
        if self._loaded.pop(name, None) is not None:
            _release()

    def keep_only(self, name: str) -> bool:
        """Drop all others; whether there were any."""
        others = [other for other in self._loaded if other != name]
        for other in others:
            self.drop(other)
        return bool(others)

    def _load(self, name: str, load: Callable[[], Loaded]) -> Loaded:
        try:
            return load()
        except Exception as error:
            message = str(error).partition("\n")[0]
            if classify(error) is not ErrorClass.OUT_OF_MEMORY or not self._loaded:
                raise
            error.__traceback__ = None  # its frames hold what was loaded so far
        _log.warning("GPU memory ran out while %s was loaded (%s): the other networks leave the GPU", name, message)
        self.keep_only(name)
        return load()

    def _make_room(self, wanted_bytes: int) -> None:
        while self._loaded and (free := self._free()) is not None and free < wanted_bytes:
            oldest = next(iter(self._loaded))
            _log.info("%s leaves the GPU: %.1f GiB are free, %.1f wanted", oldest, free / GIB, wanted_bytes / GIB)
            self.drop(oldest)


def _release() -> None:
    """Give the memory of what nobody holds any more back."""
    gc.collect()
    torch = sys.modules.get("torch")  # where nobody has imported it yet there is nothing to give back
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
