"""A folder that behaves as a bucket does: nothing in it is a local file."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from worldexplorer.storage import LocalStorage


class RemoteStorage(LocalStorage):
    """There is no folder to work in, and copies are copies."""

    def local_root(self) -> None:  # type: ignore[override]
        return None

    def local_copies(self, keys: Sequence[str], scratch: Path) -> list[Path]:
        for key, path in zip(keys, super().local_copies(keys, scratch), strict=True):
            (scratch / key).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, scratch / key)
        return [scratch / key for key in keys]
