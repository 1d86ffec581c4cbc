"""What `submit --watch` and `wait` share: wait for runs, judge what they made, and say how to go on.

Example:
    >>> watch(cluster, show, [run_id], words)
    0
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence

from pipelines.cli import PROGRAM
from pipelines.client import Cluster
from pipelines.errors import UnreachableError
from pipelines.exit_codes import CANCELED, FAILED, SUCCESS, TIMEOUT, worst
from pipelines.flags import seconds
from pipelines.gate import judge
from pipelines.show import Show
from pipelines.wait import DEFAULT_LONGEST_PAUSE, WAITING_PATIENCE, RunStatus, WaitTimeoutError, wait_for_runs
from worldexplorer.cli.output import plain
from worldexplorer.cli.parser import Parser
from worldexplorer.errors import UsageError
from worldexplorer.storage import open_storage


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


def watch(cluster: Cluster, show: Show, run_ids: Sequence[str], words: Namespace, output_base: str = "") -> int:
    """Wait for runs to end; the exit code is that of :mod:`pipelines.exit_codes`.

    Args:
        cluster: where they run.
        show: told what happens.
        run_ids: which runs.
        words: with the flags of :func:`add_waiting_flags` and of the connection.
        output_base: where their results are; "" for what their parameters say.
    """
    timeout = None if words.timeout is None else seconds(words.timeout, "--timeout")
    longest_pause = seconds(words.poll or f"{DEFAULT_LONGEST_PAUSE}s", "--poll")
    if words.patience is None:
        cluster.transport.patience = WAITING_PATIENCE
    try:
        with show.bars():
            statuses = wait_for_runs(
                cluster, run_ids, listener=show.status, timeout=timeout, longest_pause=longest_pause
            )
    except WaitTimeoutError as late:
        going = [one.run_id for one in late.statuses if not one.is_final]
        show.event(
            "timeout",
            {"run_ids": going},
            f"--timeout {words.timeout} passed; still at work: {' '.join(going)}. {_how_to_go_on(going)}",
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
    if words.gate:
        code = _gate(show, statuses, output_base, code)
    show.event(
        "ended",
        {"exit_code": code, "runs": {one.run_id: one.state for one in statuses}},
        f"{len(statuses)} runs ended, exit code {code}" if len(statuses) > 1 else f"exit code {code}",
    )
    return code


def _gate(show: Show, statuses: Sequence[RunStatus], output_base: str, by_state: int) -> int:
    """Judge the runs of each output folder; 0 only where every job of theirs succeeded."""
    passed = True
    bases = {one.run_id: output_base or one.output_base for one in statuses}
    for base in dict.fromkeys(bases.values()):
        if not base:
            raise UsageError(
                "a run does not say where its results are", where="output_base", remedy="give it with --output_base"
            )
        own = [one for one in statuses if bases[one.run_id] == base]
        known = [one.seconds for one in own if one.seconds is not None]
        verdict = judge(open_storage(base), [one.run_id for one in own], max(known, default=None))
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


def _how_to_go_on(run_ids: Sequence[str]) -> str:
    ids = " ".join(run_ids)
    return f"Wait again: {PROGRAM} wait {ids}. Stop: {PROGRAM} cancel {ids}"
