"""A stage's pod: what it commits and hands on, what it refuses, and what it leaves when it fails."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import (
    STAGES,
    SmallEngine,
    Workbench,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
)
from pod.pods import JOB, RUN_ID, Cluster

from worldexplorer import layout
from worldexplorer.errors import DefectError, UsageError, UserError
from worldexplorer.pod.abort import aborted, raise_abort
from worldexplorer.pod.plan import RECORD_NAME
from worldexplorer.pod.stage import ARTIFACTS, read_job_id, record_facts
from worldexplorer.records import StageRecord

OTHER = "photorealistic/index_0001"


class Obedient(SmallEngine):
    """Fails in training with the error that it is given."""

    def __init__(self, error: Exception | None = None, missing: str = "") -> None:
        super().__init__()
        self.error = error
        self.missing = [missing] if missing else []

    def train(self, *arguments: Any) -> Any:
        logging.getLogger("worldexplorer.test").warning("about to train")
        if self.error is not None:
            raise self.error
        return super().train(*arguments)


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path, samples=2)


@pytest.fixture
def cluster(bench: Workbench, tmp_path: Path) -> Cluster:
    return Cluster(bench, tmp_path)


def events(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def record_in(folder: Path) -> StageRecord:
    return StageRecord.from_json((folder / RECORD_NAME).read_bytes(), where=str(folder))


class TestGoodStages:
    def test_each_hands_on_its_own_record(self, cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
        cluster.plan()
        before: Path | None = None
        for stage in STAGES:
            done = cluster.stage(stage, before)
            assert done.code == 0
            before = done.folder / ARTIFACTS[stage]
            record = cluster.bench.record(stage)
            assert record_in(before) == record
            assert [path.name for path in before.iterdir()] == [RECORD_NAME]
            said = done.metadata(ARTIFACTS[stage])
            assert said == {"data_uri": f"{cluster.bench.output}/{JOB}", **record_facts(record)}
            assert said["bytes"] == sum(entry.size for entry in record.files)
            assert "<h1>" in done.text("preview")
            metrics = done.metadata("metrics")
            assert metrics["seconds"] == record.seconds
            assert metrics.items() >= {k: v for k, v in record.metrics.items() if isinstance(v, (int, float))}.items()
        assert cluster.bench.job_path(layout.SPLAT_PLY).exists()
        assert cluster.bench.job_path(layout.CONTACT_SHEET).exists()
        told = events(capsys.readouterr().out)
        assert [one["event"] for one in told if one["event"].startswith("job")] == ["job_started", "job_finished"] * 3
        assert [one["status"] for one in told if one["event"] == "job_finished"] == ["success"] * 3

    def test_finished_stage_is_reused_and_handed_on(self, cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
        cluster.run((1,))
        second = cluster.again("second")
        second.plan((1, 2))
        capsys.readouterr()
        done = second.stage("scaffold")
        assert record_in(done.folder / "scaffold").run_id == RUN_ID
        (told,) = [one for one in events(capsys.readouterr().out) if one["event"] == "stage_finished"]
        assert told["reused"] is True

    def test_pod_that_is_started_again_after_it_was_lost(self, cluster: Cluster) -> None:
        cluster.plan()
        first = cluster.stage("scaffold").folder / "scaffold"
        again = cluster.stage("scaffold").folder / "scaffold"
        assert record_in(first) == record_in(again)

    def test_log_names_the_job(self, bench: Workbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        cluster = Cluster(bench, tmp_path, load=lambda batch: Obedient())
        cluster.run(indices="0")
        (line,) = [one for one in events(capsys.readouterr().out) if one.get("text") == "about to train"]
        assert (line["level"], line["work"]) == ("WARNING", f"{JOB} splat")

    def test_standard_output_is_the_logs_alone(
        self, bench: Workbench, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        class Chatting(SmallEngine):
            def sample(self, *arguments: Any) -> Any:
                sys.stdout.write("loading 100%\n")
                return super().sample(*arguments)

        cluster = Cluster(bench, tmp_path, load=lambda batch: Chatting())
        cluster.plan(indices="0")
        assert cluster.stage("scaffold").code == 0
        captured = capfd.readouterr()
        assert [one["event"] for one in events(captured.out)][-1] == "job_finished"
        assert "loading 100%" in captured.err


class TestFailures:
    def test_failure_is_recorded_and_stops_the_run(
        self, bench: Workbench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        error = UserError("this photo cannot become a world", where="0.png", remedy="take another one")
        cluster = Cluster(bench, tmp_path, load=lambda batch: Obedient(error))
        (planned, _) = cluster.plan().parameters["jobs"]
        done = cluster.job(planned)
        assert (done.code, done.output) == (1, None)
        failure = bench.failure("splat")
        assert failure.error is not None
        assert (failure.run_id, failure.error.message) == (RUN_ID, "this photo cannot become a world")
        assert aborted(bench.storage, RUN_ID) == f"{JOB} failed in splat, and continue_on_error is not set"
        told = events(capsys.readouterr().out)[-1]
        assert (told["event"], told["status"], told["stage"]) == ("job_finished", "failed", "splat")
        assert told["error"]["remedy"] == "take another one"

    def test_with_continue_on_error_nothing_else_stops(self, bench: Workbench, tmp_path: Path) -> None:
        cluster = Cluster(bench, tmp_path, load=lambda batch: Obedient(UserError("no")))
        planned = cluster.plan(continue_on_error=True).parameters["jobs"]
        assert [cluster.job(one).code for one in planned] == [1, 1]
        assert aborted(bench.storage, RUN_ID) == ""
        assert bench.failure("splat", index=1).run_id == RUN_ID

    def test_defects_are_recorded_with_their_traceback(self, bench: Workbench, tmp_path: Path) -> None:
        cluster = Cluster(bench, tmp_path, load=lambda batch: Obedient(ZeroDivisionError("by nought")))
        (planned,) = cluster.plan(indices="0").parameters["jobs"]
        assert cluster.job(planned).code == 1
        error = bench.failure("splat").error
        assert error is not None and error.error_class == "defect"
        assert "by nought" in error.message and any("Traceback" in line for line in error.log_tail)

    def test_engine_that_cannot_run_here(self, bench: Workbench, tmp_path: Path) -> None:
        cluster = Cluster(bench, tmp_path, load=lambda batch: Obedient(missing="no GPU"))
        cluster.plan(indices="0")
        assert cluster.stage("scaffold").code == 1
        error = bench.failure("scaffold").error
        assert error is not None and error.error_class == "user"
        assert error.message == "the preview engine cannot run scaffold in this pod: no GPU"
        assert error.remedy == SmallEngine.remedy

    def test_photo_that_is_gone(self, cluster: Cluster) -> None:
        cluster.plan(indices="0")
        (cluster.bench.data / "0.png").unlink()
        assert cluster.stage("scaffold").code == 1
        assert cluster.bench.failure("scaffold").error is not None

    def test_result_that_cannot_be_handed_on_is_a_failure(
        self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The next pod would have nothing to go by."""

        def refuse(*arguments: Any) -> str:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("worldexplorer.pod.stage.stage_page", refuse)
        cluster.plan(indices="0")
        done = cluster.stage("scaffold")
        assert (done.code, done.output) == (1, None)
        error = cluster.bench.failure("scaffold").error
        assert error is not None and "the disk is full" in error.message


class TestAbort:
    def test_nothing_begins_after_it(self, cluster: Cluster) -> None:
        cluster.plan()
        raise_abort(cluster.bench.storage, RUN_ID, "another job failed")
        with pytest.raises(UsageError, match=f"{OTHER} is skipped: another job failed"):
            cluster.stage("scaffold", job=OTHER)
        assert not (cluster.bench.output / OTHER).exists()

    def test_first_reason_stays(self, cluster: Cluster) -> None:
        raise_abort(cluster.bench.storage, RUN_ID, "the first")
        raise_abort(cluster.bench.storage, RUN_ID, "the second")
        assert aborted(cluster.bench.storage, RUN_ID) == "the first"
        assert aborted(cluster.bench.storage, "another run") == ""


class TestInput:
    @pytest.fixture
    def scaffold(self, cluster: Cluster) -> Path:
        cluster.plan((1, 2), indices="0")
        return cluster.stage("scaffold").folder / "scaffold"

    def refused(self, cluster: Cluster, before: Path) -> str:
        assert cluster.stage("trajectory", before).code == 1
        failure = cluster.bench.failure("trajectory")
        assert failure.error is not None
        return f"{failure.error.message}. {failure.error.remedy}"

    def test_record_of_a_result_that_was_replaced_meanwhile(self, cluster: Cluster, scaffold: Path) -> None:
        other = cluster.again("other")
        other.plan((1,), indices="0", seed=7, force=True)
        other.stage("scaffold")
        assert self.refused(cluster, scaffold) == (
            "another run replaced the scaffold since this one went on from it. start the run again"
        )

    def test_record_of_the_same_settings_with_another_content(self, cluster: Cluster, scaffold: Path) -> None:
        record = record_in(scaffold)
        files = [record.files[0].__class__("other.png", 1, "0" * 64), *record.files[1:]]
        (scaffold / RECORD_NAME).write_bytes(record.model_copy(update={"files": files}).to_json())
        assert "another run replaced the scaffold" in self.refused(cluster, scaffold)

    def test_same_result_made_again_is_as_good(self, cluster: Cluster, scaffold: Path) -> None:
        other = cluster.again("other")
        other.plan((1,), indices="0", force=True)
        other.stage("scaffold")
        assert cluster.bench.record("scaffold").run_id == "other"
        assert cluster.stage("trajectory", scaffold).code == 0

    def test_record_that_is_gone(self, cluster: Cluster, scaffold: Path) -> None:
        cluster.bench.storage.delete(layout.record(cluster.run_file().job_id(JOB), "scaffold"))
        assert "the record of scaffold is gone" in self.refused(cluster, scaffold)

    def test_artifact_without_a_record(self, cluster: Cluster, scaffold: Path) -> None:
        (scaffold / RECORD_NAME).unlink()
        assert "the artifact scaffold has no record (No such file or directory)" in self.refused(cluster, scaffold)

    @pytest.mark.parametrize("data", [b"", b"{", b"{}", b"\xff"])
    def test_artifact_with_a_damaged_record(self, cluster: Cluster, scaffold: Path, data: bytes) -> None:
        (scaffold / RECORD_NAME).write_bytes(data)
        assert "a stage record cannot be read" in self.refused(cluster, scaffold)

    def test_pipeline_without_the_artifact(self, cluster: Cluster, scaffold: Path) -> None:
        assert cluster.stage("trajectory").code == 1
        failure = cluster.bench.failure("trajectory")
        assert failure.error is not None and failure.error.message == "the task has no input artifact scaffold"


class TestRunFile:
    def test_run_that_was_not_planned(self, cluster: Cluster) -> None:
        with pytest.raises(UsageError, match="the run has no plan"):
            cluster.stage("scaffold")
        assert not cluster.bench.output.exists()

    def test_job_of_another_run(self, cluster: Cluster) -> None:
        cluster.plan(indices="0")
        with pytest.raises(UsageError, match=f"the run has no job {OTHER}"):
            cluster.stage("scaffold", job=OTHER)


class TestEarlyFailures:
    """What fails before there is an engine is told all the same, and stops the others all the same."""

    def test_engine_that_cannot_be_loaded(self, cluster: Cluster) -> None:
        cluster.plan((1,))

        def broken(_run: object) -> SmallEngine:
            raise OSError("libcuda.so.1: cannot open shared object file")

        cluster.load = broken
        with pytest.raises(OSError, match="libcuda"):
            cluster.stage("scaffold")
        failure = json.loads(cluster.storage.read(f"{JOB}/records/scaffold.failed.json"))
        assert "libcuda" in failure["error"]["message"]
        assert failure["run_id"] == RUN_ID
        assert aborted(cluster.storage, RUN_ID).startswith(f"{JOB} failed in scaffold")

    def test_settings_of_another_version(self, cluster: Cluster) -> None:
        cluster.plan((1,))
        key = layout.run_file(RUN_ID)
        document = json.loads(cluster.storage.read(key))
        cluster.storage.write(key, json.dumps({**document, "of_tomorrow": 1}).encode())
        with pytest.raises(DefectError, match="take images of one version"):
            cluster.stage("scaffold")
        failure = json.loads(cluster.storage.read(f"{JOB}/records/scaffold.failed.json"))
        assert "cannot be read" in failure["error"]["message"]

    @pytest.mark.parametrize(
        "name", ["", "index_0000", "photorealistic/0", "photorealistic/index_0", "other/index_0000"]
    )
    def test_name_that_is_no_job(self, name: str) -> None:
        with pytest.raises(UsageError, match="job_id"):
            read_job_id(name)
