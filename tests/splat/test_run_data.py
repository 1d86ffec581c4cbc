"""Checkpoints: kept as soon as they are there, wherever they lie."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import SmallEngine, Workbench

from worldexplorer.config import SplatConfig
from worldexplorer.context import StageContext, nothing_to_keep
from worldexplorer.errors import UsageError
from worldexplorer.progress import silent
from worldexplorer.splat.run_data import keep_with, keeping, run_data_folder


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


def test_every_checkpoint_is_kept_before_its_progress_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    report = keeping(lambda done, total, what: told.append(str(done)), tmp_path, lambda: told.append("keep"))
    for step in range(1, 6):
        with (tmp_path / "log").open("a") as file:
            file.write("step")
        if step % 2 == 0:
            (tmp_path / "partial").write_text("state")
            (tmp_path / "partial").replace(tmp_path / "checkpoint")
        report(step, 5, "training")
    # The first step makes the log.
    assert told == ["keep", "1", "keep", "2", "3", "keep", "4", "5"]


@pytest.mark.parametrize("folder", ["gs://bucket/runs", ""])
def test_run_data_lie_on_this_machine(folder: str) -> None:
    with pytest.raises(UsageError, match=r"--nerf_folder.*name a local folder"):
        SplatConfig(nerf_folder=folder)


class TestNerfFolderAndOtherMachines:
    """The attempt is kept in a bucket: what the trainer wrote elsewhere has to be in it."""

    def context(self, bench: Workbench, folder: Path, kept: list[bytes | None]) -> StageContext[Any]:
        checkpoint = folder / "work" / "training" / "deep" / "checkpoint"
        return StageContext(
            job=bench.job(),
            settings=None,
            engine=SmallEngine(),
            seed=0,
            inputs=None,
            attempt="splat-one",
            out=folder / "out",
            work=folder / "work",
            progress=silent,
            keep=lambda: kept.append(checkpoint.read_bytes() if checkpoint.exists() else None),
        )

    def test_every_checkpoint_is_copied_into_the_attempt(self, bench: Workbench, tmp_path: Path) -> None:
        kept: list[bytes | None] = []
        context = self.context(bench, tmp_path, kept)
        run_data = run_data_folder(context, str(tmp_path / "nerf"))
        assert run_data.is_relative_to(tmp_path / "nerf")
        keep = keep_with(context, run_data)
        (run_data / "deep").mkdir()
        for step in (b"one", b"two"):
            (run_data / "deep" / "checkpoint").write_bytes(step)
            keep()
        assert kept == [b"one", b"two"]
        assert [path.name for path in (tmp_path / "work").iterdir()] == ["training"]

    def test_a_file_that_goes_away_while_it_is_copied_is_left_out(
        self, bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A trainer writes its next checkpoint while the one before is kept."""
        kept: list[bytes | None] = []
        context = self.context(bench, tmp_path, kept)
        run_data = run_data_folder(context, str(tmp_path / "nerf"))
        (run_data / "deep").mkdir()
        (run_data / "deep" / "checkpoint").write_bytes(b"one")
        (run_data / "deep" / "writing").write_bytes(b"two")
        copy = shutil.copy2

        def copy_late(source: str, target: str) -> None:
            (run_data / "deep" / "writing").unlink(missing_ok=True)
            copy(source, target)

        monkeypatch.setattr(shutil, "copy2", copy_late)
        keep_with(context, run_data)()
        assert kept == [b"one"]
        assert [path.name for path in (tmp_path / "work" / "training" / "deep").iterdir()] == ["checkpoint"]

    def test_another_machine_goes_on_from_it(self, bench: Workbench, tmp_path: Path) -> None:
        kept: list[bytes | None] = []
        first = self.context(bench, tmp_path, kept)
        run_data = run_data_folder(first, str(tmp_path / "nerf"))
        (run_data / "deep").mkdir()
        (run_data / "deep" / "checkpoint").write_bytes(b"half")
        keep_with(first, run_data)()
        there = run_data_folder(self.context(bench, tmp_path, kept), str(tmp_path / "elsewhere"))
        assert there.is_relative_to(tmp_path / "elsewhere")
        assert (there / "deep" / "checkpoint").read_bytes() == b"half"
        # Where it goes on again, its own are not replaced.
        (there / "deep" / "checkpoint").write_bytes(b"more")
        assert run_data_folder(self.context(bench, tmp_path, kept), str(tmp_path / "elsewhere")) == there
        assert (there / "deep" / "checkpoint").read_bytes() == b"more"

    def test_nothing_is_copied_where_the_attempt_is_on_this_machine(self, bench: Workbench, tmp_path: Path) -> None:
        context = replace(self.context(bench, tmp_path, []), keep=nothing_to_keep)
        run_data = run_data_folder(context, str(tmp_path / "nerf"))
        keep_with(context, run_data)()
        assert not (tmp_path / "work").exists()
