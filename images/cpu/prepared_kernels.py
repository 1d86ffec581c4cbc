"""Where numba keeps compiled kernels in the cpu image: in scratch, starting from those that the image brings.

numba wants a folder that it can write. The image's root is read-only where a cluster says so, and scratch is empty when
a container starts. So the first process that needs a kernel copies the folder that was compiled with the image, some
megabytes, and a minute of compiling is saved. numba still compares every kernel with its source and with the processor
it was compiled for, and compiles again what does not fit.

numba finds this class by the environment: NUMBA_CACHE_LOCATOR_CLASSES=prepared_kernels.PreparedCacheLocator.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from numba.core.caching import UserProvidedCacheLocator

PREPARED = Path("/opt/kernels")
"""The folders that compile_kernels.py filled while the image was built, named as numba names them."""


class PreparedCacheLocator(UserProvidedCacheLocator):
    """numba's folder in NUMBA_CACHE_DIR, filled with the image's kernels before its first use."""

    def ensure_cache_path(self) -> None:
        """Make the folder, as numba asks, from the prepared one of the same name where there is one."""
        folder = Path(self.get_cache_path())
        prepared = PREPARED / folder.name
        if not folder.exists() and prepared.is_dir():
            copy_whole(prepared, folder)
        super().ensure_cache_path()


def copy_whole(source: Path, target: Path) -> None:
    """Copy a folder so that `target` appears with everything in it; where another process was first, keep its copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    copy = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        shutil.copytree(source, copy, dirs_exist_ok=True)
        copy.rename(target)
    except OSError:
        shutil.rmtree(copy, ignore_errors=True)
        if not target.is_dir():
            raise
