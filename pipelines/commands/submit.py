"""`python -m pipelines submit`: start a batch, as one run or as several over one output folder.

Example:
    $ python -m pipelines submit --profile gke-l4-spot --dataset_dir gs://b/set --output_base gs://b/out --watch --gate
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.commands.sending import Prepared, add_sending_flags, submission_of
from pipelines.commands.waiting import add_waiting_flags, open_results, read_waiting, watch
from pipelines.exit_codes import MEANINGS, SUCCESS
from pipelines.flags import add_connection_flags, add_format_flags, reach
from pipelines.show import Show, make_show
from pipelines.submit import SubmittedRun, send
from worldexplorer.cli.output import plain
from worldexplorer.cli.parser import Parser
from worldexplorer.cli.wording import plural


def run(argv: Sequence[str], program: str) -> int:
    """Submit."""
    parser = Parser(
        prog=program,
        usage="%(prog)s --dataset_dir URI --output_base URI [flags]",
        description="Start a batch in the cluster.",
        epilog=MEANINGS,
    )
    add_connection_flags(parser)
    add_format_flags(parser)
    parser.add_argument("--watch", action="store_true", help="Wait for the runs, as the command wait does.")
    parser.add_argument("--run_name", metavar="NAME", default="", help="What the runs are called.")
    parser.add_argument(
        "--ids_file", metavar="FILE", help="Write the ids of the runs here, one a line, each as soon as it is known."
    )
    add_waiting_flags(parser)
    add_sending_flags(parser)
    words = parser.parse_words(argv)
    waiting = read_waiting(words)
    show = make_show("json" if words.json else words.log_format, sys.stdout)
    with submission_of(words, words.run_name) as prepared:
        for warning in prepared.warnings:
            show.event("warning", {"message": warning}, f"warning: {warning}", "yellow")
        if words.dry_run:
            show_plan(show, prepared)
            return SUCCESS
        # Before anything is sent: runs that nobody can judge are not what --gate asks for.
        results = open_results(str(prepared.submission.runs[0].arguments["output_base"])) if waiting.gate else None
        cluster = reach(words, show.trouble)
        ids_file = _IdsFile(words.ids_file)

        def tell(one: SubmittedRun) -> None:
            ids_file.add(one.run_id)
            show.event("submitted", one.facts(), _line(one))

        sent = send(cluster, prepared.submission, tell)
    submission = prepared.submission
    show.event(
        "submission",
        {"batch_id": submission.batch_id, "experiment": submission.experiment, "runs": [one.facts() for one in sent]},
        f"{len(sent)} {plural(len(sent), 'run')} sent to the experiment {submission.experiment}; "
        f"wait for {'it' if len(sent) == 1 else 'them'}: python -m pipelines wait "
        + " ".join(one.run_id for one in sent),
    )
    if not (words.watch or waiting.gate):
        return SUCCESS
    return watch(cluster, show, [one.run_id for one in sent], waiting, results)


class _IdsFile:
    """Where a script finds the runs, also when not all of them went out."""

    def __init__(self, path: str | None) -> None:
        self._path = Path(path) if path is not None else None
        if self._path is not None:
            self._path.write_text("", encoding="utf-8")  # before anything is sent: a place that cannot be written to

    def add(self, run_id: str) -> None:
        """One more."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{run_id}\n")


def show_plan(show: Show, prepared: Prepared) -> None:
    """What would be sent."""
    submission = prepared.submission
    facts: dict[str, Any] = {
        "experiment": submission.experiment,
        "pipeline": submission.pipeline_name,
        "package": prepared.package.name,
        "pipeline_root": submission.pipeline_root,
        "service_account": submission.service_account,
        "runs": [
            {"name": run.name, "indices": run.part.indices, "jobs": run.part.jobs, "arguments": dict(run.arguments)}
            for run in submission.runs
        ],
    }
    count = len(submission.runs)
    count_text = f"would send {count} {plural(count, 'run')} of {prepared.package.name}"
    first = submission.runs[0].arguments
    lines = [
        f"{count_text} to the experiment {submission.experiment}; nothing was sent",
        *(f"  {run.name}: {_samples(run.part.indices, run.part.jobs)}" for run in submission.runs),
        "with these parameters:",
        *(f"  {name} = {value!r}" for name, value in first.items() if name != "indices" or count == 1),
    ]
    if show.log_format == "json":
        show.event("dry_run", facts, "")
    else:
        show.parts([plain(line) for line in lines])


def _line(sent: SubmittedRun) -> str:
    part = sent.prepared.part
    link = f"  {sent.url}" if sent.url else ""
    return f"run {sent.run_id}: {_samples(part.indices, part.jobs)}{link}"


def _samples(indices: str, jobs: int | None) -> str:
    count = f", {jobs:,} {plural(jobs, 'job')}" if jobs is not None else ""
    return f"{f'samples {indices}' if indices else 'all samples'}{count}"
