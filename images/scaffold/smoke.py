"""The classes that stage 1 loads its models with are there. Libraries import them lazily, so they are named."""

import diffusers
import torch
import transformers
from smoke_common import check_common, check_triton, report, require
from smoke_hopper import check_hopper

check_common()
check_triton()
hopper = check_hopper()
inpainting = ("FluxFillPipeline", "Flux2KleinInpaintPipeline", "StableDiffusionInpaintPipeline")
for name in ("AutoencoderKL", "FluxPipeline", "Flux2KleinPipeline", *inpainting):
    require(hasattr(diffusers, name), f"diffusers has no {name}")
require(hasattr(transformers, "CLIPVisionModelWithProjection"), "transformers has no CLIPVisionModelWithProjection")
require(torch.version.cuda is not None, f"torch {torch.__version__} is built without CUDA")
report("torch", "diffusers", "transformers", "numpy", cuda=torch.version.cuda, hopper=hopper)
