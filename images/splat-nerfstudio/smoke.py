"""nerfstudio knows the call of the nerfstudio trainer, and its model is built without a network."""

from pathlib import Path

import torch
import tyro
from gsplat import csrc
from gsplat.cuda import _backend
from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion
from nerfstudio.engine.trainer import Trainer
from smoke_common import check_common, check_triton, report, require, require_imports
from torchmetrics.image import lpip

from worldexplorer.models.nerfstudio import launch
from worldexplorer.models.nerfstudio.command import TrainingRun, arguments

check_common()
check_triton()
require(torch.version.cuda is not None, f"torch {torch.__version__} is built without CUDA")
require(_backend._C is csrc, "gsplat does not take the compiled extension")
config = tyro.cli(
    AnnotatedBaseConfigUnion, args=arguments(TrainingRun(Path("/scene"), Path("/scratch"), seed=7, steps=15_000))
)
require(config.pipeline.model.strategy == "mcmc", "nerfstudio does not take the strategy")
require(config.pipeline.model.stop_split_at == 7500, "nerfstudio does not take the schedules")
require(hasattr(Trainer, "_load_checkpoint"), "nerfstudio's trainer resumes in another way")
launch.leave_lpips_out()
lpip.LearnedPerceptualImagePatchSimilarity(normalize=True)
require_imports("nerfstudio.scripts.train", "open3d", "worldexplorer.models.splatting.trainer")
report("torch", "torchvision", "nerfstudio", "gsplat", "pillow", "numpy", cuda=torch.version.cuda)
