"""The state of a training on disk, so that one that was killed goes on to the very same result.

One file, replaced as a whole: at any moment there is the old state or the new one. A file that is damaged, or belongs
to another training, is set aside with a warning, since starting over gives the same Gaussians, only later.

Example:
    >>> save_checkpoint(folder, fingerprint, iteration=200, arrays={"rows": rows})
    >>> load_checkpoint(folder, fingerprint, like={"rows": rows})[0]
    200
"""

from __future__ import annotations

import logging
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FILE_NAME = "checkpoint.npz"
_PARTIAL = "checkpoint.npz.partial"
_ITERATION, _FINGERPRINT = "iteration", "fingerprint"

Arrays = Mapping[str, NDArray[np.generic]]

_log = logging.getLogger(__name__)


def save_checkpoint(folder: Path, fingerprint: str, iteration: int, arrays: Arrays) -> None:
    """Replace the checkpoint in `folder`, which is made where it is missing.

    Args:
        folder: of this training alone.
        fingerprint: of everything that the training's result depends on.
        iteration: how many iterations are done.
        arrays: the state, by name.

    Raises:
        OSError: the file cannot be written; the old one is still there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / _PARTIAL
    with partial.open("wb") as file:
        np.savez(
            file,
            allow_pickle=False,
            **{_ITERATION: np.array(iteration), _FINGERPRINT: np.array(fingerprint)},
            **{f"state_{name}": array for name, array in arrays.items()},
        )
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / FILE_NAME)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_checkpoint(folder: Path, fingerprint: str, like: Arrays) -> tuple[int, Arrays] | None:
    """Read the checkpoint in `folder`.

    Args:
        folder: of this training alone.
        fingerprint: of this training.
        like: arrays of the names, types and shapes that are expected.

    Returns:
        How many iterations are done, and the state; None where there is no checkpoint that can be used.
    """
    path = folder / FILE_NAME
    (folder / _PARTIAL).unlink(missing_ok=True)  # what a killed write has left
    try:
        with np.load(path, allow_pickle=False) as content:
            if str(content[_FINGERPRINT]) != fingerprint:
                _log.warning("The checkpoint %s belongs to another training; this one starts from the beginning.", path)
                return None
            iteration = int(content[_ITERATION])
            arrays = {name: content[f"state_{name}"] for name in like}
    except FileNotFoundError:
        return None
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, TypeError, NotImplementedError) as error:
        _log.warning("The checkpoint %s is damaged (%s); training starts from the beginning.", path, error)
        return None
    for name, array in like.items():
        if arrays[name].shape != array.shape or arrays[name].dtype != array.dtype:
            _log.warning("The checkpoint %s is damaged (%s); training starts from the beginning.", path, name)
            return None
    return iteration, arrays
