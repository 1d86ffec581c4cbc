"""The last pod of a run: every job has its word, whatever became of the others' pods."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import (
    SmallEngine,
    Workbench,
    flip_byte,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
    photo_sample,
)
from pod.pods import JOB, RUN_ID, Cluster, Done, statuses

from worldexplorer import layout
from worldexplorer.config import RunConfig
from worldexplorer.errors import DefectError, UsageError, UserError
from worldexplorer.layout import JobId
from worldexplorer.pod import plan as plan_module
from worldexplorer.pod.abort import raise_abort
from worldexplorer.records import StageRecord
from worldexplorer.summary import build_summary

pytestmark = pytest.mark.slow

OTHER = "photorealistic/index_0001"


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path, samples=2)


@pytest.fixture
def cluster(bench: Workbench, tmp_path: Path) -> Cluster:
    return Cluster(bench, tmp_path)


def errors(summary: dict[str, Any]) -> list[str]:
    return [entry["error"]["message"] if entry["error"] else "" for entry in summary["results"]]


def change_record(cluster: Cluster, stage: str, index: int = 0, **changes: Any) -> StageRecord:
    record = cluster.bench.record(stage, index).model_copy(update=changes)
    cluster.bench.storage.write(layout.record(JobId(index, "photorealistic"), stage), record.to_json())
    return record


class TestGoodRuns:
    def test_all_is_well(self, cluster: Cluster) -> None:
        summary = cluster.run((1,))
        assert statuses(summary) == ["success", "success"]
        assert summary["run_id"] == RUN_ID
        assert summary["interrupted"] is False

    def test_what_the_pod_gives_the_pipeline(self, cluster: Cluster) -> None:
        for planned in cluster.plan((1,)).parameters["jobs"]:
            cluster.job(planned, (1,))
        done = cluster.close()
        summary = cluster.summary()
        assert json.loads(done.text("summary")) == summary
        assert done.metadata("summary") == {"uri_of_record": f"{cluster.bench.output}/batch_summary.json"}
        assert done.parameters == {"failed_indices": ""}
        metrics = {"total": 2, "success": 2, "failed": 0, "skipped": 0, "waiting": 0}
        assert done.metadata("metrics") == {**metrics, "elapsed_seconds": summary["elapsed_seconds"]}
        assert done.text("report").count("<img ") == 2
        assert JOB in done.text("report")
        assert "2 jobs: 2 success" in done.text("table")

    def test_nothing_to_do_is_a_success(self, cluster: Cluster) -> None:
        cluster.run((1,))
        second = cluster.again("second")
        assert second.plan((1,)).parameters["pending"] == "no"
        second.close()
        assert statuses(cluster.summary()) == ["success", "success"]
        assert cluster.summary()["run_id"] == "second"

    def test_summary_that_is_made_again_says_the_same(self, cluster: Cluster) -> None:
        cluster.plan((1,))
        cluster.stage("scaffold")
        cluster.close()
        first = cluster.summary()
        cluster.close()
        assert {**cluster.summary(), "elapsed_seconds": 0} == {**first, "elapsed_seconds": 0}


class TestFailures:
    def test_failed_jobs_are_named(self, bench: Workbench, tmp_path: Path) -> None:
        class Failing(SmallEngine):
            def train(self, *arguments: Any) -> Any:
                raise UserError("no world in this", where="0.png", remedy="take another")

        cluster = Cluster(bench, tmp_path)
        planned = cluster.plan(continue_on_error=True).parameters["jobs"]
        cluster.job(planned[0])
        cluster.load = lambda batch: Failing()
        cluster.job(planned[1])
        done = cluster.close()
        summary = cluster.summary()
        assert statuses(summary) == ["success", "failed"]
        assert errors(summary) == ["", "no world in this"]
        assert done.parameters == {"failed_indices": "1"}
        assert summary["results"][1]["stages_completed"] == [1, 2]
        assert "no world in this" in done.text("report") and "no world in this" in done.text("table")
        assert done.metadata("metrics")["failed"] == 1

    def test_photo_that_is_none(self, cluster: Cluster) -> None:
        (cluster.bench.data / "1.png").write_bytes(b"no picture")
        (planned,) = cluster.plan((1,), continue_on_error=True).parameters["jobs"]
        cluster.job(planned, (1,))
        cluster.close()
        assert statuses(cluster.summary()) == ["success", "failed"]
        assert cluster.summary()["results"][1]["error"]["class"] == "user"


class TestLostPods:
    def test_job_without_any_record(self, cluster: Cluster) -> None:
        cluster.plan((1,))
        cluster.stage("scaffold")
        done = cluster.close()
        summary = cluster.summary()
        assert statuses(summary) == ["success", "failed"]
        error = summary["results"][1]["error"]
        assert (error["stage"], error["class"]) == ("scaffold", "infrastructure")
        assert error["message"].startswith("no_record: the pod of scaffold")
        assert "start the run again" in error["remedy"]
        assert done.parameters == {"failed_indices": "1"}

    def test_stage_that_was_lost_is_named(self, cluster: Cluster) -> None:
        cluster.plan((1, 2), indices="0")
        cluster.stage("scaffold")
        cluster.close()
        (entry,) = cluster.summary()["results"]
        assert (entry["status"], entry["error"]["stage"], entry["stages_completed"]) == ("failed", "trajectory", [1])

    def test_stages_made_from_an_older_one_are_no_success(self, cluster: Cluster) -> None:
        """A scaffold that came out otherwise, and pods lost before the later stages: their old records say nothing."""
        cluster.run((1, 2), indices="0")
        key = layout.record(JobId(0, "photorealistic"), "scaffold")
        storage = cluster.storage
        record = StageRecord.from_json(storage.read(key), where=key)
        other = replace(record.files[0], sha256="0" * 64)
        storage.write(key, record.model_copy(update={"files": [other, *record.files[1:]]}).to_json())
        (entry,) = build_summary(storage, cluster.run_id, elapsed_seconds=1.0, interrupted=False)["results"]
        assert (entry["status"], entry["stages_completed"]) == ("skipped", [1])
        assert entry["reason"].startswith("its trajectory is older than what it was made from")

    def test_next_run_finishes_it(self, cluster: Cluster) -> None:
        cluster.plan((1,))
        cluster.close()
        assert statuses(cluster.summary()) == ["failed", "failed"]
        assert statuses(cluster.again("second").run((1,))) == ["success", "success"]

    def test_old_result_that_was_to_be_replaced_is_no_success(self, cluster: Cluster) -> None:
        """With `force`, a record is there whether or not the pod was killed."""
        cluster.run((1,))
        second = cluster.again("second")
        second.plan((1,), force=True)
        second.stage("scaffold")
        second.close()
        summary = cluster.summary()
        assert statuses(summary) == ["success", "failed"]
        assert errors(summary)[1].startswith("no_record: the pod of scaffold")

    def test_nor_where_it_was_to_be_healed(self, cluster: Cluster) -> None:
        cluster.run((1,))
        flip_byte(cluster.bench.job_path("scaffold/final/003.png"))
        second = cluster.again("second")
        assert len(second.plan((1,)).parameters["jobs"]) == 1
        second.close()
        assert statuses(cluster.summary()) == ["failed", "success"]

    def test_later_stage_of_a_result_that_came_out_otherwise(self, cluster: Cluster) -> None:
        """The plan expected to reuse it; the pod that would have made it again was killed."""
        cluster.run((1, 2), indices="0")
        flip_byte(cluster.bench.job_path("scaffold/final/003.png"))
        second = cluster.again("second")
        second.plan((1, 2), indices="0")
        assert second.run_file().to_run[JOB] == ("scaffold",)
        second.stage("scaffold")
        second.close()
        assert statuses(cluster.summary()) == ["success"]
        files = cluster.bench.record("scaffold").files
        change_record(cluster, "scaffold", files=[*files[1:], files[0].__class__(files[0].path, 1, "0" * 64)])
        second.close()
        (entry,) = cluster.summary()["results"]
        assert (entry["status"], entry["error"]["stage"]) == ("failed", "trajectory")

    def test_result_that_is_not_in_its_place(self, cluster: Cluster) -> None:
        """Committed, and killed before its files were moved."""
        cluster.plan((1,), indices="0")
        cluster.stage("scaffold")
        change_record(cluster, "scaffold", published=False)
        cluster.close()
        assert statuses(cluster.summary()) == ["failed"]

    def test_clock_of_another_machine_may_be_late(self, cluster: Cluster) -> None:
        cluster.run((1,), indices="0")
        change_record(cluster, "scaffold", finished_at="2000-01-01T00:00:00+00:00")
        cluster.close()
        assert statuses(cluster.summary()) == ["success"]

    def test_result_that_another_run_committed_meanwhile_is_one(self, cluster: Cluster) -> None:
        cluster.plan((1,), indices="0")
        other = cluster.again("other")
        other.plan((1,), indices="0")
        other.stage("scaffold")
        cluster.close()
        assert statuses(cluster.summary()) == ["success"]

    def test_damaged_result_is_told_as_such(self, cluster: Cluster) -> None:
        cluster.run((1,))
        cluster.bench.storage.write(layout.record(JobId(1, "photorealistic"), "scaffold"), b"{")
        cluster.close()
        summary = cluster.summary()
        assert statuses(summary) == ["success", "failed"]
        assert "a stage record cannot be read" in errors(summary)[1]

    def test_damaged_failure_is_replaced(self, cluster: Cluster) -> None:
        cluster.plan((1,), indices="0")
        cluster.bench.storage.write(layout.failed_record(JobId(0, "photorealistic"), "scaffold"), b"{")
        cluster.close()
        assert errors(cluster.summary())[0].startswith("no_record")


class TestStoppedRuns:
    def test_jobs_that_did_not_begin_are_skipped(self, bench: Workbench, tmp_path: Path) -> None:
        class Failing(SmallEngine):
            def sample(self, *arguments: Any) -> Any:
                raise UserError("no world in this")

        cluster = Cluster(bench, tmp_path, load=lambda batch: Failing())
        planned = cluster.plan((1,)).parameters["jobs"]
        assert cluster.job(planned[0], (1,)).code == 1
        with pytest.raises(UsageError, match="is skipped"):
            cluster.job(planned[1], (1,))
        done = cluster.close()
        summary = cluster.summary()
        assert statuses(summary) == ["failed", "skipped"]
        reason = f"{JOB} failed in scaffold, and continue_on_error is not set"
        assert summary["results"][1]["reason"] == reason
        assert done.parameters == {"failed_indices": "0"}
        assert reason.replace("_", "\\_") in done.text("table")

    def test_jobs_that_were_done_by_then_are_good(self, cluster: Cluster) -> None:
        cluster.plan((1,))
        cluster.stage("scaffold")
        raise_abort(cluster.bench.storage, RUN_ID, "something else")
        cluster.close()
        assert statuses(cluster.summary()) == ["success", "skipped"]

    def test_old_results_that_were_to_be_replaced_are_skipped(self, cluster: Cluster) -> None:
        cluster.run((1,))
        second = cluster.again("second")
        second.plan((1,), force=True)
        second.stage("scaffold")
        raise_abort(cluster.bench.storage, "second", "something else")
        second.close()
        assert statuses(cluster.summary()) == ["success", "skipped"]

    def test_plan_that_stops_the_run(self, cluster: Cluster) -> None:
        (cluster.bench.data / "1.png").write_bytes(b"no picture")
        with pytest.raises(UsageError):
            cluster.plan((1,))
        cluster.close()
        summary = cluster.summary()
        assert statuses(summary) == ["skipped", "failed"]
        assert summary["results"][0]["reason"] == f"{OTHER} cannot run, and continue_on_error is not set"


class TestRunsWithoutAPlan:
    def tell(self, done: Done) -> str:
        assert done.parameters == {"failed_indices": ""}
        assert done.metadata("metrics") == {"total": 0}
        text = json.loads(done.text("summary"))["error"]
        assert "The run was not planned" in done.text("report")
        assert "The run was not planned" in done.text("table")
        return str(text)

    def test_reason_of_the_plan(self, cluster: Cluster) -> None:
        with pytest.raises(UsageError):
            cluster.plan(indices="7")
        done = cluster.close()
        assert "no such index: 7" in self.tell(done)
        assert "no such index: 7" in done.text("report") and "no such index: 7" in done.text("table")
        assert not (cluster.bench.output / layout.SUMMARY).exists()

    def test_plan_without_a_word(self, cluster: Cluster) -> None:
        assert "it never started, or was killed" in self.tell(cluster.close())

    def test_failure_that_cannot_be_read(self, cluster: Cluster) -> None:
        cluster.bench.storage.write(layout.plan_failure(RUN_ID), b"{")
        assert "look at the log of the run's plan step" in self.tell(cluster.close())

    def test_plan_that_broke_off_after_its_first_file(self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        def break_off(*arguments: Any) -> None:
            raise ConnectionError("the bucket went away")

        with monkeypatch.context() as patch:
            patch.setattr(plan_module._Plan, "_hand_over", break_off)
            with pytest.raises(ConnectionError):
                cluster.plan((1,))
        cluster.close()
        summary = cluster.summary()
        assert statuses(summary) == ["skipped", "skipped"]
        assert summary["results"][0]["reason"] == "ConnectionError: the bucket went away"

    def test_run_file_that_cannot_be_read(self, cluster: Cluster) -> None:
        cluster.plan((1,))
        cluster.stage("scaffold")
        cluster.bench.storage.write(layout.run_file(RUN_ID), b"{")
        cluster.close()
        summary = cluster.summary()
        assert statuses(summary) == ["success", "skipped"]
        assert summary["results"][1]["reason"].startswith("no stage could begin: the run's file cannot be read")

    def test_damaged_plan(self, cluster: Cluster) -> None:
        cluster.bench.storage.write(layout.plan(RUN_ID), b"{")
        with pytest.raises(DefectError, match="a plan cannot be read"):
            cluster.close()


def test_engine_is_loaded_only_to_tell_of_lost_pods(cluster: Cluster) -> None:
    def refuse(run: RunConfig) -> SmallEngine:
        raise RuntimeError("no such device")

    cluster.plan((1,), indices="0")
    cluster.stage("scaffold")
    cluster.load = refuse
    cluster.close()
    assert statuses(cluster.summary()) == ["success"]


def test_report_shows_this_runs_worlds_and_counts_them_all(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, [photo_sample(0), photo_sample(1)])
    first = Cluster(bench, tmp_path)
    first.run((1,), indices="0")
    second = first.again("second")
    (planned,) = second.plan((1,), indices="1").parameters["jobs"]
    second.job(planned, (1,))
    done = second.close()
    assert second.summary()["total"] == 2
    page = done.text("report")
    assert JOB in page and OTHER in page
    assert page.count("<img ") == 1
    assert f'alt="contact sheet of {OTHER}"' in page


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_contact_sheet_that_is_damaged_costs_no_report(
    cluster: Cluster, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.run((1,), indices="0")
    cluster.bench.storage.write(f"{JOB}/{layout.CONTACT_SHEET}", data)
    assert "<img " not in cluster.close().text("report")
    assert f"{JOB}/contact_sheet.png cannot be shown" in caplog.text


def test_contact_sheet_cut_short_costs_no_report(cluster: Cluster) -> None:
    cluster.run((1,), indices="0")
    path = cluster.bench.job_path(layout.CONTACT_SHEET)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "<img " not in cluster.close().text("report")
