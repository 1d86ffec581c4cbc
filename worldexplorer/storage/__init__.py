"""Where results live: one small interface, a local folder today and a bucket behind the same calls.

Example:
    >>> storage = open_storage("output/batch")
    >>> storage.create("runs/x/plan.json", b"{}")      # raises AlreadyExistsError where it is there
"""

from __future__ import annotations

from pathlib import Path

from worldexplorer.errors import UsageError
from worldexplorer.storage.base import AlreadyExistsError, ChangedError, NotFoundError, ObjectInfo, Storage
from worldexplorer.storage.local import LocalStorage

__all__ = [
    "AlreadyExistsError",
    "ChangedError",
    "LocalStorage",
    "NotFoundError",
    "ObjectInfo",
    "Storage",
    "open_storage",
]


def open_storage(uri: str) -> Storage:
    """The storage an `output_base` names; nothing is created yet."""
    if "://" in uri:
        raise UsageError(
            f"output_base {uri} is not a local folder",
            where="--output_base",
            remedy="give a folder; buckets are not built into this version",
        )
    return LocalStorage(Path(uri))
