"""`ns-train` without a network, without unsafe loading, and with a resume that trains.

This file is run by the interpreter that has nerfstudio, which may be another one than worldexplorer's: it imports
nothing of worldexplorer. Before it hands over to nerfstudio's own entry point it makes up for four things:

* torch files are loaded with `weights_only`, and numpy's scalars, which the learning rates in nerfstudio's checkpoints
  are, are allowed. torch 2.6 and newer refuse them, older ones would run whatever a file holds.
* A resumed splatfacto has new parameters, of the checkpoint's size, while its optimisers still hold the first ones:
  until the next refinement, and from step 15,000 for good, nothing would be learnt. They are given the new ones.
* The weights of LPIPS are downloaded while the model is built. Where they do not lie in torch's cache the network is
  left untrained and the metric is NaN; no picture is ever compared by a network that knows nothing.
* The training ends when the one who started it is gone, which closes this program's standard input.

Example:
    python -P launch.py splatfacto-big --data scene nerfstudio-data
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def numpy_scalars() -> list[Any]:
    """What torch has to be allowed for numpy's numbers, under the names that numpy 1 and numpy 2 give it."""
    import numpy as np

    rebuild: Any = np.float64(0.0).__reduce__()[0]
    names = ("numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar")
    return [*((rebuild, name) for name in names), np.dtype, type(np.dtype("float64"))]


def rebind_optimizers(optimizers: Any, groups: Mapping[str, Sequence[Any]]) -> None:
    """Give nerfstudio's optimisers the parameters that the model has now, with what they know of the former ones.

    Args:
        optimizers: nerfstudio's `Optimizers`.
        groups: the model's parameters by the optimisers' names, as many as before.
    """
    for name, parameters in groups.items():
        optimizer = optimizers.optimizers[name]
        (group,) = optimizer.param_groups
        for former, parameter in zip(group["params"], parameters, strict=True):
            if former is not parameter and former in optimizer.state:
                optimizer.state[parameter] = optimizer.state.pop(former)
        group["params"] = list(parameters)
        optimizers.parameters[name] = list(parameters)


def resume_with_new_parameters(trainer_class: Any) -> None:
    """Have nerfstudio's `Trainer` rebind its optimisers whenever it has loaded a checkpoint, or none."""
    load = trainer_class._load_checkpoint

    @functools.wraps(load)
    def load_and_rebind(trainer: Any) -> None:
        load(trainer)
        rebind_optimizers(trainer.optimizers, trainer.pipeline.get_param_groups())

    trainer_class._load_checkpoint = load_and_rebind


def leave_lpips_out() -> None:
    """No download of LPIPS' weights: where they are not there, the metric is NaN."""
    import torch
    import torchvision
    from torchmetrics.image import lpip

    weights = torchvision.models.AlexNet_Weights.IMAGENET1K_V1
    if (Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name).is_file():
        return
    untrained = functools.partial(torchvision.models.alexnet, weights=None)

    class Unmeasured(lpip.LearnedPerceptualImagePatchSimilarity):
        """As large and in checkpoints as the real one."""

        def forward(self, first: Any, second: Any) -> Any:
            """Not a number, whatever the pictures."""
            return first.new_full((), float("nan"))

    torchvision.models.alexnet = lambda *_, **__: untrained()
    lpip.LearnedPerceptualImagePatchSimilarity = Unmeasured


def end_with_parent() -> None:
    """End this program, and what it has started, when nobody holds the other end of its standard input any more."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1):  # not sys.stdin, whose lock would be in the way when Python ends
            pass
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def main(arguments: Sequence[str]) -> None:
    """Train."""
    end_with_parent()
    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    import torch
    from nerfstudio.engine.trainer import Trainer
    from nerfstudio.scripts.train import entrypoint

    train: Callable[[], None] = entrypoint
    leave_lpips_out()
    resume_with_new_parameters(Trainer)
    sys.argv = ["ns-train", *arguments]
    with torch.serialization.safe_globals(numpy_scalars()):
        train()


if __name__ == "__main__":
    main(sys.argv[1:])
