"""The packages for Hopper GPUs, which an image has if it was built with HOPPER: they load, and compile a kernel.

Without a GPU the kernel is compiled for Hopper, and not started.
"""

from __future__ import annotations

import os
from importlib import metadata

import torch
from smoke_common import require, require_imports

_PACKAGES = {"flash-attn-4", "nvidia-cutlass-dsl", "quack-kernels"}


def check_hopper() -> bool:
    """Whether the image has them; a part of them alone, or broken ones, end the test."""
    there = {one.metadata["Name"] for one in metadata.distributions()} & _PACKAGES
    if not there:
        return False
    require(there == _PACKAGES, f"of the packages for Hopper GPUs there are only {', '.join(sorted(there))}")
    if not torch.cuda.is_available():
        os.environ["CUTE_DSL_ARCH"] = "sm_90a"  # read when the packages are imported
    require_imports(*(f"worldexplorer.models.seva.kernels.hopper_{name}" for name in ("attention", "products")))
    _compile_kernel()
    return True


def _compile_kernel() -> None:
    """Compile a kernel of nothing, which takes the packages' native libraries."""
    from cutlass import cute

    @cute.kernel
    def nothing() -> None:
        cute.arch.thread_idx()

    @cute.jit
    def start() -> None:
        nothing().launch(grid=[1, 1, 1], block=[32, 1, 1])

    cute.compile(start)
