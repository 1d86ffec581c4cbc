"""`python -m pipelines cancel RUN_ID ...`: stop runs; those that have ended are left as they are.

A cancelled run's pods are stopped, and the pod that writes the summary may be among them: `worldexplorer summary
OUTPUT_BASE --rebuild` writes it. Finished stages stay, and the next run over the same output reuses them.

All ids are tried, whatever becomes of the others; the exit code is the worst: 1 before 6 before 2 before 0.

Example:
    $ python -m pipelines cancel 3f0c...
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pipelines.commands.each import for_each
from pipelines.flags import add_connection_flags, add_format_flags, reach
from pipelines.show import make_show
from worldexplorer.cli.parser import Parser
from worldexplorer.errors import UsageError


def run(argv: Sequence[str], program: str) -> int:
    """Cancel."""
    parser = Parser(prog=program, description="Stop runs. One that has ended already is no error.")
    parser.add_argument("run_ids", nargs="*", metavar="RUN_ID", help="the runs, as submit printed them")
    add_connection_flags(parser)
    add_format_flags(parser)
    words = parser.parse_words(argv)
    if not words.run_ids:
        raise UsageError("no RUN_ID given", remedy="python -m pipelines status lists runs")
    show = make_show("json" if words.json else words.log_format, sys.stdout)
    cluster = reach(words, show.trouble)

    def stop(run_id: str) -> None:
        stopped = cluster.terminate(run_id)
        line = f"run {run_id} is being stopped" if stopped else f"run {run_id} had ended or was being stopped already"
        show.event("cancel", {"run_id": run_id, "stopped": stopped}, line)

    def complain(run_id: str, told: str) -> None:
        if show.log_format == "json":
            show.event("cancel", {"run_id": run_id, "stopped": False, "error": told}, "")
        sys.stderr.write(f"error: run {run_id}: {told}\n")

    return for_each(words.run_ids, stop, complain)
