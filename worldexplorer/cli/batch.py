"""`worldexplorer batch`, which is also `run_batch_pipeline.py`: run all stages over a data set.

Example:
    >>> run(["--dataset_dir", "examples/demo", "--engine", "preview", "--preset", "smoke"])
    0
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, TextIO

from worldexplorer.batch import Interrupted, PreparedBatch, missing_here, prepare_batch, run_batch
from worldexplorer.cli.arguments import parse_run
from worldexplorer.cli.checks import check_needs, check_weights, weight_lines, weights_line
from worldexplorer.cli.dry_run import dry_run_events, dry_run_report
from worldexplorer.cli.estimate import TimeLeft
from worldexplorer.cli.logs import listen_to_log
from worldexplorer.cli.output import LineWriter, PlainConsole, exclusive_stdout, plain
from worldexplorer.cli.reporter import json_line, make_reporter, resolve_format
from worldexplorer.cli.signals import exit_code_of
from worldexplorer.cli.tables import summary_report
from worldexplorer.config import RunConfig
from worldexplorer.decision import Action
from worldexplorer.events import Event, LogLine

EXIT_SUCCESS = 0
EXIT_USAGE = 2


def run(argv: Sequence[str], program: str = "worldexplorer batch") -> int:
    """Parse the words and run; the exit code is that of :mod:`worldexplorer.cli`.

    Raises:
        UsageError: the command or the data set is wrong, or the engine cannot run here.
        KeyboardInterrupt: a signal came before the first job.
    """
    config = parse_run(argv, program)
    log_format = resolve_format(config.batch.log_format, sys.stdout)
    prepared = prepare_batch(config)
    with ExitStack() as stack:
        stream = stack.enter_context(exclusive_stdout()) if log_format == "json" else sys.stdout
        return _Command(config, prepared, log_format, stream).run()


class _Command:
    """A batch that is planned, with somewhere to say what becomes of it."""

    def __init__(self, config: RunConfig, prepared: PreparedBatch, log_format: str, stream: TextIO) -> None:
        self._config = config
        self._prepared = prepared
        self._log_format = log_format
        self._stream = stream

    def run(self) -> int:
        batch = self._config.batch
        if batch.check_checkpoints and not self._check():
            return EXIT_USAGE
        if batch.dry_run:
            self._dry_run()
            return EXIT_SUCCESS
        return self._run()

    def _check(self) -> bool:
        """Say what is there and what is missing; whether all is there."""
        engine = self._prepared.engine
        needs = check_needs(self._config, engine)
        missing = any(need.missing for need in needs)
        if self._log_format == "json":
            self._write_events(("check", need.facts(engine)) for need in needs)
            self._write_events(("weights", status.facts()) for status in check_weights(self._config, engine))
            return not missing
        lines = [need.text for need in needs]
        lines += weight_lines(check_weights(self._config, engine))
        lines.append(f"what to do: {engine.remedy}" if missing else weights_line(engine))
        PlainConsole(self._stream).show(plain(line) for line in lines if line)
        return not missing

    def _dry_run(self) -> None:
        prepared = self._prepared
        missing = missing_here(self._config, prepared.engine)
        if self._log_format == "json":
            self._write_events(dry_run_events(prepared, missing))
        else:
            PlainConsole(self._stream).show(dry_run_report(prepared, missing))

    def _run(self) -> int:
        reporter = make_reporter(self._log_format, time_left(self._prepared), self._stream)
        try:
            with reporter, listen_to_log(_as_event(reporter)):
                outcome = run_batch(self._prepared, reporter)
        except Interrupted as interrupted:
            self._show(interrupted.summary)
            return exit_code_of(interrupted.signal_number)
        self._show(outcome.summary)
        return outcome.exit_code

    def _show(self, summary: dict[str, Any]) -> None:
        if self._log_format != "json":
            console = PlainConsole(self._stream)
            console.show(summary_report(summary, console.width))

    def _write_events(self, events: Iterable[tuple[str, dict[str, Any]]]) -> None:
        lines = LineWriter(self._stream)
        for event, facts in events:
            lines.write(json_line(event, datetime.now(UTC), facts))


def time_left(prepared: PreparedBatch) -> TimeLeft:
    """An estimator that knows what the plan is to run."""
    work = {
        one.job.id: tuple(decision.stage for decision in one.decisions if decision.action is Action.RUN)
        for one in prepared.plan.jobs
    }
    return TimeLeft(work, weights=prepared.engine.stage_weights, workers=prepared.run.batch.workers)


def _as_event(listener: Callable[[Event], None]) -> Callable[[str, str], None]:
    def hear(level: str, text: str) -> None:
        listener(LogLine(level, text))

    return hear
