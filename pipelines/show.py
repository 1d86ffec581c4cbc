"""What the commands show while they send and wait: bars, lines for a log, or JSON lines for a program.

Example:
    >>> with make_show("text", sys.stdout) as show:
    ...     wait_for_runs(cluster, run_ids, listener=show.status)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

from rich.console import RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from pipelines.wait import RunStatus
from worldexplorer.cli.estimate import duration_text
from worldexplorer.cli.output import LineWriter, PlainConsole, plain
from worldexplorer.cli.reporter import json_line, resolve_format
from worldexplorer.cli.tables import summary_report

_STYLES = {"SUCCEEDED": "green", "FAILED": "red", "SKIPPED": "red", "CANCELED": "yellow", "CANCELING": "yellow"}


class Show:
    """One place where everything that a command has to say goes.

    Args:
        log_format: `rich`, `text` or `json`.
        stream: where to.
    """

    def __init__(self, log_format: str, stream: TextIO) -> None:
        self.log_format = log_format
        self._lines = LineWriter(stream)
        self._console = PlainConsole(stream)
        self._bars = _Bars(self._console) if log_format == "rich" else None

    def event(self, name: str, facts: Mapping[str, Any], line: str, style: str = "") -> None:
        """One thing that has happened: facts for a program, a line for a person."""
        if self.log_format == "json":
            self._lines.write(json_line(name, datetime.now(UTC), facts))
        elif self._bars is not None:
            self._console.show([plain(line, style)])
        else:
            self._lines.write(str(plain(line)))

    def trouble(self, line: str) -> None:
        """An answer that stayed away."""
        self.event("trouble", {"message": line}, line, "yellow")

    def status(self, status: RunStatus) -> None:
        """How a run stands."""
        if self._bars is not None and not status.is_final:
            self._bars.update(status)
            return
        if self._bars is not None:
            self._bars.remove(status)
        self.event("run", status.facts(), status_line(status), _STYLES.get(status.state, ""))
        if status.is_final and self.log_format != "json":
            self.parts([plain(line, "red") for line in failure_lines(status)])

    def summary(self, summary: Mapping[str, Any]) -> None:
        """The table of a batch."""
        if self.log_format == "json":
            self._lines.write(json_line("summary", datetime.now(UTC), summary))
        else:
            self._console.show(summary_report(summary, self._console.width))

    def parts(self, parts: Sequence[RenderableType]) -> None:
        """Tables and texts for a person; nothing for a program."""
        if self.log_format != "json":
            self._console.show(parts)

    def bars(self) -> AbstractContextManager[object]:
        """Bars, for as long as runs are waited for."""
        return self._bars if self._bars is not None else nullcontext()


class _Bars:
    """A bar a run; what it counts grows while loops begin."""

    def __init__(self, console: PlainConsole) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[what]}", markup=False),
            TimeElapsedColumn(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def update(self, status: RunStatus) -> None:
        """Draw a run that goes on."""
        name = str(plain(status.name or status.run_id))
        task = self._tasks.get(status.run_id)
        if task is None:
            task = self._tasks[status.run_id] = self._progress.add_task(name, total=None, what="")
        self._progress.update(task, total=status.tasks, completed=status.tasks_done or 0, what=_progress(status))

    def remove(self, status: RunStatus) -> None:
        """Take down the bar of a run that has ended."""
        task = self._tasks.pop(status.run_id, None)
        if task is not None:
            self._progress.remove_task(task)


def make_show(log_format: str, stream: TextIO) -> Show:
    """What a format, `auto` included, means for a stream."""
    return Show(resolve_format(log_format, stream), stream)


def status_line(status: RunStatus) -> str:
    """How a run stands, in one line."""
    time = f" after {duration_text(status.seconds)}" if status.seconds is not None else ""
    name = f" ({status.name})" if status.name else ""
    return f"run {status.run_id}{name}: {_progress(status)}{time}"


def failure_lines(status: RunStatus) -> list[str]:
    """What went wrong, and where to look, of a run that did not succeed."""
    if status.state == "SUCCEEDED":
        return []
    lines = [f"  {one.name} failed: {one.message or 'its log says why'}" for one in status.failures]
    if status.error:
        lines.append(f"  {status.error}")
    if status.output_base:
        lines.append(f"  what became of each job: {status.output_base}/batch_summary.json")
    return lines


def _progress(status: RunStatus) -> str:
    counts = f", {status.tasks_done} of {status.tasks} tasks ended" if status.tasks is not None else ""
    return f"{status.state}{counts}"
