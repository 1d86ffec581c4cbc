"""Driving `python -m pipelines` in this process against a fake server.

Example:
    >>> outcome = Driver(server, capsys)("status")
    >>> outcome.code, outcome.out
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from builders import write_dataset
from pipeline.fake_kfp import FakeKubeflow

import pipelines.transport
from pipelines.cli import main

CLUSTER_VARIABLES = (
    "KF_PIPELINES_ENDPOINT",
    "KF_PIPELINES_UI_ENDPOINT",
    "KF_PIPELINES_NAMESPACE",
    "KF_PIPELINES_TOKEN",
    "KF_PIPELINES_SA_TOKEN_PATH",
    "KF_PIPELINES_SSL_CA_CERTS",
    "KUBERNETES_SERVICE_HOST",
)


@dataclass(frozen=True)
class Outcome:
    """What a command left."""

    code: int
    out: str
    err: str

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]

    def event(self, name: str) -> dict[str, Any]:
        (found,) = [one for one in self.events() if one["event"] == name]
        return found


@dataclass
class Driver:
    """Runs commands."""

    server: FakeKubeflow
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *words: str) -> Outcome:
        self.capsys.readouterr()
        place = [] if "--host" in words else ["--host", self.server.url]
        code = main([*words, *place])
        captured = self.capsys.readouterr()
        return Outcome(code, captured.out, captured.err)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKubeflow]:
    for name in CLUSTER_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pipelines.transport, "_FIRST_PAUSE", 0.005)
    with FakeKubeflow() as fake:
        yield fake


@pytest.fixture
def drive(server: FakeKubeflow, capsys: pytest.CaptureFixture[str]) -> Driver:
    return Driver(server, capsys)


def dataset(folder: Path, samples: int) -> list[str]:
    """A data set of that many samples; the flags that name it and an output folder."""
    write_dataset(
        folder / "data", [{"index": index, "photorealistic": {"path": "photo.png"}} for index in range(samples)]
    )
    return ["--dataset_dir", str(folder / "data"), "--output_base", str(folder / "output")]


ONE_IMAGE = [f"--image_{stage}=worldexplorer-cpu:1" for stage in ("scaffold", "trajectory", "splat")]
SMALL = ["--engine", "preview", *ONE_IMAGE, "--num_seva_frames", "8", "--trajectory_order", "in"]
"""Settings of the smallest worlds."""

QUICK = ["--poll", "0.01s"]
"""Waiting without pauses."""


def submit(drive: Driver, tmp_path: Path, samples: int = 1, *words: str) -> list[str]:
    """Ids of new runs."""
    outcome = drive("submit", *dataset(tmp_path, samples), *SMALL, "--json", *words)
    assert outcome.code == 0, outcome.err
    return [one["run_id"] for one in outcome.event("submission")["runs"]]
