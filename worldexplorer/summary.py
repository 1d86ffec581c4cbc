"""`batch_summary.json`: what became of every job of every run over one `output_base`.

It is a pure function of the plans and records in the storage, so that parallel runs over one `output_base` leave the
whole truth whichever ends last, and `worldexplorer summary` can write it again at any time.

Example:
    >>> summary = write_summary(storage, run_id, elapsed_seconds=12.5, interrupted=False)
    >>> summary["total"], summary["success"], summary["failed_indices"]
    (4, 3, '2')
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from worldexplorer import __version__, layout
from worldexplorer.config import STAGE_NAMES
from worldexplorer.errors import DefectError, ErrorClass
from worldexplorer.layout import JobId
from worldexplorer.plan import PlanFile, PlannedJob
from worldexplorer.questions import ASKING_STAGES, read_question
from worldexplorer.records import StageRecord
from worldexplorer.selection import format_indices
from worldexplorer.storage import AlreadyExistsError, ChangedError, NotFoundError, Storage
from worldexplorer.versions import library_versions

SUMMARY_SCHEMA_VERSION = 1
_logger = logging.getLogger(__name__)
STATUSES = ("success", "failed", "skipped", "waiting")
_STAGE_NUMBERS = {name: number for number, name in STAGE_NAMES.items()}


def write_summary(storage: Storage, run_id: str, *, elapsed_seconds: float, interrupted: bool) -> dict[str, Any]:
    """Build the summary from what the storage holds and put it in place, however many runs do so at once."""
    while True:
        try:
            _, version = storage.read_versioned(layout.SUMMARY)
        except NotFoundError:
            version = ""
        summary = build_summary(storage, run_id, elapsed_seconds=elapsed_seconds, interrupted=interrupted)
        data = (json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
        try:
            if version:
                storage.replace(layout.SUMMARY, data, version)
            else:
                storage.create(layout.SUMMARY, data)
        except (AlreadyExistsError, ChangedError, NotFoundError):
            continue  # another run wrote its own meanwhile: look again at what there is
        return summary


def build_summary(storage: Storage, run_id: str, *, elapsed_seconds: float, interrupted: bool) -> dict[str, Any]:
    """The summary as JSON values; `run_id` names the run whose settings and time it states."""
    plans = read_plans(storage)
    this = next((plan for plan in plans if plan.run_id == run_id), None)
    if this is None:
        raise DefectError("the run has no plan", where=layout.plan(run_id))
    newest: dict[JobId, tuple[PlanFile, PlannedJob, str]] = {}
    for plan in plans:
        stopped = {layout.JobId(one.index, one.variant): one.reason for one in plan.not_run}
        newest |= {job.id: (plan, job, stopped.get(job.id, "")) for job in plan.jobs}
    results = storage.map(lambda job: _result(storage, *newest[job]), sorted(newest))
    counts = {status: sum(entry["status"] == status for entry in results) for status in STATUSES}
    return {
        "schema_version": SUMMARY_SCHEMA_VERSION,
        "total": len(results),
        **counts,
        "failed_indices": format_indices(entry["index"] for entry in results if entry["status"] == "failed"),
        "elapsed_seconds": round(elapsed_seconds, 3),
        "only_stages": list(this.only_stages),
        "scaffold_method": this.scaffold_method,
        "engine": this.engine,
        "engine_label": this.engine_label,
        "interrupted": interrupted,
        "dataset_dir": this.dataset_dir,
        "output_base": storage.uri,
        "run_id": run_id,
        "code_version": __version__,
        "versions": library_versions(),
        "results": results,
        "skipped_variants": [one.model_dump() for one in this.skipped],
        "warnings": list(this.warnings),
    }


def read_plans(storage: Storage) -> list[PlanFile]:
    """The plans of all runs over this storage, oldest first; one that cannot be read is left out with a warning."""
    keys = [info.key for info in storage.list(layout.RUNS) if info.key.endswith("/plan.json")]
    plans = [plan for plan in storage.map(lambda key: _read_plan(storage, key), keys) if plan is not None]
    return sorted(plans, key=lambda plan: (plan.created_at, plan.run_id))


def _read_plan(storage: Storage, key: str) -> PlanFile | None:
    try:
        return PlanFile.from_json(storage.read(key), where=key)
    except DefectError as error:
        _logger.warning("jobs that only this run planned are not in the summary: %s", error)
        return None


def _result(storage: Storage, plan: PlanFile, planned: PlannedJob, stopped: str) -> dict[str, Any]:
    """What became of one job in the newest run that planned it."""
    job = planned.id
    records, problem = _read_records(storage, job)
    failure = _failure(storage, plan, planned)
    error = _describe(failure) if failure is not None else problem
    waiting = _question(storage, plan, planned)
    committed = _up_to_date(records)
    status, reason = _status(plan, planned, stopped, records, committed, error, waiting)
    last = committed[-1] if committed else None
    entry: dict[str, Any] = {
        "index": planned.index,
        "variant": planned.variant,
        "status": status,
        "reason": reason,
        # A world is no better than what it was made from, whichever run made that.
        "quality": "degraded" if any(record.quality == "degraded" for record in committed) else "ok",
        "stages_completed": [_STAGE_NUMBERS[record.stage] for record in committed],
        "scaffold_path": None,
        "scene_path": None,
        "export_path": None,
        "contact_sheet": None,
        "engine": last.engine if last is not None else plan.engine,
        "run_id": plan.run_id,
        "seconds": {record.stage: record.seconds for record in committed},
        "peak_memory_mib": {record.stage: record.peak_memory_mib for record in committed},
        "metrics": {name: value for record in committed for name, value in record.metrics.items()},
        "notes": [note for record in committed for note in record.notes],
        "shortcuts": {name: value for record in committed for name, value in record.shortcuts.items()},
        "retries": sum(len(record.retries) for record in committed),
        "error": error,
    }
    for record in committed:
        entry |= {name: f"{layout.job_folder(job)}/{path}" for name, path in record.outputs.items()}
    sheet = f"{layout.job_folder(job)}/{layout.CONTACT_SHEET}"
    entry["contact_sheet"] = sheet if storage.stat(sheet) is not None else None
    return entry


def _up_to_date(records: dict[str, StageRecord]) -> list[StageRecord]:
    """The committed stages in order, up to the first that was made from something else than what is there now."""
    found: list[StageRecord] = []
    for record in records.values():
        made_from = (record.input.fingerprint, record.input.content) if record.input is not None else None
        if found and made_from != (found[-1].fingerprint, found[-1].content):
            break
        found.append(record)
    return found


def _status(
    plan: PlanFile,
    planned: PlannedJob,
    stopped: str,
    records: dict[str, StageRecord],
    committed: Sequence[StageRecord],
    error: dict[str, str] | None,
    waiting: StageRecord | None,
) -> tuple[str, str]:
    if error is not None:
        return "failed", error["message"]
    if waiting is not None:
        return "waiting", "; ".join(waiting.notes)
    current = {record.stage for record in committed}
    missing = [stage for stage in planned.stages if stage not in current]
    if stopped and (missing or not _finished_since(plan, records[planned.stages[-1]])):
        return "skipped", stopped
    if missing and missing[0] in records:
        return "skipped", f"its {missing[0]} is older than what it was made from; the same command makes it again"
    if missing:
        return "skipped", f"run {plan.run_id} has left no record of {missing[0]}: it is still at work, or was killed"
    return "success", ""


def _finished_since(plan: PlanFile, record: StageRecord) -> bool:
    """Whether a job that the plan's run did not get to was finished by another run meanwhile."""
    return datetime.fromisoformat(record.finished_at) > datetime.fromisoformat(plan.created_at)


def _failure(storage: Storage, plan: PlanFile, planned: PlannedJob) -> StageRecord | None:
    """The failure that the run itself recorded for the job."""
    for stage in STAGE_NAMES.values():
        try:
            record = _read(storage, layout.failed_record(planned.id, stage))
        except DefectError as error:  # what failed is told by the next run, which meets it again or has done better
            _logger.warning("%s", error)
            continue
        if record is not None and record.run_id == plan.run_id:
            return record
    return None


def _question(storage: Storage, plan: PlanFile, planned: PlannedJob) -> StageRecord | None:
    """What the job waits for a person to say, as the run itself or a later one found."""
    for stage in planned.stages:
        try:
            record = read_question(storage, planned.id, stage) if stage in ASKING_STAGES else None
        except DefectError as error:  # the next run meets it again, and says so
            _logger.warning("%s", error)
            continue
        if record is not None and (record.run_id == plan.run_id or _finished_since(plan, record)):
            return record
    return None


def _read_records(storage: Storage, job: JobId) -> tuple[dict[str, StageRecord], dict[str, str] | None]:
    """The committed records of a job by stage, and what is wrong with the first that cannot be read."""
    records: dict[str, StageRecord] = {}
    problem: dict[str, str] | None = None
    for stage in STAGE_NAMES.values():
        try:
            record = _read(storage, layout.record(job, stage))
        except DefectError as error:
            problem = problem or _error_entry(stage, error.error_class, error.what, error.where, error.remedy)
            continue
        if record is not None:
            records[stage] = record
    return records, problem


def _read(storage: Storage, key: str) -> StageRecord | None:
    try:
        return StageRecord.from_json(storage.read(key), where=key)
    except NotFoundError:
        return None


def _describe(failure: StageRecord) -> dict[str, str]:
    error = failure.error
    assert error is not None, "a failure says what failed"
    return _error_entry(failure.stage, error.error_class, error.message, error.where, error.remedy)


def _error_entry(stage: str, kind: ErrorClass, message: str, where: str, remedy: str) -> dict[str, str]:
    return {"stage": stage, "class": kind.value, "message": message, "where": where, "remedy": remedy}
