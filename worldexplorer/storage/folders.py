"""Making a folder where other runs remove empty ones at the same time.

Example:
    >>> make_folder(Path("output/photorealistic/index_0000/records"))
"""

from __future__ import annotations

from pathlib import Path

_TRIES = 1000  # far more than two runs can get in each other's way; a broken link fails at every one


def make_folder(folder: Path) -> None:
    """Make a folder and its parents; fine if it is there.

    `Path.mkdir` alone fails where a parent, or the folder itself, goes away between two of its steps.
    """
    for _ in range(_TRIES):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileNotFoundError, FileExistsError):
            continue
        return
    folder.mkdir(parents=True, exist_ok=True)
