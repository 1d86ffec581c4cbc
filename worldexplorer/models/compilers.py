"""What kernels of our own need besides a GPU: a C compiler, and a place to stay.

Triton has the compiler translate a few lines once for each kernel.

Example:
    >>> own_kernels_run()               # on a machine with gcc
    True
"""

from __future__ import annotations

import os
import shutil

from worldexplorer.errors import UserError
from worldexplorer.models.weights import cache_folder

_CACHES = {
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "TRITON_CACHE_DIR": "triton",
    "QUACK_CACHE_DIR": "quack",
    "FLASH_ATTENTION_CUTE_DSL_CACHE_DIR": "flash-attention",
}
"""The variables that libraries read, some when they are imported, and folders below this program's own."""


def keep_compiled_kernels() -> None:
    """Let compiled kernels outlive the process, unless the environment says where they go."""
    for variable, name in _CACHES.items():
        os.environ.setdefault(variable, str(cache_folder() / "kernels" / name))


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
