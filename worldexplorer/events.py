"""What a batch reports while it runs, as plain values: the command line, a notebook and tests listen alike.

Events cross process borders, so they hold only picklable values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from worldexplorer.layout import JobId

if TYPE_CHECKING:
    from collections.abc import Callable

    from worldexplorer.records import StageRecord


@dataclass(frozen=True)
class BatchStarted:
    """The plan stands; `finished` jobs have nothing left to do."""

    run_id: str
    jobs: int
    finished: int
    engine_label: str


@dataclass(frozen=True)
class JobStarted:
    """A job begins; `stages` in order."""

    job: JobId
    stages: tuple[str, ...]


@dataclass(frozen=True)
class StageProgress:
    """A stage is `done` of `total` units far."""

    job: JobId
    stage: str
    done: int
    total: int
    what: str


@dataclass(frozen=True)
class StageFinished:
    """A stage is committed; `reused` if it was before."""

    job: JobId
    stage: str
    reused: bool
    seconds: float
    metrics: dict[str, Any]


@dataclass(frozen=True)
class JobFinished:
    """A job ended well, with the record of its failure, or with that of what it waits for."""

    job: JobId
    failure: StageRecord | None
    waiting: StageRecord | None = None


@dataclass(frozen=True)
class LogLine:
    """A log record worth showing; `work` names the job and stage it belongs to, if any."""

    level: str
    text: str
    work: str = ""


@dataclass(frozen=True)
class BatchFinished:
    """The summary is written."""

    summary: dict[str, Any]


Event = BatchStarted | JobStarted | StageProgress | StageFinished | JobFinished | LogLine | BatchFinished

if TYPE_CHECKING:
    Listener = Callable[[Event], None]
