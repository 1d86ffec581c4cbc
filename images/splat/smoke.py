"""gsplat's CUDA extension is there and loads; no CUDA compiler is needed, and none is there."""

import shutil
from pathlib import Path

import torch
from smoke_common import check_common, check_triton, report, require, require_imports

check_common()
check_triton()
require(torch.version.cuda is not None, f"torch {torch.__version__} is built without CUDA")
require(shutil.which("nvcc") is None, "there is a CUDA compiler in the image")
require_imports("gsplat.csrc", "gsplat.rendering", "gsplat.strategy")

from gsplat import csrc  # noqa: E402 (what cannot be imported was reported above)
from gsplat.cuda import _backend  # noqa: E402

require(_backend._C is csrc, "gsplat does not take the compiled extension")
for name in ("projection_ewa_3dgs_fused_fwd", "rasterize_to_pixels_3dgs_bwd", "intersect_tile", "relocation"):
    require(hasattr(csrc, name), f"the extension has no {name}")
report("torch", "gsplat", "numpy", cuda=torch.version.cuda, extension_bytes=Path(csrc.__file__).stat().st_size)
