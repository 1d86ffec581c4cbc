"""`python -m pipelines status [RUN_ID ...]`: how runs stand, once.

Example:
    $ python -m pipelines status --experiment worldexplorer
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from rich.table import Table

from pipelines.exit_codes import SUCCESS
from pipelines.flags import add_connection_flags, reach, whole_number
from pipelines.show import failure_lines
from pipelines.submit import DEFAULT_EXPERIMENT
from pipelines.wait import RunStatus, read_status
from worldexplorer.cli.estimate import duration_text
from worldexplorer.cli.output import PlainConsole, plain
from worldexplorer.cli.parser import Parser
from worldexplorer.cli.tables import new_table


def run(argv: Sequence[str], program: str) -> int:
    """Show."""
    parser = Parser(prog=program, description="Show runs: the named ones, or the newest of an experiment.")
    parser.add_argument("run_ids", nargs="*", metavar="RUN_ID", help="the runs; none for the newest")
    parser.add_argument("--experiment", metavar="NAME", default=DEFAULT_EXPERIMENT, help="Whose newest runs.")
    parser.add_argument("--newest", metavar="N", default="10", help="How many of them (default: 10).")
    parser.add_argument("--json", action="store_true", help="One JSON list instead of a table.")
    add_connection_flags(parser)
    words = parser.parse_words(argv)
    newest = whole_number(words.newest, "--newest")
    cluster = reach(words, print_trouble)
    if words.run_ids:
        runs = [cluster.run(run_id) for run_id in dict.fromkeys(words.run_ids)]
    else:
        runs = cluster.recent_runs(words.experiment, newest)
    statuses = [read_status(one) for one in runs]
    if words.json:
        documents = [{**one.facts(), "url": cluster.connection.run_url(one.run_id)} for one in statuses]
        sys.stdout.write(json.dumps(documents, indent=1) + "\n")
        return SUCCESS
    console = PlainConsole()
    if not statuses:
        console.show([plain(f"no runs in the experiment {words.experiment}")])
        return SUCCESS
    console.show([_table(statuses)])
    for one in statuses:
        if one.is_final and (lines := failure_lines(one)):
            console.show([plain(f"run {one.run_id}:"), *(plain(line, "red") for line in lines)])
    return SUCCESS


def print_trouble(line: str) -> None:
    """Say on standard error that an answer stayed away."""
    sys.stderr.write(f"{line}\n")


def _table(statuses: Sequence[RunStatus]) -> Table:
    table = new_table()
    for heading in ("run", "name", "state", "tasks", "took", "output_base"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "run")
    for one in statuses:
        table.add_row(
            plain(one.run_id),
            plain(one.name),
            plain(one.state),
            plain("-" if one.tasks is None else f"{one.tasks_done}/{one.tasks}"),
            plain("-" if one.seconds is None else duration_text(one.seconds)),
            plain(one.output_base or "-"),
        )
    return table
