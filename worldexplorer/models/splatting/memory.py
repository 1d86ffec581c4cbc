"""Memory that runs out in training, said in words that the stage acts on.

Example:
    >>> with memory_named(cap=1_000_000):
    ...     training.run(folder, silent)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from worldexplorer.errors import OutOfMemoryError


@contextmanager
def memory_named(cap: int) -> Iterator[None]:
    """Turn torch's errors of full memory into ours."""
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError) and "out of memory" not in str(error):
            raise
        raise OutOfMemoryError(
            f"the GPU has too little memory to train up to {cap:,} Gaussians: {str(error).splitlines()[0]}",
            where="stage 3",
            remedy="use a GPU with more memory, or leave this one to this program alone",
        ) from error
