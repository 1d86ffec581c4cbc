"""The folder for what only this machine needs for a while, where results do not lie on its own disk.

Example:
    >>> folder = tempfile.mkdtemp(dir=scratch_root())
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def scratch_root() -> Path:
    """`WORLDEXPLORER_SCRATCH`, or the system's folder for temporary files; made where it is missing."""
    folder = Path(os.environ.get("WORLDEXPLORER_SCRATCH") or tempfile.gettempdir())
    folder.mkdir(parents=True, exist_ok=True)
    return folder
