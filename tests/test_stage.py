"""What becomes of a stage: its result, its failures, and what it says of either."""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import (
    STAGES,
    SmallEngine,
    Workbench,
    flip_byte,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
    toy_room,
    toy_rooms,
)
from faulty_storage import Moment, WatchedStorage

from worldexplorer import layout
from worldexplorer.context import Outcome, StageContext
from worldexplorer.engine import NovelViewRequest
from worldexplorer.errors import Cancelled, ErrorClass, InfrastructureError, TransientError, UserError
from worldexplorer.layout import JobId
from worldexplorer.progress import silent
from worldexplorer.records import StageRecord
from worldexplorer.stage import StageFailedError

JOB = JobId(0, "photorealistic")
TOKEN = "hf_" + "AbCdEfGhIjKlMnOpQrSt"
Produce = Callable[[StageContext[Any]], Outcome]


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


def run(bench: Workbench, stage: str, **options: Any) -> StageRecord:
    return bench.runner(**options).run(bench.job(), stage, silent)


def fail(bench: Workbench, stage: str, **options: Any) -> StageRecord:
    """The record of the failure that the stage has to end with, which is also what is on the disk."""
    with pytest.raises(StageFailedError) as caught:
        run(bench, stage, **options)
    assert bench.failure(stage) == caught.value.record
    return caught.value.record


def failing(times: int, error: BaseException, stage: str = "scaffold") -> tuple[Produce, list[Any]]:
    """A room that fails so many times before it works, and the settings it was given each time."""
    seen: list[Any] = []

    def produce(context: StageContext[Any]) -> Outcome:
        seen.append(context.settings)
        if len(seen) <= times:
            raise error
        return toy_room(context, stage)

    return produce, seen


class TestResult:
    def test_the_record_names_everything(self, bench: Workbench) -> None:
        runner = bench.runner(definitions=toy_rooms(), run_id="this-run")
        record = runner.run(bench.job(), "scaffold", silent)
        assert record == bench.record("scaffold")
        assert (record.status, record.published, record.run_id) == ("committed", True, "this-run")
        assert (record.stage, record.index, record.variant) == ("scaffold", 0, "photorealistic")
        (entry,) = record.files
        path = bench.job_path(entry.path)
        assert (entry.path, entry.size) == ("scaffold/result.txt", path.stat().st_size)
        assert record.outputs == {"scaffold_path": "scaffold/result.txt"}
        assert record.engine_label == "tiny test engine"
        assert record.started_at <= record.finished_at
        assert record.seconds >= 0
        assert record.peak_memory_mib is not None
        assert record.peak_memory_mib > 0
        assert "python" in record.versions
        assert record.input is not None
        assert record.input.stage == "photo"
        assert bench.leftovers() == []

    def test_each_stage_names_the_one_before(self, bench: Workbench) -> None:
        records = [run(bench, stage, definitions=toy_rooms()) for stage in STAGES]
        for before, after in pairwise(records):
            assert after.input is not None
            assert (after.input.stage, after.input.fingerprint, after.input.content) == (
                before.stage,
                before.fingerprint,
                before.content,
            )

    def test_files_are_published_before_the_record_says_so(self, bench: Workbench) -> None:
        def watch(moment: Moment) -> None:
            if moment.operation == "replace" and moment.side == "after":
                assert bench.job_path("scaffold/result.txt").is_file()
                assert bench.leftovers() == []

        run(bench, "scaffold", definitions=toy_rooms(), storage=WatchedStorage(bench.storage, watch))

    def test_the_same_again_is_reused(self, bench: Workbench) -> None:
        produce, seen = failing(0, ValueError())
        first = run(bench, "scaffold", definitions=toy_rooms(scaffold=produce))
        second = run(bench, "scaffold", definitions=toy_rooms(scaffold=produce))
        assert first == second
        assert len(seen) == 1

    def test_force_makes_it_again(self, bench: Workbench) -> None:
        first = run(bench, "scaffold", definitions=toy_rooms())
        second = run(bench, "scaffold", definitions=toy_rooms(), run=bench.config(force=True))
        assert first.content == second.content
        assert first.attempt != second.attempt
        assert bench.leftovers() == []

    def test_force_replaces_even_a_half_published_result_with_a_lost_file(self, bench: Workbench) -> None:
        record = run(bench, "scaffold", definitions=toy_rooms())
        bench.storage.write(layout.record(JOB, "scaffold"), record.model_copy(update={"published": False}).to_json())
        bench.job_path("scaffold/result.txt").unlink()
        forced = run(bench, "scaffold", definitions=toy_rooms(), run=bench.config(force=True))
        assert forced.content == record.content

    def test_what_force_no_longer_makes_is_removed(self, bench: Workbench) -> None:
        def two_files(context: StageContext[Any]) -> Outcome:
            (context.out / "old").mkdir()
            (context.out / "old" / "file.txt").write_text("old")
            return toy_room(context, "scaffold")

        run(bench, "scaffold", definitions=toy_rooms(scaffold=two_files))
        record = run(bench, "scaffold", definitions=toy_rooms(), run=bench.config(force=True))
        assert record.supersedes == ["old/file.txt"]
        assert not bench.job_path("old").exists()
        assert bench.job_path("scaffold/result.txt").is_file()

    def test_another_scale_leaves_no_old_scene(self, bench: Workbench) -> None:
        bench.batch(bench.config(translation_scaling_factor=3.0))
        bench.batch(bench.config(translation_scaling_factor=10.0, force=True))
        assert [path.name for path in bench.job_path("scenes").iterdir()] == ["index_0000_10.0"]


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (ConnectionError("reset"), ErrorClass.TRANSIENT),
            (TimeoutError("late"), ErrorClass.TRANSIENT),
            (TransientError("429"), ErrorClass.TRANSIENT),
            (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), ErrorClass.INFRASTRUCTURE),
            (InfrastructureError("ffmpeg could not write"), ErrorClass.INFRASTRUCTURE),
        ],
    )
    def test_what_may_pass_is_tried_again(self, bench: Workbench, error: Exception, kind: ErrorClass) -> None:
        produce, seen = failing(2, error)
        waits: list[float] = []
        record = run(bench, "scaffold", definitions=toy_rooms(scaffold=produce), wait=waits.append)
        assert [retry.error_class for retry in record.retries] == [kind, kind]
        assert str(error) in record.retries[0].message
        assert waits == sorted(waits)
        assert len(waits) == 2
        assert waits[0] > 0
        assert len(set(seen)) == 1

    def test_what_does_not_pass_fails_in_the_end(self, bench: Workbench) -> None:
        produce, seen = failing(9, ConnectionError("reset"))
        record = fail(bench, "scaffold", definitions=toy_rooms(scaffold=produce))
        assert record.error is not None
        assert record.error.error_class is ErrorClass.TRANSIENT
        assert len(seen) == 3
        assert len(record.retries) == 2
        with pytest.raises(FileNotFoundError):
            bench.job_path("records/scaffold.json").read_bytes()

    @pytest.mark.parametrize("error", [ZeroDivisionError("x"), UserError("bad photo"), KeyError("x")])
    def test_what_cannot_pass_is_not_tried_again(self, bench: Workbench, error: Exception) -> None:
        produce, seen = failing(9, error)
        waits: list[float] = []
        record = fail(bench, "scaffold", definitions=toy_rooms(scaffold=produce), wait=waits.append)
        assert len(seen) == 1
        assert waits == []
        assert record.retries == []

    def test_less_memory_is_used_after_running_out(self, bench: Workbench) -> None:
        run(bench, "scaffold", definitions=toy_rooms())
        produce, seen = failing(2, MemoryError("cannot allocate"), "trajectory")
        rooms = toy_rooms(trajectory=produce)
        record = run(bench, "trajectory", definitions=rooms, run=bench.config(num_images_for_vggt=40))
        assert [settings.num_images_for_vggt for settings in seen] == [40, 20, 10]
        assert [retry.adjustment for retry in record.retries] == ["num_images_for_vggt 20", "num_images_for_vggt 10"]
        assert {retry.error_class for retry in record.retries} == {ErrorClass.OUT_OF_MEMORY}
        assert record.basis["settings"]["num_images_for_vggt"] == 40

    def test_the_smaller_result_is_that_of_the_same_command(self, bench: Workbench) -> None:
        run(bench, "scaffold", definitions=toy_rooms())
        produce, seen = failing(1, MemoryError(), "trajectory")
        first = run(bench, "trajectory", definitions=toy_rooms(trajectory=produce))
        second = run(bench, "trajectory", definitions=toy_rooms(trajectory=produce))
        assert first == second
        assert len(seen) == 2

    def test_with_nothing_left_to_save_memory_is_out(self, bench: Workbench) -> None:
        class OutOfMemoryError(RuntimeError):
            """As torch names its own."""

        run(bench, "scaffold", definitions=toy_rooms())
        produce, seen = failing(9, OutOfMemoryError("CUDA out of memory"), "trajectory")
        options = bench.config(num_images_for_vggt=7)
        record = fail(bench, "trajectory", definitions=toy_rooms(trajectory=produce), run=options)
        assert record.error is not None
        assert record.error.error_class is ErrorClass.OUT_OF_MEMORY
        assert "--num_images_for_vggt" in record.error.remedy
        assert len(seen) == 1

    def test_a_full_disk_says_so(self, bench: Workbench) -> None:
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/x.png")
        produce, _ = failing(9, error)
        record = fail(bench, "scaffold", definitions=toy_rooms(scaffold=produce))
        assert record.error is not None
        assert record.error.error_class is ErrorClass.INFRASTRUCTURE
        assert "disk is full" in record.error.message
        assert record.error.where == "/data/x.png"
        assert "free" in record.error.remedy

    def test_a_disk_too_full_for_any_record_still_fails_the_stage(
        self, bench: Workbench, caplog: pytest.LogCaptureFixture
    ) -> None:
        def full(moment: Moment) -> None:
            if moment.operation in ("create", "write") and moment.side == "before":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), moment.key)

        with pytest.raises(StageFailedError) as caught:
            run(bench, "scaffold", definitions=toy_rooms(), storage=WatchedStorage(bench.storage, full))
        assert caught.value.record.error is not None
        assert caught.value.record.error.error_class is ErrorClass.INFRASTRUCTURE
        assert "could not be recorded" in caplog.text
        assert run(bench, "scaffold", definitions=toy_rooms()).status == "committed"

    @pytest.mark.parametrize("operation", ["upload", "create", "move", "replace"])
    def test_a_disk_that_fills_up_during_the_commit_costs_nothing(self, bench: Workbench, operation: str) -> None:
        def full(moment: Moment) -> None:
            if moment.operation == operation and moment.side == "before":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), moment.key)

        record = fail(bench, "scaffold", definitions=toy_rooms(), storage=WatchedStorage(bench.storage, full))
        assert record.error is not None
        assert record.error.error_class is ErrorClass.INFRASTRUCTURE
        run(bench, "scaffold", definitions=toy_rooms())
        assert bench.leftovers() == []
        assert [path.name for path in bench.job_path("records").iterdir()] == ["scaffold.json"]

    def test_stopping_is_no_failure(self, bench: Workbench) -> None:
        def stopped(context: StageContext[Any]) -> Outcome:
            (context.work / "checkpoint").write_text("half")
            raise Cancelled

        def going_on(context: StageContext[Any]) -> Outcome:
            assert (context.work / "checkpoint").read_text() == "half"
            return toy_room(context, "scaffold")

        with pytest.raises(Cancelled):
            run(bench, "scaffold", definitions=toy_rooms(scaffold=stopped))
        assert not bench.job_path("records").exists()
        run(bench, "scaffold", definitions=toy_rooms(scaffold=going_on))
        assert bench.leftovers() == []


class TestOwnOutput:
    """A stage that says it is done is looked at."""

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda out: (out / "scaffold" / "result.txt").unlink(), "ended without its scaffold_path"),
            (lambda out: (out / "scaffold" / "result.txt").write_text(""), "wrote an empty file"),
            (lambda out: (out / "scaffold" / "other").touch(), "wrote an empty file"),
        ],
    )
    def test_missing_and_empty_files(self, bench: Workbench, spoil: Callable[[Path], Any], message: str) -> None:
        def produce(context: StageContext[Any]) -> Outcome:
            outcome = toy_room(context, "scaffold")
            spoil(context.out)
            return outcome

        record = fail(bench, "scaffold", definitions=toy_rooms(scaffold=produce))
        assert record.error is not None
        assert record.error.error_class is ErrorClass.DEFECT
        assert message in record.error.message

    def test_figures_that_are_none(self, bench: Workbench) -> None:
        def produce(context: StageContext[Any]) -> Outcome:
            outcome = toy_room(context, "scaffold")
            return Outcome(metrics={"psnr": float("nan")}, outputs=outcome.outputs)

        record = fail(bench, "scaffold", definitions=toy_rooms(scaffold=produce))
        assert record.error is not None
        assert (record.error.error_class, record.error.where) == (ErrorClass.DEFECT, "metrics.psnr")

    def test_gaussians_that_are_not_finite(self, bench: Workbench) -> None:
        class Spoiled(SmallEngine):
            def train(self, *arguments: Any) -> Any:
                result = super().train(*arguments)
                result.gaussians.means[3, 1] = np.nan
                return result

        summary = bench.batch(engine=Spoiled())
        (entry,) = summary["results"]
        assert entry["stages_completed"] == [1, 2]
        assert (entry["error"]["stage"], entry["error"]["class"]) == ("splat", "defect")
        assert "1 Gaussians have means that are not finite" in entry["error"]["message"]

    def test_a_world_that_shows_nothing(self, bench: Workbench) -> None:
        class Spoiled(SmallEngine):
            def render(self, *arguments: Any) -> Any:
                return np.zeros_like(super().render(*arguments))

        (entry,) = bench.batch(engine=Spoiled())["results"]
        assert (entry["error"]["stage"], entry["error"]["class"]) == ("splat", "defect")

    @pytest.mark.parametrize("stage", ["scaffold", "trajectory"])
    def test_black_frames(self, bench: Workbench, stage: str) -> None:
        class Spoiled(SmallEngine):
            def sample(self, requests: list[NovelViewRequest], progress: Any) -> Any:
                frames = super().sample(requests, progress)
                first_stage = len(requests[0].given) == 8
                if first_stage == (stage == "scaffold"):
                    for one, request in zip(frames, requests, strict=True):
                        one[~request.given] = 0
                return frames

        (entry,) = bench.batch(engine=Spoiled())["results"]
        assert (entry["error"]["stage"], entry["error"]["class"]) == (stage, "defect")
        assert "of one colour" in entry["error"]["message"]


class TestDamagedInput:
    def test_it_is_not_tried_again_and_the_next_run_heals(self, bench: Workbench) -> None:
        run(bench, "scaffold", definitions=toy_rooms())
        flip_byte(bench.job_path("scaffold/result.txt"), keep_time=True)
        waits: list[float] = []
        record = fail(bench, "trajectory", definitions=toy_rooms(), wait=waits.append)
        assert record.error is not None
        assert record.error.error_class is ErrorClass.INFRASTRUCTURE
        assert record.error.where.endswith("photorealistic/index_0000/scaffold/result.txt")
        assert "heals" in record.error.remedy
        assert waits == []
        marker = json.loads(bench.job_path("records/scaffold.damaged.json").read_bytes())
        assert marker["paths"] == ["scaffold/result.txt"]
        healed = run(bench, "scaffold", definitions=toy_rooms())
        assert run(bench, "trajectory", definitions=toy_rooms()).input.content == healed.content  # type: ignore[union-attr]
        assert sorted(path.name for path in bench.job_path("records").iterdir()) == ["scaffold.json", "trajectory.json"]

    def test_half_a_scene_of_another_scaffold_is_not_gone_on_with(self, bench: Workbench) -> None:
        """The scaffold is made again from the same settings, and comes out otherwise, as it may on a GPU."""
        seen: list[bool] = []

        def stopped(context: StageContext[Any]) -> Outcome:
            (context.work / "mark").touch()
            raise Cancelled

        def going_on(context: StageContext[Any]) -> Outcome:
            seen.append((context.work / "mark").exists())
            return toy_room(context, "trajectory")

        def otherwise(context: StageContext[Any]) -> Outcome:
            outcome = toy_room(context, "scaffold")
            (context.out / "scaffold" / "result.txt").write_text("otherwise")
            return outcome

        run(bench, "scaffold", definitions=toy_rooms())
        with pytest.raises(Cancelled):
            run(bench, "trajectory", definitions=toy_rooms(trajectory=stopped))
        flip_byte(bench.job_path("scaffold/result.txt"))
        run(bench, "scaffold", definitions=toy_rooms(scaffold=otherwise))
        run(bench, "trajectory", definitions=toy_rooms(trajectory=going_on))
        assert seen == [False]
        assert bench.leftovers() == []

    def test_a_scaffold_replaced_at_the_last_moment_is_not_taken_for_the_planned_one(self, bench: Workbench) -> None:
        run(bench, "scaffold", definitions=toy_rooms())
        other = bench.config(force=True, num_seva_frames=16)
        done: list[StageRecord] = []

        def watch(moment: Moment) -> None:
            """Decisions read records with their version; only a room's input is read without."""
            if (moment.operation, moment.side) == ("read", "before") and moment.key.endswith("scaffold.json"):
                done.append(run(bench, "scaffold", definitions=toy_rooms(), run=other))

        storage = WatchedStorage(bench.storage, watch)
        record = fail(bench, "trajectory", definitions=toy_rooms(), storage=storage)
        assert len(done) == 1
        assert record.error is not None
        assert "another run replaced the scaffold" in record.error.message
        assert not bench.job_path("records/trajectory.json").exists()


class TestFailureRecord:
    def test_its_content(self, bench: Workbench) -> None:
        def produce(context: StageContext[Any]) -> Outcome:
            logging.getLogger("worldexplorer.somewhere").warning("low light")
            raise ZeroDivisionError("by zero")

        record = fail(bench, "scaffold", definitions=toy_rooms(scaffold=produce), run_id="this-run")
        assert (record.stage, record.index, record.variant) == ("scaffold", 0, "photorealistic")
        assert (record.status, record.run_id) == ("failed", "this-run")
        assert record.files == []
        assert record.error is not None
        assert record.error.error_class is ErrorClass.DEFECT
        assert record.error.message == "ZeroDivisionError: by zero"
        assert record.error.log_tail[0] == "WARNING worldexplorer.somewhere: low light"
        assert record.error.log_tail[-1] == "ZeroDivisionError: by zero"
        assert any("test_stage.py" in line for line in record.error.log_tail)
        assert record.started_at <= record.finished_at

    def test_an_error_that_explains_itself_has_no_traceback(self, bench: Workbench) -> None:
        produce, _ = failing(9, UserError("bad photo", where="a.png", remedy="take another"))
        record = fail(bench, "scaffold", definitions=toy_rooms(scaffold=produce))
        assert record.error is not None
        assert (record.error.message, record.error.where, record.error.remedy) == ("bad photo", "a.png", "take another")
        assert record.error.log_tail == []

    def test_success_removes_it(self, bench: Workbench) -> None:
        produce, _ = failing(1, ZeroDivisionError())
        rooms = toy_rooms(scaffold=produce)
        fail(bench, "scaffold", definitions=rooms)
        run(bench, "scaffold", definitions=rooms)
        assert [path.name for path in bench.job_path("records").iterdir()] == ["scaffold.json"]

    def test_so_does_finding_an_earlier_success(self, bench: Workbench) -> None:
        """A refusal (other settings) fails the job; with the old settings everything is as it was."""
        run(bench, "scaffold", definitions=toy_rooms())
        fail(bench, "scaffold", definitions=toy_rooms(), run=bench.config(seed=1))
        run(bench, "scaffold", definitions=toy_rooms())
        assert [path.name for path in bench.job_path("records").iterdir()] == ["scaffold.json"]

    def test_no_token_reaches_any_file(self, bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SOME_SERVICE_TOKEN", "an-opaque-secret-0123456789")
        secrets = (TOKEN, "an-opaque-secret-0123456789", "s3cretpassword")
        talk = (
            f"401 for {TOKEN}; Authorization: Bearer {TOKEN}; an-opaque-secret-0123456789; "
            "https://me:s3cretpassword@host/x"
        )
        seen: list[int] = []

        def produce(context: StageContext[Any]) -> Outcome:
            seen.append(1)
            logging.getLogger("worldexplorer.hub").error("request failed: %s", talk)
            if len(seen) == 1:
                raise ConnectionError(talk)
            try:
                raise ValueError(talk)
            except ValueError as error:
                raise UserError(talk, where=talk, remedy=talk) if len(seen) == 4 else RuntimeError(talk) from error

        rooms = toy_rooms(scaffold=produce)
        first = fail(bench, "scaffold", definitions=rooms)
        assert len(first.retries) == 1
        text = _all_text(bench.output)
        bench.batch(definitions=rooms)
        text += _all_text(bench.output)
        bench.batch(definitions=rooms)
        text += _all_text(bench.output)
        assert seen == [1] * 4
        assert "[redacted]" in text
        for secret in secrets:
            assert secret not in text

    def test_no_token_of_a_retry_reaches_the_record_of_the_success(self, bench: Workbench) -> None:
        produce, _ = failing(1, ConnectionError(f"401 for {TOKEN}"))
        run(bench, "scaffold", definitions=toy_rooms(scaffold=produce))
        assert TOKEN not in _all_text(bench.output)


class TestRecordsThatCannotBeRead:
    @pytest.mark.parametrize(
        "spoil",
        [
            lambda data: data[: len(data) // 2],
            lambda data: b"",
            lambda data: data.replace(b'"schema_version": 1', b'"schema_version": 9'),
            lambda data: data.replace(b'"finished_at": "2', b'"finished_at": "x'),
        ],
    )
    def test_they_are_refused_by_name_and_replaced_by_force(
        self, bench: Workbench, spoil: Callable[[bytes], bytes]
    ) -> None:
        run(bench, "scaffold", definitions=toy_rooms())
        key = layout.record(JOB, "scaffold")
        bench.storage.write(key, spoil(bench.storage.read(key)))
        record = fail(bench, "scaffold", definitions=toy_rooms())
        assert record.error is not None
        assert record.error.where == key
        assert "--force" in record.error.remedy
        run(bench, "scaffold", definitions=toy_rooms(), run=bench.config(force=True))
        assert bench.record("scaffold").published


def _all_text(folder: Path) -> str:
    return "".join(path.read_bytes().decode(errors="replace") for path in folder.rglob("*") if path.is_file())
