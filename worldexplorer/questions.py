"""A stage that waits for a person: what it showed, where the answer lies, and the record that says so.

    records/STAGE.waiting.json     what the question is about (fingerprint, basis) and which file holds the answer
    PLACE/                         what the stage shows, with the file to write in; PLACE is the stage's choice

The stage's work itself stays in its attempt, which the next run of the same command takes over. The record is written
before the file that a person writes in, and that file is only ever created: whatever dies in between, nobody's words
are written over. Both go when the stage is committed.

Example:
    >>> answer = read_answer(storage, job, read_question(storage, job, "scaffold"), fingerprint)
"""

from __future__ import annotations

from contextlib import suppress

from worldexplorer import layout
from worldexplorer.config import STAGE_NAMES
from worldexplorer.context import Answer, Outcome, Question
from worldexplorer.errors import DefectError
from worldexplorer.layout import JobId
from worldexplorer.publish import clear_question
from worldexplorer.records import StageRecord
from worldexplorer.storage import AlreadyExistsError, NotFoundError, Storage

ASKING_STAGES = (STAGE_NAMES[1],)
"""The stages that may ask: only their jobs are looked through for questions."""
ANSWER = "answer"
"""The output of a waiting record that names the file a person writes in."""


def read_question(storage: Storage, job: JobId, stage: str) -> StageRecord | None:
    """The record of what a stage waits for, None where it waits for nothing; DefectError where it is damaged."""
    key = layout.waiting_record(job, stage)
    try:
        return StageRecord.from_json(storage.read(key), where=key)
    except NotFoundError:
        return None


def read_answer(storage: Storage, job: JobId, asked: StageRecord | None, fingerprint: str) -> Answer | None:
    """What a person wrote; None where nothing was asked about this very result, or the file is gone."""
    if asked is None or asked.fingerprint != fingerprint:
        return None
    key = answer_key(job, asked.outputs[ANSWER])
    try:
        return Answer(storage.read(key), where=f"{storage.uri}/{key}")
    except NotFoundError:
        return None


def ask(storage: Storage, job: JobId, question: Question, record: StageRecord, asked: StageRecord | None) -> None:
    """Show a question and write its record.

    Args:
        storage: the `output_base`.
        job: whose stage asks.
        question: what it asks.
        record: of this question, with status `waiting`.
        asked: the record of the question before, if there is one: about another result, it makes way with its answer.
    """
    if record.stage not in ASKING_STAGES:
        raise DefectError(f"{record.stage} asks a person, and no run looks for its question: {question.what}")
    if asked is not None and asked.fingerprint != record.fingerprint:
        clear_question(storage, job, record.stage)
    place = f"{layout.job_folder(job)}/{question.place}"
    storage.upload(question.shown, place)
    storage.write(layout.waiting_record(job, record.stage), record.to_json())
    with suppress(AlreadyExistsError):
        storage.create(f"{place}/{question.answer}", question.form)


def told_question(storage: Storage, job: JobId, question: Question) -> Outcome:
    """A question as the record of it tells it: what is waited for, where, what to do."""
    answer = f"{question.place}/{question.answer}"
    text = f"{question.what} ({storage.uri}/{answer_key(job, answer)}). What to do: {question.remedy}"
    return Outcome(notes=(text,), outputs={ANSWER: answer})


def answer_key(job: JobId, answer: str) -> str:
    """The storage key of the file that a person writes in."""
    return f"{layout.job_folder(job)}/{answer}"
