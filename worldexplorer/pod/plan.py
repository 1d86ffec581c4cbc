"""The pod that plans a run: which jobs there are, which of them have something to do, and what they start from.

Everything that is wrong with the parameters or the data set ends here, before any GPU is asked for. It leaves
`runs/RUN_ID/plan.json` (what the summary counts by), `run.json` (what the other pods go by) and, for a run that begins
after stage 1, the record that each job starts from. A plan that is made again, after its pod was lost, replaces these.
What ends it with an error is in `plan.failed.json`.

Jobs that cannot run (a photo that is none, a scaffold that is missing) get their failure record here and are not
scheduled. Unless the run continues on errors, one of them stops the run before it begins.

Output parameters: `jobs`, a list of {job_id, upstream_uri}, and `pending`, "yes" where that list holds anything.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from worldexplorer import layout, overrides
from worldexplorer.batch import PreparedBatch, prepare_batch
from worldexplorer.cli.wording import error_text
from worldexplorer.config import STAGE_NAMES, RunConfig
from worldexplorer.dataset import Job
from worldexplorer.dataset.handover import describe_job
from worldexplorer.decision import Action
from worldexplorer.engines import load_engine
from worldexplorer.errors import UsageError, UserError, WorldExplorerError, describe_error
from worldexplorer.extras import write_extras
from worldexplorer.log import redact
from worldexplorer.plan import JobPlan
from worldexplorer.pod.abort import raise_abort
from worldexplorer.pod.executor import Executor
from worldexplorer.pod.pages import plan_page
from worldexplorer.pod.parameters import flag_parameters, read_run
from worldexplorer.pod.run_file import RunFile
from worldexplorer.progress import silent
from worldexplorer.records import StageRecord
from worldexplorer.stage import StageFailedError, StageRunner
from worldexplorer.storage import NotFoundError, Storage, open_storage
from worldexplorer.worker import EngineLoader

MOST_JOBS = 100
"""In one run: the cluster keeps a whole run in one object of 1 MiB, and every job adds to it."""
RECORD_NAME = "record.json"
"""The one file in the folder that stands for a stage's result between pods."""
_logger = logging.getLogger(__name__)


def run_plan(executor: Executor, load: EngineLoader = load_engine) -> None:
    """Plan one run."""
    run_id = executor.text("run_id")
    storage = open_storage(executor.text("output_base"))
    try:
        stages = read_stages(executor.text("only_stages"))
        names = {one.name for one in flag_parameters()}
        values = {name: value for name, value in executor.parameters.items() if name in names}
        _Plan(executor, storage, read_run(values, stages), run_id, load).make()
    except Exception as error:
        _record_failure(storage, run_id, error)
        raise


def read_stages(text: str) -> tuple[int, ...]:
    """The pipeline's stages; UsageError unless they are some of 1 2 3 without a gap."""
    words = text.split()
    known = [str(number) for number in STAGE_NAMES]
    if words and all(word in known for word in words):
        numbers = sorted({int(word) for word in words})
        if numbers == list(range(numbers[0], numbers[-1] + 1)):
            return tuple(numbers)
    raise UsageError(
        f"the pipeline's stages are {text!r}",
        where="only_stages",
        remedy="take stages without a gap, such as 1 2 3, 2 3 or 1",
    )


def read_plan_failure(storage: Storage, run_id: str) -> str:
    """Why the run could not be planned; empty where its plan did not say so."""
    try:
        return str(json.loads(storage.read(layout.plan_failure(run_id)))["error"])
    except NotFoundError:
        return ""
    except (ValueError, KeyError, TypeError):
        return "what went wrong was recorded and cannot be read; look at the log of the run's plan step"


def _record_failure(storage: Storage, run_id: str, error: Exception) -> None:
    text = redact(error_text(*describe_error(error)))
    _logger.error("the run cannot be planned: %s", text)
    try:
        storage.write(layout.plan_failure(run_id), json.dumps({"error": text}).encode())
    except (OSError, WorldExplorerError) as problem:  # what kept the plan from being made is what the caller is to see
        _logger.error("this could not be recorded: %s", problem)


class _Plan:
    """The plan of one run, while it is made."""

    def __init__(self, executor: Executor, storage: Storage, run: RunConfig, run_id: str, load: EngineLoader) -> None:
        self._executor = executor
        self._storage = storage
        self._run = run
        self._run_id = run_id
        self._load = load

    def make(self) -> None:
        began_at = datetime.now(UTC).isoformat()
        prepared = prepare_batch(self._run, self._load, self._run_id)
        refuse_waiting(self._run, [one.job for one in prepared.plan.jobs])
        runner = StageRunner(self._storage, self._run, prepared.engine, self._run_id)
        for trace in (layout.plan_failure(self._run_id), layout.abort_marker(self._run_id)):
            self._storage.delete(trace)  # of an earlier try: no other pod of the run has begun
        pending = [one for one in prepared.plan.jobs if not one.is_finished or one.problem]
        self._refuse_too_many(pending)
        self._storage.write(layout.plan(self._run_id), prepared.plan.file.to_json())
        failures = self._take_in_scaffolds(runner, pending)
        failures |= {
            one.job.id: self._fail(runner, one) for one in pending if one.job.id not in failures and _is_hopeless(one)
        }
        scheduled = [one for one in pending if one.job.id not in failures]
        stopped = bool(failures) and not self._run.batch.continue_on_error
        if stopped:
            job, failure = next(iter(failures.items()))
            raise_abort(self._storage, self._run_id, f"{job} cannot run, and continue_on_error is not set")
            _logger.error("%s cannot run: %s", job, failure.error.message if failure.error else "")
            scheduled = []
        self._hand_over(prepared, pending, began_at)
        finished = [one for one in prepared.plan.jobs if one not in pending]
        all_frames = self._run.scaffold.output_all_seva_frames
        self._storage.map(lambda one: write_extras(self._storage, one.job, all_frames=all_frames), finished)
        items = [{"job_id": str(one.job.id), "upstream_uri": self._upstream(one)} for one in scheduled]
        self._executor.set_parameter("jobs", items)
        self._executor.set_parameter("pending", "yes" if items else "no")
        self._executor.write_text("report", plan_page(prepared.plan, scheduled, failures))
        self._executor.describe(
            "report", {"jobs": len(prepared.plan.jobs), "scheduled": len(items), "failed": len(failures)}
        )
        if stopped:
            raise UsageError(
                f"{len(failures)} of {len(prepared.plan.jobs)} jobs cannot run, and nothing was scheduled; the first: "
                f"{next(iter(failures))}: {_message(next(iter(failures.values())))}",
                where=self._storage.uri,
                remedy="repair them, leave them out with indices, or set continue_on_error to run the others",
            )
        self._executor.finish()

    def _refuse_too_many(self, pending: Sequence[JobPlan]) -> None:
        if len(pending) <= MOST_JOBS:
            return
        raise UsageError(
            f"the run has {len(pending):,} jobs to do, and one run takes at most {MOST_JOBS}",
            where="indices",
            remedy="start it with `python -m pipelines submit`, which makes several runs over one output_base, or give "
            f"each run its own indices, the first up to {pending[MOST_JOBS].job.index - 1}",
        )

    def _take_in_scaffolds(self, runner: StageRunner, pending: Sequence[JobPlan]) -> dict[layout.JobId, StageRecord]:
        """Commit the scaffolds that the data set brings, where no pod of this run does; the failures among them."""
        failures: dict[layout.JobId, StageRecord] = {}
        if 1 in self._run.batch.only_stages:
            return failures
        for one in pending:
            if STAGE_NAMES[1] in one.stages:
                try:
                    runner.run(one.job, STAGE_NAMES[1], silent)
                except StageFailedError as error:
                    failures[one.job.id] = error.record
        return failures

    def _fail(self, runner: StageRunner, one: JobPlan) -> StageRecord:
        """Record why a job cannot run."""
        refusal = one.decisions[-1]
        error = refusal.error if refusal.error is not None else UserError(one.problem)
        stage = refusal.stage if refusal.error is not None and refusal.stage in one.stages else one.stages[0]
        return runner.record_failure(one.job.id, stage, error)

    def _hand_over(self, prepared: PreparedBatch, pending: Sequence[JobPlan], began_at: str) -> None:
        """Write what the other pods go by."""
        file = RunFile(
            run_id=self._run_id,
            began_at=began_at,
            config=self._run,
            jobs={str(one.job.id): describe_job(one.job, prepared.dataset) for one in pending},
            to_run={
                str(one.job.id): tuple(step.stage for step in one.decisions if step.action is Action.RUN)
                for one in pending
            },
        )
        self._storage.write(layout.run_file(self._run_id), file.to_json())

    def _upstream(self, one: JobPlan) -> str:
        """The URI of a folder with the record that the job's first stage here is made from; empty for stage 1."""
        first = min(self._run.batch.only_stages)
        if first == 1:
            return ""
        folder = layout.run_input(self._run_id, one.job.id)
        record = self._storage.read(layout.record(one.job.id, STAGE_NAMES[first - 1]))
        self._storage.write(f"{folder}/{RECORD_NAME}", record)
        root = self._storage.local_root()
        return f"{self._storage.uri}/{folder}" if root is None else str(Path(root) / folder)


def refuse_waiting(run: RunConfig, jobs: Sequence[Job]) -> None:
    """Refuse settings under which a person has to pick while the run waits; UsageError."""
    if run.scaffold.scaffold_method != "scaffold_gen" or 1 not in run.batch.only_stages:
        return
    waiting = [
        job for job in jobs if job.scaffold_path is None and overrides.scaffold_mode(job, run.scaffold) == "manual"
    ]
    if waiting:
        raise UsageError(
            f"scaffold_mode is manual for {len(waiting)} jobs (the first: {waiting[0].id}), and nobody can pick views "
            "in a cluster",
            where="scaffold_mode",
            remedy="take automatic or fast, or run stage 1 on a machine and the cluster from stage 2 on",
        )


def _is_hopeless(one: JobPlan) -> bool:
    return bool(one.problem) or one.decisions[-1].action is Action.REFUSE


def _message(record: StageRecord) -> str:
    return record.error.message if record.error is not None else ""
