"""The compiled pipelines, run by kfp.local with a process a task and the preview engine.

What is asserted are records and the summary: kfp.local can skip a task without a word.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from builders import photo_sample, write_dataset
from kfp_local import process_session

from pipelines.compile import compile_pipeline
from pipelines.settings import BuildSettings
from worldexplorer import layout
from worldexplorer.layout import JobId
from worldexplorer.records import StageRecord

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
KILL = """
import os, signal, sys

words = " ".join(sys.orig_argv)

def kill(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, os.PathLike)) and ".attempts" in os.fspath(arguments[0]):
        os.kill(os.getpid(), signal.SIGKILL)

if "worldexplorer.pod" in words and "photorealistic/index_0002" in words:
    sys.addaudithook(kill)
"""
"""Kills the pod of one job when it has begun to work: as a node that is lost, or memory that runs out."""


class World:
    """A data set of photos, and the runs over one output folder."""

    def __init__(self, folder: Path, samples: int) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.output = folder / "output"
        write_dataset(self.data, [photo_sample(index) for index in range(samples)])
        self.runs = 0

    def cut_short(self, index: int) -> None:
        """Leave a photo's header, and half of its pixels."""
        path = self.data / f"{index}.png"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def run(
        self, stages: Sequence[int], search_path: Path | None = None, parallelism: int = 2, **parameters: Any
    ) -> dict[str, Any]:
        """Compile and run the pipeline of these stages; the summary."""
        self.runs += 1
        package = self.folder / f"package-{self.runs}.yaml"
        compile_pipeline(stages, package, BuildSettings(retries=0, parallelism=parallelism))
        places = [str(path) for path in (search_path, ROOT) if path is not None]
        with process_session(self.folder / f"root-{self.runs}", {"PYTHONPATH": ":".join(places)}) as session:
            session.run(
                package,
                dataset_dir=str(self.data),
                output_base=str(self.output),
                engine="preview",
                preset="smoke",
                trajectory_order="in",
                **parameters,
            )
        return self.summary()

    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.output / layout.SUMMARY).read_text())
        return found

    def record(self, stage: str, index: int, place: Callable[[JobId, str], str] = layout.record) -> StageRecord:
        key = place(JobId(index, "photorealistic"), stage)
        return StageRecord.from_json((self.output / key).read_bytes(), where=key)

    def has_begun(self, index: int) -> bool:
        return (self.output / layout.job_folder(JobId(index, "photorealistic"))).exists()


def statuses(summary: dict[str, Any]) -> list[str]:
    return [entry["status"] for entry in summary["results"]]


class TestGoodRun:
    @pytest.fixture(scope="class")
    @staticmethod
    def world(tmp_path_factory: pytest.TempPathFactory) -> World:
        world = World(tmp_path_factory.mktemp("good"), samples=3)
        world.run((1, 2, 3))
        return world

    def test_every_job_is_good(self, world: World) -> None:
        summary = world.summary()
        assert statuses(summary) == ["success"] * 3
        assert [entry["stages_completed"] for entry in summary["results"]] == [[1, 2, 3]] * 3
        assert (summary["failed_indices"], summary["engine_label"]) == ("", "synthesised preview")
        for index in range(3):
            assert (world.output / summary["results"][index]["export_path"]).stat().st_size > 0
            assert world.record("splat", index).run_id == summary["run_id"]
            assert world.record("splat", index).engine == "preview"

    def test_what_passed_through_the_pipeline_is_small(self, world: World) -> None:
        root = world.folder / "root-1"
        assert len(list(root.rglob("record.json"))) >= 3
        sizes = [path.stat().st_size for path in root.rglob("*") if path.is_file()]
        assert max(sizes) < 4_000_000
        assert not [path for path in root.rglob("*") if path.suffix in (".png", ".ply")]


class TestTrouble:
    """One job is good, the photo of another is cut short, and the pod of the third is killed."""

    @pytest.fixture(scope="class")
    @staticmethod
    def world(tmp_path_factory: pytest.TempPathFactory) -> World:
        world = World(tmp_path_factory.mktemp("trouble"), samples=3)
        world.cut_short(1)
        kill = world.folder / "kill"
        kill.mkdir()
        (kill / "sitecustomize.py").write_text(KILL)
        world.run((1,), kill, continue_on_error=True)
        return world

    def test_first_run_tells_which_and_why(self, world: World) -> None:
        summary = world.summary()
        assert statuses(summary) == ["success", "failed", "failed"]
        assert (summary["total"], summary["success"], summary["failed"]) == (3, 1, 2)
        assert summary["failed_indices"] == "1-2"
        errors = [entry["error"] for entry in summary["results"]]
        assert errors[0] is None
        assert (errors[1]["stage"], errors[1]["class"]) == ("scaffold", "user")
        assert "1.png" in errors[1]["where"] + errors[1]["message"]
        assert (errors[2]["stage"], errors[2]["class"]) == ("scaffold", "infrastructure")
        assert errors[2]["message"].startswith("no_record")
        assert world.has_begun(2)

    def test_failure_was_recorded_by_the_pod_and_the_loss_by_the_summary(self, world: World) -> None:
        failed, lost = (world.record("scaffold", index, layout.failed_record) for index in (1, 2))
        assert failed.error is not None and lost.error is not None
        assert failed.error.log_tail or failed.seconds > 0
        assert lost.seconds == 0
        assert lost.run_id == failed.run_id == world.summary()["run_id"]

    def test_second_run_does_what_the_first_could_not(self, world: World) -> None:
        first = world.summary()["run_id"]
        (world.data / "1.png").unlink()
        write_dataset(world.data, [photo_sample(index) for index in range(3)])
        summary = world.run((1,), indices="0 2")
        assert summary["run_id"] != first
        assert statuses(summary) == ["success", "failed", "success"]
        assert world.record("scaffold", 0).run_id == first
        assert world.record("scaffold", 2).run_id == summary["run_id"]


class TestStop:
    @pytest.fixture(scope="class")
    @staticmethod
    def world(tmp_path_factory: pytest.TempPathFactory) -> World:
        world = World(tmp_path_factory.mktemp("stop"), samples=3)
        world.cut_short(0)
        world.run((1,), parallelism=1)
        return world

    def test_first_failure_stops_the_rest(self, world: World) -> None:
        summary = world.summary()
        assert statuses(summary) == ["failed", "skipped", "skipped"]
        assert summary["failed_indices"] == "0"
        reason = "photorealistic/index_0000 failed in scaffold, and continue_on_error is not set"
        assert [entry["reason"] for entry in summary["results"][1:]] == [reason] * 2
        assert (world.output / layout.abort_marker(summary["run_id"])).read_text() == reason
        assert not world.has_begun(1) and not world.has_begun(2)

    def test_later_stages_go_on_from_the_run_before(self, world: World) -> None:
        first = world.run((1,), indices="2")["run_id"]
        second = world.run((2, 3), indices="2")
        (entry,) = [one for one in second["results"] if one["index"] == 2]
        assert (entry["status"], entry["stages_completed"]) == ("success", [1, 2, 3])
        assert second["only_stages"] == [2, 3]
        assert second["run_id"] != first
        assert [world.record(stage, 2).run_id for stage in ("scaffold", "trajectory", "splat")] == [
            first,
            second["run_id"],
            second["run_id"],
        ]
        imported = world.output / layout.run_input(second["run_id"], JobId(2, "photorealistic")) / "record.json"
        assert (
            imported.read_bytes() == (world.output / layout.record(JobId(2, "photorealistic"), "scaffold")).read_bytes()
        )


def test_run_that_cannot_be_planned_starts_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, samples=1)
    with pytest.raises(FileNotFoundError):
        world.run((1,), indices="7")  # there is no summary of a run without a plan
    (failure,) = world.output.glob("runs/*/plan.failed.json")
    assert "no such index: 7" in failure.read_text()
    assert not world.has_begun(0)
    (told,) = [path for path in (tmp_path / "root-1").rglob("summary") if path.is_file()]
    assert "no such index: 7" in json.loads(told.read_text())["error"]
