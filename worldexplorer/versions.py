"""The versions of what a result was made with."""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata

_LIBRARIES = ("numpy", "scipy", "numba", "opencv-python-headless", "pypatchmatch", "pillow", "torch", "gsplat")


@cache
def library_versions() -> dict[str, str]:
    """Python's version and those of the installed libraries that results depend on."""
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
