"""Where results live: one small interface, with a local folder or a bucket behind it.

Example:
    >>> storage = open_storage("output/batch")
    >>> storage.create("runs/x/plan.json", b"{}")      # raises AlreadyExistsError where it is there
"""

from __future__ import annotations

from pathlib import Path

from worldexplorer.errors import UsageError
from worldexplorer.storage.base import (
    BUCKET_SCHEME,
    AlreadyExistsError,
    ChangedError,
    NotFoundError,
    ObjectInfo,
    Storage,
)
from worldexplorer.storage.local import LocalStorage

__all__ = [
    "BUCKET_SCHEME",
    "AlreadyExistsError",
    "ChangedError",
    "LocalStorage",
    "NotFoundError",
    "ObjectInfo",
    "Storage",
    "open_storage",
]

_CLIENT_MODULES = frozenset({"google", "google_crc32c", "requests", "urllib3"})


def open_storage(uri: str) -> Storage:
    """The storage an `output_base` names: a folder, or `gs://BUCKET/FOLDER`; nothing is created yet.

    Raises:
        UsageError: another scheme, the client library is missing, or the bucket cannot be used.
        TransientError: the bucket did not answer.
    """
    if "://" not in uri:
        return LocalStorage(Path(uri))
    if not uri.startswith(BUCKET_SCHEME):
        raise UsageError(
            f"output_base {uri} is neither a local folder nor a bucket",
            where="--output_base",
            remedy="give a folder, or gs://BUCKET/FOLDER",
        )
    try:
        from worldexplorer.storage.gcs import GcsStorage
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in _CLIENT_MODULES:
            raise
        raise UsageError(
            f"buckets need the package {error.name}, which is not installed",
            where=uri,
            remedy='run pip install "worldexplorer[gcs]"',
        ) from None
    return GcsStorage.open(uri)
