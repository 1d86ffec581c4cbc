"""What networks that look at frames have in common: they are loaded when they are needed, beside others on a GPU.

Example:
    >>> class DepthAnythingModel(FrameNetwork):
    ...     role = "depth"
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from worldexplorer.models.geometry_models import FrameModel
from worldexplorer.models.residents import Residents

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)


class FrameNetwork:
    """A network that looks at frames.

    Args:
        model: what it is.
        folder: answers with where its files are, downloading them where needed.
        residents: who else is on the GPU.
        device: to compute on; the current CUDA GPU unless given.
    """

    role: ClassVar[str]
    """Tells it from networks of other roles whose model has the same name."""

    def __init__(
        self,
        model: FrameModel,
        folder: Callable[[], Path],
        residents: Residents,
        device: torch.device | None = None,
    ) -> None:
        self.model = model
        self._folder = folder
        self._residents = residents
        self._device = device

    @property
    def _key(self) -> str:
        """Its name among the residents."""
        return f"{self.role} {self.model.name}"

    def _others_left(self, message: str) -> bool:
        """After memory ran out: whether there were other networks on the GPU, which have left it now."""
        if not self._residents.keep_only(self._key):
            return False
        _log.warning("%s ran out of GPU memory (%s): the other networks leave the GPU", self.model.title, message)
        return True
