from __future__ import annotations

import io
import json
from datetime import UTC, datetime

import pytest

from worldexplorer.cli.estimate import TimeLeft
from worldexplorer.cli.reporter import JsonReporter, TextReporter, make_reporter, resolve_format
from worldexplorer.cli.rich_reporter import RichReporter
from worldexplorer.errors import ErrorClass
from worldexplorer.events import (
    BatchFinished,
    BatchStarted,
    JobFinished,
    JobStarted,
    LogLine,
    StageFinished,
    StageProgress,
)
from worldexplorer.layout import JobId
from worldexplorer.records import ErrorEntry, StageRecord

STAGES = ("scaffold", "trajectory", "splat")
FIRST, SECOND = JobId(0, "photorealistic"), JobId(7, "stylized")
NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)

SUMMARY = {
    "total": 2,
    "success": 1,
    "failed": 1,
    "skipped": 0,
    "waiting": 0,
    "failed_indices": "7",
    "elapsed_seconds": 75.2,
    "interrupted": False,
    "engine": "preview",
    "engine_label": "synthesised preview",
    "run_id": "run-1",
    "output_base": "out",
    "results": [],
}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def failure(job: JobId, message: str = "the photo is black") -> StageRecord:
    return StageRecord(
        stage="scaffold",
        index=job.index,
        variant=job.variant,
        status="failed",
        run_id="run-1",
        attempt="",
        fingerprint="",
        basis={},
        engine="preview",
        engine_label="synthesised preview",
        code_version="0",
        seed=0,
        started_at="2026-01-02T11:59:59+00:00",
        finished_at="2026-01-02T12:00:00+00:00",
        seconds=1.0,
        error=ErrorEntry(
            error_class=ErrorClass.USER, message=message, where="stylized/7.png", remedy="take another photo"
        ),
    )


def question(job: JobId) -> StageRecord:
    return failure(job).model_copy(
        update={"status": "waiting", "error": None, "notes": ["88 variants wait (out/picks.json). What to do: pick"]}
    )


def a_run():
    """The events of a run of two jobs: one is made, one fails."""
    yield BatchStarted("run-1", 2, 0, "synthesised preview")
    yield LogLine("WARNING", "unknown key samples[].author ignored")
    yield JobStarted(FIRST, STAGES)
    for done in range(1001):
        yield StageProgress(FIRST, "scaffold", done, 1000, "layout")
    yield StageFinished(FIRST, "scaffold", False, 4.0, {})
    yield StageFinished(FIRST, "trajectory", True, 30.0, {})
    yield StageProgress(FIRST, "splat", 1, 4, "training")
    yield StageFinished(FIRST, "splat", False, 61.4, {"psnr_heldout": 33.91, "count": 3, "loss": float("nan")})
    yield JobFinished(FIRST, None)
    yield JobStarted(SECOND, STAGES)
    yield JobFinished(SECOND, failure(SECOND))
    yield BatchFinished(SUMMARY)


def time_left(clock: Clock | None = None) -> TimeLeft:
    work = {FIRST: STAGES, SECOND: STAGES}
    return TimeLeft(work, weights=(1.0, 3.0, 6.0), workers=1, clock=clock or Clock())


def test_auto_takes_bars_in_a_terminal_and_json_elsewhere():
    assert resolve_format("auto", Terminal()) == "rich"
    assert resolve_format("auto", io.StringIO()) == "json"
    assert resolve_format("text", Terminal()) == "text"
    for name, kind in (("rich", RichReporter), ("text", TextReporter), ("json", JsonReporter)):
        assert type(make_reporter(name, time_left(), io.StringIO())) is kind


# --- JSON lines


def json_run(events) -> list[dict]:
    stream = io.StringIO()
    with JsonReporter(time_left(), stream, now=lambda: NOON) as reporter:
        for event in events:
            reporter(event)
    text = stream.getvalue()
    assert text.isascii()
    return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]


def test_every_line_is_a_json_object_with_time_and_event_and_the_last_is_the_summary():
    lines = json_run(a_run())
    assert all(line["time"] == "2026-01-02T12:00:00.000+00:00" for line in lines)
    kinds = [line["event"] for line in lines if line["event"] != "stage_progress"]
    assert kinds == [
        "batch_started",
        "log",
        "job_started",
        "stage_finished",
        "stage_finished",
        "stage_finished",
        "job_finished",
        "job_started",
        "job_finished",
        "summary",
    ]
    last = lines[-1]
    assert {name: last[name] for name in ("total", "success", "failed", "skipped", "waiting")} == {
        "total": 2,
        "success": 1,
        "failed": 1,
        "skipped": 0,
        "waiting": 0,
    }
    assert last["failed_indices"] == "7"
    assert "results" not in last


def test_progress_is_told_once_a_percent():
    told = [line for line in json_run(a_run()) if line["event"] == "stage_progress"]
    scaffold = [line["percent"] for line in told if line["stage"] == "scaffold"]
    assert scaffold == list(range(101))
    (splat,) = [line for line in told if line["stage"] == "splat"]
    assert splat == {
        "time": "2026-01-02T12:00:00.000+00:00",
        "event": "stage_progress",
        "job": "photorealistic/index_0000",
        "stage": "splat",
        "done": 1,
        "total": 4,
        "percent": 25,
        "what": "training",
        # Of two jobs of 1 + 3 + 6: the scaffold, the trajectory and a quarter of the splat.
        "batch_percent": 27,
        # The scaffold took 4 s, so the rest of this splat and the other job are expected to take 4 * (4.5 + 10).
        "seconds_left": 58,
    }


def test_a_failure_says_class_message_place_and_remedy():
    (ended,) = [line for line in json_run(a_run()) if line["event"] == "job_finished" and line["status"] == "failed"]
    assert ended["stage"] == "scaffold"
    assert ended["error"] == {
        "class": "user",
        "message": "the photo is black",
        "where": "stylized/7.png",
        "remedy": "take another photo",
    }


def test_a_job_that_waits_says_for_what():
    events = [JobStarted(FIRST, STAGES), JobFinished(FIRST, None, question(FIRST))]
    finished = json_run(events)[-1]
    assert (finished["event"], finished["status"]) == ("job_finished", "waiting")
    assert finished["reason"] == "88 variants wait (out/picks.json). What to do: pick"
    (line,) = text_run(events)
    assert line.endswith("index_0000 scaffold waits: 88 variants wait (out/picks.json). What to do: pick")


def test_numbers_that_are_not_finite_become_null():
    metrics = {"loss": float("inf"), "nested": {"values": [1.0, float("nan")]}}
    (line,) = json_run([StageFinished(FIRST, "splat", False, 1.0, metrics)])
    assert line["metrics"] == {"loss": None, "nested": {"values": [1.0, None]}}


def test_any_text_makes_one_line():
    (line,) = json_run([LogLine("INFO", 'two\nlines \x1b[31m "quoted" \udcff é')])
    assert line["text"] == 'two\nlines \x1b[31m "quoted" \udcff é'


# --- plain lines


def text_run(events, clock: Clock | None = None) -> list[str]:
    stream = io.StringIO()
    clock = clock or Clock()
    with TextReporter(time_left(clock), stream, clock=clock, now=lambda: NOON) as reporter:
        for event in events:
            reporter(event)
    return stream.getvalue().splitlines()


def test_the_lines_of_a_run():
    assert text_run(a_run()) == [
        "12:00:00 run run-1: 2 jobs (synthesised preview)",
        "12:00:00 WARNING unknown key samples[].author ignored",
        "12:00:00 photorealistic/index_0000 started",
        "12:00:00 photorealistic/index_0000 scaffold done in 4.0 s",
        "12:00:00 photorealistic/index_0000 trajectory reused",
        "12:00:00 photorealistic/index_0000 splat done in 1:01, psnr_heldout 33.9 dB",
        "12:00:00 photorealistic/index_0000 done",
        (
            "12:00:00 stylized/index_0007 scaffold failed: the photo is black (stylized/7.png). What to do: take "
            "another photo"
        ),
    ]


def test_a_job_says_how_far_it_is_every_ten_seconds_at_most():
    clock = Clock()

    def events():
        yield JobStarted(FIRST, STAGES)
        for second in range(36):
            clock.now = float(second)
            yield StageProgress(FIRST, "trajectory", second, 100, "first passes")

    lines = text_run(events(), clock)
    assert len(lines) == 1 + 3
    # After 30 s 30 % are done: 70 s to go, and by their shares 33 and 200 s of the other stages of this job.
    assert lines[-1] == (
        "12:00:00 photorealistic/index_0000 trajectory 30% (first passes); left: job 5:03, batch 10:37 (4% done)"
    )


def test_jobs_that_were_finished_before_are_counted_and_not_listed():
    events = [BatchStarted("run-1", 2, 1, "full engine"), JobStarted(FIRST, STAGES)]
    events += [StageFinished(FIRST, stage, True, 9.0, {}) for stage in STAGES]
    lines = text_run([*events, JobFinished(FIRST, None)])
    assert lines == ["12:00:00 run run-1: 2 jobs, 1 of them finished before (full engine)"]


def test_a_text_with_line_ends_and_control_codes_stays_on_one_line():
    assert text_run([LogLine("INFO", "a\r\nb\x1b[2Jc")]) == ["12:00:00 INFO a b [2Jc"]


# --- bars


def rich_run(events, stream: io.StringIO) -> str:
    with RichReporter(time_left(), stream, clock=Clock()) as reporter:
        for event in events:
            reporter(event)
            if not (isinstance(event, StageProgress) and event.done % 100 > 1):
                reporter._progress.refresh()
    return stream.getvalue()


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_bars_of_the_batch_and_of_the_job_at_work(wide):
    shown = rich_run(a_run(), Terminal())
    assert "batch 0 of 2 jobs" in shown
    assert "photorealistic/index_0000 1 scaffold" in shown
    assert "photorealistic/index_0000 3 splat" in shown
    assert "training" in shown
    assert "left --:--" in shown, "before anything is measured"
    assert "left 0:58" in shown
    assert "batch 2 of 2 jobs" in shown


def test_results_and_log_lines_appear_above_the_bars(wide):
    shown = rich_run(a_run(), Terminal())
    assert "WARNING unknown key samples[].author ignored" in shown
    assert "photorealistic/index_0000 splat done in 1:01, psnr_heldout 33.9 dB" in shown
    assert "stylized/index_0007 scaffold failed: the photo is black (stylized/7.png)" in shown


def test_a_job_that_waits_says_so_above_the_bars(wide):
    stream = Terminal()
    rich_run([JobStarted(FIRST, STAGES), JobFinished(FIRST, None, question(FIRST))], stream)
    assert "waits: 88 variants wait (out/picks.json)" in stream.getvalue()


def test_nothing_in_a_text_is_taken_for_markup_or_control_codes(wide):
    hostile = "[bold]x[/] :smile: [link=http://e] \x1b[2J"
    events = [
        LogLine("WARNING", hostile),
        JobStarted(FIRST, STAGES),
        StageProgress(FIRST, "scaffold", 1, 2, hostile),
        JobFinished(FIRST, failure(FIRST, hostile)),
    ]
    shown = rich_run([BatchStarted("r", 1, 0, "[red]label"), *events], Terminal())
    assert shown.count("[bold]x[/] :smile: [link=http://e]") >= 3
    assert "\x1b[2J" not in shown
    assert "[red]label" in shown


def test_the_bar_of_a_job_goes_when_the_job_ends(wide):
    stream = Terminal()
    with RichReporter(time_left(), stream, clock=Clock()) as reporter:
        for event in a_run():
            reporter(event)
        (only,) = reporter._progress.tasks
        assert only.description == "batch 2 of 2 jobs"
        assert only.completed == pytest.approx(1.0)
