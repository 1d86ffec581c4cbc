"""`python -m pipelines schedule`: recurring runs, which the cluster starts by itself.

A recurring batch over a growing data set and one output folder makes what is new: finished jobs are reused. Of one
schedule only one run is at work at a time, unless --max_concurrency says otherwise, and missed times are not made up.

`enable`, `disable` and `delete` try every id, whatever becomes of the others; the exit code is the worst: 1 before 6
before 2 before 0.

A data set of many jobs becomes several schedules. Their names are checked before the first is made; where one cannot be
made, the same command makes those that are missing: a schedule's description holds a checksum of all that it asks for.

Example:
    $ python -m pipelines schedule create --name nightly --cron "0 0 2 * * *" --dataset_dir gs://b/set ...
    $ python -m pipelines schedule disable 7c1f...
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence

from kfp_server_api import V2beta1RecurringRun, V2beta1Trigger

from pipelines.client import Cluster, cron_trigger, interval_trigger, mode, runtime_config
from pipelines.commands.each import for_each
from pipelines.commands.sending import add_sending_flags, submission_of
from pipelines.commands.submit import show_plan
from pipelines.errors import PartlySubmittedError
from pipelines.exit_codes import SUCCESS
from pipelines.flags import add_connection_flags, add_format_flags, reach, seconds, whole_number
from pipelines.show import Show, make_show
from worldexplorer.cli.output import PlainConsole, plain
from worldexplorer.cli.parser import Parser, closest
from worldexplorer.cli.tables import new_table
from worldexplorer.errors import UsageError, WorldExplorerError

ACTIONS = ("create", "list", "enable", "disable", "delete")
_CRON_FIELDS = 6
_CRON_FIELD = re.compile(r"[0-9A-Za-z*/,?#-]+")
_LEAST_INTERVAL = 60


def run(argv: Sequence[str], program: str) -> int:
    """Dispatch on the action."""
    action = argv[0] if argv else "--help"
    if action in ("-h", "--help"):
        sys.stdout.write(
            f"usage: {program} {{{','.join(ACTIONS)}}} ...\n\nRecurring runs.\n\n"
            f"  {program} create --name NAME (--cron CRON | --every TIME) --dataset_dir URI --output_base URI ...\n"
            f"  {program} list\n  {program} enable|disable|delete ID ...\n\n"
            f"  {program} create --help says more.\n"
        )
        return SUCCESS
    if action not in ACTIONS:
        guess = closest(action, ACTIONS)
        meant = f"perhaps {guess} was meant; " if guess else ""
        raise UsageError(f"unknown action {action!r}", remedy=f"{meant}choose from {', '.join(ACTIONS)}")
    if action == "create":
        return _create(argv[1:], f"{program} create")
    if action == "list":
        return _list(argv[1:], f"{program} list")
    return _change(action, argv[1:], f"{program} {action}")


def _create(argv: Sequence[str], program: str) -> int:
    parser = Parser(
        prog=program,
        usage="%(prog)s --name NAME (--cron CRON | --every TIME) --dataset_dir URI --output_base URI [flags]",
        description="Let the cluster start a batch again and again.",
    )
    add_connection_flags(parser)
    add_format_flags(parser)
    group = parser.add_argument_group("Schedule")
    group.add_argument("--name", metavar="NAME", help="What the schedule is called (required).")
    group.add_argument(
        "--cron",
        metavar="CRON",
        help='When, as six fields: second minute hour day month weekday, such as "0 0 2 * * *" for 2:00 UTC.',
    )
    group.add_argument("--every", metavar="TIME", help="How often instead, such as 12h.")
    group.add_argument(
        "--max_concurrency", metavar="N", default="1", help="Runs at work at the same time, 1 to 10 (default: 1)."
    )
    group.add_argument("--catch_up", action="store_true", help="Make up for missed times.")
    group.add_argument("--disabled", action="store_true", help="Create it switched off.")
    add_sending_flags(parser)
    words = parser.parse_words(argv)
    if not words.name:
        raise UsageError("--name is missing", remedy="add --name NAME")
    trigger = _trigger(words)
    concurrency = whole_number(words.max_concurrency, "--max_concurrency")
    if concurrency > 10:
        raise UsageError(f"max_concurrency is {concurrency}", where="--max_concurrency", remedy="give 1 to 10")
    show = make_show("json" if words.json else words.log_format, sys.stdout)
    with submission_of(words, words.name) as prepared:
        submission = prepared.submission
        if len(submission.runs) > 1:
            line = (
                f"{len(submission.runs)} schedules, each over its own samples: samples added later are in none of them"
            )
            show.event("warning", {"message": line}, f"warning: {line}", "yellow")
        if words.dry_run:
            show_plan(show, prepared)
            return SUCCESS
        cluster = reach(words, show.trouble)
        experiment_id = cluster.experiment_id(submission.experiment)
        wanted = [
            _described(
                V2beta1RecurringRun(
                    display_name=one.name,
                    experiment_id=experiment_id,
                    namespace=cluster.namespace or None,
                    pipeline_spec=dict(submission.pipeline),
                    runtime_config=runtime_config(dict(one.arguments), submission.pipeline_root),
                    service_account=submission.service_account or None,
                    max_concurrency=str(concurrency),
                    no_catchup=not words.catch_up,
                    mode=mode(enabled=not words.disabled),
                    trigger=trigger,
                )
            )
            for one in submission.runs
        ]
        _make(cluster, show, wanted, enabled=not words.disabled)
    return SUCCESS


def _described(wanted: V2beta1RecurringRun) -> V2beta1RecurringRun:
    """With a description that only the same request has."""
    text = json.dumps(wanted.to_dict(), sort_keys=True, default=str)
    wanted.description = f"worldexplorer schedule {hashlib.sha256(text.encode()).hexdigest()}"
    return wanted


def _make(cluster: Cluster, show: Show, wanted: Sequence[V2beta1RecurringRun], *, enabled: bool) -> None:
    """Make the schedules that are missing.

    Raises:
        UsageError: a name is taken by another schedule, or all of them are there already; nothing was made.
        PartlySubmittedError: some are there and one could not be made.
    """
    there = _already_there(cluster, wanted)
    ids: list[str] = []
    for one in wanted:
        known = there.get(one.display_name)
        try:
            recurring_run_id = known or cluster.create_recurring_run(one).recurring_run_id
        except WorldExplorerError as error:
            if not ids:
                raise
            raise PartlySubmittedError(
                f"{len(ids)} of {len(wanted)} schedules are there and go on: {' '.join(ids)}. "
                f"{one.display_name!r} could not be made: {error.what}",
                where=error.where,
                remedy=f"{error.remedy + '; then ' if error.remedy else ''}repeat the same command, which makes those "
                f"that are missing, or take these back with: python -m pipelines schedule delete {' '.join(ids)}",
            ) from error
        ids.append(recurring_run_id)
        facts: dict[str, object] = {"recurring_run_id": recurring_run_id, "name": one.display_name}
        if known:
            show.event("kept", facts, f"recurring run {known} ({one.display_name}) is there already")
        else:
            facts["enabled"] = enabled
            show.event("scheduled", facts, f"recurring run {recurring_run_id} ({one.display_name})")


def _already_there(cluster: Cluster, wanted: Sequence[V2beta1RecurringRun]) -> Mapping[str, str]:
    """Ids of what an earlier try of the same command has made, by name; UsageError where it may not be made again."""
    descriptions = {one.display_name: one.description for one in wanted}
    taken = [one for one in cluster.recurring_runs() if one.display_name in descriptions]
    there = {
        one.display_name: str(one.recurring_run_id)
        for one in taken
        if one.description == descriptions[one.display_name]
    }
    others = [one for one in taken if one.description != descriptions[one.display_name]]
    if not others and len(there) < len(wanted):
        return there
    refused = others or taken
    names = ", ".join(repr(one.display_name) for one in refused)
    ids = " ".join(str(one.recurring_run_id) for one in refused)
    raise UsageError(
        f"there is a recurring run {names} already",
        where=cluster.connection.host,
        remedy=f"delete it first (python -m pipelines schedule delete {ids}), or give another --name",
    )


def _trigger(words: Namespace) -> V2beta1Trigger:
    if (words.cron is None) == (words.every is None):
        raise UsageError(
            "a schedule needs either --cron or --every", remedy='such as --cron "0 0 2 * * *" or --every 12h'
        )
    if words.every is not None:
        interval = seconds(words.every, "--every")
        if interval < _LEAST_INTERVAL or interval != int(interval):
            raise UsageError(f"--every {words.every} is too often", remedy=f"give whole seconds from {_LEAST_INTERVAL}")
        return interval_trigger(int(interval))
    fields = words.cron.split()
    if len(fields) != _CRON_FIELDS or not all(_CRON_FIELD.fullmatch(one) for one in fields):
        hint = f'perhaps "0 {words.cron}" was meant' if len(fields) == _CRON_FIELDS - 1 else "such as 0 0 2 * * *"
        raise UsageError(
            f"{words.cron!r} does not have the six fields second minute hour day month weekday",
            where="--cron",
            remedy=hint,
        )
    return cron_trigger(" ".join(fields))


def _list(argv: Sequence[str], program: str) -> int:
    parser = Parser(prog=program, description="Show the recurring runs of the namespace.")
    parser.add_argument("--json", action="store_true", help="One JSON list instead of a table.")
    add_connection_flags(parser)
    words = parser.parse_words(argv)
    found = reach(words, _complain).recurring_runs()
    documents = [_facts(one) for one in found]
    if words.json:
        sys.stdout.write(json.dumps(documents, indent=1) + "\n")
        return SUCCESS
    console = PlainConsole()
    if not documents:
        console.show([plain("no recurring runs")])
        return SUCCESS
    table = new_table()
    for heading in ("id", "name", "status", "when", "at a time"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "id")
    for one in documents:
        table.add_row(*(plain(one[name]) for name in ("recurring_run_id", "name", "status", "when", "max_concurrency")))
    console.show([table])
    return SUCCESS


def _facts(one: V2beta1RecurringRun) -> dict[str, str]:
    trigger = one.trigger
    cron = trigger.cron_schedule.cron if trigger is not None and trigger.cron_schedule is not None else ""
    periodic = trigger.periodic_schedule if trigger is not None else None
    every = f"every {periodic.interval_second} s" if periodic is not None else ""
    return {
        "recurring_run_id": one.recurring_run_id,
        "name": one.display_name,
        "status": one.status or "",
        "when": cron or every,
        "max_concurrency": str(one.max_concurrency or ""),
    }


def _change(action: str, argv: Sequence[str], program: str) -> int:
    parser = Parser(prog=program, description=f"{action.capitalize()} recurring runs; runs at work go on.")
    parser.add_argument("ids", nargs="*", metavar="ID", help="the recurring runs, as list shows them")
    add_connection_flags(parser)
    add_format_flags(parser)
    words = parser.parse_words(argv)
    if not words.ids:
        raise UsageError("no ID given", remedy="python -m pipelines schedule list shows them")
    show: Show = make_show("json" if words.json else words.log_format, sys.stdout)
    cluster = reach(words, show.trouble)

    def change(recurring_run_id: str) -> None:
        if action == "delete":
            cluster.delete_recurring_run(recurring_run_id)
        else:
            cluster.switch_recurring_run(recurring_run_id, enabled=action == "enable")
        show.event(action, {"recurring_run_id": recurring_run_id}, f"recurring run {recurring_run_id}: {action}d")

    def complain(recurring_run_id: str, told: str) -> None:
        if show.log_format == "json":
            show.event(action, {"recurring_run_id": recurring_run_id, "error": told}, "")
        sys.stderr.write(f"error: recurring run {recurring_run_id}: {told}\n")

    return for_each(words.ids, change, complain)


def _complain(line: str) -> None:
    sys.stderr.write(f"{line}\n")
