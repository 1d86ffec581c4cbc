"""The classes that stage 2 loads its models with are there. Libraries import them lazily, so they are named."""

import importlib.util

import diffusers
import torch
import transformers
from smoke_common import check_common, check_triton, report, require, require_imports
from smoke_hopper import check_hopper

check_common()
check_triton()
hopper = check_hopper()
require(hasattr(diffusers, "AutoencoderKL"), "diffusers has no AutoencoderKL")
for name in ("CLIPVisionModelWithProjection", "DepthAnythingForDepthEstimation"):
    require(hasattr(transformers, name), f"transformers has no {name}")
require(torch.version.cuda is not None, f"torch {torch.__version__} is built without CUDA")
require_imports("cv2", "depth_anything_3.cfg", "depth_anything_3.model.da3")  # its api needs far more
vggt = importlib.util.find_spec("vggt") is not None  # an image can be built without it, for its licence
if vggt:
    require_imports("vggt.models.vggt")
report(
    "torch", "diffusers", "transformers", "depth-anything-3", "numpy", cuda=torch.version.cuda, hopper=hopper, vggt=vggt
)
