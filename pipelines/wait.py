"""Waiting for runs, until each of them has ended, whatever it ended as.

The SDK's own waiter takes a cancelled run for one that goes on, and ends with the first answer that stays away. This
one knows every final state, lives through hours of a quiet API as patience allows, and says what it sees.

Example:
    >>> outcomes = wait_for_runs(cluster, [run_id], listener=print, timeout=3600)
    >>> outcomes[0].state, outcomes[0].exit_code
    ('SUCCEEDED', 0)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kfp_server_api import V2beta1Run

from pipelines.client import FINAL_STATES, Cluster
from pipelines.exit_codes import CANCELED, FAILED, SUCCESS
from worldexplorer.cli.output import one_line
from worldexplorer.log import redact

DEFAULT_LONGEST_PAUSE = 30.0
WAITING_PATIENCE = 900.0
"""Seconds for which a wait outlives an API that does not answer: an upgrade of the control plane takes minutes."""
_FIRST_PAUSE = 2.0
_GROWTH = 1.5
_DONE = frozenset({"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"})
_SHOWN_LENGTH = 300
_EXIT_CODES = {"SUCCEEDED": SUCCESS, "CANCELED": CANCELED}


@dataclass(frozen=True)
class TaskFailure:
    """A task that failed, as far as the API tells."""

    name: str
    message: str


@dataclass(frozen=True)
class RunStatus:
    """A run as it is at one moment.

    Attributes:
        run_id: its id.
        name: its display name.
        state: the API's word, such as RUNNING; PENDING where it says nothing yet.
        tasks_done: tasks that have ended; None where the API gives no details.
        tasks: tasks there are so far; a loop adds its own when it begins.
        failures: the tasks that failed.
        error: what the API says went wrong with the run as a whole.
        output_base: where its results go, from its parameters.
        seconds: from its creation to its end; None while it goes on.
    """

    run_id: str
    name: str
    state: str
    tasks_done: int | None = None
    tasks: int | None = None
    failures: tuple[TaskFailure, ...] = ()
    error: str = ""
    output_base: str = ""
    seconds: float | None = None

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.state in FINAL_STATES

    @property
    def exit_code(self) -> int:
        """Of a run that has ended; one that was skipped has made nothing, so that is no success."""
        return _EXIT_CODES.get(self.state, FAILED)

    def facts(self) -> dict[str, Any]:
        """For a JSON line."""
        return {
            "run_id": self.run_id,
            "name": self.name,
            "state": self.state,
            "tasks_done": self.tasks_done,
            "tasks": self.tasks,
            "failed_tasks": [{"name": one.name, "message": one.message} for one in self.failures],
            "error": self.error,
            "output_base": self.output_base,
            "seconds": self.seconds,
        }


class WaitTimeoutError(Exception):
    """The time is over; `statuses` is how the runs stood."""

    def __init__(self, statuses: Sequence[RunStatus]) -> None:
        super().__init__("the time to wait is over")
        self.statuses = tuple(statuses)


@dataclass
class _Watched:
    """A run that is waited for."""

    run_id: str
    status: RunStatus | None = field(default=None)

    @property
    def goes_on(self) -> bool:
        return self.status is None or not self.status.is_final


def wait_for_runs(
    cluster: Cluster,
    run_ids: Sequence[str],
    *,
    listener: Callable[[RunStatus], None] = lambda status: None,
    timeout: float | None = None,
    longest_pause: float = DEFAULT_LONGEST_PAUSE,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[RunStatus]:
    """Wait until all runs have ended; how they ended, in the order of the ids.

    Args:
        cluster: where they run; its patience says how long its silence is borne.
        run_ids: which runs; one named twice is waited for once.
        listener: told of a run when something about it has changed.
        timeout: seconds; None for as long as it takes.
        longest_pause: seconds between two looks once nothing changes any more.
        clock: seconds.
        sleep: waits that many seconds.

    Raises:
        WaitTimeoutError: the time is over; the runs go on.
        UnreachableError: the API was silent for longer than patience; the runs go on.
        UsageError: there is no such run.
    """
    watched = [_Watched(run_id) for run_id in dict.fromkeys(run_ids)]
    end = None if timeout is None else clock() + timeout
    pause = min(_FIRST_PAUSE, longest_pause)
    while True:
        changed = False
        for one in watched:
            if one.goes_on:
                status = read_status(cluster.run(one.run_id))
                if status != one.status:
                    one.status = status
                    changed = True
                    listener(status)
        if not any(one.goes_on for one in watched):
            return [one.status for one in watched if one.status is not None]
        pause = min(_FIRST_PAUSE, longest_pause) if changed else min(pause * _GROWTH, longest_pause)
        if end is not None:
            left = end - clock()
            if left <= 0:
                raise WaitTimeoutError([one.status for one in watched if one.status is not None])
            pause_now = min(pause, left)
        else:
            pause_now = pause
        sleep(pause_now)


def read_status(run: V2beta1Run) -> RunStatus:
    """What the API says of a run, as far as it says it."""
    details = run.run_details.task_details if run.run_details is not None else None
    tasks = list(details or [])
    state = run.state or "PENDING"
    parameters = (run.runtime_config.parameters if run.runtime_config is not None else None) or {}
    return RunStatus(
        run_id=run.run_id,
        name=run.display_name or "",
        state=state,
        tasks_done=sum(task.state in _DONE for task in tasks) if tasks else None,
        tasks=len(tasks) or None,
        failures=_failures(tasks),
        error=_text(run.error),
        output_base=str(parameters.get("output_base") or ""),
        seconds=_seconds(run.created_at, run.finished_at) if state in FINAL_STATES else None,
    )


def _failures(tasks: Sequence[Any]) -> tuple[TaskFailure, ...]:
    """The failed tasks that no failed task below explains better: a graph fails because of what is in it."""
    failed = [task for task in tasks if task.state == "FAILED"]
    parents = {task.parent_task_id for task in failed if task.parent_task_id}
    leaves = [task for task in failed if not task.task_id or task.task_id not in parents]
    return tuple(TaskFailure(one_line(task.display_name or task.task_id or "?"), _text(task.error)) for task in leaves)


def _text(error: Any) -> str:
    message = getattr(error, "message", None)
    return one_line(redact(message))[:_SHOWN_LENGTH] if message else ""


def _seconds(begin: datetime | None, end: datetime | None) -> float | None:
    """From one to the other; None where the API gives no end, which it writes as the epoch."""
    if begin is None or end is None or end < begin:
        return None
    return (end - begin).total_seconds()
