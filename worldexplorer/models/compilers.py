"""What kernels of our own need besides a GPU: Triton has a C compiler translate a few lines once for each.

Example:
    >>> own_kernels_run()               # on a machine with gcc
    True
"""

from __future__ import annotations

import os
import shutil

from worldexplorer.errors import UserError


def own_kernels_run() -> bool:
    """Whether Triton finds a C compiler: the one that CC names, clang or gcc."""
    return any(shutil.which(name) for name in (os.environ.get("CC"), "clang", "gcc") if name)


def require_compiler(title: str) -> None:
    """Refuse to run a model whose kernels cannot start here.

    Raises:
        UserError: there is no C compiler.
    """
    if not own_kernels_run():
        raise UserError(
            f"{title}'s kernels need a C compiler once to start, and there is none here",
            where="PATH",
            remedy="install gcc, or name a compiler in CC",
        )
