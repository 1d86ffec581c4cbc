"""The planning pod: what it writes, what it hands on, what it refuses and when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import (
    STAGES,
    SmallEngine,
    Workbench,
    flip_byte,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
    photo_sample,
    write_views,
)
from pod.pods import JOB, RUN_ID, Cluster, Done
from text_engine import text_engine

from worldexplorer import layout
from worldexplorer.errors import InfrastructureError, UsageError
from worldexplorer.plan import PlanFile
from worldexplorer.pod import plan as module
from worldexplorer.pod.abort import aborted, raise_abort
from worldexplorer.pod.plan import MOST_JOBS, RECORD_NAME, read_plan_failure, read_stages
from worldexplorer.records import StageRecord

pytestmark = pytest.mark.slow


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path, samples=3)


@pytest.fixture
def cluster(bench: Workbench, tmp_path: Path) -> Cluster:
    return Cluster(bench, tmp_path)


def spoil(bench: Workbench, index: int) -> None:
    (bench.data / f"{index}.png").write_bytes(b"no picture")


def jobs_of(done: Done) -> list[str]:
    return [one["job_id"] for one in done.parameters["jobs"]]


def written(cluster: Cluster) -> list[str]:
    folder = cluster.bench.output / "runs" / cluster.run_id
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


class TestNewRun:
    def test_jobs_are_handed_on(self, cluster: Cluster) -> None:
        done = cluster.plan()
        assert done.parameters == {
            "jobs": [{"job_id": f"photorealistic/index_{index:04d}", "upstream_uri": ""} for index in range(3)],
            "pending": "yes",
        }
        assert done.metadata("report") == {"jobs": 3, "scheduled": 3, "failed": 0}
        assert f"# Plan of run {RUN_ID}" in done.text("report")
        assert written(cluster) == ["plan.json", "run.json"]

    def test_files_of_the_run_say_what_the_others_need(self, cluster: Cluster) -> None:
        cluster.plan((1, 2), seed=7, indices="0 2")
        plan = PlanFile.from_json(cluster.bench.storage.read(layout.plan(RUN_ID)), where="")
        assert [job.id.index for job in plan.jobs] == [0, 2]
        assert [job.stages for job in plan.jobs] == [("scaffold", "trajectory")] * 2
        run_file = cluster.run_file()
        assert run_file.config.batch.seed == 7
        assert run_file.config.batch.confine_paths is True
        assert list(run_file.jobs) == [JOB, "photorealistic/index_0002"]
        assert run_file.to_run == dict.fromkeys(run_file.jobs, ("scaffold", "trajectory"))
        assert run_file.job(JOB) == cluster.bench.job(0)

    def test_plan_that_is_made_again_says_the_same(self, cluster: Cluster) -> None:
        """Its pod was lost after the first."""
        first, run_file = cluster.plan(), cluster.run_file()
        again = cluster.plan()
        assert again.parameters == first.parameters
        assert cluster.run_file().model_copy(update={"began_at": run_file.began_at}) == run_file
        assert cluster.run_file().began_at > run_file.began_at

    def test_plan_that_is_made_again_forgets_what_stopped_the_first(self, cluster: Cluster) -> None:
        spoil(cluster.bench, 0)
        with pytest.raises(UsageError):
            cluster.plan()
        (cluster.bench.data / "0.png").unlink()
        Workbench(cluster.bench.data.parent, samples=3)
        assert len(jobs_of(cluster.plan())) == 3
        assert aborted(cluster.bench.storage, RUN_ID) == ""
        assert read_plan_failure(cluster.bench.storage, RUN_ID) == ""


class TestFinishedJobs:
    def test_nothing_to_do(self, cluster: Cluster) -> None:
        assert cluster.run((1,))["success"] == 3
        done = cluster.again("second").plan((1,))
        assert done.parameters == {"jobs": [], "pending": "no"}
        assert done.text("report").count("finished before") == 3

    def test_only_the_unfinished_are_scheduled(self, cluster: Cluster) -> None:
        assert cluster.run(indices="1")["success"] == 1
        second = cluster.again("second")
        assert jobs_of(second.plan()) == [JOB, "photorealistic/index_0002"]
        assert list(second.run_file().jobs) == [JOB, "photorealistic/index_0002"]
        plan = PlanFile.from_json(second.bench.storage.read(layout.plan("second")), where="")
        assert len(plan.jobs) == 3

    def test_force_schedules_all(self, cluster: Cluster) -> None:
        cluster.run(indices="1")
        second = cluster.again("second")
        assert len(jobs_of(second.plan(force=True))) == 3
        assert second.run_file().to_run["photorealistic/index_0001"] == STAGES

    def test_damage_is_healed_by_the_stage_it_is_in(self, cluster: Cluster) -> None:
        cluster.run(indices="0")
        flip_byte(cluster.bench.job_path(layout.SPLAT_PLY))
        second = cluster.again("second")
        assert jobs_of(second.plan(indices="0")) == [JOB]
        assert second.run_file().to_run == {JOB: ("splat",)}


class TestRefusals:
    def test_no_jobs(self, cluster: Cluster) -> None:
        for path in cluster.bench.data.glob("*.png"):
            path.unlink()
        with pytest.raises(UsageError, match="No jobs to run"):
            cluster.plan()
        assert "No jobs to run" in read_plan_failure(cluster.bench.storage, RUN_ID)
        assert written(cluster) == ["plan.failed.json"]

    def test_more_jobs_than_a_run_takes(self, tmp_path: Path) -> None:
        samples = [{"index": index, "photorealistic": {"path": "0.png"}} for index in range(2 * MOST_JOBS)]
        cluster = Cluster(Workbench(tmp_path, samples), tmp_path)
        with pytest.raises(UsageError, match=f"the run has 200 jobs to do, and one run takes at most {MOST_JOBS}") as e:
            cluster.plan()
        assert "python -m pipelines submit" in e.value.remedy
        assert "the first up to 99" in e.value.remedy
        assert written(cluster) == ["plan.failed.json"]
        assert len(jobs_of(cluster.again("second").plan(indices="0-99"))) == MOST_JOBS

    def test_finished_jobs_do_not_count_towards_the_most(
        self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MOST_JOBS", 2)
        cluster.run((1,), indices="0")
        assert len(jobs_of(cluster.again("second").plan((1,)))) == 2

    def test_nobody_can_pick_in_a_cluster(self, cluster: Cluster) -> None:
        with pytest.raises(UsageError, match=r"scaffold_mode is manual for 3 jobs.*nobody can pick views"):
            cluster.plan(scaffold_method="scaffold_gen", default_theme="attic")
        assert "or run stage 1 on a machine" in read_plan_failure(cluster.bench.storage, RUN_ID)

    def test_text_alone_becomes_a_world_in_a_cluster(self, tmp_path: Path) -> None:
        cluster = Cluster(
            Workbench(tmp_path, [{"index": 0, "theme": "attic"}, {"index": 1}]), tmp_path, load=text_engine
        )
        settings = {"scaffold_method": "scaffold_gen", "scaffold_mode": "fast", "continue_on_error": True}
        summary = cluster.run(**settings)
        assert [(one["variant"], one["status"]) for one in summary["results"]] == [
            ("default", "success"),
            ("default", "failed"),
        ]
        assert summary["results"][1]["reason"].startswith("no prompts")

    def test_nor_for_one_sample_that_says_so(self, tmp_path: Path) -> None:
        samples = [photo_sample(0), photo_sample(1, scaffold={"mode": "manual"})]
        cluster = Cluster(Workbench(tmp_path, samples), tmp_path)
        settings = {"scaffold_method": "scaffold_gen", "scaffold_mode": "automatic", "default_theme": "attic"}
        with pytest.raises(UsageError, match=r"manual for 1 jobs \(the first: photorealistic/index_0001\)"):
            cluster.plan(**settings)
        assert jobs_of(cluster.plan(**settings, indices="0")) == [JOB]

    @pytest.mark.parametrize("stages", ["", "0", "4", "1 3", "one", "1,2"])
    def test_stages_with_a_gap(self, stages: str) -> None:
        with pytest.raises(UsageError, match="take stages without a gap"):
            read_stages(stages)

    def test_stages(self) -> None:
        assert [read_stages(text) for text in ("1 2 3", "3 2", "2", " 1  2 1")] == [(1, 2, 3), (2, 3), (2,), (1, 2)]

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"engine": "preveiw"}, "perhaps preview was meant"),
            ({"indices": "7"}, "no such index: 7"),
            ({"dataset_dir": "/no/such/folder"}, "Dataset directory not found"),
            ({"trajectory_order": "sideways"}, "sideways"),
        ],
    )
    def test_wrong_settings(self, cluster: Cluster, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            cluster.plan(**settings)
        assert message in read_plan_failure(cluster.bench.storage, RUN_ID)

    def test_paths_that_lead_out_of_the_data_set(self, tmp_path: Path) -> None:
        sample = {"index": 0, "photorealistic": {"path": "../outside.png"}}
        cluster = Cluster(Workbench(tmp_path, [sample]), tmp_path)
        with pytest.raises(UsageError, match="outside"):
            cluster.plan()


class TestFailedPlans:
    def test_any_error_is_recorded(self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        def break_down(*arguments: Any) -> None:
            raise RuntimeError("the ground gave way")

        monkeypatch.setattr(module, "prepare_batch", break_down)
        with pytest.raises(RuntimeError, match="the ground gave way"):
            cluster.plan()
        assert read_plan_failure(cluster.bench.storage, RUN_ID) == "RuntimeError: the ground gave way"

    def test_error_counts_for_more_than_that_it_cannot_be_recorded(
        self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def refuse(self: object, key: str, data: bytes) -> None:
            raise InfrastructureError("the bucket is gone")

        monkeypatch.setattr(type(cluster.bench.storage), "write", refuse)
        with pytest.raises(UsageError, match="no such index"):
            cluster.plan(indices="7")
        assert "could not be recorded: the bucket is gone" in caplog.text

    def test_plan_without_a_failure_says_nothing(self, cluster: Cluster) -> None:
        assert read_plan_failure(cluster.bench.storage, RUN_ID) == ""

    @pytest.mark.parametrize("data", [b"", b"{", b"{}", b"[]", b"7"])
    def test_failure_that_cannot_be_read_is_one(self, cluster: Cluster, data: bytes) -> None:
        cluster.bench.storage.write(layout.plan_failure(RUN_ID), data)
        assert "look at the log of the run's plan step" in read_plan_failure(cluster.bench.storage, RUN_ID)

    def test_access_tokens_are_not_recorded(self, cluster: Cluster) -> None:
        with pytest.raises(UsageError):
            cluster.plan(dataset_dir="/no/hf_0123456789abcdef")
        text = read_plan_failure(cluster.bench.storage, RUN_ID)
        assert "/no/[redacted]" in text and "hf_0123" not in text


class TestJobsThatCannotRun:
    def test_with_continue_on_error_the_others_run(self, cluster: Cluster) -> None:
        spoil(cluster.bench, 1)
        done = cluster.plan(continue_on_error=True)
        assert jobs_of(done) == [JOB, "photorealistic/index_0002"]
        assert done.metadata("report") == {"jobs": 3, "scheduled": 2, "failed": 1}
        assert "cannot run: " in done.text("report")
        failure = cluster.bench.failure("scaffold", index=1)
        assert failure.run_id == RUN_ID
        assert failure.error is not None and failure.error.error_class == "user"
        assert aborted(cluster.bench.storage, RUN_ID) == ""

    def test_without_it_nothing_runs(self, cluster: Cluster) -> None:
        spoil(cluster.bench, 1)
        with pytest.raises(
            UsageError, match=r"1 of 3 jobs cannot run, and nothing was scheduled.*index_0001"
        ) as caught:
            cluster.plan()
        assert "continue_on_error" in caught.value.remedy
        assert aborted(cluster.bench.storage, RUN_ID) == (
            "photorealistic/index_0001 cannot run, and continue_on_error is not set"
        )
        assert written(cluster) == ["ABORT", "plan.failed.json", "plan.json", "run.json"]

    def test_all_of_them(self, cluster: Cluster) -> None:
        for index in range(3):
            spoil(cluster.bench, index)
        assert cluster.plan(continue_on_error=True).parameters == {"jobs": [], "pending": "no"}

    def test_stage_2_needs_a_scaffold(self, cluster: Cluster) -> None:
        cluster.run((1,), indices="0")
        second = cluster.again("second")
        done = second.plan((2, 3), continue_on_error=True)
        assert jobs_of(done) == [JOB]
        failure = cluster.bench.failure("trajectory", index=1)
        assert failure.error is not None
        assert failure.error.message == "stage 2 requires stage 1, and there is no finished scaffold"
        assert failure.error.remedy == "run stage 1 first, or leave --only_stages out"

    def test_other_settings_than_a_result_was_made_with(self, cluster: Cluster) -> None:
        cluster.run((1,), indices="0")
        second = cluster.again("second")
        done = second.plan((1,), seed=7, continue_on_error=True)
        assert jobs_of(done) == ["photorealistic/index_0001", "photorealistic/index_0002"]
        failure = cluster.bench.failure("scaffold")
        assert failure.error is not None and "made with other settings" in failure.error.message


class TestLaterStages:
    def test_each_job_starts_from_the_record_that_is_there(self, cluster: Cluster) -> None:
        cluster.run((1,))
        second = cluster.again("second")
        for planned in second.plan((2, 3)).parameters["jobs"]:
            folder = Path(planned["upstream_uri"])
            assert folder == second.bench.output / "runs/second/inputs" / planned["job_id"]
            index = int(planned["job_id"][-4:])
            copy = StageRecord.from_json((folder / RECORD_NAME).read_bytes(), where="")
            assert copy == second.bench.record("scaffold", index)

    def test_whole_run_goes_on_from_there(self, cluster: Cluster) -> None:
        cluster.run((1,), indices="1")
        summary = cluster.again("second").run((2, 3), indices="1")
        assert (summary["success"], summary["only_stages"]) == (1, [2, 3])
        assert summary["results"][0]["stages_completed"] == [1, 2, 3]

    def test_scaffolds_of_the_data_set_are_taken_in(self, tmp_path: Path) -> None:
        bench = Workbench(tmp_path, [{"index": 0, "scaffold": {"scaffold_path": "views"}}])
        write_views(bench.data / "views")
        cluster = Cluster(bench, tmp_path)
        (planned,) = cluster.plan((2, 3)).parameters["jobs"]
        assert planned["job_id"] == "default/index_0000"
        taken = bench.record("scaffold", variant="default")
        assert (taken.run_id, taken.published) == (RUN_ID, True)
        cluster.job(planned, (2, 3))
        cluster.close()
        assert cluster.summary()["success"] == 1

    def test_so_is_one_that_cannot_be_taken_in(self, tmp_path: Path) -> None:
        bench = Workbench(tmp_path, [{"index": 0, "scaffold": {"scaffold_path": "views"}}, photo_sample(1)])
        write_views(bench.data / "views")
        (bench.data / "views" / "003.png").write_bytes(b"no picture")
        cluster = Cluster(bench, tmp_path)
        done = cluster.plan((2,), continue_on_error=True)
        assert jobs_of(done) == []
        failure = bench.failure("scaffold", variant="default")
        assert failure.error is not None and failure.error.error_class == "user"
        assert bench.failure("trajectory", index=1).run_id == RUN_ID

    def test_with_stage_1_its_own_pod_takes_it_in(self, tmp_path: Path) -> None:
        bench = Workbench(tmp_path, [{"index": 0, "scaffold": {"scaffold_path": "views"}}])
        write_views(bench.data / "views")
        cluster = Cluster(bench, tmp_path)
        assert cluster.plan().parameters["jobs"] == [{"job_id": "default/index_0000", "upstream_uri": ""}]
        assert not (bench.output / "default").exists()


def test_engine_that_cannot_run_in_this_pod_may_plan(bench: Workbench, tmp_path: Path) -> None:
    """The pod that plans has no GPU."""

    class Lacking(SmallEngine):
        def check(self, *arguments: Any) -> list[str]:
            return ["no GPU"]

    assert len(jobs_of(Cluster(bench, tmp_path, load=lambda batch: Lacking()).plan())) == 3


def test_abort_of_another_run_stops_nothing(cluster: Cluster) -> None:
    raise_abort(cluster.bench.storage, "another", "it failed")
    assert len(jobs_of(cluster.plan())) == 3
    assert aborted(cluster.bench.storage, "another") == "it failed"
