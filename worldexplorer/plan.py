"""The plan of a run: which jobs, which of their stages run, are reused or cannot run, and why.

The dry run prints it; the run writes it to `runs/RUN_ID/plan.json` before its first job, so that the summary can count
jobs that never got to write anything.

Example:
    >>> plan = make_plan(storage, run, jobs, engine, run_id, definitions)
    >>> plan.jobs[0].stages, plan.jobs[0].decisions[0].action
    (('scaffold', 'trajectory', 'splat'), <Action.RUN: 'run'>)
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from worldexplorer import __version__, layout, overrides
from worldexplorer.config import SCAFFOLD_GEN, STAGE_NAMES, RunConfig
from worldexplorer.context import StageDefinition
from worldexplorer.dataset import Job, JobList
from worldexplorer.decision import Action, Decision, decide_job, stages_of
from worldexplorer.engine import Engine
from worldexplorer.errors import DefectError, UserError, describe_error
from worldexplorer.photo import check_header
from worldexplorer.scaffold.prompts import require_texts
from worldexplorer.storage import Storage

PLAN_SCHEMA_VERSION = 1


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PlannedJob(_Model):
    """A job of a run and the stages it is to go through."""

    index: int
    variant: str
    stages: tuple[str, ...]

    @property
    def id(self) -> layout.JobId:
        """The job."""
        return layout.JobId(self.index, self.variant)


class NotRun(_Model):
    """A job that the run did not get to."""

    index: int
    variant: str
    reason: str


class PlanFile(_Model):
    """`runs/RUN_ID/plan.json`."""

    schema_version: int = PLAN_SCHEMA_VERSION
    run_id: str
    created_at: str
    code_version: str = __version__
    dataset_dir: str
    engine: str
    engine_label: str
    only_stages: tuple[int, ...]
    scaffold_method: str
    jobs: tuple[PlannedJob, ...]
    skipped: tuple[NotRun, ...] = ()
    warnings: tuple[str, ...] = ()
    not_run: tuple[NotRun, ...] = Field(default=())
    """Filled when the run ends before its last job."""

    def to_json(self) -> bytes:
        """The plan as it is stored."""
        return (self.model_dump_json(indent=1) + "\n").encode()

    @staticmethod
    def from_json(data: bytes, where: str) -> PlanFile:
        """Read a plan; DefectError where it is damaged or of another schema."""
        try:
            plan = PlanFile.model_validate_json(data)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in problem["loc"])
            raise DefectError(f"a plan cannot be read: {place}: {problem['msg']}", where=where) from None
        if plan.schema_version != PLAN_SCHEMA_VERSION:
            raise DefectError(
                f"a plan has schema {plan.schema_version}, this version reads {PLAN_SCHEMA_VERSION}", where=where
            )
        return plan


@dataclass(frozen=True)
class JobPlan:
    """What happens to one job."""

    job: Job
    stages: tuple[str, ...]
    decisions: tuple[Decision, ...]
    problem: str = ""
    """What is wrong with what the job starts from: its photo, as far as the header tells, or that it says nothing."""

    @property
    def is_finished(self) -> bool:
        """Whether every stage is committed, published and up to date."""
        return all(
            decision.action is Action.REUSE
            and decision.existing.record is not None
            and decision.existing.record.published
            for decision in self.decisions
        )


@dataclass(frozen=True)
class BatchPlan:
    """What happens to every job of a run."""

    run_id: str
    jobs: tuple[JobPlan, ...]
    file: PlanFile


def new_run_id() -> str:
    """A run's name: its start in UTC and a random part, so that parallel runs differ and names sort by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def make_plan(
    storage: Storage,
    run: RunConfig,
    jobs: JobList,
    engine: Engine,
    run_id: str,
    definitions: Sequence[StageDefinition[Any]],
) -> BatchPlan:
    """Decide about every job; reads records and photo headers, writes nothing."""
    plans = tuple(storage.map(lambda job: _plan_job(storage, run, job, engine, definitions), jobs.jobs))
    file = PlanFile(
        run_id=run_id,
        created_at=datetime.now(UTC).isoformat(),
        dataset_dir=run.batch.dataset_dir,
        engine=engine.name,
        engine_label=engine.label,
        only_stages=run.batch.only_stages,
        scaffold_method=run.scaffold.scaffold_method,
        jobs=tuple(PlannedJob(index=plan.job.index, variant=plan.job.variant, stages=plan.stages) for plan in plans),
        skipped=tuple(NotRun(index=one.index, variant=one.variant, reason=one.reason) for one in jobs.skipped),
        warnings=tuple(jobs.warnings),
    )
    return BatchPlan(run_id, plans, file)


def _plan_job(
    storage: Storage,
    run: RunConfig,
    job: Job,
    engine: Engine,
    definitions: Sequence[StageDefinition[Any]],
) -> JobPlan:
    stages = stages_of(job, run)
    decisions = _fresh(storage, job, stages) or tuple(
        _without_files(decision) for decision in decide_job(storage, definitions, job, run, engine)
    )
    first = decisions[0]
    problem = ""
    begins = first.stage == STAGE_NAMES[1] and first.action is Action.RUN
    if begins and job.unfetched is not None:
        problem = str(job.unfetched)
    elif begins and job.scaffold_path is None:
        try:
            if run.scaffold.scaffold_method == SCAFFOLD_GEN:
                require_texts(job, overrides.prompts(job), overrides.theme(job, run.scaffold))
            if job.image is not None:
                check_header(job.image)
        except UserError as error:
            problem = str(error)
        except OSError as error:  # this photo cannot be read; other jobs have theirs
            problem = describe_error(error)[0]
    return JobPlan(job, stages, decisions, problem)


def _without_files(decision: Decision) -> Decision:
    """The decision without the list of files it was made on: a plan holds thousands of jobs with thousands of files."""
    record = decision.existing.record
    if record is None:
        return decision
    return replace(decision, existing=replace(decision.existing, record=record.model_copy(update={"files": []})))


def _fresh(storage: Storage, job: Job, stages: Sequence[str]) -> tuple[Decision, ...]:
    """The decisions of a job without a folder yet, whose stages are an unbroken chain from the first; else empty.

    Deciding needs the photo's checksum only to compare it with a record's: without one, 10,000 photos need not be read.
    """
    unbroken = list(stages) == list(STAGE_NAMES.values())[: len(stages)]
    if not unbroken or storage.exists(layout.job_folder(job.id)):
        return ()
    return tuple(Decision(stage, Action.RUN, "no result yet") for stage in stages)
