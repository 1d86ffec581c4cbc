"""A whole batch: what it writes, how it ends, and what its exit code says."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import signal
from pathlib import Path
from typing import Any

import pytest
from builders import (
    STAGES,
    SmallEngine,
    Workbench,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
    photo_sample,
    run_jobs_here,
    small_engine,
)

from worldexplorer import batch as module
from worldexplorer import layout
from worldexplorer.batch import BatchOutcome, Interrupted, exit_code, missing_here, prepare_batch, run_batch
from worldexplorer.config import RunConfig
from worldexplorer.dataset import Job
from worldexplorer.errors import UsageError
from worldexplorer.events import (
    BatchFinished,
    BatchStarted,
    Event,
    JobFinished,
    JobStarted,
    LogLine,
    StageFinished,
)
from worldexplorer.layout import JobId


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path, samples=3)


@pytest.fixture(autouse=True)
def given(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> list[int]:
    """Runs the jobs in this process; the indices of those that were given to it."""
    indices: list[int] = []

    def run_jobs(run: RunConfig, run_id: str, jobs: list[Job], *arguments: Any, **options: Any) -> Any:
        indices.extend(job.index for job in jobs)
        return run_jobs_here(run, run_id, jobs, *arguments, **options)

    if "real_processes" not in request.fixturenames:
        monkeypatch.setattr(module, "run_jobs", run_jobs)
    return indices


def go(bench: Workbench, events: list[Event] | None = None, **settings: Any) -> BatchOutcome:
    prepared = prepare_batch(bench.config(only_stages=(1,), **settings), small_engine)
    return run_batch(prepared, (events if events is not None else []).append)


def statuses(summary: dict[str, Any]) -> list[str]:
    return [entry["status"] for entry in summary["results"]]


def spoil(bench: Workbench, index: int) -> None:
    (bench.data / f"{index}.png").write_bytes(b"no picture")


class TestBeforeItBegins:
    def test_preparing_writes_nothing(self, bench: Workbench) -> None:
        prepared = prepare_batch(bench.config(), small_engine)
        assert len(prepared.plan.jobs) == 3
        assert not list(bench.output.glob("*"))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"indices": ("7",)}, "no such index: 7"),
            ({"traj_prior": "sideways"}, "sideways"),
            ({"trajectory_order": ("sideways",)}, "sideways"),
            ({"output_base": "s3://bucket/x"}, "neither a local folder nor a bucket"),
            ({"root_dir": "/no/such/folder"}, "own trajectories"),
            ({"dataset_dir": "/no/such/folder"}, "Dataset directory not found"),
        ],
    )
    def test_what_is_wrong_with_the_command_stops_it_all(
        self, bench: Workbench, settings: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(UsageError, match=message):
            prepare_batch(bench.config(**settings), small_engine)
        assert not list(bench.output.glob("*"))

    def test_so_does_an_engine_that_cannot_run_here(self, bench: Workbench) -> None:
        class Lacking(SmallEngine):
            def check(self, *arguments: Any) -> list[str]:
                return ["no GPU", "no weights"]

        prepared = prepare_batch(bench.config(), lambda batch: Lacking())
        with pytest.raises(UsageError, match="no GPU; no weights") as caught:
            run_batch(prepared, lambda event: None)
        assert caught.value.remedy == Lacking.remedy
        assert not list(bench.output.glob("*"))

    def test_no_job_is_refused(self, tmp_path: Path) -> None:
        bench = Workbench(tmp_path, [photo_sample(0)])
        (bench.data / "0.png").unlink()
        with pytest.raises(UsageError, match="No jobs to run"):
            prepare_batch(bench.config(), small_engine)


class TestRun:
    def test_all_is_well(self, bench: Workbench) -> None:
        events: list[Event] = []
        outcome = go(bench, events)
        assert outcome.exit_code == 0
        assert statuses(outcome.summary) == ["success"] * 3
        assert json.loads(bench.storage.read(layout.SUMMARY)) == outcome.summary
        assert events[0] == BatchStarted(outcome.summary["run_id"], 3, 0, "tiny test engine")
        assert events[-1] == BatchFinished(outcome.summary)
        assert not outcome.summary["interrupted"]
        assert outcome.summary["elapsed_seconds"] > 0

    def test_finished_jobs_are_told_and_not_given_out(self, bench: Workbench, given: list[int]) -> None:
        go(bench)
        given.clear()
        events: list[Event] = []
        outcome = go(bench, events)
        assert outcome.exit_code == 0
        assert given == []
        assert events[0] == BatchStarted(outcome.summary["run_id"], 3, 3, "tiny test engine")
        for index in range(3):
            job = bench.job(index).id
            assert JobStarted(job, ("scaffold",)) in events
            assert JobFinished(job, None) in events
        assert [event.reused for event in events if isinstance(event, StageFinished)] == [True] * 3

    def test_finished_jobs_get_their_sheet_back(self, bench: Workbench) -> None:
        go(bench)
        sheet = bench.job_path(layout.CONTACT_SHEET)
        sheet.unlink()
        go(bench)
        assert sheet.is_file()

    def test_finished_jobs_lose_an_old_failure(self, bench: Workbench) -> None:
        """Refused once with other settings, then asked for as before."""
        go(bench)
        assert go(bench, seed=5, continue_on_error=True).exit_code == 1
        assert bench.failure("scaffold").error is not None
        assert go(bench).exit_code == 0
        assert [path.name for path in bench.job_path("records").iterdir()] == ["scaffold.json"]

    def test_the_first_failure_stops_the_rest(self, bench: Workbench) -> None:
        spoil(bench, 1)
        outcome = go(bench)
        assert outcome.exit_code == 1
        assert statuses(outcome.summary) == ["success", "failed", "skipped"]
        assert "--continue_on_error" in outcome.summary["results"][2]["reason"]
        assert outcome.summary["failed_indices"] == "1"

    def test_or_not(self, bench: Workbench) -> None:
        spoil(bench, 1)
        outcome = go(bench, continue_on_error=True)
        assert outcome.exit_code == 1
        assert statuses(outcome.summary) == ["success", "failed", "success"]

    def test_a_photo_that_went_bad_since_fails_its_job_alone(self, bench: Workbench) -> None:
        go(bench)
        spoil(bench, 1)
        outcome = go(bench, continue_on_error=True)
        assert statuses(outcome.summary) == ["success", "failed", "success"]

    def test_what_is_odd_about_the_data_set_is_told(self, tmp_path: Path) -> None:
        bench = Workbench(tmp_path, [photo_sample(0, colour="red", stylized={"path": "none.png"})])
        (bench.data / "none.png").unlink()
        events: list[Event] = []
        go(bench, events)
        warnings = [event.text for event in events if isinstance(event, LogLine)]
        assert any("colour" in text for text in warnings)


class TestItsEnd:
    @pytest.mark.parametrize("number", [None, signal.SIGTERM])
    def test_an_interrupted_run_says_what_it_did_not_reach(self, bench: Workbench, number: int | None) -> None:
        def listener(event: Event) -> None:
            if isinstance(event, JobStarted) and event.job.index == 1:
                raise KeyboardInterrupt(*([] if number is None else [number]))

        prepared = prepare_batch(bench.config(only_stages=(1,)), small_engine)
        with pytest.raises(Interrupted) as caught:
            run_batch(prepared, listener)
        assert caught.value.signal_number == (signal.SIGINT if number is None else number)
        summary = caught.value.summary
        assert json.loads(bench.storage.read(layout.SUMMARY)) == summary
        assert summary["interrupted"]
        assert statuses(summary) == ["success", "skipped", "skipped"]
        assert {entry["reason"] for entry in summary["results"][1:]} == {"the run was interrupted"}
        assert go(bench).exit_code == 0

    def test_an_error_of_the_run_itself_still_leaves_a_summary(
        self, bench: Workbench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*arguments: Any, **options: Any) -> None:
            raise OSError("no more processes")

        monkeypatch.setattr(module, "run_jobs", broken)
        with pytest.raises(OSError, match="no more processes"):
            go(bench)
        summary = json.loads(bench.storage.read(layout.SUMMARY))
        assert summary["interrupted"]
        assert statuses(summary) == ["skipped"] * 3
        assert "no more processes" in summary["results"][0]["reason"]

    def test_other_runs_failures_are_theirs(self, bench: Workbench) -> None:
        spoil(bench, 0)
        assert go(bench, indices=("0",)).exit_code == 1
        outcome = go(bench, indices=("1-2",))
        assert outcome.summary["failed"] == 1
        assert outcome.exit_code == 0

    def test_a_failure_counts_even_where_a_newer_run_did_better(self, bench: Workbench) -> None:
        """Two runs at once: this one is refused because of its settings, the newer one goes well."""

        def listener(event: Event) -> None:
            if isinstance(event, JobFinished) and event.job.index == 0:
                assert event.failure is not None
                go(bench, continue_on_error=True)

        go(bench)
        prepared = prepare_batch(bench.config(only_stages=(1,), seed=5), small_engine)
        assert run_batch(prepared, listener).exit_code == 1

    @pytest.mark.parametrize(
        ("found", "code"),
        [
            ([], 0),
            (["success", "success"], 0),
            (["success", "failed"], 1),
            (["success", "skipped"], 1),
            (["success", "waiting"], 3),
            (["waiting", "failed"], 1),
        ],
    )
    def test_exit_codes(self, found: list[str], code: int) -> None:
        entries = [{"index": index, "variant": "default", "status": status} for index, status in enumerate(found)]
        others = [{"index": 100, "variant": "default", "status": "failed"}]
        jobs = {JobId(entry["index"], "default") for entry in entries}
        assert exit_code({"results": entries + others}, jobs) == code


def _whole_batch(config: RunConfig, results: Any) -> None:
    results.put(run_batch(prepare_batch(config, small_engine), lambda event: None).exit_code)


@pytest.fixture
def real_processes() -> None:
    """Asked for by tests whose jobs run in worker processes."""


@pytest.mark.slow
@pytest.mark.usefixtures("real_processes")
def test_two_batches_at_once_in_processes_of_their_own(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, samples=3)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    ranges = (("0-1",), ("1-2",))
    runs = [context.Process(target=_whole_batch, args=(bench.config(indices=one), results)) for one in ranges]
    for one in runs:
        one.start()
    codes = [results.get(timeout=120) for _ in runs]
    for one in runs:
        one.join()
    assert codes == [0, 0]
    summary = json.loads(bench.storage.read(layout.SUMMARY))
    assert statuses(summary) == ["success"] * 3
    assert bench.leftovers() == []
    for index in range(3):
        assert all(bench.record(stage, index).published for stage in STAGES)


def test_a_format_whose_package_is_missing_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Workbench(tmp_path)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "gsply" else find(name, *more))
    run = bench.config(export_formats=("ply", "spz"))
    assert missing_here(run, SmallEngine()) == ["spz cannot be written without the package gsply"]
    with pytest.raises(UsageError, match=r"spz cannot be written.*--export_formats.*worldexplorer\[exports\]"):
        run_batch(prepare_batch(bench.config(export_formats=("ply", "spz")), small_engine), lambda event: None)
    assert not list(bench.output.glob("*"))
    assert missing_here(bench.config(export_formats=("ply", "spz"), only_stages=(1, 2)), SmallEngine()) == []


def test_everything_that_is_missing_is_said_in_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Workbench(tmp_path)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "gsply" else find(name, *more))
    monkeypatch.setattr(SmallEngine, "check", lambda *given: ["no GPU"])
    with pytest.raises(UsageError, match="cannot run this here: no GPU; spz cannot be written without"):
        run_batch(prepare_batch(bench.config(export_formats=("ply", "spz")), small_engine), lambda event: None)
