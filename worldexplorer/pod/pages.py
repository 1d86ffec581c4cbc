"""What the pipeline's pages show: the plan, one stage's result, the whole batch.

Example:
    >>> executor.write_text("preview", stage_page(storage, job, record))
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from PIL import Image

from worldexplorer import layout
from worldexplorer.cli.estimate import duration_text
from worldexplorer.cli.output import one_line
from worldexplorer.cli.wording import error_text, finished_line, quality_texts
from worldexplorer.config import STAGE_NAMES
from worldexplorer.layout import JobId
from worldexplorer.plan import BatchPlan, JobPlan
from worldexplorer.records import StageRecord
from worldexplorer.report import html
from worldexplorer.storage import NotFoundError, Storage

_SHEET_WIDTH = 1400
_THUMBNAIL_WIDTH = 700
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#&~$!])")
_SHOWN_FILE = re.compile(r"(splat|scenes/[^/]+/img2trajvid)/[^/]+\.(ply|spz|mp4)")
"""What a person takes along: the world in all its forms, films of it, and the point cloud."""
_logger = logging.getLogger(__name__)


def plan_page(plan: BatchPlan, scheduled: Sequence[JobPlan], failures: Mapping[JobId, StageRecord]) -> str:
    """The plan as Markdown: what runs, what is reused, what cannot run and why."""
    going = {one.job.id for one in scheduled}
    rows = []
    for one in plan.jobs:
        failure = failures.get(one.job.id)
        if failure is not None and failure.error is not None:
            what = f"cannot run: {failure.error.message}"
        elif one.job.id in going:
            what = "; ".join(f"{step.stage}: {step.action} ({step.reason})" for step in one.decisions)
        else:
            what = "finished before" if one.is_finished else "not scheduled"
        rows.append((str(one.job.id), what))
    lines = [
        f"# Plan of run {_escaped(plan.run_id)}",
        "",
        f"{len(plan.jobs)} jobs, {len(going)} of them to run ({_escaped(plan.file.engine_label)}).",
        "",
        *_table(("job", "what happens"), rows),
    ]
    skipped = [(f"{one.variant}/{layout.sample_name(one.index)}", one.reason) for one in plan.file.skipped]
    if skipped:
        lines += ["", "## Variants with nothing to start from", "", *_table(("variant", "why"), skipped)]
    lines += ["", "## Warnings", ""] if plan.file.warnings else []
    lines += [f"* {_escaped(text)}" for text in plan.file.warnings]
    return "\n".join(lines) + "\n"


def stage_page(storage: Storage, job: JobId, record: StageRecord) -> str:
    """One stage's result as HTML: the job's contact sheet, figures and notes."""
    sheet = _sheet(storage, job, _SHEET_WIDTH)
    parts = [sheet] if sheet is not None else []
    facts: list[tuple[str, str | float]] = [
        ("seconds", record.seconds),
        ("files", len(record.files)),
        ("quality", record.quality),
        ("fingerprint", record.fingerprint),
        *((f"shortcut {name}", _shown(value)) for name, value in record.shortcuts.items()),
        *((name, _shown(value)) for name, value in record.metrics.items()),
    ]
    if record.peak_memory_mib is not None:
        facts.insert(1, ("peak memory, MiB", record.peak_memory_mib))
    parts.append(html.table(("figure", "value"), facts))
    parts += [html.paragraph(note) for note in record.notes]
    shown = [(entry.path, entry.size) for entry in record.files if _SHOWN_FILE.fullmatch(entry.path)]
    if shown:
        parts.append(html.table(("file", "bytes"), shown))
    parts.append(html.paragraph(f"Files: {storage.uri}/{layout.job_folder(job)}"))
    return html.document(f"{job}: {record.stage}", record.engine_label, parts)


def summary_page(summary: Mapping[str, Any], storage: Storage) -> str:
    """The whole batch as HTML: a table of all jobs, then the contact sheets of those that this run planned."""
    results: Sequence[Mapping[str, Any]] = summary["results"]
    headings = (
        "job",
        "status",
        *STAGE_NAMES.values(),
        "PSNR, dB",
        "world",
        "what went wrong",
    )
    rows = [_result_row(entry) for entry in results]
    parts = [
        html.paragraph(finished_line(summary)),
        html.paragraph(f"Everything: {summary['output_base']}/{layout.SUMMARY}"),
        html.table(headings, rows),
    ]
    if summary["failed_indices"]:
        parts.append(html.paragraph(f"To run the failed ones again: indices {summary['failed_indices']}"))
    # Other runs over the same output show their own worlds: a batch may have thousands, and a page holds a hundred.
    own = [_job(entry) for entry in results if entry["run_id"] == summary["run_id"]]
    for job, sheet in zip(own, storage.map(lambda job: _sheet(storage, job, _THUMBNAIL_WIDTH), own), strict=True):
        parts += [html.heading(str(job)), sheet] if sheet is not None else []
    return html.document(f"Batch {summary['run_id']}", summary["engine_label"], parts)


def summary_markdown(summary: Mapping[str, Any]) -> str:
    """The whole batch as Markdown."""
    rows = [
        (
            str(_job(entry)),
            f"{entry['status']}{' (degraded)' if entry['quality'] != 'ok' else ''}",
            " ".join(str(number) for number in entry["stages_completed"]),
            entry["export_path"] or "",
            _problem(entry),
        )
        for entry in summary["results"]
    ]
    lines = [f"# {_escaped(finished_line(summary))}", "", f"{_escaped(summary['engine_label'])}", ""]
    lines += _table(("job", "status", "stages", "world", "what went wrong"), rows)
    if summary["failed_indices"]:
        lines += ["", f"To run the failed ones again: indices `{summary['failed_indices']}`"]
    return "\n".join(lines) + "\n"


def failure_markdown(message: str) -> str:
    """Why there is no summary."""
    return f"# The run was not planned\n\n{_escaped(message)}\n"


def failure_page(message: str) -> str:
    """Why there is no summary."""
    return html.document("The run was not planned", "", [html.paragraph(message)])


def _sheet(storage: Storage, job: JobId, width: int) -> html.Markup | None:
    """The job's contact sheet; None where there is none that can be shown, which is no reason to lose a page."""
    key = f"{layout.job_folder(job)}/{layout.CONTACT_SHEET}"
    try:
        with Image.open(io.BytesIO(storage.read(key))) as sheet:
            return html.picture(sheet, f"contact sheet of {job}", width)
    except NotFoundError:
        return None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow says of a bad file
        _logger.warning("%s cannot be shown: %s", key, error)
        return None


def _result_row(entry: Mapping[str, Any]) -> list[str | float | html.Markup]:
    quality = ", ".join(
        f"{name.removeprefix('psnr_')} {value}" for name, value in quality_texts(entry["metrics"]).items()
    )
    note = "" if entry["quality"] == "ok" else f" ({entry['quality']})"
    times = [
        duration_text(entry["seconds"][stage]) if stage in entry["seconds"] else "" for stage in STAGE_NAMES.values()
    ]
    return [
        str(_job(entry)),
        html.status(f"{entry['status']}{note}"),
        *times,
        quality,
        entry["export_path"] or "",
        _problem(entry),
    ]


def _problem(entry: Mapping[str, Any]) -> str:
    error = entry["error"]
    if error is None:
        return str(entry["reason"])
    return f"{error['stage']}: {error_text(error['message'], error['where'], error['remedy'])}"


def _job(entry: Mapping[str, Any]) -> JobId:
    return JobId(entry["index"], entry["variant"])


def _shown(value: Any) -> str | float:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(headings)} |",
        f"|{' --- |' * len(headings)}",
        *(f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in rows),
    ]


def _escaped(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", one_line(str(text)))
