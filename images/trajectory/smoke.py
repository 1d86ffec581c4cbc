"""The classes that stage 2 loads its models with are there. Libraries import them lazily, so they are named."""

import importlib.util

import diffusers
import torch
import transformers
from smoke_common import check_common, report, require, require_imports

check_common()
require(hasattr(diffusers, "AutoencoderKL"), "diffusers has no AutoencoderKL")
for name in ("CLIPVisionModelWithProjection", "DepthAnythingForDepthEstimation"):
    require(hasattr(transformers, name), f"transformers has no {name}")
require(torch.version.cuda is not None, f"torch {torch.__version__} is built without CUDA")
require_imports("cv2", "einops", "depth_anything_3.api")
vggt = importlib.util.find_spec("vggt") is not None  # an image can be built without it, for its licence
if vggt:
    require_imports("vggt.models.vggt")
report("torch", "diffusers", "transformers", "depth-anything-3", "numpy", cuda=torch.version.cuda, vggt=vggt)
