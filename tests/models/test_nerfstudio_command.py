"""The call of ns-train, word for word."""

from __future__ import annotations

from pathlib import Path

from worldexplorer.config import SplatConfig
from worldexplorer.models.nerfstudio.command import TrainingRun, arguments, checkpoint_folder, frame_file
from worldexplorer.models.nerfstudio.settings import NerfstudioSettings

PUBLISHED = """
splatfacto-big
--data scene with spaces
--output-dir run
--experiment-name nerfstudio
--timestamp training
--max-num-iterations 30000
--steps-per-save 2000
--machine.seed 7
--logging.local-writer.max-log-size 0
--vis tensorboard
--steps-per-eval-image 5000
--steps-per-eval-all-images 1000000
--pipeline.model.camera-optimizer.mode off
--pipeline.model.strategy mcmc
--pipeline.model.rasterize-mode antialiased
--pipeline.model.use-scale-regularization True
--pipeline.model.max-gauss-ratio 5.0
nerfstudio-data
--eval-mode all
"""


def words(text: str) -> list[str]:
    return [word for line in text.strip().splitlines() for word in line.split(" ", 1)]


def given(run: TrainingRun) -> dict[str, str]:
    flags = [word for word in arguments(run) if word not in ("splatfacto-big", "nerfstudio-data")]
    return dict(zip(flags[::2], flags[1::2], strict=True))


def test_the_published_call() -> None:
    assert arguments(TrainingRun(Path("scene with spaces"), Path("run"), seed=7)) == words(PUBLISHED)


def test_a_resumed_call_differs_by_its_checkpoint_alone() -> None:
    resumed = TrainingRun(Path("scene with spaces"), Path("run"), seed=7, resume=Path("run/step-000002000.ckpt"))
    at = arguments(resumed).index("--load-checkpoint")
    assert arguments(resumed)[at : at + 2] == ["--load-checkpoint", "run/step-000002000.ckpt"]
    assert arguments(resumed)[:at] + arguments(resumed)[at + 2 :] == words(PUBLISHED)


def test_a_shorter_training_has_shorter_schedules() -> None:
    published, shorter = (given(TrainingRun(Path("s"), Path("r"), 0, steps=steps)) for steps in (30_000, 7500))
    assert shorter.pop("--max-num-iterations") == "7500"
    assert {name: value for name, value in shorter.items() if name not in published} == {
        "--optimizers.means.scheduler.max-steps": "7500",
        "--pipeline.model.sh-degree-interval": "250",
        "--pipeline.model.resolution-schedule": "750",
        "--pipeline.model.warmup-length": "125",
        "--pipeline.model.stop-split-at": "3750",
    }


def test_a_part_of_a_training_keeps_its_schedules() -> None:
    part = given(TrainingRun(Path("s"), Path("r"), 0, until=7000))
    assert part == given(TrainingRun(Path("s"), Path("r"), 0)) | {"--max-num-iterations": "7000"}


def test_fewer_gaussians() -> None:
    assert given(TrainingRun(Path("s"), Path("r"), 0, cap=500_000))["--pipeline.model.max-gs-num"] == "500000"


def test_where_nerfstudio_writes() -> None:
    assert checkpoint_folder(Path("run")) == Path("run/nerfstudio/splatfacto/training/nerfstudio_models")
    assert frame_file(Path("run")) == Path("run/nerfstudio/splatfacto/training/dataparser_transforms.json")


def test_the_settings_of_a_command() -> None:
    assert NerfstudioSettings.of(SplatConfig()) == NerfstudioSettings(steps=30_000)
    assert NerfstudioSettings.of(SplatConfig(splat_steps=7500)).steps == 7500
    described = NerfstudioSettings().described()
    assert described["commit"].startswith("50e0e3c")
    assert described["flags"]["pipeline.model.strategy"] == "mcmc"
    assert NerfstudioSettings().described(cap=5) != described != NerfstudioSettings(steps=7500).described()
    assert NerfstudioSettings(until=7000).described() == described
