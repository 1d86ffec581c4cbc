"""What to do with one stage of one job: run it, reuse its result, or refuse, and why.

The plan, the dry run and the run itself ask the same function, so that what is printed is what happens.

| what is there                                           | decision                                        |
|---------------------------------------------------------|-------------------------------------------------|
| the stage before is neither selected nor there          | refuse: run that stage first                    |
| the photo cannot be read                                | refuse: what is wrong with it                   |
| no record, and a question about another result          | refuse: both values, and `--force`              |
| no record                                               | run                                             |
| `--force`                                               | run, replacing                                  |
| a record whose fingerprint differs                      | refuse: both values, and `--force`              |
| a record with files missing or changed                  | run, healing                                    |
| a record made from an input that was since made again   | run (refuse if the stage is not selected)       |
| else                                                    | reuse                                           |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from worldexplorer import layout
from worldexplorer.config import STAGE_NAMES, RunConfig
from worldexplorer.context import StageDefinition
from worldexplorer.dataset import Job
from worldexplorer.engine import Engine
from worldexplorer.errors import InfrastructureError, UserError, WorldExplorerError
from worldexplorer.fingerprint import as_json, differences, fingerprint
from worldexplorer.questions import ASKING_STAGES, read_question
from worldexplorer.records import InputEntry, StageRecord
from worldexplorer.storage import NotFoundError, Storage
from worldexplorer.verify import changed_files


class Action(StrEnum):
    """What happens to a stage."""

    RUN = "run"
    REUSE = "reuse"
    REFUSE = "refuse"


@dataclass(frozen=True)
class Existing:
    """A stage's record as it was found, with the version a replacement must name."""

    record: StageRecord | None
    version: str | None = None
    unreadable: WorldExplorerError | None = None


@dataclass(frozen=True)
class Decision:
    """What happens to a stage and why.

    Attributes:
        basis: what the result depends on; empty where it was not needed to decide.
        source: the input, as the new record will name it; its content is unknown while that is yet to be made.
        existing: the record that is there.
        error: why the stage is refused.
    """

    stage: str
    action: Action
    reason: str
    basis: Mapping[str, Any] = field(default_factory=dict)
    source: InputEntry | None = None
    existing: Existing = field(default_factory=lambda: Existing(None))
    error: WorldExplorerError | None = None

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the result that the stage has or will have."""
        return fingerprint(self.basis)


def read_existing(storage: Storage, job: Job, stage: str) -> Existing:
    """The record of a stage, if there is one."""
    key = layout.record(job.id, stage)
    try:
        data, version = storage.read_versioned(key)
    except NotFoundError:
        return Existing(None)
    try:
        return Existing(StageRecord.from_json(data, where=key), version)
    except WorldExplorerError as error:
        return Existing(None, version, error)


def stages_of(job: Job, run: RunConfig) -> tuple[str, ...]:
    """The stages a job goes through in a run, in order.

    A scaffold that the data set brings is taken in whenever a later stage needs it, selected or not.
    """
    numbers = set(run.batch.only_stages)
    if job.scaffold_path is not None and numbers & {1, 2}:
        numbers.add(1)
    return tuple(name for number, name in STAGE_NAMES.items() if number in numbers)


def decide_job(
    storage: Storage,
    definitions: Sequence[StageDefinition[Any]],
    job: Job,
    run: RunConfig,
    engine: Engine,
) -> list[Decision]:
    """The decisions of a job's stages, in order; nothing after a refusal, which may be that of a stage not selected."""
    stages = stages_of(job, run)
    decisions: list[Decision] = []
    upstream: Decision | None = None
    for definition in definitions:
        if len(decisions) == len(stages):
            break
        selected = definition.name in stages
        decision = decide(storage, definition, job, run, engine, upstream, selected=selected)
        if selected or decision.action is Action.REFUSE:
            decisions.append(decision)
        if decision.action is Action.REFUSE:
            break
        upstream = decision
    return decisions


def decide(
    storage: Storage,
    definition: StageDefinition[Any],
    job: Job,
    run: RunConfig,
    engine: Engine,
    upstream: Decision | None,
    *,
    selected: bool,
) -> Decision:
    """What to do with one stage, given what happens to the one before it."""
    existing = read_existing(storage, job, definition.name)
    if not selected:
        return _as_input(storage, definition, job, existing, upstream)
    settings = definition.settings(job, run, engine)
    try:
        source = definition.source(job, settings) if definition.source else _source(upstream)
    except (WorldExplorerError, OSError) as error:  # this photo cannot be read; other jobs have theirs
        return _refused(Decision(definition.name, Action.REFUSE, "", existing=existing), _as_own(error))
    basis = as_json(
        {
            "stage": definition.name,
            "settings": dict(definition.basis(settings)),
            "engine": engine.describe(),
            "seed": run.batch.seed,
            "input": source.fingerprint,
        }
    )
    known = Decision(definition.name, Action.RUN, "no result yet", basis, source, existing)
    if run.batch.force:
        return _with(known, Action.RUN, "forced: replaces what is there" if existing.version else "no result yet")
    if existing.unreadable is not None:
        return _refused(known, existing.unreadable)
    record = existing.record
    if record is None:
        return _unless_asked(storage, definition, job, known)
    said = _without_implied(record.basis, definition)
    if said == known.basis:
        known = replace(known, basis=record.basis)  # in its words, as the stages made from it know it
    if record.fingerprint != known.fingerprint:
        return _refused(known, _changed_error(record, said, known, definition, engine.name))
    damage = changed_files(storage, job.id, record)
    if damage:
        return _with(known, Action.RUN, f"heals {damage[0]}" + (f" and {len(damage) - 1} more" if damage[1:] else ""))
    if record.input is not None and source.content and record.input.content != source.content:
        return _with(known, Action.RUN, f"its {source.stage} was made again")
    if upstream is not None and upstream.action is Action.RUN:
        return _with(known, Action.REUSE, f"if the {upstream.stage} comes out the same again")
    return _with(known, Action.REUSE, "finished before" if record.published else "finished before; publishing is not")


def _without_implied(basis: Mapping[str, Any], definition: StageDefinition[Any]) -> dict[str, Any]:
    """A record's basis as it is written now: without settings that say what holds where they are left out."""
    settings = {
        name: value
        for name, value in basis.get("settings", {}).items()
        if name not in definition.implied or value != definition.implied[name]
    }
    return {**basis, "settings": settings}


def _unless_asked(storage: Storage, definition: StageDefinition[Any], job: Job, known: Decision) -> Decision:
    """A stage without a result: run it, but not over what a person was asked about one made with other settings."""
    try:
        asked = read_question(storage, job.id, definition.name) if definition.name in ASKING_STAGES else None
    except WorldExplorerError as error:
        return _refused(known, error)
    if asked is None:
        return known
    said = _without_implied(asked.basis, definition)
    if said == known.basis:
        known = replace(known, basis=asked.basis)
    if asked.fingerprint == known.fingerprint:
        return _with(known, Action.RUN, "goes on with what a person says")
    changes = "; ".join(differences(said, known.basis))
    return _refused(
        known,
        UserError(
            f"stage {definition.number} waits for a person, with other settings ({changes})",
            where=layout.waiting_record(job.id, definition.name),
            remedy="use what it was asked with, another --output_base, or give the question up with --force",
        ),
    )


def _as_input(
    storage: Storage, definition: StageDefinition[Any], job: Job, existing: Existing, upstream: Decision | None
) -> Decision:
    """A stage that is not selected, as the input of one that is."""
    known = Decision(definition.name, Action.REUSE, "finished before", existing=existing)
    if existing.unreadable is not None:
        return _refused(known, existing.unreadable)
    record = existing.record
    if record is None:
        later = definition.number + 1
        return _refused(
            known,
            UserError(
                f"stage {later} requires stage {definition.number}, and there is no finished {definition.name}",
                where=layout.record(job.id, definition.name),
                remedy=f"run stage {definition.number} first, or leave --only_stages out",
            ),
        )
    if upstream is not None and upstream.existing.record is not None and record.input is not None:
        before = upstream.existing.record
        if (record.input.fingerprint, record.input.content) != (before.fingerprint, before.content):
            return _refused(known, _older_error(record, before, job))
    damage = changed_files(storage, job.id, record)
    if damage:
        return _refused(
            known,
            UserError(
                f"a file of stage {definition.number} is missing or was changed",
                where=f"{layout.job_folder(job.id)}/{damage[0]}",
                remedy=f"run stage {definition.number} again: it heals",
            ),
        )
    return _with(known, Action.REUSE, "finished before", basis=record.basis)


def _source(upstream: Decision | None) -> InputEntry:
    assert upstream is not None, "only the first stage has no stage before it"
    made = upstream.existing.record
    content = made.content if made is not None and upstream.action is Action.REUSE else ""
    return InputEntry(stage=upstream.stage, fingerprint=upstream.fingerprint, content=content)


def _as_own(error: WorldExplorerError | OSError) -> WorldExplorerError:
    if isinstance(error, WorldExplorerError):
        return error
    return InfrastructureError(f"the input cannot be read: {error.strerror}", where=str(error.filename or ""))


def _changed_error(
    record: StageRecord, said: Mapping[str, Any], known: Decision, definition: StageDefinition[Any], engine: str
) -> UserError:
    """The record's result is of another basis than is known now; `said` is the record's as it is written now."""
    where = layout.record(layout.JobId(record.index, record.variant), record.stage)
    stages = " ".join(str(number) for number in range(definition.number, 4))
    same_but_input = {**said, "input": None} == {**known.basis, "input": None}
    if same_but_input and definition.number > 1 and record.input is not None:
        return UserError(
            f"stage {definition.number} output is older than its {record.input.stage}",
            where=where,
            remedy=f"replace it with --force --only_stages {stages}",
        )
    # Two engines have hardly a setting in common, so the rest would bury what was changed.
    changed = [f"engine: {record.engine} -> {engine}"] if record.engine != engine else []
    changes = "; ".join(changed or differences(said, known.basis))
    made = f"made from another {record.input.stage}" if same_but_input and record.input else "made with other settings"
    same_but_settings = {**said, "settings": None} == {**known.basis, "settings": None}
    settings = said.get("settings", {}), known.basis.get("settings", {})
    instead = definition.instead(*settings) if same_but_settings else ""
    return UserError(
        f"stage {definition.number} has a result {made} ({changes})",
        where=where,
        remedy="use what it was made with, another --output_base, or replace it with --force"
        + (f"; {instead}" if instead else ""),
    )


def _older_error(record: StageRecord, before: StageRecord, job: Job) -> UserError:
    numbers = {"trajectory": 2, "splat": 3}
    number = numbers[record.stage]
    return UserError(
        f"stage {number} output is older than its {before.stage}",
        where=layout.record(job.id, record.stage),
        remedy=f"run stage {number} again with --force --only_stages {number} {number + 1}".removesuffix(" 4"),
    )


def _with(decision: Decision, action: Action, reason: str, **changes: Any) -> Decision:
    return replace(decision, action=action, reason=reason, **changes)


def _refused(decision: Decision, error: WorldExplorerError) -> Decision:
    return replace(decision, action=Action.REFUSE, reason=str(error), error=error)
