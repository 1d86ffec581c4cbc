"""The pod that ends a run, however it went: every job gets its word, then `batch_summary.json` is written.

The pipeline runs it as its exit handler. By then every other pod is gone, so a job without any record of its own says
one thing only: its pod was killed before it could write one, or never started. That is written down as its failure.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from worldexplorer import layout
from worldexplorer.engines import load_engine
from worldexplorer.errors import DefectError, InfrastructureError, describe_error
from worldexplorer.layout import JobId
from worldexplorer.log import redact
from worldexplorer.plan import NotRun, PlanFile, PlannedJob
from worldexplorer.pod.abort import aborted
from worldexplorer.pod.executor import Executor
from worldexplorer.pod.pages import failure_markdown, failure_page, summary_markdown, summary_page
from worldexplorer.pod.plan import read_plan_failure
from worldexplorer.pod.run_file import RunFile
from worldexplorer.records import StageRecord
from worldexplorer.stage import StageRunner
from worldexplorer.storage import NotFoundError, Storage, open_storage
from worldexplorer.summary import STATUSES, write_summary
from worldexplorer.worker import EngineLoader

_logger = logging.getLogger(__name__)


def run_summary(executor: Executor, load: EngineLoader = load_engine) -> None:
    """Close a run and tell of it."""
    storage = open_storage(executor.text("output_base"))
    run_id = executor.text("run_id")
    try:
        plan = PlanFile.from_json(storage.read(layout.plan(run_id)), where=layout.plan(run_id))
    except NotFoundError:
        _tell_of_no_plan(executor, storage, run_id)
        return
    _close(storage, plan, load)
    elapsed = (datetime.now(UTC) - datetime.fromisoformat(plan.created_at)).total_seconds()
    summary = write_summary(storage, run_id, elapsed_seconds=elapsed, interrupted=False)
    executor.write_text("summary", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    executor.describe("summary", {"uri_of_record": f"{storage.uri}/{layout.SUMMARY}"})
    executor.write_text("report", summary_page(summary, storage))
    executor.write_text("table", summary_markdown(summary))
    executor.write_text("metrics", "")
    executor.describe("metrics", {name: summary[name] for name in ("total", *STATUSES, "elapsed_seconds")})
    executor.set_parameter("failed_indices", summary["failed_indices"])
    executor.finish()


def _tell_of_no_plan(executor: Executor, storage: Storage, run_id: str) -> None:
    message = read_plan_failure(storage, run_id) or (
        "the plan's pod left no word: it never started, or was killed; look at its events and its log"
    )
    _logger.error("%s", message)
    executor.write_text("summary", json.dumps({"run_id": run_id, "error": message}) + "\n")
    executor.write_text("report", failure_page(message))
    executor.write_text("table", failure_markdown(message))
    executor.write_text("metrics", "")
    executor.describe("metrics", {"total": 0})
    executor.set_parameter("failed_indices", "")
    executor.finish()


def _close(storage: Storage, plan: PlanFile, load: EngineLoader) -> None:
    """Give every job that left no word its word."""
    run_file, reason = _run_file(storage, plan.run_id)
    stages = _stages_left(storage, plan, run_file)
    unfinished = [(job, stage) for job, stage in zip(plan.jobs, stages, strict=True) if stage]
    if not unfinished:
        return
    if run_file is None or reason:
        not_run = tuple(NotRun(index=job.index, variant=job.variant, reason=reason) for job, _ in unfinished)
        storage.write(layout.plan(plan.run_id), plan.model_copy(update={"not_run": not_run}).to_json())
        return
    runner = StageRunner(storage, run_file.config, load(run_file.config), plan.run_id)
    for job, stage in unfinished:
        runner.record_failure(job.id, stage, _no_record(job.id, stage))


def _run_file(storage: Storage, run_id: str) -> tuple[RunFile | None, str]:
    """What the pods went by, and why they did not run where that is known."""
    reason = aborted(storage, run_id) or read_plan_failure(storage, run_id)
    try:
        return RunFile.load(storage, run_id), reason
    except Exception as error:  # noqa: BLE001 (the summary of what there is matters more)
        _logger.error("%s", error)
        return None, reason or f"no stage could begin: {redact(describe_error(error)[0])}"


def _stages_left(storage: Storage, plan: PlanFile, run_file: RunFile | None) -> list[str]:
    """For each job the first stage that has neither been committed by now nor said why; empty where all is told."""
    began_at = datetime.fromisoformat(plan.created_at if run_file is None else run_file.began_at)
    to_run = {} if run_file is None else run_file.to_run

    def is_old(job: JobId, record: StageRecord) -> bool:
        """Whether the record is still the one that this run was to replace."""
        was_to_run = record.stage in to_run.get(str(job), ())
        return was_to_run and record.run_id != plan.run_id and datetime.fromisoformat(record.finished_at) < began_at

    def first_left(job: PlannedJob) -> str:
        if any(_is_own_failure(storage, plan.run_id, job.id, stage) for stage in job.stages):
            return ""
        before: StageRecord | None = None
        for stage in job.stages:
            key = layout.record(job.id, stage)
            try:
                record = StageRecord.from_json(storage.read(key), where=key)
            except NotFoundError:
                return stage
            except DefectError as error:  # the summary tells of a damaged record
                _logger.warning("%s", error)
                return ""
            if is_old(job.id, record) or not record.published or not _is_made_from(record, before):
                return stage
            before = record
        return ""

    return storage.map(first_left, plan.jobs)


def _is_made_from(record: StageRecord, before: StageRecord | None) -> bool:
    if before is None or record.input is None:
        return True
    return (record.input.fingerprint, record.input.content) == (before.fingerprint, before.content)


def _is_own_failure(storage: Storage, run_id: str, job: JobId, stage: str) -> bool:
    key = layout.failed_record(job, stage)
    try:
        return StageRecord.from_json(storage.read(key), where=key).run_id == run_id
    except NotFoundError:
        return False
    except DefectError as error:  # whose it was cannot be told any more
        _logger.warning("%s", error)
        return False


def _no_record(job: JobId, stage: str) -> InfrastructureError:
    return InfrastructureError(
        f"no_record: the pod of {stage} left no word of its end: it was killed (out of memory, eviction, a lost node) "
        "or never started (no such node, no such image)",
        where=str(job),
        remedy="look at the pod's events and log, then start the run again: it goes on where it stopped",
    )
