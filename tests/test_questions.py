"""A stage that asks a person: what is shown and kept, what the answer does, and what the batch says of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import (
    Workbench,
    canonical_tree,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
    photo_sample,
    run_jobs_here,
    together,
)
from faulty_storage import CHANGING, Crash, Moment, WatchedStorage, crash_at, crash_moments, note
from gcs_emulator import gcs_emulator  # noqa: F401 (a fixture)
from remote_storage import RemoteStorage
from text_engine import Stopped, TextEngine, killed_in_the_middle, text_engine

from worldexplorer import batch as module
from worldexplorer import layout
from worldexplorer.batch import EXIT_FAILED, EXIT_SUCCESS, EXIT_WAITING, BatchOutcome, prepare_batch, run_batch
from worldexplorer.cli import batch as command
from worldexplorer.cli import main
from worldexplorer.cli.summary import rebuild_summary
from worldexplorer.config import RunConfig
from worldexplorer.decision import Action
from worldexplorer.events import Event, JobFinished
from worldexplorer.layout import JobId
from worldexplorer.progress import silent
from worldexplorer.records import StageRecord
from worldexplorer.scaffold.picks import PICKS_FILE
from worldexplorer.scaffold.stage import SCAFFOLD
from worldexplorer.stage import StageFailedError, StageWaitingError
from worldexplorer.storage import open_storage
from worldexplorer.worker import run_jobs

pytestmark = pytest.mark.slow

JOB = JobId(0, "photorealistic")
CORNERS = ("001", "003", "005", "007")
PICKS = {"001": "g2_s1", "003": "g7_s0", "005": "g7_s1", "007": "g2_s0"}
FEW = {"corner_guidances": (7.0, 2.0), "corner_seeds": 2}
FORM = f"{layout.SCAFFOLD_PICKS}/{PICKS_FILE}"


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path, [photo_sample(0, theme="castle")])


def manual(bench: Workbench, **settings: Any) -> RunConfig:
    known = {"scaffold_method": "scaffold_gen", "scaffold_mode": "manual", "only_stages": (1,), **FEW, **settings}
    return bench.config(**known)


def run(bench: Workbench, engine: TextEngine | None = None, storage: Any = None, **settings: Any) -> StageRecord:
    runner = bench.runner(manual(bench, **settings), engine=engine or TextEngine(), storage=storage)
    return runner.run(bench.job(), "scaffold", silent)


def ask(bench: Workbench, engine: TextEngine | None = None, storage: Any = None, **settings: Any) -> StageRecord:
    with pytest.raises(StageWaitingError) as caught:
        run(bench, engine, storage, **settings)
    return caught.value.record


def pick(bench: Workbench, picks: Any = None, index: int = 0) -> None:
    """Write picks into the form, as a person does."""
    path = bench.job_path(FORM, index)
    form = json.loads(path.read_text())
    form["picks"] |= PICKS if picks is None else picks
    path.write_text(json.dumps(form))


def refusal(bench: Workbench, **settings: Any) -> Any:
    with pytest.raises(StageFailedError) as caught:
        run(bench, **settings)
    return caught.value.record.error


def waiting(bench: Workbench) -> StageRecord:
    key = layout.waiting_record(JOB, "scaffold")
    return StageRecord.from_json(bench.storage.read(key), where=key)


class TestAsking:
    def test_what_is_shown(self, bench: Workbench) -> None:
        ask(bench)
        shown = bench.job_path(layout.SCAFFOLD_PICKS)
        found = {path.relative_to(shown).as_posix() for path in shown.rglob("*") if path.is_file()}
        names = ("g7_s0", "g7_s1", "g2_s0", "g2_s1")
        expected = {f"{corner}/{name}.png" for corner in CORNERS for name in names}
        assert found == expected | {f"{corner}_sheet.png" for corner in CORNERS} | {PICKS_FILE}
        assert json.loads((shown / PICKS_FILE).read_text())["picks"] == dict.fromkeys(CORNERS)

    def test_the_record_says_what_to_do_and_where(self, bench: Workbench) -> None:
        record = ask(bench)
        assert record == waiting(bench)
        assert record.status == "waiting"
        assert record.outputs == {"answer": FORM}
        (text,) = record.notes
        assert "4 variants of each of 4 corner views" in text
        assert str(bench.job_path(FORM)) in text
        assert "run the same command again" in text
        assert bench.storage.stat(layout.record(JOB, "scaffold")) is None
        assert bench.storage.stat(layout.failed_record(JOB, "scaffold")) is None

    def test_nothing_is_made_twice_while_nobody_picks(self, bench: Workbench) -> None:
        ask(bench)
        engine = TextEngine()
        ask(bench, engine)
        assert engine.made == []
        assert engine.models == []

    def test_what_a_person_writes_is_never_written_over(self, bench: Workbench) -> None:
        ask(bench)
        pick(bench, {"001": "g7_s1"})
        before = bench.job_path(FORM).read_bytes()
        record = ask(bench)
        assert bench.job_path(FORM).read_bytes() == before
        assert "3 of 4 corner views have no pick yet" in record.notes[0]

    def test_what_is_lost_of_the_shown_comes_back(self, bench: Workbench) -> None:
        ask(bench)
        shutil.rmtree(bench.job_path(layout.SCAFFOLD_PICKS))
        engine = TextEngine()
        ask(bench, engine)
        assert engine.made == []
        assert bench.job_path(f"{layout.SCAFFOLD_PICKS}/005/g7_s1.png").exists()
        pick(bench)
        assert run(bench).status == "committed"

    def test_an_earlier_failure_is_forgotten(self, bench: Workbench) -> None:
        ask(bench)
        bench.job_path(FORM).write_text("{")
        refusal(bench)
        assert bench.storage.stat(layout.failed_record(JOB, "scaffold")) is not None
        bench.job_path(FORM).unlink()
        ask(bench)
        assert bench.storage.stat(layout.failed_record(JOB, "scaffold")) is None


class TestAnswer:
    def test_the_picks_become_the_views(self, bench: Workbench) -> None:
        ask(bench)
        shown = {
            corner: bench.job_path(f"{layout.SCAFFOLD_PICKS}/{corner}/{PICKS[corner]}.png").read_bytes()
            for corner in CORNERS
        }
        pick(bench)
        engine = TextEngine()
        record = run(bench, engine)
        assert engine.made == []
        assert record.status == "committed"
        assert record.metrics["corner_variants"] == PICKS
        for corner, data in shown.items():
            assert bench.job_path(f"{layout.SCAFFOLD_FINAL}/{corner}.png").read_bytes() == data
        table = json.loads(bench.job_path(layout.SCAFFOLD_CORNERS).read_text())
        assert {corner: entry["chosen"] for corner, entry in table["corners"].items()} == PICKS

    def test_nothing_of_the_question_stays(self, bench: Workbench) -> None:
        ask(bench)
        pick(bench)
        run(bench)
        assert bench.storage.stat(layout.waiting_record(JOB, "scaffold")) is None
        assert not bench.job_path(layout.SCAFFOLD_PICKS).exists()
        assert bench.leftovers() == []

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("{", "it is no JSON"),
            ('{"picks": {"001": "g9_s9"}}', "001 is 'g9_s9', which is no variant"),
            ('{"variants": "0000", "picks": {}}', "other variants (0000)"),
        ],
    )
    def test_a_broken_file_is_one_error_and_costs_nothing(self, bench: Workbench, text: str, problem: str) -> None:
        ask(bench)
        form = bench.job_path(FORM).read_text()
        bench.job_path(FORM).write_text(text)
        error = refusal(bench)
        assert error.error_class.value == "user"
        assert problem in error.message
        assert error.where == str(bench.job_path(FORM))
        assert error.remedy
        assert bench.job_path(FORM).read_text() == text
        bench.job_path(FORM).write_text(form)
        pick(bench)
        engine = TextEngine()
        assert run(bench, engine).status == "committed"
        assert engine.made == []

    def test_picks_lead_to_the_views_even_where_the_work_is_lost(self, bench: Workbench) -> None:
        ask(bench)
        pick(bench)
        shutil.rmtree(bench.job_path(".attempts"))
        engine = TextEngine()
        assert run(bench, engine).metrics["corner_variants"] == PICKS
        assert len(engine.made) == 3 + 16

    def test_picks_are_read_before_anything_is_made(self, bench: Workbench) -> None:
        ask(bench)
        shutil.rmtree(bench.job_path(".attempts"))
        bench.job_path(FORM).write_text("{")
        engine = TextEngine()
        with pytest.raises(StageFailedError):
            run(bench, engine)
        assert engine.made == []


class TestOtherSettings:
    def test_are_refused_with_both_values(self, bench: Workbench) -> None:
        ask(bench)
        pick(bench)
        error = refusal(bench, seed=1)
        assert "waits for a person, with other settings" in error.message
        assert "seed: 0 -> 1" in error.message
        assert "--force" in error.remedy
        assert json.loads(bench.job_path(FORM).read_text())["picks"] == PICKS
        (decision,) = bench.runner(manual(bench, seed=1), engine=TextEngine()).decide(bench.job())
        assert decision.action is Action.REFUSE
        (decision,) = bench.runner(manual(bench), engine=TextEngine()).decide(bench.job())
        assert (decision.action, decision.reason) == (Action.RUN, "goes on with what a person says")
        assert run(bench).metrics["corner_variants"] == PICKS

    def test_a_default_that_was_recorded_is_as_left_out(self, bench: Workbench) -> None:
        naming = replace(SCAFFOLD, basis=lambda settings: {**SCAFFOLD.basis(settings), **SCAFFOLD.implied})
        with pytest.raises(StageWaitingError):
            runner = bench.runner(manual(bench), engine=TextEngine(), definitions=(naming,))
            runner.run(bench.job(), "scaffold", silent)
        pick(bench)
        (decision,) = bench.runner(manual(bench), engine=TextEngine()).decide(bench.job())
        assert (decision.action, decision.reason) == (Action.RUN, "goes on with what a person says")
        assert "(seed: 0 -> 1)" in refusal(bench, seed=1).message
        engine = TextEngine()
        assert run(bench, engine).metrics["corner_variants"] == PICKS
        assert engine.made == []

    def test_force_asks_anew(self, bench: Workbench) -> None:
        ask(bench)
        pick(bench)
        old = json.loads(bench.job_path(FORM).read_text())
        ask(bench, seed=1, force=True)
        new = json.loads(bench.job_path(FORM).read_text())
        assert new["picks"] == dict.fromkeys(CORNERS)
        assert new["variants"] != old["variants"]
        pick(bench)
        run(bench, seed=1, force=True)
        assert bench.leftovers() == []

    def test_force_with_another_mode_gives_the_question_up(self, bench: Workbench) -> None:
        ask(bench)
        assert run(bench, scaffold_mode="fast", force=True).status == "committed"
        assert bench.storage.stat(layout.waiting_record(JOB, "scaffold")) is None
        assert not bench.job_path(layout.SCAFFOLD_PICKS).exists()
        assert bench.leftovers() == []

    def test_the_same_command_with_force_goes_on_and_keeps_the_old_result_until_then(self, bench: Workbench) -> None:
        first = run(bench, scaffold_mode="fast")
        ask(bench, force=True)
        assert bench.record("scaffold") == first
        pick(bench)
        engine = TextEngine()
        second = run(bench, engine, force=True)
        assert engine.made == []
        assert second.metrics["corner_variants"] == PICKS
        assert bench.record("scaffold") == second

    def test_a_record_that_cannot_be_read_is_told(self, bench: Workbench) -> None:
        ask(bench)
        bench.storage.write(layout.waiting_record(JOB, "scaffold"), b"{")
        error = refusal(bench)
        assert "--force" in error.remedy
        ask(bench, force=True)
        assert waiting(bench).status == "waiting"


class TestTwoRuns:
    def test_both_ask_the_same(self, tmp_path: Path) -> None:
        bench = Workbench(tmp_path, [photo_sample(0, theme="castle")])
        results = together(lambda number: run(bench), 2)
        assert [type(result) for result in results] == [StageWaitingError] * 2
        pick(bench)
        assert run(bench).metrics["corner_variants"] == PICKS
        assert bench.leftovers() == []

    def test_the_one_that_asks_late_takes_what_is_committed(self, bench: Workbench) -> None:
        """While it made its variants, a person answered another run's question."""

        class Late(TextEngine):
            def generate(self, *arguments: Any) -> Any:
                ask(bench)
                pick(bench)
                self.other = run(bench)
                return super().generate(*arguments)

        engine = Late()
        assert run(bench, engine) == engine.other
        assert bench.storage.stat(layout.waiting_record(JOB, "scaffold")) is None
        assert not bench.job_path(layout.SCAFFOLD_PICKS).exists()
        assert bench.leftovers() == []


class TestBucket:
    def test_another_machine_goes_on(self, bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        bench.storage = RemoteStorage(bench.output)
        monkeypatch.setenv("WORLDEXPLORER_SCRATCH", str(tmp_path / "A"))
        first = TextEngine()
        first.stop_after = 9
        with pytest.raises(Stopped):
            run(bench, first)
        monkeypatch.setenv("WORLDEXPLORER_SCRATCH", str(tmp_path / "B"))
        second = TextEngine()
        record = ask(bench, second)
        assert len(first.made) + len(second.made) == 3 + 16
        assert f"{bench.storage.uri}/{JOB}/{FORM}" in record.notes[0]
        pick(bench)
        monkeypatch.setenv("WORLDEXPLORER_SCRATCH", str(tmp_path / "C"))
        third = TextEngine()
        assert run(bench, third).metrics["corner_variants"] == PICKS
        assert third.made == []
        assert not bench.job_path(layout.SCAFFOLD_PICKS).exists()

    def test_a_real_bucket(
        self,
        bench: Workbench,
        gcs_emulator: str,  # noqa: F811 (the fixture)
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        bucket = open_storage(f"gs://{gcs_emulator}/worlds")
        monkeypatch.setenv("WORLDEXPLORER_SCRATCH", str(tmp_path / "A"))
        few = {"corner_guidances": (7.0,), "corner_seeds": 1}
        record = ask(bench, storage=bucket, **few)
        key = f"{JOB}/{FORM}"
        assert f"{bucket.uri}/{key}" in record.notes[0]
        form = json.loads(bucket.read(key))
        bucket.write(key, json.dumps({**form, "picks": dict.fromkeys(CORNERS, "g7_s0")}).encode())
        monkeypatch.setenv("WORLDEXPLORER_SCRATCH", str(tmp_path / "B"))
        engine = TextEngine()
        assert run(bench, engine, bucket, **few).status == "committed"
        assert engine.made == []
        assert not bucket.exists(f"{JOB}/{layout.SCAFFOLD_PICKS}")
        assert not bucket.exists(layout.attempts_folder(JOB))


def batch(bench: Workbench, events: list[Event] | None = None, **settings: Any) -> BatchOutcome:
    prepared = prepare_batch(manual(bench, **settings), text_engine)
    return run_batch(prepared, (events if events is not None else []).append)


def statuses(summary: dict[str, Any]) -> list[str]:
    return [entry["status"] for entry in summary["results"]]


class TestBatch:
    @pytest.fixture
    def bench(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workbench:
        """A sample that waits and one that picks by itself."""
        monkeypatch.setattr(module, "run_jobs", run_jobs_here)
        automatic = photo_sample(1, theme="ship", scaffold={"mode": "automatic"})
        return Workbench(tmp_path, [photo_sample(0, theme="castle"), automatic])

    def test_one_waits_and_one_succeeds(self, bench: Workbench) -> None:
        events: list[Event] = []
        outcome = batch(bench, events)
        assert outcome.exit_code == EXIT_WAITING
        summary = outcome.summary
        counts = {name: summary[name] for name in ("total", "success", "failed", "skipped", "waiting")}
        assert counts == {"total": 2, "success": 1, "failed": 0, "skipped": 0, "waiting": 1}
        waits, done = summary["results"]
        assert (waits["status"], done["status"]) == ("waiting", "success")
        assert str(bench.job_path(FORM)) in waits["reason"]
        assert waits["error"] is None
        assert waits["scaffold_path"] is None
        assert summary["failed_indices"] == ""
        ends = [event for event in events if isinstance(event, JobFinished)]
        assert [(event.failure, event.waiting is not None) for event in ends] == [(None, True), (None, False)]

    def test_the_same_command_goes_on(self, bench: Workbench) -> None:
        assert batch(bench).exit_code == EXIT_WAITING
        assert batch(bench).exit_code == EXIT_WAITING
        pick(bench)
        outcome = batch(bench)
        assert outcome.exit_code == EXIT_SUCCESS
        assert statuses(outcome.summary) == ["success", "success"]
        assert batch(bench).exit_code == EXIT_SUCCESS

    def test_waiting_stops_no_other_job_and_failing_does(self, bench: Workbench) -> None:
        batch(bench)
        bench.job_path(FORM).write_text("{")
        outcome = batch(bench)
        assert outcome.exit_code == EXIT_FAILED
        assert statuses(outcome.summary) == ["failed", "success"]
        assert outcome.summary["results"][0]["error"]["class"] == "user"

    def test_a_sample_that_says_nothing_is_told_before_anything_runs(self, bench: Workbench) -> None:
        prepared = prepare_batch(manual(bench, scaffold_method="scaffold_gen"), text_engine)
        assert [one.problem for one in prepared.plan.jobs] == ["", ""]
        (bench.data / "metadata.json").write_text(
            json.dumps({"samples": [photo_sample(0), {"index": 1, "theme": "ship"}]})
        )
        prepared = prepare_batch(manual(bench), text_engine)
        told, fine = prepared.plan.jobs
        assert told.problem.startswith("no prompts")
        assert fine.problem == ""
        outcome = run_batch(prepared, lambda event: None)
        assert outcome.exit_code == EXIT_FAILED

    def test_text_alone_becomes_a_world(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "run_jobs", run_jobs_here)
        bench = Workbench(tmp_path, [{"index": 0, "theme": "castle"}])
        settings = {"scaffold_mode": "fast", "only_stages": (1, 2, 3)}
        outcome = batch(bench, **settings)
        assert statuses(outcome.summary) == ["success"]
        (result,) = outcome.summary["results"]
        assert result["variant"] == "default"
        assert (bench.output / result["contact_sheet"]).exists()
        assert batch(bench, **settings).exit_code == EXIT_SUCCESS

    def test_later_stages_wait_as_well(self, bench: Workbench) -> None:
        outcome = batch(bench, only_stages=(1, 2, 3), indices=("0",))
        assert statuses(outcome.summary) == ["waiting"]
        pick(bench)
        outcome = batch(bench, only_stages=(1, 2, 3), indices=("0",))
        assert outcome.exit_code == EXIT_SUCCESS
        assert outcome.summary["results"][0]["stages_completed"] == [1, 2, 3]

    def test_the_summary_can_be_written_again(self, bench: Workbench) -> None:
        written = batch(bench).summary
        bench.storage.delete(layout.SUMMARY)
        rebuilt = rebuild_summary(bench.storage)
        assert rebuilt["interrupted"] is False
        assert rebuilt["results"] == written["results"]

    def test_a_run_over_other_samples_does_not_forget_who_waits(self, bench: Workbench) -> None:
        batch(bench, indices=("0",))
        outcome = batch(bench, indices=("1",))
        assert outcome.exit_code == EXIT_SUCCESS  # of its own jobs
        assert statuses(outcome.summary) == ["waiting", "success"]

    def test_what_an_earlier_run_asked_is_no_word_of_a_later_one(self, bench: Workbench) -> None:
        """The later run was stopped before the job: that is what became of it."""
        batch(bench, indices=("0",))
        plan = prepare_batch(manual(bench, indices=("0",)), text_engine).plan
        bench.storage.create(layout.plan(plan.run_id), plan.file.to_json())
        summary = rebuild_summary(bench.storage)
        assert statuses(summary) == ["skipped"]

    def test_a_forced_run_that_asks_waits_although_there_is_a_result(self, bench: Workbench) -> None:
        batch(bench, scaffold_mode="fast", indices=("0",))
        outcome = batch(bench, force=True, indices=("0",))
        assert outcome.exit_code == EXIT_WAITING
        assert outcome.summary["results"][0]["scaffold_path"] is not None

    def test_the_screen_says_where_to_pick(
        self, bench: Workbench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(command, "prepare_batch", lambda config: prepare_batch(config, text_engine))
        words = ["--dataset_dir", str(bench.data), "--output_base", str(bench.output), "--only_stages", "1"]
        words += ["--scaffold_method", "scaffold_gen", "--corner_guidances", "7", "--corner_seeds", "2"]
        assert main(["batch", *words, "--log_format", "text"]) == EXIT_WAITING
        screen = " ".join(capsys.readouterr().out.split())
        assert "photorealistic/index_0000 scaffold waits: 2 variants of each of 4 corner views" in screen
        assert "2 jobs: 1 success, 1 waiting" in screen
        assert str(bench.job_path(FORM)) in screen.replace(" ", "") or str(bench.job_path(FORM)) in screen
        pick(bench, dict.fromkeys(CORNERS, "g7_s1"))
        assert main(["batch", *words, "--log_format", "json"]) == EXIT_SUCCESS


@pytest.mark.slow
def test_a_process_that_is_killed_among_the_variants(tmp_path: Path) -> None:
    """A real one, by SIGKILL: the next makes only what is missing, and the end is as without a kill."""
    benches = [Workbench(tmp_path / name, [photo_sample(0, theme="castle")]) for name in ("killed", "whole")]
    for bench in benches:
        events: list[Event] = []
        if bench is benches[0]:
            (bench.data / "kill-at").write_text("9")
            config = manual(bench)
            run_jobs(config, "r1", bench.jobs().jobs, events.append, stop_on_failure=False, load=killed_in_the_middle)
            (end,) = [event for event in events if isinstance(event, JobFinished)]
            assert end.failure is not None
            assert "SIGKILL" in str(end.failure.error)
            kept = len(list(bench.output.rglob("marks/**/*.json")))
            assert kept == 9
        engine = TextEngine()
        ask(bench, engine)
        assert len(engine.made) == (3 + 16 - 9 if bench is benches[0] else 3 + 16)
        pick(bench)
        run(bench)
    assert canonical_tree(benches[0].output) == canonical_tree(benches[1].output)


class Rig:
    """Asks, answers and goes on, over and over from the same beginning."""

    def __init__(self, folder: Path) -> None:
        self.bench = Workbench(folder, [photo_sample(0, theme="castle")])
        self.settings = {"corner_guidances": (7.0,), "corner_seeds": 1}
        self.picks = dict.fromkeys(CORNERS, "g7_s0")
        self.storage = self.bench.storage

    def go(self, watch: Callable[[Moment], None] = lambda moment: None) -> str:
        storage = WatchedStorage(self.storage, watch)
        try:
            return run(self.bench, storage=storage, **self.settings).status
        except StageWaitingError:
            return "waiting"

    def end(self) -> dict[str, Any]:
        pick(self.bench, self.picks)
        assert self.go() == "committed"
        assert self.bench.leftovers() == []
        return canonical_tree(self.bench.output)


@pytest.mark.slow
@pytest.mark.parametrize("answered", [False, True])
def test_after_a_crash_at_any_operation_nothing_is_lost(tmp_path: Path, answered: bool) -> None:
    rig = Rig(tmp_path)
    moments: list[Moment] = []
    if answered:
        assert rig.go() == "waiting"
        pick(rig.bench, rig.picks)
        shutil.copytree(rig.bench.output, tmp_path / "before")
        assert rig.go(note(moments)) == "committed"
        expected = canonical_tree(rig.bench.output)
    else:
        assert rig.go(note(moments)) == "waiting"
        expected = rig.end()
    places = [moment for moment in crash_moments(moments) if moment.operation in (*CHANGING, "read", "read_versioned")]
    assert len(places) > 8
    for moment in places:
        shutil.rmtree(rig.bench.output)
        if answered:
            shutil.copytree(tmp_path / "before", rig.bench.output)
        with pytest.raises(Crash):
            rig.go(crash_at(moment))
        if answered:
            assert rig.go() == "committed", moment
            assert rig.bench.leftovers() == [], moment
            found = canonical_tree(rig.bench.output)
        else:
            assert rig.go() == "waiting", moment
            found = rig.end()
        assert found == expected, moment
