"""What runs have really made, by the plans and records that they left in storage.

A run's state says whether its pods ended well, not which worlds are there; and a `batch_summary.json` can be older than
the runs, when the pod that writes it was lost or cancelled with its run. So the summary is made again here from the
records, which is what the file is made from too, and compared with the file. Nothing is written.

Example:
    >>> verdict = judge(open_storage("gs://bucket/out"), [run_id])
    >>> verdict.passed, verdict.summary["failed_indices"]
    (False, '7')
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from worldexplorer import layout
from worldexplorer.batch import exit_code
from worldexplorer.errors import DefectError, UsageError
from worldexplorer.layout import JobId
from worldexplorer.plan import PlanFile, PlannedJob
from worldexplorer.pod.run_file import RunFile
from worldexplorer.records import StageRecord
from worldexplorer.storage import NotFoundError, Storage
from worldexplorer.summary import build_summary

_COMPARED = ("total", "success", "failed", "skipped", "waiting", "failed_indices", "results")


@dataclass(frozen=True)
class Verdict:
    """Whether runs made all that they were to make.

    Attributes:
        passed: every job that the runs planned has succeeded.
        summary: as in `batch_summary.json`, of every run over the storage; None where no plan is there.
        notes: what else a person should know, one line each.
    """

    passed: bool
    summary: Mapping[str, Any] | None
    notes: tuple[str, ...]


def judge(storage: Storage, run_ids: Sequence[str], seconds: float | None = None) -> Verdict:
    """Look at what runs left.

    Args:
        storage: their `output_base`.
        run_ids: the runs; jobs of other runs are shown, and are theirs to answer for.
        seconds: how long the runs took, for a summary whose file does not say it.
    """
    notes: list[str] = []
    plans: list[PlanFile] = []
    for run_id in run_ids:
        try:
            plans.append(PlanFile.from_json(storage.read(layout.plan(run_id)), where=layout.plan(run_id)))
        except NotFoundError:
            notes.append(f"run {run_id} left no plan: {_why_no_plan(storage, run_id)}")
        except DefectError as error:
            notes.append(f"run {run_id}: {error}")
    if not plans:
        return Verdict(False, None, tuple(notes))
    newest = max(plans, key=lambda plan: (plan.created_at, plan.run_id))
    stored = _stored(storage)
    elapsed = float(stored.get("elapsed_seconds", 0.0)) if seconds is None else seconds
    summary = build_summary(
        storage, newest.run_id, elapsed_seconds=elapsed, interrupted=bool(stored.get("interrupted", False))
    )
    if all(stored.get(name) == summary[name] for name in _COMPARED):
        summary = stored  # it says more: how long the newest run took as the cluster saw it
    else:
        state = "is older than the runs" if stored else "is not there, or cannot be read"
        notes.append(
            f"{storage.uri}/{layout.SUMMARY} {state}; this is what the records say, and it is written again by: "
            f"worldexplorer summary {storage.uri} --rebuild"
        )
    untouched = [line for plan in plans for line in _untouched(storage, plan)]
    notes += untouched
    planned = {job.id for plan in plans for job in plan.jobs}
    shown = {JobId(entry["index"], entry["variant"]) for entry in summary["results"]}
    complete = len(plans) == len(run_ids) and planned <= shown
    passed = complete and not untouched and exit_code(summary, planned) == 0
    return Verdict(passed, summary, tuple(notes))


def _untouched(storage: Storage, plan: PlanFile) -> list[str]:
    """Jobs that the run was to make again and whose results are still those from before it, one line each.

    The last pod of a run says the same in the summary; this is for the run that lost that pod too.
    """
    try:
        run_file = RunFile.load(storage, plan.run_id)
    except UsageError:  # a plan without more, as a batch on one machine leaves it: nothing to compare with
        return []
    except DefectError as error:
        return [f"run {plan.run_id}: {error}"]
    began_at = datetime.fromisoformat(run_file.began_at)

    def line(job: PlannedJob) -> str:
        for stage in run_file.to_run.get(str(job.id), ()):
            try:
                record = StageRecord.from_json(storage.read(layout.record(job.id, stage)), where=str(job.id))
            except (NotFoundError, DefectError):
                continue  # the summary itself says so of its job
            if datetime.fromisoformat(record.finished_at) < began_at:
                return f"{job.id}: run {plan.run_id} was to make {stage} again, and its result is still the old one"
        return ""

    return [text for text in storage.map(line, plan.jobs) if text]


def _stored(storage: Storage) -> dict[str, Any]:
    """The summary in the storage; empty where none can be read."""
    try:
        document = json.loads(storage.read(layout.SUMMARY))
    except (NotFoundError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _why_no_plan(storage: Storage, run_id: str) -> str:
    """What the planning pod says went wrong, where it could say anything."""
    try:
        return str(json.loads(storage.read(layout.plan_failure(run_id)))["error"])
    except NotFoundError:
        return "its first pod did not get to it; the run's page shows that pod's events and log"
    except (ValueError, KeyError, TypeError):
        return "and why cannot be read"
