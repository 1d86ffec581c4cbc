"""Listeners of a run: plain lines for a log file, JSON lines for a program, bars for a terminal.

A reporter is called with every event and is a context manager, because bars have to be taken down at the end.

Example:
    >>> with make_reporter("text", time_left, sys.stdout) as reporter:
    ...     run_batch(prepared, reporter)
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Protocol, TextIO

from worldexplorer.cli.estimate import TimeLeft, clock_text
from worldexplorer.cli.output import LineWriter, one_line
from worldexplorer.cli.rich_reporter import RichReporter
from worldexplorer.cli.wording import batch_line, failure_line, labelled, stage_line, waiting_line
from worldexplorer.events import (
    BatchFinished,
    BatchStarted,
    Event,
    JobFinished,
    JobStarted,
    LogLine,
    StageFinished,
    StageProgress,
)
from worldexplorer.layout import JobId

SECONDS_BETWEEN_LINES = 10.0


class Reporter(Protocol):
    """Shows events to somebody."""

    def __call__(self, event: Event) -> None:
        """Take one event."""

    def __enter__(self) -> Reporter:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, leaving the stream as it was."""


def resolve_format(log_format: str, stream: TextIO) -> str:
    """`auto` made definite: bars in a terminal, JSON lines elsewhere."""
    if log_format != "auto":
        return log_format
    return "rich" if stream.isatty() else "json"


def make_reporter(log_format: str, time_left: TimeLeft, stream: TextIO) -> Reporter:
    """The reporter of a definite format."""
    if log_format == "rich":
        return RichReporter(time_left, stream)
    if log_format == "text":
        return TextReporter(time_left, stream)
    return JsonReporter(time_left, stream)


class TextReporter:
    """A line where something begins, ends or fails, and now and then one that says how far a job is."""

    def __init__(
        self,
        time_left: TimeLeft,
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self._time_left = time_left
        self._lines = LineWriter(stream)
        self._clock = clock
        self._now = now
        self._last_line: dict[JobId, float] = {}
        self._at_work: set[JobId] = set()

    def __call__(self, event: Event) -> None:
        """See Reporter."""
        self._time_left.hear(event)
        match event:
            case BatchStarted():
                self._write(batch_line(event))
            case JobStarted():
                self._last_line[event.job] = self._clock()
            case StageProgress():
                self._progress(event)
            case StageFinished():
                if not event.reused or event.job in self._at_work:
                    self._begin(event.job)
                    self._write(f"{event.job} {stage_line(event)}")
            case JobFinished():
                self._finish(event)
            case LogLine():
                self._write(f"{event.level} {labelled(event)}")
            case BatchFinished():
                pass  # the table that follows says it all

    def __enter__(self) -> TextReporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def _begin(self, job: JobId) -> None:
        """Say that a job is at work, once; one that was finished before never is."""
        if job not in self._at_work:
            self._at_work.add(job)
            self._write(f"{job} started")

    def _progress(self, event: StageProgress) -> None:
        self._begin(event.job)
        now = self._clock()
        if now - self._last_line[event.job] < SECONDS_BETWEEN_LINES:
            return
        self._last_line[event.job] = now
        share = event.done / event.total if event.total else 0.0
        job_left = clock_text(self._time_left.job_seconds(event.job))
        batch_left = clock_text(self._time_left.seconds())
        self._write(
            f"{event.job} {event.stage} {share:.0%} ({event.what}); left: job {job_left}, batch {batch_left} "
            f"({self._time_left.share():.0%} done)"
        )

    def _finish(self, event: JobFinished) -> None:
        if event.failure is not None:
            self._write(f"{event.job} {failure_line(event.failure)}")
        elif event.waiting is not None:
            self._write(f"{event.job} {waiting_line(event.waiting)}")
        elif event.job in self._at_work:
            self._write(f"{event.job} done")
        self._at_work.discard(event.job)
        self._last_line.pop(event.job, None)

    def _write(self, text: str) -> None:
        self._lines.write(f"{self._now():%H:%M:%S} {one_line(text)}")


class JsonReporter:
    """One JSON object a line for every event, progress in whole percents; the last is the summary.

    Every object has `time` (UTC) and `event`; numbers that are not finite are null.
    """

    def __init__(
        self, time_left: TimeLeft, stream: TextIO, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._time_left = time_left
        self._lines = LineWriter(stream)
        self._now = now
        self._percents: dict[JobId, tuple[str, int]] = {}

    def __call__(self, event: Event) -> None:
        """See Reporter."""
        self._time_left.hear(event)
        match event:
            case BatchStarted():
                self._write(
                    "batch_started",
                    run_id=event.run_id,
                    jobs=event.jobs,
                    finished_before=event.finished,
                    engine_label=event.engine_label,
                )
            case JobStarted():
                self._write("job_started", job=str(event.job), stages=list(event.stages))
            case StageProgress():
                self._progress(event)
            case StageFinished():
                self._write(
                    "stage_finished",
                    job=str(event.job),
                    stage=event.stage,
                    reused=event.reused,
                    seconds=event.seconds,
                    metrics=event.metrics,
                )
            case JobFinished():
                self._percents.pop(event.job, None)
                self._finish(event)
            case LogLine():
                self._write("log", level=event.level, work=event.work, text=event.text)
            case BatchFinished():
                self._write("summary", **summary_facts(event.summary))

    def __enter__(self) -> JsonReporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def _progress(self, event: StageProgress) -> None:
        percent = math.floor(100 * event.done / event.total) if event.total else 0
        if self._percents.get(event.job) == (event.stage, percent):
            return
        self._percents[event.job] = (event.stage, percent)
        left = self._time_left.seconds()
        self._write(
            "stage_progress",
            job=str(event.job),
            stage=event.stage,
            done=event.done,
            total=event.total,
            percent=percent,
            what=event.what,
            batch_percent=math.floor(100 * self._time_left.share()),
            seconds_left=None if left is None else round(left),
        )

    def _finish(self, event: JobFinished) -> None:
        failure, waiting = event.failure, event.waiting
        if waiting is not None:
            reason = "; ".join(waiting.notes)
            self._write("job_finished", job=str(event.job), status="waiting", stage=waiting.stage, reason=reason)
            return
        if failure is None or failure.error is None:
            self._write("job_finished", job=str(event.job), status="success")
            return
        self._write(
            "job_finished",
            job=str(event.job),
            status="failed",
            stage=failure.stage,
            error={
                "class": failure.error.error_class.value,
                "message": failure.error.message,
                "where": failure.error.where,
                "remedy": failure.error.remedy,
            },
        )

    def _write(self, event: str, **facts: Any) -> None:
        self._lines.write(json_line(event, self._now(), facts))


def json_line(event: str, now: datetime, facts: Mapping[str, Any]) -> str:
    """One event as a line of strict JSON in ASCII."""
    line = {"time": now.isoformat(timespec="milliseconds"), "event": event, **facts}
    return json.dumps(_finite(line), ensure_ascii=True, allow_nan=False)


def summary_facts(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What a program wants to know of a whole run in one line; the file has the rest."""
    names = ("total", "success", "failed", "skipped", "waiting", "failed_indices", "elapsed_seconds", "interrupted")
    return {name: summary[name] for name in (*names, "engine", "engine_label", "run_id", "output_base")}


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
