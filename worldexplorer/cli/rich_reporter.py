"""Bars in a terminal: one for the run, one for each job at work; results and log lines appear above them.

Example:
    >>> with RichReporter(time_left, sys.stdout) as reporter:
    ...     run_batch(prepared, reporter)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from worldexplorer.cli.estimate import NO_ESTIMATE, TimeLeft, clock_text
from worldexplorer.cli.output import PlainConsole, one_line, plain
from worldexplorer.cli.wording import batch_line, failure_line, labelled, stage_line, waiting_line
from worldexplorer.config import STAGE_NAMES
from worldexplorer.events import (
    BatchStarted,
    Event,
    JobFinished,
    JobStarted,
    LogLine,
    StageFinished,
    StageProgress,
)
from worldexplorer.layout import JobId

_NUMBERS = {name: number for number, name in STAGE_NAMES.items()}
_STYLES = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}


class RichReporter:
    """Bars and coloured lines."""

    def __init__(self, time_left: TimeLeft, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._time_left = time_left
        self._clock = clock
        self._console = PlainConsole(stream)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %", markup=False),
            TimeElapsedColumn(),
            _TimeLeftColumn(clock),
            TextColumn("{task.fields[what]}", style="dim", markup=False),
            console=self._console,
        )
        self._batch: TaskID | None = None
        self._jobs = 0
        self._ended = 0
        self._tasks: dict[JobId, TaskID] = {}
        self._stages: dict[JobId, tuple[str, ...]] = {}

    def __call__(self, event: Event) -> None:
        """See Reporter."""
        self._time_left.hear(event)
        match event:
            case BatchStarted():
                self._jobs = event.jobs
                self._print(batch_line(event), "bold")
                self._batch = self._progress.add_task("batch", total=1.0, what="", ends=None)
            case JobStarted():
                self._stages[event.job] = event.stages
            case StageProgress():
                self._show(event)
            case StageFinished():
                if not event.reused:
                    self._print(f"{event.job} {stage_line(event)}")
            case JobFinished():
                self._finish(event)
            case LogLine():
                text = labelled(event)
                self._print(text if event.level == "INFO" else f"{event.level} {text}", _style(event.level))
            case _:
                pass
        self._show_batch()

    def __enter__(self) -> RichReporter:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def _show(self, event: StageProgress) -> None:
        if event.job not in self._tasks:
            self._tasks[event.job] = self._progress.add_task(str(event.job), total=1.0, what="", ends=None)
        self._progress.update(
            self._tasks[event.job],
            description=f"{event.job} {_NUMBERS[event.stage]} {event.stage}",
            completed=event.done / event.total if event.total else 0.0,
            what=one_line(event.what),
            ends=self._ends(self._time_left.job_seconds(event.job)),
        )

    def _show_batch(self) -> None:
        if self._batch is None:
            return
        self._progress.update(
            self._batch,
            description=f"batch {self._ended:,} of {self._jobs:,} {'job' if self._jobs == 1 else 'jobs'}",
            completed=self._time_left.share(),
            ends=self._ends(self._time_left.seconds()),
        )

    def _finish(self, event: JobFinished) -> None:
        self._ended += 1
        stages = self._stages.pop(event.job, ())
        task = self._tasks.pop(event.job, None)
        if task is not None:
            self._progress.remove_task(task)
        if event.failure is not None:
            self._print(f"{event.job} {failure_line(event.failure)}", "red")
        elif event.waiting is not None:
            self._print(f"{event.job} {waiting_line(event.waiting)}", "yellow")
        elif task is not None:
            self._print(f"{event.job} done ({', '.join(stages)})", "green")

    def _ends(self, seconds: float | None) -> float | None:
        """When that many seconds are over, so that the display counts down between events."""
        return None if seconds is None else self._clock() + seconds

    def _print(self, text: str, style: str = "") -> None:
        self._console.show([plain(text, style)])


class _TimeLeftColumn(ProgressColumn):
    """The time left of a task, counting down to the moment in its field `ends`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock

    def render(self, task: Task) -> Text:
        ends = task.fields["ends"]
        text = NO_ESTIMATE if ends is None else clock_text(max(0.0, ends - self._clock()))
        return Text(f"left {text}", style="cyan")


def _style(level: str) -> str:
    return _STYLES.get(level, "")
