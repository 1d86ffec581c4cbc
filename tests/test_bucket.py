"""Whole jobs and batches with their results in a bucket: the same files as on a disk, whatever happens on the way."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import (
    STAGES,
    SmallEngine,
    Workbench,
    canonical_tree,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
    small_engine,
    together,
    toy_room,
    toy_rooms,
)
from faulty_storage import Crash, Moment, WatchedStorage, crash_at, crash_moments, note, thinned
from gcs_emulator import gcs_emulator  # noqa: F401 (a fixture)

from worldexplorer import layout
from worldexplorer.batch import prepare_batch, run_batch
from worldexplorer.context import Outcome, StageContext
from worldexplorer.engine import SplatScene, TrainingResult
from worldexplorer.errors import Cancelled
from worldexplorer.inputs import RecordedInputs
from worldexplorer.layout import JobId
from worldexplorer.progress import Progress, silent
from worldexplorer.records import StageRecord
from worldexplorer.storage import Storage, open_storage
from worldexplorer.verify import verify_all

pytestmark = pytest.mark.slow

JOB = JobId(0, "photorealistic")


@dataclass(frozen=True)
class Bucket:
    """The results in a bucket, and the scratch folder of this machine."""

    storage: Storage
    folder: Path

    @property
    def scratch(self) -> Path:
        return self.folder / "scratch"

    def scratch_files(self) -> list[Path]:
        return [path for path in self.scratch.rglob("*") if path.is_file()]

    def empty(self) -> None:
        self.storage.map(lambda info: self.storage.delete(info.key), list(self.storage.list("")))
        shutil.rmtree(self.scratch, ignore_errors=True)

    def put(self, folder: Path) -> None:
        for path in folder.iterdir():
            self.storage.upload(path, path.name)

    def fetch(self, folder: Path) -> Path:
        self.storage.local_copies([info.key for info in self.storage.list("")], folder)
        return folder

    def leftovers(self) -> list[str]:
        return [info.key for info in self.storage.list("") if "/.attempts/" in info.key]


@pytest.fixture
def bucket(gcs_emulator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:  # noqa: F811
    found = Bucket(open_storage(f"gs://{gcs_emulator}/out"), tmp_path)
    monkeypatch.setenv("WORLDEXPLORER_SCRATCH", str(found.scratch))
    return found


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


def same_tree(fetched: Path, expected: dict[str, Any]) -> dict[str, Any]:
    """What was fetched, with the summary's place as it is in what is expected."""
    found = canonical_tree(fetched)
    if layout.SUMMARY in found:
        found[layout.SUMMARY] |= {"output_base": expected[layout.SUMMARY]["output_base"]}
    return found


def test_a_job_leaves_the_same_files_as_on_a_disk(bench: Workbench, bucket: Bucket, tmp_path: Path) -> None:
    assert bench.batch()["success"] == 1
    expected = canonical_tree(bench.output)
    assert bench.batch(storage=bucket.storage)["success"] == 1
    found = same_tree(bucket.fetch(tmp_path / "fetched"), expected)
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []
    assert bucket.leftovers() == []
    assert bucket.scratch_files() == []


def test_nothing_is_made_or_fetched_twice(bench: Workbench, bucket: Bucket) -> None:
    bench.batch(storage=bucket.storage)
    engine, moments = SmallEngine(), []
    summary = bench.batch(storage=WatchedStorage(bucket.storage, note(moments)), engine=engine)
    assert summary["success"] == 1
    assert engine.calls == []
    assert {moment.operation for moment in moments} <= {"read_versioned", "read", "stat", "list", "exists"} | {
        "create",
        "replace",
        "delete",
    }
    assert len(moments) / 2 < 120  # the job has some 200 files


@pytest.mark.slow
def test_a_file_written_over_is_found_and_healed(bench: Workbench, bucket: Bucket, tmp_path: Path) -> None:
    bench.batch(storage=bucket.storage)
    before = canonical_tree(bucket.fetch(tmp_path / "before"))
    key = f"{layout.job_folder(JOB)}/scaffold/final/003.png"
    data = bytearray(bucket.storage.read(key))
    data[len(data) // 2] ^= 1
    bucket.storage.write(key, bytes(data))
    assert [path for _, changed in verify_all(bucket.storage) for path in changed] == [key]
    assert bench.batch(storage=bucket.storage)["success"] == 1
    after = canonical_tree(bucket.fetch(tmp_path / "after"))
    assert after == before
    assert [path for _, changed in verify_all(bucket.storage) for path in changed] == []


@pytest.mark.slow
def test_a_batch_with_worker_processes(bench: Workbench, bucket: Bucket) -> None:
    prepared = prepare_batch(bench.config(output_base=bucket.storage.uri), small_engine)
    outcome = run_batch(prepared, lambda event: None)
    assert outcome.exit_code == 0
    summary = json.loads(bucket.storage.read(layout.SUMMARY))
    assert (summary["success"], summary["output_base"]) == (1, bucket.storage.uri)
    assert bucket.leftovers() == bucket.scratch_files() == []


class TestInputs:
    @pytest.fixture
    def made(self, bench: Workbench, bucket: Bucket) -> Bucket:
        bench.runner(storage=bucket.storage).run(bench.job(), "scaffold", silent)
        return bucket

    def test_they_come_together_and_go_when_they_are_closed(self, made: Bucket) -> None:
        moments: list[Moment] = []
        inputs = RecordedInputs(WatchedStorage(made.storage, note(moments)), JOB, "scaffold")
        paths = inputs.paths(layout.SCAFFOLD_FINAL)
        assert [path.name for path in paths] == [f"{view:03d}.png" for view in range(8)]
        assert all(path.is_relative_to(made.scratch) for path in paths)
        assert inputs.paths(layout.SCAFFOLD_FINAL) == paths
        assert inputs.folder(layout.SCAFFOLD_FINAL) == paths[0].parent
        assert [moment.operation for moment in moments if moment.side == "before"] == ["read", "local_copies"]
        inputs.close()
        assert list(made.scratch.glob("*inputs*")) == []
        assert inputs.paths(layout.SCAFFOLD_FINAL)[0].is_file()

    def test_they_go_with_the_object(self, made: Bucket) -> None:
        inputs = RecordedInputs(made.storage, JOB, "scaffold")
        inputs.path(layout.SCAFFOLD_JSON)
        assert list(made.scratch.glob("*inputs*")) != []
        del inputs
        assert list(made.scratch.glob("*inputs*")) == []

    def test_a_changed_or_lost_file_is_marked(self, made: Bucket) -> None:
        folder = layout.job_folder(JOB)
        made.storage.write(f"{folder}/scaffold/final/001.png", b"changed")
        made.storage.delete(f"{folder}/scaffold/final/005.png")
        for place, broken in (("scaffold/final", "005"), ("scaffold/final/001.png", "001")):
            inputs = RecordedInputs(made.storage, JOB, "scaffold")
            ask = inputs.path if place.endswith(".png") else inputs.paths
            with pytest.raises(Exception, match=f"{broken}.png"):
                ask(place)
            marker = json.loads(made.storage.read(layout.damaged_marker(JOB, "scaffold")))
            assert marker["paths"] == [f"scaffold/final/{broken}.png"]


class CheckpointEngine(SmallEngine):
    """Trains in 12 steps, with a checkpoint after every 4."""

    def train(self, scene: SplatScene, seed: int, checkpoint: Path, progress: Progress) -> TrainingResult:
        path = checkpoint / "checkpoint.npz"
        done, state = 0, np.zeros(len(scene.points))
        if path.exists():
            with np.load(path) as found:
                done, state = int(found["done"]), found["state"]
        for step in range(done, 12):
            self.calls.append(f"step {step}")
            state = np.sin(state + step + scene.points[:, 0])
            if (step + 1) % 4 == 0:
                with (checkpoint / "partial").open("wb") as file:
                    np.savez(file, done=step + 1, state=state)
                (checkpoint / "partial").replace(path)
            progress(step + 1, 12, "training")
        result = super().train(scene, seed, checkpoint, progress)
        result.gaussians.log_scales[:] = -3.0 + 0.1 * state[:, None]
        return result


def stopping(after: int, what: str) -> Progress:
    """Stops a stage as a signal does, at the n-th report of a kind."""
    numbers = itertools.count(1)

    def report(done: int, total: int, text: str) -> None:
        if what in text and next(numbers) == after:
            raise Cancelled

    return report


@pytest.mark.slow
class TestAnotherMachine:
    """Machine A stops, and its scratch folder is gone for good."""

    def run(
        self, bench: Workbench, storage: Storage, stage: str, engine: SmallEngine, progress: Progress
    ) -> StageRecord:
        return bench.runner(bench.config(trajectory_order=None), storage=storage, engine=engine).run(
            bench.job(), stage, progress
        )

    def on_a_machine_that_dies(self, bench: Workbench, bucket: Bucket, stage: str, progress: Progress) -> SmallEngine:
        engine = CheckpointEngine()
        with pytest.raises(Cancelled):
            self.run(bench, bucket.storage, stage, engine, progress)
        shutil.rmtree(bucket.scratch)
        return engine

    def test_trajectories_that_were_done_are_not_made_again(self, bench: Workbench, bucket: Bucket) -> None:
        for stage in STAGES[:2]:
            expected = self.run(bench, bench.storage, stage, whole := CheckpointEngine(), silent)
        self.run(bench, bucket.storage, "scaffold", CheckpointEngine(), silent)
        first = self.on_a_machine_that_dies(bench, bucket, "trajectory", stopping(52, "00"))
        assert bucket.leftovers() != []
        second = CheckpointEngine()
        record = self.run(bench, bucket.storage, "trajectory", second, silent)
        assert record.content == expected.content
        assert 0 < len(first.calls) < len(whole.calls)
        again = len(first.calls) + len(second.calls) - len(whole.calls)
        assert 0 <= again <= 3  # the trajectory that A was at, and two whose frames waited to be written
        assert bucket.leftovers() == bucket.scratch_files() == []

    def test_training_goes_on_from_the_last_checkpoint(self, bench: Workbench, bucket: Bucket) -> None:
        for stage in STAGES:
            expected = self.run(bench, bench.storage, stage, CheckpointEngine(), silent)
        for stage in STAGES[:2]:
            self.run(bench, bucket.storage, stage, CheckpointEngine(), silent)
        first = self.on_a_machine_that_dies(bench, bucket, "splat", stopping(10, "training"))
        assert [call for call in first.calls if call.startswith("step")][-1] == "step 9"
        second = CheckpointEngine()
        record = self.run(bench, bucket.storage, "splat", second, silent)
        assert record.content == expected.content
        assert [call for call in second.calls if call.startswith("step")] == [f"step {step}" for step in range(8, 12)]
        assert bucket.leftovers() == bucket.scratch_files() == []

    def test_what_was_kept_half_is_made_again(self, bench: Workbench, bucket: Bucket) -> None:
        """The bucket holds files of different moments: a mark without one of its frames, a frame that was changed."""
        for stage in STAGES[:2]:
            expected = self.run(bench, bench.storage, stage, CheckpointEngine(), silent)
        self.run(bench, bucket.storage, "scaffold", CheckpointEngine(), silent)
        self.on_a_machine_that_dies(bench, bucket, "trajectory", stopping(52, "00"))
        frames = [key for key in bucket.leftovers() if "samples-rgb" in key]
        bucket.storage.delete(frames[0])
        bucket.storage.write(frames[-1], bucket.storage.read(frames[0 + 1])[:-1])
        record = self.run(bench, bucket.storage, "trajectory", CheckpointEngine(), silent)
        assert record.content == expected.content

    def test_two_machines_at_once_end_with_one_result(self, bench: Workbench, bucket: Bucket, tmp_path: Path) -> None:
        self.run(bench, bucket.storage, "scaffold", CheckpointEngine(), silent)
        outcomes = together(lambda number: self.run(bench, bucket.storage, "trajectory", CheckpointEngine(), silent), 2)
        assert [type(outcome) for outcome in outcomes] == [StageRecord, StageRecord]
        assert outcomes[0].attempt == outcomes[1].attempt
        assert [path for _, changed in verify_all(bucket.storage) for path in changed] == []
        assert bucket.leftovers() == bucket.scratch_files() == []


def keeping_room(context: StageContext[Any], stage: str) -> Outcome:
    """A toy room that makes its files one by one, keeps each and does none twice."""
    for number in range(3):
        mark = context.work / str(number)
        if not mark.exists():
            (context.out / stage / "parts").mkdir(parents=True, exist_ok=True)
            (context.out / stage / "parts" / f"{number}.txt").write_text(f"{stage} {number}")
            mark.touch()
            context.keep()
    return toy_room(context, stage)


@pytest.mark.slow
@pytest.mark.parametrize("elsewhere", [False, True], ids=["same machine", "another machine"])
def test_after_a_crash_at_any_change_the_next_run_ends_the_same(
    bench: Workbench, bucket: Bucket, tmp_path: Path, elsewhere: bool
) -> None:
    """As on a disk, at the first and last of each row of changes of a kind."""
    rooms = toy_rooms(**{stage: partial(keeping_room, stage=stage) for stage in STAGES})
    numbers = itertools.count()

    def run(watch: Callable[[Moment], None]) -> None:
        bench.batch(storage=WatchedStorage(bucket.storage, watch), definitions=rooms)

    def tree() -> dict[str, Any]:
        return canonical_tree(bucket.fetch(tmp_path / f"fetched-{next(numbers)}"))

    moments: list[Moment] = []
    run(note(moments))
    expected = tree()
    assert bucket.leftovers() == []
    chosen = thinned(crash_moments(moments))
    assert {moment.operation for moment in chosen} >= {"create", "replace", "upload", "move", "write", "delete_tree"}
    for moment in chosen:
        bucket.empty()
        with pytest.raises(Crash):
            run(crash_at(moment))
        if elsewhere:
            shutil.rmtree(bucket.scratch, ignore_errors=True)
        run(note([]))
        found = tree()
        assert found.keys() == expected.keys(), moment
        assert [name for name in found if found[name] != expected[name]] == [], moment
        assert bucket.leftovers() == [], moment
        assert bucket.scratch_files() == [], moment
