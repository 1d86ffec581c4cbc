"""Run one stage of one job: reuse? -> run -> check -> commit -> publish.

The same function serves the batch on this machine and a pod in a cluster. Its promise: it returns if and only if the
stage's record is committed and its files are there. A stage that asks a person something is written to
`records/STAGE.waiting.json` and raised as :class:`StageWaitingError`; whatever else happens to
`records/STAGE.failed.json` and as :class:`StageFailedError`.

Example:
    >>> runner = StageRunner(storage, run, engine, run_id="20260101T000000Z-1a2b3c4d")
    >>> record = runner.run(job, "scaffold", silent)
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from datetime import UTC, datetime
from typing import Any

from worldexplorer import __version__, layout
from worldexplorer.attempts import Attempt, claim_attempt, discard_attempt
from worldexplorer.config import RunConfig
from worldexplorer.context import Answer, Outcome, Question, StageContext, StageDefinition
from worldexplorer.dataset import Job
from worldexplorer.decision import Action, Decision, Existing, decide_job, read_existing, stages_of
from worldexplorer.engine import Engine
from worldexplorer.errors import (
    RETRIED,
    DamagedInputError,
    DefectError,
    ErrorClass,
    UserError,
    classify,
)
from worldexplorer.failures import failure_record, write_failure
from worldexplorer.fingerprint import fingerprint
from worldexplorer.inputs import RecordedInputs
from worldexplorer.log import LogTail, redact, working_on
from worldexplorer.measure import Measurement
from worldexplorer.outcomes import check_outcome, describe_files
from worldexplorer.progress import Progress
from worldexplorer.publish import clear_failure, clear_question, publish
from worldexplorer.questions import ASKING_STAGES, ask, read_answer, read_question, told_question
from worldexplorer.records import FileEntry, Retry, StageRecord
from worldexplorer.scaffold.stage import SCAFFOLD
from worldexplorer.splat.stage import SPLAT
from worldexplorer.storage import AlreadyExistsError, ChangedError, NotFoundError, Storage
from worldexplorer.trajectory.stage import TRAJECTORY
from worldexplorer.versions import library_versions

DEFINITIONS: tuple[StageDefinition[Any], ...] = (SCAFFOLD, TRAJECTORY, SPLAT)
_BACKOFF_SECONDS = (2.0, 8.0)
_logger = logging.getLogger(__name__)


class StageFailedError(Exception):
    """A stage failed and said so in its record."""

    def __init__(self, record: StageRecord) -> None:
        self.record = record
        assert record.error is not None
        super().__init__(f"{record.stage}: {record.error.message}")


class StageWaitingError(Exception):
    """A stage has done what it can and waits for a person; its record says for what."""

    def __init__(self, record: StageRecord) -> None:
        self.record = record
        super().__init__(f"{record.stage} waits: {'; '.join(record.notes)}")


class StageRunner:
    """Runs stages of jobs into one storage for one run.

    Args:
        storage: the `output_base`.
        run: the whole configuration.
        engine: the models.
        run_id: named in every record.
        definitions: the three rooms; tests may bring their own.
        wait: sleeps between tries.
    """

    def __init__(
        self,
        storage: Storage,
        run: RunConfig,
        engine: Engine,
        run_id: str,
        definitions: Sequence[StageDefinition[Any]] = DEFINITIONS,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._storage = storage
        self._run = run
        self._engine = engine
        self.run_id = run_id
        self._definitions = definitions
        self._wait = wait

    def stages_of(self, job: Job) -> tuple[str, ...]:
        """The stages the job goes through in this run, in order."""
        return stages_of(job, self._run)

    def decide(self, job: Job) -> list[Decision]:
        """What would happen to the job's stages now."""
        return decide_job(self._storage, self._definitions, job, self._run, self._engine)

    def run(self, job: Job, stage: str, progress: Progress) -> StageRecord:
        """Bring one stage of one job to its commit; StageFailedError, StageWaitingError, Cancelled."""
        retries: list[Retry] = []
        with working_on(f"{job.id} {stage}"), LogTail() as tail, Measurement() as cost:
            try:
                record = self._bring(job, stage, progress, cost, retries)
                clear_failure(self._storage, job.id, stage)
                return record
            except StageWaitingError:
                clear_failure(self._storage, job.id, stage)
                raise
            except Exception as error:
                _logger.debug("stage %s of %s failed", stage, job.id, exc_info=True)
                failure = self.record_failure(job.id, stage, error, cost=cost, retries=retries, tail=tail)
                raise StageFailedError(failure) from error

    def _bring(self, job: Job, stage: str, progress: Progress, cost: Measurement, retries: list[Retry]) -> StageRecord:
        """The stage's published record: the one that is there, or a new one."""
        definition = next(one for one in self._definitions if one.name == stage)
        decision = self._decision(job, stage)
        if decision.existing.record is not None and not decision.existing.record.published:
            decision = self._finish_publish(job, decision)
        if decision.action is Action.REFUSE:
            assert decision.error is not None
            raise decision.error
        old = decision.existing.record
        if decision.action is Action.REUSE:
            assert old is not None
            return old
        inputs = self._inputs(job, decision)
        # Half a result is good for the same input only, and an input made again may have come out otherwise.
        work = fingerprint(
            {"result": decision.fingerprint, "input": inputs.entry.content if inputs is not None else ""}
        )
        committed = old.attempt if old is not None else ""
        with (
            closing(inputs) if inputs is not None else nullcontext(),
            claim_attempt(self._storage, job.id, stage, work, committed=committed) as attempt,
        ):
            asked = self._asked(job, stage)
            answer = read_answer(self._storage, job.id, asked, decision.fingerprint)
            outcome = self._produce(definition, job, inputs, attempt, progress, retries, answer)
            record = self._describe(definition, job, decision, inputs, attempt, cost, retries, outcome)
            if isinstance(outcome, Question):
                return self._wait_for_person(job, attempt, decision, record, outcome, asked)
            return self._commit(job, attempt, decision, record)

    def _decision(self, job: Job, stage: str) -> Decision:
        decisions = {decision.stage: decision for decision in self.decide(job)}
        refusal = next((one for one in decisions.values() if one.action is Action.REFUSE), None)
        return decisions.get(stage) or refusal or _not_selected(stage)

    def _asked(self, job: Job, stage: str) -> StageRecord | None:
        """The question that a person may have answered."""
        try:
            return read_question(self._storage, job.id, stage) if stage in ASKING_STAGES else None
        except DefectError:
            if not self._run.batch.force:
                raise
            return None  # what it was about is not to count any more in any case

    def _finish_publish(self, job: Job, decision: Decision) -> Decision:
        assert decision.existing.record is not None
        try:
            publish(self._storage, job.id, decision.existing.record)
        except NotFoundError:
            if decision.action is not Action.RUN:
                raise
            return decision  # one of its files is gone, and is about to be made again with all the others
        return self._decision(job, decision.stage)

    def _produce(
        self,
        definition: StageDefinition[Any],
        job: Job,
        inputs: RecordedInputs | None,
        attempt: Attempt,
        progress: Progress,
        retries: list[Retry],
        answer: Answer | None,
    ) -> Outcome | Question:
        """Run the room, again after errors that may pass."""
        settings = definition.settings(job, self._run, self._engine)
        while True:
            context = StageContext(
                job=job,
                settings=settings,
                engine=self._engine,
                seed=self._run.batch.seed,
                inputs=inputs,
                attempt=attempt.name,
                out=attempt.out,
                work=attempt.work,
                progress=progress,
                keep=attempt.keep,
                answer=answer,
            )
            try:
                return definition.produce(context)
            except Exception as error:  # noqa: BLE001 (what makes no sense to try again is raised again)
                settings = self._next_try(definition, settings, error, retries)

    def _describe(
        self,
        definition: StageDefinition[Any],
        job: Job,
        decision: Decision,
        inputs: RecordedInputs | None,
        attempt: Attempt,
        cost: Measurement,
        retries: list[Retry],
        outcome: Outcome | Question,
    ) -> StageRecord:
        """The record of what the room made, or of what it asks."""
        files: list[FileEntry] = []
        if isinstance(outcome, Question):
            told = told_question(self._storage, job.id, outcome)
        else:
            files, told = describe_files(attempt.out), outcome
            check_outcome(outcome, files, definition.name)
        return StageRecord(
            stage=definition.name,
            index=job.id.index,
            variant=job.id.variant,
            status="waiting" if isinstance(outcome, Question) else "committed",
            run_id=self.run_id,
            attempt=attempt.name,
            fingerprint=decision.fingerprint,
            basis=dict(decision.basis),
            input=inputs.entry if inputs is not None else decision.source,
            engine=self._engine.name,
            engine_label=self._engine.label,
            code_version=__version__,
            versions=library_versions(),
            seed=self._run.batch.seed,
            started_at=cost.started_at.isoformat(),
            finished_at=datetime.now(UTC).isoformat(),
            seconds=round(cost.seconds, 3),
            peak_memory_mib=cost.peak_so_far_mib(),
            retries=retries,
            quality=told.quality,
            notes=list(told.notes),
            metrics=dict(told.metrics),
            outputs=dict(told.outputs),
            files=files,
        )

    def _wait_for_person(
        self,
        job: Job,
        attempt: Attempt,
        decision: Decision,
        record: StageRecord,
        question: Question,
        asked: StageRecord | None,
    ) -> StageRecord:
        """Ask, unless another run has the stage committed meanwhile; the attempt stays for the run with the answer."""
        ask(self._storage, job.id, question, record, asked)
        now = read_existing(self._storage, job, record.stage)
        if now.record is not None and not _same_attempt(decision.existing, now):
            clear_question(self._storage, job.id, record.stage)
            return self._yield_to_winner(job, attempt, record)
        raise StageWaitingError(record)

    def _next_try(self, definition: StageDefinition[Any], settings: Any, error: Exception, retries: list[Retry]) -> Any:
        """The settings of the next try after a failure; raises the failure where another try makes no sense."""
        kind = classify(error)
        if kind not in RETRIED or isinstance(error, DamagedInputError) or len(retries) >= len(_BACKOFF_SECONDS):
            raise error
        adjustment = ""
        if kind is ErrorClass.OUT_OF_MEMORY:
            smaller = definition.smaller(settings)
            if smaller is None:
                raise error
            settings, adjustment = smaller
        pause = _BACKOFF_SECONDS[len(retries)]
        _logger.warning(
            "%s failed (%s: %s); trying again in %g s%s",
            definition.name,
            kind,
            error,
            pause,
            f" with {adjustment}" if adjustment else "",
        )
        retries.append(Retry(error_class=kind, message=redact(str(error)), adjustment=adjustment))
        self._wait(pause)
        return settings

    def _inputs(self, job: Job, decision: Decision) -> RecordedInputs | None:
        if decision.source is None or decision.source.stage not in {one.name for one in self._definitions}:
            return None
        inputs = RecordedInputs(self._storage, job.id, decision.source.stage)
        if inputs.record.fingerprint != decision.source.fingerprint:
            raise DamagedInputError(
                f"another run replaced the {decision.source.stage} while this one was about to use it",
                where=layout.record(job.id, decision.source.stage),
                remedy="run the same command again",
            )
        return inputs

    def _commit(self, job: Job, attempt: Attempt, decision: Decision, record: StageRecord) -> StageRecord:
        """Make the record count, or find that another run's already does."""
        key = layout.record(job.id, record.stage)
        self._storage.upload(attempt.out, layout.attempt_output(job.id, attempt.name, record.stage))
        old = decision.existing
        while True:
            try:
                if old.version is None:
                    self._storage.create(key, record.to_json())
                else:
                    record = record.model_copy(update={"supersedes": _superseded(old.record, record)})
                    self._storage.replace(key, record.to_json(), old.version)
            except (AlreadyExistsError, ChangedError):
                now = read_existing(self._storage, job, record.stage)
                if _same_attempt(old, now):
                    old = now  # another run has only marked the old record as published
                    continue
                return self._yield_to_winner(job, attempt, record)
            return publish(self._storage, job.id, record)

    def _yield_to_winner(self, job: Job, attempt: Attempt, record: StageRecord) -> StageRecord:
        key = layout.record(job.id, record.stage)
        winner = StageRecord.from_json(self._storage.read(key), where=key)
        discard_attempt(self._storage, job.id, attempt.name)
        if winner.fingerprint != record.fingerprint:
            raise UserError(
                f"another run committed stage {record.stage} with other settings meanwhile (run {winner.run_id})",
                where=key,
                remedy="use another --output_base, or replace its result with --force",
            )
        _logger.info("another run committed the same %s first; its result is used", record.stage)
        return publish(self._storage, job.id, winner)

    def record_failure(
        self,
        job: layout.JobId,
        stage: str,
        error: Exception,
        *,
        cost: Measurement | None = None,
        retries: Sequence[Retry] = (),
        tail: LogTail | None = None,
    ) -> StageRecord:
        """Write what went wrong to the stage's failure record, over an earlier one."""
        failure = failure_record(
            job,
            stage,
            error,
            run_id=self.run_id,
            engine=self._engine.name,
            engine_label=self._engine.label,
            seed=self._run.batch.seed,
            cost=cost,
            retries=retries,
            tail=tail,
        )
        write_failure(self._storage, failure)
        return failure


def _not_selected(stage: str) -> Decision:
    raise DefectError(f"stage {stage} was asked for but is not selected")


def _same_attempt(one: Existing, other: Existing) -> bool:
    return one.record is not None and other.record is not None and one.record.attempt == other.record.attempt


def _superseded(old: StageRecord | None, new: StageRecord) -> list[str]:
    if old is None:
        return []
    kept = {entry.path for entry in new.files}
    return sorted(({entry.path for entry in old.files} | set(old.supersedes)) - kept)
