"""nerfstudio's trainer and exporter start, and gsplat's CUDA extension is there and loads."""

import torch
from gsplat import csrc
from gsplat.cuda import _backend
from nerfstudio.configs.method_configs import method_configs
from smoke_common import check_common, report, require, require_imports

check_common()
require(torch.version.cuda is not None, f"torch {torch.__version__} is built without CUDA")
require(_backend._C is csrc, "gsplat does not take the compiled extension")
require("splatfacto-big" in method_configs, "nerfstudio has no splatfacto-big")
require(hasattr(method_configs["splatfacto-big"].pipeline.model, "strategy"), "splatfacto has no choice of strategy")
require_imports("nerfstudio.scripts.train", "nerfstudio.scripts.exporter")
report("torch", "torchvision", "nerfstudio", "gsplat", "pillow", "numpy", cuda=torch.version.cuda)
