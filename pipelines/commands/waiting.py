"""What `submit --watch` and `wait` share: wait for runs, judge what they made, and say how to go on.

Everything that can be wrong with the flags, and with the access to the results that `--gate` needs, is found before a
run is sent or waited for: :func:`read_waiting` and :func:`open_results`.

Example:
    >>> waiting = read_waiting(words)
    >>> watch(cluster, show, [run_id], waiting)
    0
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pipelines.cli import PROGRAM
from pipelines.client import Cluster
from pipelines.errors import UnreachableError
from pipelines.exit_codes import CANCELED, FAILED, SUCCESS, TIMEOUT, worst
from pipelines.flags import seconds
from pipelines.gate import judge
from pipelines.show import Show
from pipelines.wait import (
    DEFAULT_LONGEST_PAUSE,
    WAITING_PATIENCE,
    RunStatus,
    WaitTimeoutError,
    read_status,
    wait_for_runs,
)
from worldexplorer.cli.output import plain
from worldexplorer.cli.parser import Parser
from worldexplorer.errors import TransientError, UsageError, UserError
from worldexplorer.storage import Storage, open_storage


@dataclass(frozen=True)
class Waiting:
    """How to wait, and what decides.

    Attributes:
        timeout: seconds; None for as long as it takes.
        longest_pause: seconds between two looks.
        gate: whether what the jobs left decides, not the state of the runs.
        own_patience: whether the command says how long a silent API is borne.
    """

    timeout: float | None
    longest_pause: float
    gate: bool
    own_patience: bool


def add_waiting_flags(parser: Parser) -> None:
    """How long to wait, and what decides."""
    group = parser.add_argument_group("Waiting")
    group.add_argument(
        "--timeout", metavar="TIME", help="Stop waiting after so long, such as 12h; the runs go on (default: never)."
    )
    group.add_argument(
        "--poll", metavar="TIME", default="30s", help="The longest pause between two looks (default: 30s)."
    )
    group.add_argument(
        "--gate",
        action="store_true",
        help="Let the jobs decide, by what they left in the output folder, not the state of the runs: print the "
        "summary's table, exit 0 only if every job of these runs succeeded.",
    )


def read_waiting(words: Namespace) -> Waiting:
    """What the flags of :func:`add_waiting_flags` and `--patience` say; UsageError where one of them is no time."""
    if words.patience is not None:
        seconds(words.patience, "--patience")
    return Waiting(
        timeout=None if words.timeout is None else seconds(words.timeout, "--timeout"),
        longest_pause=seconds(words.poll, "--poll") if words.poll else DEFAULT_LONGEST_PAUSE,
        gate=words.gate,
        own_patience=words.patience is not None,
    )


def open_results(output_base: str) -> Storage:
    """The results that a gate will judge.

    Raises:
        UsageError: they cannot be read from here; what is missing, such as credentials.
        UnreachableError: the bucket does not answer.
    """
    try:
        return open_storage(output_base)
    except TransientError as error:
        raise UnreachableError(error.what, where=error.where, remedy="try again later") from None


def watch(
    cluster: Cluster, show: Show, run_ids: Sequence[str], waiting: Waiting, results: Storage | None = None
) -> int:
    """Wait for runs to end; the exit code is that of :mod:`pipelines.exit_codes`.

    Args:
        cluster: where they run.
        show: told what happens.
        run_ids: which runs.
        waiting: how.
        results: where the results of all of them are; None for what their parameters say.

    Raises:
        UnreachableError: the API, or the bucket of a gate, does not answer; what runs goes on.
        UsageError: there is no such run, or its results cannot be read from here.
    """
    if not waiting.own_patience:
        cluster.transport.patience = WAITING_PATIENCE
    places: dict[str, Storage] = {}
    try:
        if waiting.gate:
            places = _places(cluster, run_ids, results)
        with show.bars():
            statuses = wait_for_runs(
                cluster, run_ids, listener=show.status, timeout=waiting.timeout, longest_pause=waiting.longest_pause
            )
    except WaitTimeoutError as late:
        going = [one.run_id for one in late.statuses if not one.is_final]
        show.event(
            "timeout",
            {"run_ids": going},
            f"--timeout passed after {waiting.timeout:g} s; still at work: {' '.join(going)}. {_how_to_go_on(going)}",
            "yellow",
        )
        return TIMEOUT
    except KeyboardInterrupt:
        sys.stderr.write(f"the runs go on in the cluster. {_how_to_go_on(run_ids)}\n")
        raise
    except UnreachableError as error:
        remedy = f"{error.remedy}; the runs go on: {_how_to_go_on(run_ids)}"
        raise UnreachableError(error.what, where=error.where, remedy=remedy) from None
    code = worst(one.exit_code for one in statuses)
    if waiting.gate:
        code = _gate(show, statuses, places, code)
    show.event(
        "ended",
        {"exit_code": code, "runs": {one.run_id: one.state for one in statuses}},
        f"{len(statuses)} runs ended, exit code {code}" if len(statuses) > 1 else f"exit code {code}",
    )
    return code


def _places(cluster: Cluster, run_ids: Sequence[str], results: Storage | None) -> dict[str, Storage]:
    """Where the results of each run are, by run id; opened once for each output folder."""
    if results is not None:
        return dict.fromkeys(run_ids, results)
    opened: dict[str, Storage] = {}
    places: dict[str, Storage] = {}
    for run_id in dict.fromkeys(run_ids):
        base = read_status(cluster.run(run_id)).output_base
        if not base:
            raise UsageError(
                f"run {run_id} does not say where its results are",
                where="output_base",
                remedy="give it with --output_base",
            )
        if base not in opened:
            opened[base] = open_results(base)
        places[run_id] = opened[base]
    return places


def _gate(show: Show, statuses: Sequence[RunStatus], places: Mapping[str, Storage], by_state: int) -> int:
    """Judge the runs of each output folder; 0 only where every job of theirs succeeded."""
    passed = True
    for storage in dict.fromkeys(places.values()):
        own = [one for one in statuses if places[one.run_id] is storage]
        known = [one.seconds for one in own if one.seconds is not None]
        with _judging([one.run_id for one in statuses]):
            verdict = judge(storage, [one.run_id for one in own], max(known, default=None))
        if verdict.summary is not None:
            show.summary(verdict.summary)
        for note in verdict.notes:
            show.event("note", {"message": note}, note, "yellow")
        passed &= verdict.passed
    if passed:
        if by_state != SUCCESS:
            states = ", ".join(sorted({one.state for one in statuses}))
            line = f"every job succeeded, though not every run did ({states})"
            show.event("note", {"message": line}, line, "yellow")
        return SUCCESS
    show.parts([plain("the gate is closed: not every job of these runs succeeded", "red")])
    return CANCELED if by_state == CANCELED else FAILED


@contextmanager
def _judging(run_ids: Sequence[str]) -> Iterator[None]:
    """A bucket that cannot be read has not said that a job failed: exit code 6, not 1."""
    try:
        yield
    except (TransientError, UserError) as error:
        again = f"judge them again: {PROGRAM} wait {' '.join(run_ids)} --gate"
        raise UnreachableError(
            f"the runs have ended, and what they made cannot be read: {error.what}",
            where=error.where,
            remedy=f"{error.remedy}; then {again}" if isinstance(error, UserError) and error.remedy else again,
        ) from error


def _how_to_go_on(run_ids: Sequence[str]) -> str:
    ids = " ".join(run_ids)
    return f"Wait again: {PROGRAM} wait {ids}. Stop: {PROGRAM} cancel {ids}"
