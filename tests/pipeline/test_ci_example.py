"""The example of a CI workflow: its own scripts, run by a shell against a fake server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pipeline.cluster import make_worlds
from pipeline.driver import dataset, server
from pipeline.fake_kfp import FakeKubeflow, state

__all__ = ["server"]
CHECKOUT = Path(__file__).resolve().parents[2]
WORKFLOW = CHECKOUT / "examples" / "ci" / "worldexplorer-batch.yml"


def steps() -> dict[str, dict[str, Any]]:
    """The named steps."""
    (job,) = yaml.safe_load(WORKFLOW.read_text())["jobs"].values()
    return {step["name"]: step for step in job["steps"] if "name" in step}


def run_step(name: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A step's script as CI runs it; `python` is the one of this test."""
    (folder / "bin").mkdir(exist_ok=True)
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    known = {name: value for name, value in os.environ.items() if not name.startswith("KF_PIPELINES")}
    places = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(CHECKOUT)}
    words = ["bash", "-e", "-c", steps()[name]["run"]]
    return subprocess.run(
        words, cwd=folder, env={**known, **places, **environment}, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize(("fails", "code"), [(set(), 0), ({1}, 1)])
def test_it_submits_and_passes_only_if_every_job_succeeded(
    server: FakeKubeflow, tmp_path: Path, fails: set[int], code: int
) -> None:
    server.tokens = {"ci-token-value"}
    server.script = [state("SUCCEEDED")]
    server.on_run = make_worlds(fails=fails)
    words = dataset(tmp_path, 2)
    small = tmp_path / "small.yaml"
    settings = {"engine": "preview", "num_seva_frames": 8, "trajectory_order": "in"}
    images = {f"image_{stage}": "image:cpu" for stage in ("scaffold", "trajectory", "splat")}
    small.write_text(json.dumps({"parameters": settings | images}))
    environment = {
        "KF_PIPELINES_ENDPOINT": server.url,
        "KF_PIPELINES_TOKEN": "ci-token-value",
        "DATASET_DIR": words[1],
        "OUTPUT_BASE": words[3],
        "PROFILE": str(small),
        "INDICES": "0 1",
        "GITHUB_RUN_ID": "7",
        "GITHUB_RUN_ATTEMPT": "1",
    }
    submitted = run_step("Submit", tmp_path, environment)
    assert submitted.returncode == 0, submitted.stderr
    (run,) = server.runs.values()
    assert run["display_name"] == "ci-7-1"
    assert run["runtime_config"]["parameters"]["indices"] == "0 1"
    gate = run_step("Gate", tmp_path, environment)
    assert gate.returncode == code, gate.stderr
    assert "photorealistic/index_0001" in gate.stdout
    assert run_step("Stop", tmp_path, environment).returncode == 0
    assert "ci-token-value" not in submitted.stdout + submitted.stderr + gate.stdout + gate.stderr


def test_no_input_is_part_of_a_script() -> None:
    assert all("${{" not in step["run"] for step in steps().values())
    assert steps()["Stop"]["if"] == "cancelled()"
