"""The published `ns-train splatfacto-big` call as an argument list.

Flag for flag what the paper's authors run, at the commit they run it: the MCMC strategy is in no release. What is not
theirs changes no Gaussian of the published training: where files go, how often a checkpoint is written, the seed, plain
output. Two of theirs are left out, `cull_scale_thresh 0.1` and `cull_screen_size 0.1`: only the default strategy reads
them, MCMC ignores both. Everything that is not named here is splatfacto-big's own value (a cap of 1,000,000 Gaussians,
refinement from step 500 to 15,000, ...).

Example:
    >>> arguments(TrainingRun(Path("scene"), Path("run"), seed=7))[:3]
    ['splatfacto-big', '--data', 'scene']
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

COMMIT = "50e0e3c70c775e89333256213363badbf074f29d"
"""Of nerfstudio; its newest release, 1.1.5, has no MCMC strategy."""
STEPS = 30_000
"""Of the published training."""
CHECKPOINT_INTERVAL = 2000
"""Steps between checkpoints; splatfacto-big's own."""
CAP = 1_000_000
"""Gaussians at most; splatfacto-big's own."""

RECIPE: tuple[tuple[str, str], ...] = (
    ("vis", "tensorboard"),
    ("steps-per-eval-image", "5000"),
    ("steps-per-eval-all-images", "1000000"),
    ("pipeline.model.camera-optimizer.mode", "off"),
    ("pipeline.model.strategy", "mcmc"),
    ("pipeline.model.rasterize-mode", "antialiased"),
    ("pipeline.model.use-scale-regularization", "True"),
    ("pipeline.model.max-gauss-ratio", "5.0"),
)
"""The published flags, without the two that MCMC ignores."""
DATA_RECIPE: tuple[tuple[str, str], ...] = (("eval-mode", "all"),)
"""The published flags of the data: every view is trained on."""

_SCHEDULES = {
    "optimizers.means.scheduler.max-steps": 30_000,
    "pipeline.model.sh-degree-interval": 1000,
    "pipeline.model.resolution-schedule": 3000,
    "pipeline.model.warmup-length": 500,
    "pipeline.model.stop-split-at": 15_000,
}
"""What splatfacto-big does until or every so many steps, and does in proportion in a training of another length."""
_EXPERIMENT = "nerfstudio"
_METHOD = "splatfacto"  # splatfacto-big calls itself so
_NAME = "training"


@dataclass(frozen=True)
class TrainingRun:
    """One call of nerfstudio.

    Attributes:
        scene: the folder with `transforms.json`, the pictures and the points.
        run_data: where nerfstudio's files go.
        seed: of everything random but the order of the views, which has nerfstudio's own.
        steps: of the whole training; its schedules are as long.
        until: the step to stop before, where that is not the last one.
        cap: Gaussians at most.
        checkpoint_interval: steps between checkpoints.
        resume: the checkpoint to go on from.
    """

    scene: Path
    run_data: Path
    seed: int
    steps: int = STEPS
    until: int | None = None
    cap: int = CAP
    checkpoint_interval: int = CHECKPOINT_INTERVAL
    resume: Path | None = None


def arguments(run: TrainingRun) -> list[str]:
    """What comes after `ns-train`."""
    flags = [
        ("data", str(run.scene)),
        ("output-dir", str(run.run_data)),
        ("experiment-name", _EXPERIMENT),
        ("timestamp", _NAME),  # instead of the time: nothing has to look for the newest folder
        ("max-num-iterations", str(run.until or run.steps)),
        ("steps-per-save", str(run.checkpoint_interval)),
        ("machine.seed", str(run.seed)),
        ("logging.local-writer.max-log-size", "0"),  # a line at a time, none of which moves the cursor
        *recipe(run.steps, run.cap),
    ]
    if run.resume is not None:
        flags.append(("load-checkpoint", str(run.resume)))
    return ["splatfacto-big", *_flat(flags), "nerfstudio-data", *_flat(DATA_RECIPE)]


def recipe(steps: int, cap: int) -> list[tuple[str, str]]:
    """The flags that change the result: the published ones, and what differs from splatfacto-big's own values."""
    flags = list(RECIPE)
    if steps != STEPS:
        flags += [(name, str(max(round(value * steps / STEPS), 1))) for name, value in _SCHEDULES.items()]
    if cap != CAP:
        flags.append(("pipeline.model.max-gs-num", str(cap)))
    return flags


def output_folder(run_data: Path) -> Path:
    """Where nerfstudio writes when it is called so."""
    return run_data / _EXPERIMENT / _METHOD / _NAME


def checkpoint_folder(run_data: Path) -> Path:
    """Where it writes its checkpoints."""
    return output_folder(run_data) / "nerfstudio_models"


def frame_file(run_data: Path) -> Path:
    """Where it says how it has moved and scaled the scene; written before the first step."""
    return output_folder(run_data) / "dataparser_transforms.json"


def _flat(flags: Iterable[tuple[str, str]]) -> list[str]:
    return [word for name, value in flags for word in (f"--{name}", value)]
