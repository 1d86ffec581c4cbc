from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders import (
    STAGES,
    SmallEngine,
    Workbench,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
    photo_sample,
    toy_rooms,
)

from worldexplorer import layout
from worldexplorer.decision import Action
from worldexplorer.errors import DefectError
from worldexplorer.layout import JobId
from worldexplorer.plan import PlanFile, make_plan, new_run_id
from worldexplorer.progress import silent


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path, samples=3)


def finish(bench: Workbench, index: int) -> None:
    runner = bench.runner(definitions=toy_rooms())
    for stage in STAGES:
        runner.run(bench.job(index), stage, silent)


def test_planning_writes_nothing(bench: Workbench) -> None:
    bench.plan()
    assert not bench.output.exists()


def test_what_is_new_and_what_is_finished(bench: Workbench) -> None:
    finish(bench, 1)
    plan = bench.plan()
    assert [one.job.index for one in plan.jobs] == [0, 1, 2]
    assert [one.is_finished for one in plan.jobs] == [False, True, False]
    assert [one.stages for one in plan.jobs] == [STAGES] * 3
    assert {decision.action for decision in plan.jobs[0].decisions} == {Action.RUN}
    assert {decision.action for decision in plan.jobs[1].decisions} == {Action.REUSE}


def test_a_result_that_is_not_published_is_not_finished(bench: Workbench) -> None:
    finish(bench, 0)
    record = bench.record("splat").model_copy(update={"published": False})
    bench.storage.write(layout.record(JobId(0, "photorealistic"), "splat"), record.to_json())
    (one, *_) = bench.plan().jobs
    assert not one.is_finished
    assert one.decisions[-1].reason == "finished before; publishing is not"


@pytest.mark.parametrize("begun", [False, True])
def test_one_bad_photo_is_its_own_jobs_problem(bench: Workbench, begun: bool) -> None:
    """Whether or not the job has a folder from an earlier run, which the plan looks into."""
    if begun:
        finish(bench, 1)
    (bench.data / "1.png").write_bytes((bench.data / "1.png").read_bytes()[:20])
    plan = bench.plan()
    assert [one.is_finished or bool(one.problem) for one in plan.jobs] == [False, not begun, False]
    one = plan.jobs[1]
    if begun:
        assert one.decisions[-1].action is Action.REFUSE
    text = one.problem or one.decisions[-1].reason
    assert "1.png" in text
    assert "damaged" in text


def test_a_photo_that_the_disk_does_not_give_is_its_own_jobs_problem(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from worldexplorer import plan as module
    from worldexplorer.photo import check_header

    def check(path: Path) -> object:
        if path.name == "1.png":
            raise OSError(errno.EIO, "Input/output error", str(path))
        return check_header(path)

    monkeypatch.setattr(module, "check_header", check)
    assert [bool(one.problem) for one in bench.plan().jobs] == [False, True, False]


def test_the_file_says_what_the_run_set_out_to_do(tmp_path: Path) -> None:
    missing = {"index": 1, "photorealistic": {"path": "1.png"}, "stylized": {"path": "s.png"}}
    bench = Workbench(tmp_path, [photo_sample(0), missing])
    (bench.data / "s.png").unlink()
    run = bench.config(only_stages=(1, 2))
    plan = make_plan(bench.storage, run, bench.jobs(), SmallEngine(), "this-run", toy_rooms())
    document = json.loads(plan.file.to_json())
    assert document["run_id"] == "this-run"
    assert document["only_stages"] == [1, 2]
    assert document["engine_label"] == "tiny test engine"
    assert document["dataset_dir"] == str(bench.data)
    assert document["jobs"] == [
        {"index": index, "variant": "photorealistic", "stages": ["scaffold", "trajectory"]} for index in (0, 1)
    ]
    (skipped,) = document["skipped"]
    assert (skipped["index"], skipped["variant"]) == (1, "stylized")
    assert "s.png" in skipped["reason"]
    assert PlanFile.from_json(plan.file.to_json(), where="x") == plan.file


@pytest.mark.parametrize("data", [b"", b"{}", b'{"half'])
def test_half_a_file_is_refused(data: bytes) -> None:
    with pytest.raises(DefectError, match="a plan cannot be read") as caught:
        PlanFile.from_json(data, where="runs/x/plan.json")
    assert caught.value.where == "runs/x/plan.json"


def test_a_file_of_another_schema_is_refused(bench: Workbench) -> None:
    document = json.loads(bench.plan().file.to_json()) | {"schema_version": 9}
    with pytest.raises(DefectError, match="schema 9"):
        PlanFile.from_json(json.dumps(document).encode(), where="x")


def test_names_of_runs_sort_by_time_and_differ() -> None:
    names = [new_run_id() for _ in range(20)]
    assert len(set(names)) == 20
    assert [name[:16] for name in names] == sorted(name[:16] for name in names)
