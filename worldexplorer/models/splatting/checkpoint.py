"""A training's state on disk: one safetensors file, its facts as JSON in the file's header.

The file is written beside its place, in a folder of its own, and put in place by one rename: at any moment there is the
old state or the new one, and whoever watches the folder sees one change a checkpoint. Writing happens in a thread,
while training goes on with the next steps. A file that is damaged, or belongs to another training, is passed over with
a warning.

Example:
    >>> with CheckpointWriter(folder, fingerprint) as writer:
    ...     writer.save(image=2000, facts={"steps": 2000}, arrays=arrays)
    >>> load_checkpoint(folder, fingerprint).image
    2000
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FILE_NAME = "checkpoint.safetensors"
_WRITING = "writing"
_KEY = "training"
FORMAT_VERSION = 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A state that was read.

    Attributes:
        image: images seen before it was written.
        facts: JSON values.
        arrays: tensors on the CPU, by name.
    """

    image: int
    facts: dict[str, Any]
    arrays: dict[str, Tensor]


class CheckpointWriter:
    """Writes the checkpoints of one training, one after the other; errors of a write are raised by the next call.

    Args:
        folder: of this training alone; made where it is missing.
        fingerprint: of everything that the training's result depends on.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder, self._fingerprint = folder, fingerprint
        (folder / _WRITING).mkdir(parents=True, exist_ok=True)
        for left in (folder / _WRITING).iterdir():  # by a killed write
            left.unlink()
        self._pool = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None
        self._pinned: dict[str, Tensor] = {}

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        """Wait for the last write; its error is raised unless another one is on its way."""
        try:
            if kind is None:
                self.wait()
        finally:
            self._pool.shutdown()

    def save(self, image: int, facts: Mapping[str, Any], arrays: Mapping[str, Tensor]) -> None:
        """Take a copy of the state now and write it while the caller goes on."""
        self.wait()
        header = {"format": FORMAT_VERSION, "fingerprint": self._fingerprint, "image": image, "facts": dict(facts)}
        copies = {name: self._copy(name, array) for name, array in arrays.items()}
        if any(array.is_cuda for array in arrays.values()):
            torch.cuda.synchronize()
        self._pending = self._pool.submit(self._write, copies, {_KEY: json.dumps(header, sort_keys=True)})

    def wait(self) -> None:
        """Until the last state is on disk."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def _copy(self, name: str, array: Tensor) -> Tensor:
        """A copy on the CPU; from a GPU into pinned memory, which is kept, since making it takes longer than a copy."""
        if not array.is_cuda:
            return array.detach().clone().contiguous()
        kept = self._pinned.get(name)
        if kept is None or kept.shape != array.shape:
            kept = self._pinned[name] = torch.empty(array.shape, dtype=array.dtype, pin_memory=True)
        kept.copy_(array.detach(), non_blocking=True)
        return kept

    def _write(self, arrays: dict[str, Tensor], header: dict[str, str]) -> None:
        path = self._folder / _WRITING / FILE_NAME
        save_file(arrays, path, metadata=header)
        _sync(path)
        path.replace(self._folder / FILE_NAME)
        _sync(self._folder)


def load_checkpoint(folder: Path, fingerprint: str) -> Checkpoint | None:
    """The state in `folder`; None where there is none that this training can go on from."""
    path = folder / FILE_NAME
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_KEY])
            if header["format"] != FORMAT_VERSION or header["fingerprint"] != fingerprint:
                _log.warning("The checkpoint %s belongs to another training; this one starts from the beginning.", path)
                return None
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
            return Checkpoint(int(header["image"]), dict(header["facts"]), arrays)
    except FileNotFoundError:
        return None
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        _log.warning("The checkpoint %s is damaged (%s); training starts from the beginning.", path, error)
        return None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
