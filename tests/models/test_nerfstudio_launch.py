"""What the launcher makes up for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_nerfstudio import install

from worldexplorer.models.nerfstudio import launch
from worldexplorer.models.nerfstudio.settings import PYTHON_VARIABLE, missing_for_nerfstudio, nerfstudio_python


class Resumed:
    """A model and its optimiser as nerfstudio leaves them after a checkpoint of another size was loaded."""

    def __init__(self) -> None:
        first = torch.nn.Parameter(torch.zeros(3, 2))
        self.optimizer = torch.optim.Adam([first], lr=0.1)
        self.means = torch.nn.Parameter(torch.ones(5, 2))
        state = {"step": torch.tensor(60.0), "exp_avg": torch.ones(5, 2), "exp_avg_sq": torch.ones(5, 2)}
        self.optimizer.load_state_dict(
            {"state": {0: state}, "param_groups": self.optimizer.state_dict()["param_groups"]}
        )
        self.optimizers = SimpleNamespace(optimizers={"means": self.optimizer}, parameters={"means": [first]})

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.means.sum().backward()
        self.optimizer.step()


def test_a_resumed_training_learns() -> None:
    resumed = Resumed()
    resumed.step()
    assert (resumed.means == 1.0).all()  # nerfstudio's own resume
    launch.rebind_optimizers(resumed.optimizers, {"means": [resumed.means]})
    resumed.step()
    assert (resumed.means < 1.0).all()
    assert resumed.optimizer.state[resumed.means]["step"] == 61
    assert len(resumed.optimizer.state) == 1
    assert resumed.optimizers.parameters["means"] == [resumed.means]


def test_rebinding_a_training_that_was_not_resumed_changes_nothing() -> None:
    means = torch.nn.Parameter(torch.ones(5, 2))
    optimizer = torch.optim.Adam([means])
    optimizers = SimpleNamespace(optimizers={"means": optimizer}, parameters={"means": [means]})
    launch.rebind_optimizers(optimizers, {"means": [means]})
    assert optimizer.param_groups[0]["params"] == [means]
    assert not optimizer.state


def test_loading_is_wrapped() -> None:
    calls = []
    trainer_class = type("Trainer", (), {"_load_checkpoint": lambda _: calls.append("loaded")})
    launch.resume_with_new_parameters(trainer_class)
    resumed = Resumed()
    trainer = trainer_class()
    trainer.optimizers = resumed.optimizers
    trainer.pipeline = SimpleNamespace(get_param_groups=lambda: {"means": [resumed.means]})
    trainer._load_checkpoint()
    assert calls == ["loaded"]
    assert resumed.optimizer.param_groups[0]["params"] == [resumed.means]


def test_only_numpys_numbers_are_allowed() -> None:
    import numpy as np

    allowed = launch.numpy_scalars()
    assert [name for _, name in allowed[:2]] == ["numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar"]
    assert allowed[2:] == [np.dtype, np.dtypes.Float64DType]


def test_lpips_without_weights_is_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = install(tmp_path / "p", monkeypatch, tmp_path)
    asks = (
        "import runpy, math; launch = runpy.run_path(__import__('sys').argv[1]); launch['leave_lpips_out']();"
        "from torchmetrics.image import lpip; found = lpip.LearnedPerceptualImagePatchSimilarity();"
        "picture = type('T', (), {'new_full': lambda self, size, value: value})();"
        "assert math.isnan(found.forward(picture, picture))"
    )
    subprocess.run([sys.executable, "-P", "-c", asks, command[-1]], check=True, timeout=30)


def test_lpips_with_weights_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = install(tmp_path / "p", monkeypatch, tmp_path)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "alexnet-0.pth").touch()
    (tmp_path / "p" / "torch" / "hub.py").write_text(f"def get_dir():\n    return {str(tmp_path / 'hub')!r}\n")
    asks = (
        "import runpy; launch = runpy.run_path(__import__('sys').argv[1]);"
        "from torchmetrics.image import lpip; own = lpip.LearnedPerceptualImagePatchSimilarity;"
        "launch['leave_lpips_out'](); assert lpip.LearnedPerceptualImagePatchSimilarity is own"
    )
    subprocess.run([sys.executable, "-P", "-c", asks, command[-1]], check=True, timeout=30)


class TestTheInterpreter:
    def test_is_this_one_or_the_named_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
        assert nerfstudio_python() == sys.executable
        monkeypatch.setenv(PYTHON_VARIABLE, "/opt/nerfstudio/bin/python")
        assert nerfstudio_python() == "/opt/nerfstudio/bin/python"

    def test_what_is_missing_is_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(PYTHON_VARIABLE, str(tmp_path / "python"))
        (said,) = missing_for_nerfstudio()
        assert str(tmp_path / "python") in said
        monkeypatch.delenv(PYTHON_VARIABLE)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "p"))
        (said,) = missing_for_nerfstudio()
        assert "worldexplorer-splat-nerfstudio" in said
        for name in ("nerfstudio", "gsplat"):
            (tmp_path / "p" / name).mkdir(parents=True)
            (tmp_path / "p" / name / "__init__.py").touch()
        assert not list(missing_for_nerfstudio())
