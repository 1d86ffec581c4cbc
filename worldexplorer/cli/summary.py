"""`worldexplorer summary`: the table of a run, from `batch_summary.json` or from the records themselves.

Example:
    >>> run(["output/demo", "--rebuild"])
    0
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from worldexplorer import layout
from worldexplorer.cli.output import PlainConsole
from worldexplorer.cli.parser import Parser
from worldexplorer.cli.tables import summary_report
from worldexplorer.config import STAGE_NAMES
from worldexplorer.errors import DefectError, UsageError
from worldexplorer.plan import PlanFile
from worldexplorer.questions import ASKING_STAGES
from worldexplorer.records import StageRecord
from worldexplorer.storage import NotFoundError, Storage, open_storage
from worldexplorer.summary import SUMMARY_SCHEMA_VERSION, read_plans, write_summary


def run(argv: Sequence[str], program: str = "worldexplorer summary") -> int:
    """Print the table; with `--rebuild` write the summary again first."""
    parser = Parser(prog=program, description="Print what became of every job under an output folder.")
    parser.add_argument("output_base", nargs="?", metavar="OUTPUT_BASE", help="the folder a batch wrote to")
    parser.add_argument(
        "--rebuild", action="store_true", help="write batch_summary.json again from the plans and records"
    )
    words = parser.parse_words(argv)
    if words.output_base is None:
        raise UsageError("OUTPUT_BASE is missing", remedy=f"give it as {program} output/batch")
    storage = open_storage(words.output_base)
    summary = rebuild_summary(storage) if words.rebuild else read_summary(storage)
    console = PlainConsole()
    console.show(summary_report(summary, console.width))
    return 0


def read_summary(storage: Storage) -> dict[str, Any]:
    """The summary that the last run left; UsageError where there is none that can be read."""
    where = f"{storage.uri}/{layout.SUMMARY}"
    try:
        summary: dict[str, Any] = json.loads(storage.read(layout.SUMMARY))
        version = summary["schema_version"]
    except NotFoundError:
        remedy = "name the --output_base of a run"
        if storage.exists(layout.RUNS):
            remedy = f"its run was killed or is still at work: worldexplorer summary {storage.uri} --rebuild"
        raise UsageError("there is no summary", where=where, remedy=remedy) from None
    except (ValueError, TypeError, KeyError):
        remedy = f"write it again with: worldexplorer summary {storage.uri} --rebuild"
        raise UsageError("the summary cannot be read", where=where, remedy=remedy) from None
    if version != SUMMARY_SCHEMA_VERSION:
        raise UsageError(
            f"the summary has schema {version}, this version reads {SUMMARY_SCHEMA_VERSION}",
            where=where,
            remedy="use the version that wrote it, or --rebuild",
        )
    return summary


def rebuild_summary(storage: Storage) -> dict[str, Any]:
    """Write the summary of the newest run again from what the storage holds.

    Its time and whether it was interrupted are kept where the old summary is of the same run. Else the time is that
    from the plan to the last record, and a run that left a job without any record counts as interrupted.
    """
    plans = read_plans(storage)
    if not plans:
        raise UsageError("there is no run", where=storage.uri, remedy="name the --output_base of a run")
    newest = plans[-1]
    old = _old_summary(storage)
    if old.get("run_id") == newest.run_id:
        elapsed, interrupted = float(old["elapsed_seconds"]), bool(old["interrupted"])
    else:
        elapsed, interrupted = _seconds_on_record(storage, newest)
    return write_summary(storage, newest.run_id, elapsed_seconds=elapsed, interrupted=interrupted)


def _old_summary(storage: Storage) -> Mapping[str, Any]:
    try:
        return read_summary(storage)
    except UsageError:
        return {}


def _seconds_on_record(storage: Storage, plan: PlanFile) -> tuple[float, bool]:
    """From the plan to the last record of its run, and whether some job has no record of how it ended."""
    began = datetime.fromisoformat(plan.created_at)
    last = began
    interrupted = bool(plan.not_run)
    for job in plan.jobs:
        records = {stage: _record(storage, layout.record(job.id, stage)) for stage in STAGE_NAMES.values()}
        failures = [_record(storage, layout.failed_record(job.id, stage)) for stage in STAGE_NAMES.values()]
        questions = [_record(storage, layout.waiting_record(job.id, stage)) for stage in ASKING_STAGES]
        own = [
            one for one in (*records.values(), *failures, *questions) if one is not None and one.run_id == plan.run_id
        ]
        last = max([last, *(datetime.fromisoformat(one.finished_at) for one in own)])
        told = any(one.status != "committed" for one in own)
        interrupted |= not told and any(records[stage] is None for stage in job.stages)
    return (last - began).total_seconds(), interrupted


def _record(storage: Storage, key: str) -> StageRecord | None:
    """A record; None where there is none, or one that cannot be read: the summary itself says so of its job."""
    try:
        return StageRecord.from_json(storage.read(key), where=key)
    except (NotFoundError, DefectError):
        return None
