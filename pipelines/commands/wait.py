"""`python -m pipelines wait RUN_ID ...`: until they have ended, with an exit code that says how.

Example:
    $ python -m pipelines wait 3f0c... --gate --timeout 12h
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pipelines.commands.waiting import add_waiting_flags, open_results, read_waiting, watch
from pipelines.exit_codes import MEANINGS
from pipelines.flags import add_connection_flags, add_format_flags, reach
from pipelines.show import make_show
from worldexplorer.cli.parser import Parser
from worldexplorer.errors import UsageError


def run(argv: Sequence[str], program: str) -> int:
    """Wait."""
    parser = Parser(prog=program, description="Wait until runs have ended.", epilog=MEANINGS)
    parser.add_argument("run_ids", nargs="*", metavar="RUN_ID", help="the runs, as submit printed them")
    add_waiting_flags(parser)
    parser.add_argument(
        "--output_base", metavar="FOLDER", default="", help="Where the results are (default: as the runs say)."
    )
    add_connection_flags(parser)
    add_format_flags(parser)
    words = parser.parse_words(argv)
    if not words.run_ids:
        raise UsageError("no RUN_ID given", remedy="python -m pipelines status lists runs")
    waiting = read_waiting(words)
    results = open_results(words.output_base) if waiting.gate and words.output_base else None
    show = make_show("json" if words.json else words.log_format, sys.stdout)
    cluster = reach(words, show.trouble)
    return watch(cluster, show, words.run_ids, waiting, results)
