"""nerfstudio's checkpoints: which one is the latest whole one, and the Gaussians in it.

nerfstudio writes `step-000002000.ckpt` under its final name and then removes the one before, so a file may be half
there. This program moves every finished one into the run data's own folder by a rename, always to the same place. That
is what tells the stage that there is something to keep; a remote storage then holds one checkpoint and not all of them.

A checkpoint is a torch file. It is read with `weights_only`, with numpy's numbers as the only other thing allowed, so
that a file from elsewhere runs nothing; the Gaussians are taken from the keys `pipeline` ->
`_model.gauss_params.*`, checked one by one.

Example:
    >>> adopt_checkpoint(made, kept, reached=4000)
    4000
    >>> read_gaussians(kept).gaussians.count
    1000000
"""

from __future__ import annotations

import pickle
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from worldexplorer.errors import DefectError
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.models.nerfstudio.launch import numpy_scalars

LEAST_OPACITY = 1.0 / 255.0
"""Less opaque Gaussians are left out, as in nerfstudio's own export."""
_NAME = re.compile(r"step-(\d{9})\.ckpt")
_PREFIX = "_model.gauss_params."
_COLUMNS: dict[str, tuple[int, ...]] = {
    "means": (3,),
    "scales": (3,),
    "quats": (4,),
    "features_dc": (3,),
    "features_rest": (15, 3),
    "opacities": (1,),
}
"""What belongs to each Gaussian, with spherical harmonics of degree 3."""
_REMEDY = "remove the file, and run it again"


@dataclass(frozen=True)
class CheckpointFile:
    """One checkpoint: of the state after the step `step`, counted from 0."""

    step: int
    path: Path


@dataclass(frozen=True)
class ExportedGaussians:
    """What of a checkpoint is a world.

    Attributes:
        gaussians: in nerfstudio's frame.
        not_finite: left out because a number was infinite or none, or the quaternion had no length.
        transparent: left out because less opaque than :data:`LEAST_OPACITY`.
    """

    gaussians: Gaussians
    not_finite: int
    transparent: int


def adopt_checkpoint(made: Path, kept: Path, reached: int) -> int | None:
    """Move the latest finished checkpoint of nerfstudio over the one kept so far.

    Args:
        made: the folder that nerfstudio writes to; it may be missing.
        kept: the file to keep, on the same file system.
        reached: a step that nerfstudio has said is done: checkpoints up to it are whole.

    Returns:
        The step of the one that was moved; None where none was.
    """
    finished = [one for one in _made_checkpoints(made) if one.step <= reached]
    if not finished:
        return None
    for old in finished[:-1]:
        old.path.unlink(missing_ok=True)
    finished[-1].path.replace(kept)
    return finished[-1].step


def latest_whole(kept: Path, made: Path) -> CheckpointFile | None:
    """The latest checkpoint whose every byte is there, of the kept one and those that nerfstudio has left behind."""
    step = checkpoint_step(kept)
    found = [CheckpointFile(step, kept)] if step is not None else []
    found += [one for one in _made_checkpoints(made) if checkpoint_step(one.path) == one.step]
    return max(found, key=lambda one: one.step, default=None)


def checkpoint_step(path: Path) -> int | None:
    """The step of a checkpoint, a ZIP archive, that has all its parts with the right checksums; None for others."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        step = _content(path).get("step")
    except (FileNotFoundError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, DefectError):
        return None
    return step if isinstance(step, int) else None


def read_gaussians(path: Path) -> ExportedGaussians:
    """The Gaussians of a checkpoint, in nerfstudio's frame.

    Raises:
        DefectError: the file is damaged, holds something besides tensors and numbers, or is not splatfacto's.
    """
    state = _content(path).get("pipeline")
    if not isinstance(state, dict):
        raise DefectError("the checkpoint has no state of a pipeline", where=str(path), remedy=_REMEDY)
    values = {name: _values(state, name, path) for name in _COLUMNS}
    count = len(values["means"])
    for name, columns in _COLUMNS.items():
        if values[name].shape != (count, *columns):
            raise DefectError(
                f"{name} have the shape {list(values[name].shape)}, not {[count, *columns]}",
                where=str(path),
                remedy=_REMEDY,
            )
    lengths = np.linalg.norm(values["quats"].astype(np.float64), axis=1)
    finite = np.isfinite(lengths) & (lengths > 0.0)
    for array in values.values():
        finite &= np.isfinite(array.reshape(count, -1)).all(axis=1)
    logits = values["opacities"][:, 0]
    opaque = logits >= np.log(LEAST_OPACITY / (1.0 - LEAST_OPACITY))
    kept = finite & opaque
    quaternions = (values["quats"][kept] / lengths[kept, None]).astype(np.float32)
    sh = np.concatenate([values["features_dc"][kept][:, None], values["features_rest"][kept]], axis=1)
    return ExportedGaussians(
        Gaussians(values["means"][kept], values["scales"][kept], quaternions, logits[kept], sh),
        not_finite=int(np.count_nonzero(~finite)),
        transparent=int(np.count_nonzero(finite & ~opaque)),
    )


def _content(path: Path) -> dict[str, Any]:
    """A checkpoint's content; the tensors stay on disk until they are used."""
    try:
        with torch.serialization.safe_globals(numpy_scalars()):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DefectError(
            f"the checkpoint is damaged, or holds more than numbers: {reason}", where=str(path), remedy=_REMEDY
        ) from error
    if not isinstance(content, dict):
        raise DefectError("the checkpoint is none of nerfstudio's", where=str(path), remedy=_REMEDY)
    return content


def _made_checkpoints(folder: Path) -> list[CheckpointFile]:
    """The checkpoints in nerfstudio's own folder, by step."""
    if not folder.is_dir():
        return []
    found = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    return sorted((CheckpointFile(int(name.group(1)), path) for name, path in found if name), key=lambda one: one.step)


def _values(state: dict[str, Any], name: str, path: Path) -> NDArray[np.float32]:
    tensor = state.get(_PREFIX + name)
    if not isinstance(tensor, torch.Tensor) or tensor.dtype != torch.float32:
        raise DefectError(f"the checkpoint has no float32 {_PREFIX}{name}", where=str(path), remedy=_REMEDY)
    array: NDArray[np.float32] = tensor.numpy()
    return array
