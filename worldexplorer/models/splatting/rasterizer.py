"""Who draws: gsplat on a GPU.

Everything here draws through a function with the signature of `gsplat.rasterization`, of which this program uses the
part that :class:`Rasterizer` names. The tests, which have no GPU, give
:func:`worldexplorer.models.splatting.plain_rasterizer.rasterization` instead.

Example:
    >>> image, alpha, info = gsplat_rasterizer()(means, quaternions, scales, opacities, sh, cameras, lenses, 576, 576)
"""

from __future__ import annotations

import importlib.util
from typing import Any, Protocol

import torch
from torch import Tensor

from worldexplorer.errors import UserError
from worldexplorer.models.compilers import own_kernels_run

_REMEDY = (
    "take the image worldexplorer-splat, where gsplat is compiled; or install gsplat with nvcc of torch's CUDA version "
    "in reach (CUDA_HOME), which compiles it at its first use"
)


class Rasterizer(Protocol):
    """Draws N Gaussians for C cameras; as `gsplat.rasterization`."""

    def __call__(
        self,
        means: Tensor,
        quats: Tensor,
        scales: Tensor,
        opacities: Tensor,
        colors: Tensor,
        viewmats: Tensor,
        Ks: Tensor,
        width: int,
        height: int,
        *,
        near_plane: float = 0.01,
        sh_degree: int | None = None,
        packed: bool = True,
        backgrounds: Tensor | None = None,
        render_mode: str = "RGB",
        absgrad: bool = False,
        rasterize_mode: str = "classic",
    ) -> tuple[Tensor, Tensor, dict[str, Any]]:
        """[C, H, W, D] colours, [C, H, W, 1] opacity, and what a densification strategy asks for."""


def missing_for_gsplat() -> list[str]:
    """What keeps gsplat from running here, one sentence each; does not load it."""
    if importlib.util.find_spec("gsplat") is None:
        return ["the package gsplat is not installed"]
    if not torch.cuda.is_available():
        return [f"gsplat needs a CUDA GPU, and torch {torch.__version__} finds none here"]
    return []


def gsplat_rasterizer() -> Rasterizer:
    """The drawing of gsplat; its kernels are compiled at the first call where they are not yet.

    Where this program's own kernels cannot start, `gsplat.rasterization` itself draws, which takes longer.

    Raises:
        UserError: gsplat, a GPU, or the compiled kernels are missing.
    """
    missing = missing_for_gsplat()
    if missing:
        raise UserError(missing[0], where="--splat_trainer gsplat", remedy=_REMEDY)
    try:
        import gsplat
        from gsplat.cuda import _backend
    except (ImportError, OSError, RuntimeError) as error:  # what compiling and loading raise
        text = str(error).strip()
        raise UserError(
            f"gsplat's CUDA kernels cannot be loaded: {text.splitlines()[-1] if text else type(error).__name__}",
            where="--splat_trainer gsplat",
            remedy=_REMEDY,
        ) from error
    if _backend._C is None:
        raise UserError(
            "gsplat's CUDA kernels are not compiled, and no nvcc is here",
            where="--splat_trainer gsplat",
            remedy=_REMEDY,
        )
    if not own_kernels_run():
        return gsplat.rasterization
    from worldexplorer.models.splatting import gsplat_rasterizer as own

    return own.rasterization
