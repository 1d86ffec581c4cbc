"""A nerfstudio that trains nothing, and checkpoints as nerfstudio writes them.

`install` makes a folder with packages of the names that the launcher imports. The program in them takes the arguments
of `ns-train`, prints and writes what nerfstudio does, step for step, and fails when it is told to.
"""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch

from worldexplorer.engine import SplatScene, Views
from worldexplorer.geometry.cameras import normalised_intrinsics, pose, yaw_matrix
from worldexplorer.models.nerfstudio import launch

SCALE = 0.8
SHIFT = (0.25, -1.0, 0.5)
"""How the fake moves the scene: p' = SCALE * (p + SHIFT)."""

_PACKAGES = {
    "torch/__init__.py": """
        import contextlib
        from . import hub


        class serialization:
            @staticmethod
            def safe_globals(allowed):
                assert len(allowed) == 4
                return contextlib.nullcontext()
        """,
    "torch/hub.py": """
        def get_dir():
            return "/nowhere"
        """,
    "torchvision/__init__.py": """
        class models:
            class AlexNet_Weights:
                class IMAGENET1K_V1:
                    url = "https://example.org/alexnet-0.pth"

            @staticmethod
            def alexnet(weights=None):
                assert weights is None, "a download"
        """,
    "torchmetrics/__init__.py": "",
    "torchmetrics/image/__init__.py": "",
    "torchmetrics/image/lpip.py": """
        import torchvision


        class LearnedPerceptualImagePatchSimilarity:
            def __init__(self):
                torchvision.models.alexnet(weights="pretrained")

            def forward(self, first, second):
                raise AssertionError("compared by an untrained network")
        """,
    "nerfstudio/__init__.py": "",
    "nerfstudio/engine/__init__.py": "",
    "nerfstudio/engine/trainer.py": """
        class Trainer:
            def _load_checkpoint(self):
                pass
        """,
    "nerfstudio/scripts/__init__.py": "",
    "nerfstudio/scripts/train.py": """
        import json
        import os
        import shutil
        import sys
        import time
        from pathlib import Path


        def entrypoint():
            from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

            LearnedPerceptualImagePatchSimilarity()
            assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" in os.environ and sys.argv[0] == "ns-train"
            what, _, at = os.environ.get("FAKE_NERFSTUDIO", "").partition("@")
            words = [word for word in sys.argv[1:] if word not in ("splatfacto-big", "nerfstudio-data")]
            given = {name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)}
            assert (Path(given["data"]) / "transforms.json").is_file()
            out = Path(given["output-dir"]) / given["experiment-name"] / "splatfacto" / given["timestamp"]
            models = out / "nerfstudio_models"
            models.mkdir(parents=True, exist_ok=True)
            with (out / "calls.txt").open("a") as calls:
                calls.write(" ".join(sys.argv) + chr(10))
            transform = json.loads(os.environ["FAKE_TRANSFORM"])
            (out / "dataparser_transforms.json").write_text(json.dumps(transform))
            end, interval = int(given["max-num-iterations"]), int(given["steps-per-save"])
            begin = 0
            if "load-checkpoint" in given:
                content = Path(given["load-checkpoint"]).read_bytes()
                known = {one.read_bytes(): one.stem for one in Path(os.environ["FAKE_CHECKPOINTS"]).iterdir()}
                begin = int(known[content].split("-")[1]) + 1

            def save(step):
                path = models / f"step-{step:09d}.ckpt"
                shutil.copyfile(Path(os.environ["FAKE_CHECKPOINTS"]) / path.name, path)
                for other in models.iterdir():
                    if other != path:
                        other.unlink()

            print("Step (% Done)       Train Iter (time)    ETA (time)")
            for step in range(begin, end):
                if what and step == int(at):
                    fail(what, models)
                if step and step % interval == 0:
                    save(step)
                print(f"{f'{step} ({100 * step / end:.02f}%)':<20}14.823 ms            7 m, 22 s, 911.3 ms ")
            if what != "forget":
                save(end - 1)


        def fail(what, models):
            if what == "crash":
                raise RuntimeError("something that nobody knows")
            if what == "oom":
                raise type("OutOfMemoryError", (Exception,), {"__module__": "torch"})("CUDA out of memory. Tried to")
            if what == "torn":
                (models / "step-000009998.ckpt").write_bytes(b"PK" + bytes(100))
                os._exit(137)
            if what == "killed":
                os.kill(os.getpid(), 9)
            if what == "hang":
                if not os.fork():
                    (models.parents[3] / "child").write_text(str(os.getpid()))
                    time.sleep(600)
                time.sleep(600)
        """,
}


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, checkpoints: Path, fails: str = "") -> list[str]:
    """Make the packages; the command that runs them through this program's launcher.

    The program copies its checkpoints from a folder.
    """
    for name, text in _PACKAGES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("FAKE_CHECKPOINTS", str(checkpoints))
    monkeypatch.setenv("FAKE_TRANSFORM", transforms_text())
    monkeypatch.setenv("FAKE_NERFSTUDIO", fails)
    return [sys.executable, "-P", launch.__file__]


def transforms_text(scale: float = SCALE) -> str:
    rows = [[1.0, 0.0, 0.0, SHIFT[0]], [0.0, 1.0, 0.0, SHIFT[1]], [0.0, 0.0, 1.0, SHIFT[2]]]
    return str({"transform": rows, "scale": scale}).replace("'", '"')


def parameters(count: int = 20, seed: int = 0) -> dict[str, torch.Tensor]:
    """Gaussians as nerfstudio names them."""
    random = np.random.default_rng(seed)
    shapes = {"means": 3, "scales": 3, "quats": 4, "features_dc": 3, "features_rest": (15, 3), "opacities": 1}
    found = {}
    for name, shape in shapes.items():
        size = (count, *shape) if isinstance(shape, tuple) else (count, shape)
        found[name] = torch.from_numpy(random.normal(size=size).astype(np.float32))
    return found


def write_checkpoint(path: Path, values: dict[str, torch.Tensor], **more: Any) -> Path:
    """As nerfstudio 50e0e3c with torch 2.13 and numpy 2 writes it, down to rates that are numpy's numbers."""
    rate = np.float64(1.5853311118284267e-4)
    adam = {
        "state": {0: {"step": torch.tensor(60.0), "exp_avg": values["means"], "exp_avg_sq": values["means"]}},
        "param_groups": [{"lr": rate, "betas": (0.9, 0.999), "eps": 1e-15, "initial_lr": 0.00016, "params": [0]}],
    }
    pipeline = {f"_model.gauss_params.{name}": value for name, value in values.items()}
    pipeline["_model.device_indicator_param"] = torch.empty(0)
    pipeline["_model.lpips.net.net.slice1.0.weight"] = torch.zeros(4, 3, 3, 3)
    content = {
        "step": 59,
        "pipeline": pipeline,
        "optimizers": {"means": adam},
        "schedulers": {"means": {"last_epoch": 60, "_last_lr": [rate], "lr_lambdas": [None]}},
        "scalers": {},
    }
    torch.save(content | more, path)
    return path


def write_checkpoints(folder: Path, values: dict[str, torch.Tensor], *steps: int) -> Path:
    """One for each step, under nerfstudio's names; the folder."""
    folder.mkdir(exist_ok=True)
    for step in steps:
        write_checkpoint(folder / f"step-{step:09d}.ckpt", values, step=step)
    return folder


def a_scene(views: int = 3, size: int = 16, points: int = 12) -> SplatScene:
    random = np.random.default_rng(5)
    c2w = pose(yaw_matrix(360.0 * np.arange(views) / views), random.uniform(-0.5, 0.5, (views, 3)))
    directions = random.normal(size=(points, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return SplatScene(
        train=Views(
            random.integers(0, 255, (views, size, size, 3), dtype=np.uint8),
            c2w,
            np.tile(normalised_intrinsics(), (views, 1, 1)),
        ),
        points=(2.0 * directions).astype(np.float32),
        normals=(-directions).astype(np.float32),
        colours=random.integers(0, 255, (points, 3), dtype=np.uint8),
    )
