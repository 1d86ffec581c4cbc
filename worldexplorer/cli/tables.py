"""What a person reads at the end of a run: one row a job, then what to look at and what to do next.

Example:
    >>> console.show(summary_report(summary, console.width))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from worldexplorer import layout
from worldexplorer.cli.estimate import duration_text
from worldexplorer.cli.output import plain
from worldexplorer.cli.wording import QUALITY_METRICS, error_text, finished_line, plural, quality_texts
from worldexplorer.config import STAGE_NAMES
from worldexplorer.layout import JobId

ROWS_SHOWN = 50
LINES_SHOWN = 20
_WIDTH_WITH_PATHS = 133
_HEADINGS = {"psnr_train": "train", "psnr_heldout": "heldout", "psnr_input_view": "photo"}
VIEWER = "https://superspl.at/editor"
_STYLES = {"success": "green", "failed": "red", "skipped": "yellow", "waiting": "yellow"}
_ATTENTION = ("failed", "waiting", "skipped", "success")


def summary_report(summary: Mapping[str, Any], width: int) -> list[RenderableType]:
    """The table of `batch_summary.json` and what follows from it, for a console `width` characters wide."""
    results: Sequence[Mapping[str, Any]] = summary["results"]
    parts: list[RenderableType] = [_results_table(results, with_paths=width >= _WIDTH_WITH_PATHS)]
    if len(results) > ROWS_SHOWN:
        parts.append(plain(f"... and {len(results) - ROWS_SHOWN:,} more jobs in {layout.SUMMARY}"))
    parts.append(plain(f"{finished_line(summary)}  [{summary['engine_label']}]", "bold"))
    parts.append(plain(f"{summary['output_base']}/{layout.SUMMARY} has everything"))
    parts += bounded_lines([_reason(entry) for entry in results if entry["reason"] and entry["status"] != "failed"])
    parts += bounded_lines([_error(entry) for entry in results if entry["error"]], "red")
    parts += bounded_lines([f"warning: {text}" for text in summary["warnings"]], "yellow")
    return parts + _advice(summary)


def bounded_lines(lines: Sequence[str], style: str = "") -> list[RenderableType]:
    """The first lines as texts, and how many more there are."""
    shown: list[RenderableType] = [plain(line, style) for line in lines[:LINES_SHOWN]]
    if len(lines) > LINES_SHOWN:
        shown.append(plain(f"... and {len(lines) - LINES_SHOWN:,} more", style))
    return shown


def new_table() -> Table:
    """A table in the one look of this program."""
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))


def _results_table(results: Sequence[Mapping[str, Any]], *, with_paths: bool) -> Table:
    table = new_table()
    metrics = [name for name in QUALITY_METRICS if any(name in quality_texts(entry["metrics"]) for entry in results)]
    table.add_column("job", overflow="fold")
    table.add_column("status", no_wrap=True)
    for stage in STAGE_NAMES.values():
        table.add_column(stage, justify="right", no_wrap=True)
    for name in metrics:
        table.add_column(f"PSNR dB\n{_HEADINGS[name]}", justify="right")
    if with_paths:
        table.add_column("world", overflow="fold")
    for entry in _most_urgent(results):
        quality = quality_texts(entry["metrics"])
        table.add_row(
            plain(_job(entry)),
            _status(entry),
            *(plain(_duration(entry["seconds"].get(stage))) for stage in STAGE_NAMES.values()),
            *(plain(quality.get(name, "-")) for name in metrics),
            *([plain(entry["export_path"] or "-")] if with_paths else []),
        )
    return table


def _most_urgent(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """As many results as the table shows, those that need a person before the others, in the order of the batch."""
    places = sorted(range(len(results)), key=lambda place: _ATTENTION.index(results[place]["status"]))
    return [results[place] for place in sorted(places[:ROWS_SHOWN])]


def _status(entry: Mapping[str, Any]) -> Text:
    note = f" ({entry['quality']})" if entry["quality"] != "ok" else ""
    return plain(entry["status"] + note, _STYLES[entry["status"]])


def _reason(entry: Mapping[str, Any]) -> str:
    return f"{_job(entry)} {entry['status']}: {entry['reason']}"


def _error(entry: Mapping[str, Any]) -> str:
    error = entry["error"]
    return f"{_job(entry)} {error['stage']} failed: {error_text(error['message'], error['where'], error['remedy'])}"


def _advice(summary: Mapping[str, Any]) -> list[RenderableType]:
    """Where to look and what to type next."""
    lines: list[RenderableType] = []
    base = summary["output_base"]
    sheets = [entry["contact_sheet"] for entry in summary["results"] if entry["contact_sheet"]]
    worlds = [entry for entry in summary["results"] if entry["export_path"]]
    if sheets:
        more = f" ({len(sheets)} contact {plural(len(sheets), 'sheet')})" if len(sheets) > 1 else ""
        lines.append(plain(f"look at   {base}/{sheets[0]}{more}"))
    if worlds:
        folder = layout.job_folder(JobId(worlds[0]["index"], worlds[0]["variant"]))
        lines.append(plain(f"walk in   drop {base}/{folder}/{layout.SPLAT_ROTATED_PLY} on {VIEWER}"))
    if summary["failed_indices"]:
        lines.append(plain(f"again     run the same command with: --indices {summary['failed_indices']}", "red"))
    return lines


def _job(entry: Mapping[str, Any]) -> str:
    return layout.job_folder(JobId(entry["index"], entry["variant"]))


def _duration(seconds: float | None) -> str:
    return "-" if seconds is None else duration_text(seconds)
