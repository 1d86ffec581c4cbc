"""The sentences that the reporters and the tables share.

Example:
    >>> stage_line(StageFinished(job, "splat", False, 41.26, {"psnr_heldout": 33.91}))
    'splat done in 41.3 s, psnr_heldout 33.9 dB'
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from worldexplorer.cli.estimate import duration_text
from worldexplorer.events import BatchStarted, LogLine, StageFinished
from worldexplorer.records import StageRecord

QUALITY_METRICS = ("psnr_train", "psnr_heldout", "psnr_input_view")


def batch_line(event: BatchStarted) -> str:
    """How a run begins."""
    before = f", {event.finished:,} of them finished before" if event.finished else ""
    return f"run {event.run_id}: {event.jobs:,} {plural(event.jobs, 'job')}{before} ({event.engine_label})"


def stage_line(event: StageFinished) -> str:
    """How a stage ended."""
    if event.reused:
        return f"{event.stage} reused"
    quality = "".join(f", {name} {value} dB" for name, value in quality_texts(event.metrics).items())
    return f"{event.stage} done in {duration_text(event.seconds)}{quality}"


def labelled(line: LogLine) -> str:
    """A log line with the job and stage it belongs to."""
    return f"{line.work}: {line.text}" if line.work else line.text


def failure_line(failure: StageRecord) -> str:
    """What went wrong, where, and what to do."""
    assert failure.error is not None, "a failure's record says what went wrong"
    return f"{failure.stage} failed: {error_text(failure.error.message, failure.error.where, failure.error.remedy)}"


def waiting_line(waiting: StageRecord) -> str:
    """What a job waits for, where, and what to do."""
    return f"{waiting.stage} waits: {'; '.join(waiting.notes)}"


def error_text(what: str, where: str, remedy: str) -> str:
    """The three parts of an error as one sentence."""
    place = f" ({where})" if where else ""
    advice = f". What to do: {remedy}" if remedy else ""
    return f"{what}{place}{advice}"


def finished_line(summary: Mapping[str, Any]) -> str:
    """How a run ended, in numbers."""
    counts = [f"{summary[status]:,} {status}" for status in ("success", "failed", "skipped", "waiting")]
    shown = [text for text in counts if not text.startswith("0 ")]
    beginning = "interrupted" if summary["interrupted"] else "finished"
    total = f"{summary['total']:,} {plural(summary['total'], 'job')}"
    return f"{beginning} after {duration_text(summary['elapsed_seconds'])}: {total}: {', '.join(shown)}"


def quality_texts(metrics: Mapping[str, Any]) -> dict[str, str]:
    """The picture quality a stage measured, in dB to one decimal, by metric."""
    return {
        name: f"{metrics[name]:.1f}"
        for name in QUALITY_METRICS
        if isinstance(metrics.get(name), (int, float)) and math.isfinite(metrics[name])
    }


def plural(count: int, word: str) -> str:
    """The word, with an s unless there is one."""
    return word if count == 1 else f"{word}s"
