"""The summary is what the plans and records say, whoever writes it last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import (
    STAGES,
    SmallEngine,
    Workbench,
    canonical_tree,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
    photo_sample,
    together,
    toy_rooms,
)

from worldexplorer import __version__, layout
from worldexplorer.context import Outcome, StageContext
from worldexplorer.errors import DefectError, UserError
from worldexplorer.layout import JobId
from worldexplorer.plan import NotRun
from worldexplorer.pod.pages import stage_page
from worldexplorer.summary import build_summary, read_plans, write_summary


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path, samples=4)


def failing_at(*indices: int) -> Any:
    def produce(context: StageContext[Any]) -> Outcome:
        if context.job.index in indices:
            raise UserError("bad luck", where="somewhere", remedy="try another")
        from builders import toy_room

        return toy_room(context, "trajectory")

    return toy_rooms(trajectory=produce)


def entry(summary: dict[str, Any], index: int) -> dict[str, Any]:
    return next(one for one in summary["results"] if one["index"] == index)


def planned(bench: Workbench, **options: Any) -> str:
    """The name of a run that has made its plan and done nothing yet."""
    plan = bench.plan(definitions=toy_rooms(), **options)
    bench.storage.create(layout.plan(plan.run_id), plan.file.to_json())
    return plan.run_id


def summarise(bench: Workbench, run_id: str, *, interrupted: bool = False) -> dict[str, Any]:
    return write_summary(bench.storage, run_id, elapsed_seconds=1.23456, interrupted=interrupted)


def test_every_field(tmp_path: Path) -> None:
    """On the real rooms, whose outputs the guide names."""
    bench = Workbench(tmp_path, [photo_sample(3, stylized={"path": "missing.png"})])
    (bench.data / "missing.png").unlink()
    summary = bench.batch()
    assert json.loads(bench.storage.read(layout.SUMMARY)) == summary
    (result,) = summary.pop("results")
    versions, run_id = summary.pop("versions"), summary.pop("run_id")
    (skipped,) = summary.pop("skipped_variants")
    assert (skipped["index"], skipped["variant"]) == (3, "stylized")
    assert "python" in versions
    assert bench.storage.stat(layout.plan(run_id)) is not None
    assert summary == {
        "schema_version": 1,
        "total": 1,
        "success": 1,
        "failed": 0,
        "skipped": 0,
        "waiting": 0,
        "failed_indices": "",
        "elapsed_seconds": 1.0,
        "only_stages": [1, 2, 3],
        "scaffold_method": "single_image",
        "engine": "preview",
        "engine_label": "tiny test engine",
        "interrupted": False,
        "dataset_dir": str(bench.data),
        "output_base": str(bench.output),
        "code_version": __version__,
        "warnings": [],
    }
    folder = "photorealistic/index_0003"
    assert set(result.pop("seconds")) == set(result.pop("peak_memory_mib")) == set(STAGES)
    metrics = result.pop("metrics")
    assert metrics["gaussians"] == 16
    assert metrics["frames"] == 16
    assert metrics["photo_coverage"] == 1.0
    assert result == {
        "index": 3,
        "variant": "photorealistic",
        "status": "success",
        "reason": "",
        "quality": "ok",
        "stages_completed": [1, 2, 3],
        "scaffold_path": f"{folder}/scaffold/final",
        "scene_path": f"{folder}/scenes/index_0003_3.0/img2trajvid",
        "export_path": f"{folder}/splat/splat.ply",
        "contact_sheet": f"{folder}/contact_sheet.png",
        "engine": "preview",
        "run_id": run_id,
        "notes": [],
        "shortcuts": {},
        "retries": 0,
        "error": None,
    }
    for name in ("scaffold_path", "scene_path", "export_path", "contact_sheet"):
        assert (bench.output / result[name]).exists()


def test_failures_are_counted_and_ready_to_paste(bench: Workbench) -> None:
    summary = bench.batch(definitions=failing_at(0, 1, 3))
    assert [summary[status] for status in ("total", "success", "failed", "skipped")] == [4, 1, 3, 0]
    assert summary["failed_indices"] == "0-1 3"
    failed = entry(summary, 3)
    assert failed["status"] == "failed"
    assert failed["reason"] == "bad luck"
    assert failed["stages_completed"] == [1]
    assert failed["error"] == {
        "stage": "trajectory",
        "class": "user",
        "message": "bad luck",
        "where": "somewhere",
        "remedy": "try another",
    }
    assert failed["scaffold_path"] is not None
    assert failed["export_path"] is None


class Hurried(SmallEngine):
    def describe(self) -> dict[str, Any]:
        return {"name": "tiny", "shortcuts": {"steps": 25, "guidance_interval": (0.3, 20.0)}}


def test_shortcuts_are_told(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    (result,) = bench.batch(engine=Hurried(), definitions=toy_rooms())["results"]
    assert result["shortcuts"] == {"steps": 25, "guidance_interval": [0.3, 20.0]}
    record = bench.record("scaffold")
    assert record.shortcuts == result["shortcuts"]
    page = stage_page(bench.storage, JobId(0, "photorealistic"), record)
    assert "<td>shortcut guidance_interval</td><td>[0.3, 20.0]</td>" in page


def test_quality_notes_and_retries_are_those_of_all_stages(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    tries: list[int] = []

    def shaky(context: StageContext[Any]) -> Outcome:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("reset")
        (context.out / "splat").mkdir()
        (context.out / "splat" / "x").write_text("x")
        return Outcome(quality="degraded", notes=("shaky",), outputs={"export_path": "splat/x"})

    (result,) = bench.batch(definitions=toy_rooms(splat=shaky))["results"]
    assert (result["quality"], result["notes"], result["retries"]) == ("degraded", ["shaky"], 1)
    assert result["status"] == "success"


def test_a_success_wipes_out_the_failure(bench: Workbench) -> None:
    bench.batch(definitions=failing_at(2))
    summary = bench.batch(definitions=toy_rooms())
    assert (summary["success"], summary["failed_indices"]) == (4, "")
    assert entry(summary, 2)["error"] is None


def test_a_failure_of_an_earlier_run_is_not_held_against_a_later_one(bench: Workbench) -> None:
    bench.batch(definitions=failing_at(2))
    run_id = planned(bench)
    result = entry(summarise(bench, run_id), 2)
    assert (result["status"], result["error"]) == ("skipped", None)
    assert "no record of trajectory" in result["reason"]


class TestSeveralRuns:
    def test_index_ranges_make_one_whole(self, bench: Workbench) -> None:
        first = bench.batch(definitions=failing_at(1), indices=range(2))
        second = bench.batch(definitions=toy_rooms(), indices=range(2, 4))
        assert (first["total"], second["total"]) == (2, 4)
        assert (second["success"], second["failed"], second["failed_indices"]) == (3, 1, "1")
        assert second["run_id"] != first["run_id"]
        assert entry(second, 1)["run_id"] == first["run_id"]

    def test_the_last_to_write_leaves_the_whole_truth(self, bench: Workbench) -> None:
        run_ids = [planned(bench, indices={index}) for index in range(4)]

        def work(number: int) -> dict[str, Any]:
            runner = bench.runner(definitions=toy_rooms(), run_id=run_ids[number])
            for stage in STAGES:
                runner.run(bench.job(number), stage, lambda done, total, what: None)
            return summarise(bench, run_ids[number])

        summaries = together(work, 4)
        assert all(isinstance(summary, dict) for summary in summaries), summaries
        summary = json.loads(bench.storage.read(layout.SUMMARY))
        assert (summary["total"], summary["success"]) == (4, 4)

    def test_a_run_under_way_is_told_apart(self, bench: Workbench) -> None:
        """Started, or killed without a word: nobody can tell from outside, and the summary says so."""
        under_way = planned(bench, indices={2, 3})
        summary = bench.batch(definitions=toy_rooms(), indices={0, 1})
        assert (summary["success"], summary["skipped"]) == (2, 2)
        result = entry(summary, 2)
        assert result["status"] == "skipped"
        assert under_way in result["reason"]
        assert "still at work, or was killed" in result["reason"]

    def test_jobs_that_were_not_reached(self, bench: Workbench) -> None:
        plan = bench.plan(definitions=toy_rooms())
        not_run = (NotRun(index=3, variant="photorealistic", reason="an earlier job failed"),)
        file = plan.file.model_copy(update={"not_run": not_run})
        bench.storage.create(layout.plan(plan.run_id), file.to_json())
        result = entry(summarise(bench, plan.run_id), 3)
        assert (result["status"], result["reason"]) == ("skipped", "an earlier job failed")

    def test_a_job_that_was_not_reached_but_done_by_another_run_is_done(self, bench: Workbench) -> None:
        other = planned(bench, indices={3})
        plan = bench.plan(definitions=toy_rooms())
        not_run = (NotRun(index=3, variant="photorealistic", reason="an earlier job failed"),)
        file = plan.file.model_copy(update={"not_run": not_run})
        bench.storage.create(layout.plan(plan.run_id), file.to_json())
        runner = bench.runner(definitions=toy_rooms(), run_id=other)
        for stage in STAGES:
            runner.run(bench.job(3), stage, lambda done, total, what: None)
        assert entry(summarise(bench, plan.run_id), 3)["status"] == "success"

    def test_a_job_that_was_not_reached_is_not_done_by_what_was_there_before(self, bench: Workbench) -> None:
        """A forced run that ends before it gets there has not made it again."""
        bench.batch(definitions=toy_rooms())
        plan = bench.plan(bench.config(force=True), definitions=toy_rooms())
        not_run = (NotRun(index=3, variant="photorealistic", reason="interrupted"),)
        file = plan.file.model_copy(update={"not_run": not_run})
        bench.storage.create(layout.plan(plan.run_id), file.to_json())
        assert entry(summarise(bench, plan.run_id), 3)["status"] == "skipped"

    def test_time_and_interruption_are_this_runs(self, bench: Workbench) -> None:
        bench.batch(definitions=toy_rooms(), indices={0})
        summary = summarise(bench, planned(bench, indices={1}), interrupted=True)
        assert (summary["elapsed_seconds"], summary["interrupted"]) == (1.235, True)


def test_it_can_be_written_again_from_the_records_alone(bench: Workbench) -> None:
    summary = bench.batch(definitions=failing_at(1))
    before = canonical_tree(bench.output)
    bench.storage.delete(layout.SUMMARY)
    summarise(bench, summary["run_id"])
    assert canonical_tree(bench.output) == before


def test_a_run_without_a_plan_is_refused(bench: Workbench) -> None:
    with pytest.raises(DefectError, match="no plan"):
        build_summary(bench.storage, "never", elapsed_seconds=0, interrupted=False)


class TestDamage:
    """One broken file is one job's trouble, not the batch's."""

    def test_a_record_that_cannot_be_read_is_a_failed_job(self, bench: Workbench) -> None:
        run_id = bench.batch(definitions=toy_rooms())["run_id"]
        key = layout.record(JobId(2, "photorealistic"), "trajectory")
        bench.storage.write(key, b'{"half')
        summary = summarise(bench, run_id)
        assert (summary["success"], summary["failed_indices"]) == (3, "2")
        result = entry(summary, 2)
        assert result["error"]["where"] == key
        assert result["error"]["class"] == "defect"
        assert result["stages_completed"] == [1]

    def test_a_failure_that_cannot_be_read_counts_as_none(self, bench: Workbench) -> None:
        run_id = bench.batch(definitions=toy_rooms())["run_id"]
        bench.storage.write(layout.failed_record(JobId(2, "photorealistic"), "trajectory"), b"")
        assert summarise(bench, run_id)["success"] == 4

    def test_a_plan_that_cannot_be_read_is_left_out_with_a_warning(
        self, bench: Workbench, caplog: pytest.LogCaptureFixture
    ) -> None:
        broken = planned(bench, indices={3})
        bench.storage.write(layout.plan(broken), b"{}")
        bench.storage.write("runs/x/ABORT", b"")
        summary = bench.batch(definitions=toy_rooms(), indices={0})
        assert summary["total"] == 1
        assert broken in caplog.text
        assert [plan.run_id for plan in read_plans(bench.storage)] == [summary["run_id"]]
