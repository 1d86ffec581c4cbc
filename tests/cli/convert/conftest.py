"""Three jobs, of which two have a world, and an engine that ranks Gaussians at once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from builders import (
    Workbench,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
)
from converted_worlds import Engine

from worldexplorer.cli import renderers
from worldexplorer.progress import silent


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Ranks Gaussians in place of both engines: the later the more they show."""
    engine = Engine()
    monkeypatch.setattr(renderers, "load_engine", lambda run: engine)
    return engine


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three jobs, of which the last has no world yet."""
    folder = tmp_path_factory.mktemp("made")
    bench = Workbench(folder, samples=3)
    bench.batch(engine=Engine(), indices={0, 1})
    bench.batch(bench.config(only_stages=(1, 2)), engine=Engine(), indices={2})
    return folder


@pytest.fixture
def bench(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    """A copy of them, with their times."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Workbench(tmp_path, samples=3)


@pytest.fixture(scope="module")
def made_by_the_stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a world that stage 3 itself made smaller."""
    bench = Workbench(tmp_path_factory.mktemp("stage"))
    run = bench.config(max_gaussians=5, filter_floaters=True)
    runner = bench.runner(run, engine=Engine())
    for stage in ("scaffold", "trajectory", "splat"):
        runner.run(bench.job(), stage, silent)
    return bench.job_path("splat")
