"""What is known of a model's weights, and what of them is on this machine. Downloads and hashes nothing.

Example:
    >>> weight_status(weight_sets()["seva"]).text
    'stabilityai/stable-virtual-camera, revision not pinned, size unknown, Stability AI non-commercial, gated, not here'
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from worldexplorer.errors import UserError
from worldexplorer.models.weights import SOURCE_VARIABLE, WeightSet, cache_folder, files_here
from worldexplorer.units import GIB, MIB

_SHORT = 12
_PLACES = {True: "here", False: "not here", None: "partly here"}


@dataclass(frozen=True)
class WeightStatus:
    """One set on this machine.

    Attributes:
        weights: the set.
        here: whether all of it is here; None where some of it is.
        bytes_here: of the files that are here.
        total_bytes: of all its files; None where the sizes are not known.
    """

    weights: WeightSet
    here: bool | None
    bytes_here: int
    total_bytes: int | None

    @property
    def text(self) -> str:
        """One line for a person."""
        one = self.weights
        revision = f"revision {one.revision[:_SHORT]}" if one.revision else "revision not pinned"
        if self.total_bytes is not None:
            size = size_text(self.total_bytes)
        elif self.here:
            size = size_text(self.bytes_here)
        else:
            size = "size unknown"
        access = "gated" if one.gated else "open"
        return f"{one.repository}, {revision}, {size}, {one.licence}, {access}, {_PLACES[self.here]}"

    def facts(self) -> dict[str, object]:
        """The same for a program."""
        one = self.weights
        return {
            "name": one.name,
            "role": one.role,
            "repository": one.repository,
            "revision": one.revision,
            "licence": one.licence,
            "permissive": one.permissive,
            "gated": one.gated,
            "bytes": self.total_bytes,
            "bytes_here": self.bytes_here,
            "here": self.here is True,
        }


def weight_status(weights: WeightSet) -> WeightStatus:
    """Look at one set."""
    found = files_here(weights)
    sizes = {name: path.stat().st_size for name, path in found.items()}
    total = sum(weights.sizes[name] for name in weights.files) if _sizes_known(weights) else None
    whole = all(name in found for name in weights.files) and (weights.listed or _whole_snapshot(weights))
    return WeightStatus(weights, True if whole else None if found else False, sum(sizes.values()), total)


def require_disk(sets: Iterable[WeightSet]) -> None:
    """Refuse downloads for which the disk has no room, as far as their sizes are known; UserError."""
    states = [weight_status(one) for one in sets]
    needed = sum(one.total_bytes - one.bytes_here for one in states if one.total_bytes is not None and not one.here)
    folder = _existing(download_folder())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"the disk has {size_text(free)} free, and {size_text(needed)} are to be downloaded",
            where=str(folder),
            remedy="free some space, or name a folder on another disk in HF_HOME",
        )


def download_folder() -> Path:
    """Where downloads go."""
    if os.environ.get(SOURCE_VARIABLE) or importlib.util.find_spec("huggingface_hub") is None:
        return cache_folder()
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def size_text(size: int) -> str:
    """`3.1 GiB`, `12 MiB`."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.1f} MiB"


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())


def _sizes_known(weights: WeightSet) -> bool:
    return weights.listed and bool(weights.files) and all(name in weights.sizes for name in weights.files)


def _whole_snapshot(weights: WeightSet) -> bool:
    """Whether a set whose files are not listed is here as a whole; of a folder or bucket only its owner knows."""
    if os.environ.get(SOURCE_VARIABLE) or importlib.util.find_spec("huggingface_hub") is None:
        return True
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        snapshot_download(weights.repository, allow_patterns=[*weights.files, *weights.patterns], local_files_only=True)
    except LocalEntryNotFoundError:
        return False
    return True
