"""The dry run: what would run, be reused or be refused, and why; nothing is written.

Example:
    >>> PlainConsole().show(dry_run_report(prepared, missing=[]))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from worldexplorer.batch import PreparedBatch
from worldexplorer.cli.output import plain
from worldexplorer.cli.tables import ROWS_SHOWN, bounded_lines, new_table
from worldexplorer.cli.wording import plural
from worldexplorer.config import STAGE_NAMES
from worldexplorer.decision import Action
from worldexplorer.plan import JobPlan

_STYLES = {Action.RUN: "cyan", Action.REUSE: "green", Action.REFUSE: "red"}


def dry_run_report(prepared: PreparedBatch, missing: Sequence[str]) -> list[RenderableType]:
    """The plan as a table with totals; `missing` is what keeps the engine from running here."""
    plan = prepared.plan
    table = new_table()
    table.add_column("job", overflow="fold")
    for stage in STAGE_NAMES.values():
        table.add_column(stage, overflow="fold")
    for one in plan.jobs[:ROWS_SHOWN]:
        cells = {decision.stage: plain(f"{decision.action}: {decision.reason}") for decision in one.decisions}
        for decision in one.decisions:
            cells[decision.stage].stylize(_STYLES[decision.action])
        if one.problem:
            cells[one.decisions[0].stage] = plain(f"will fail: {one.problem}", "red")
        table.add_row(plain(one.job.id), *(cells.get(stage) or _without(one, stage) for stage in STAGE_NAMES.values()))
    parts: list[RenderableType] = [table]
    if len(plan.jobs) > ROWS_SHOWN:
        parts.append(plain(f"... and {len(plan.jobs) - ROWS_SHOWN:,} more jobs"))
    parts.append(plain(_totals_line(prepared), "bold"))
    parts += bounded_lines(
        [f"skipped: sample {one.index}, {one.variant}: {one.reason}" for one in plan.file.skipped], "yellow"
    )
    parts += bounded_lines([f"warning: {text}" for text in _warnings(prepared)], "yellow")
    parts += bounded_lines(
        [f"the {prepared.engine.name} engine cannot run this here: {text}" for text in missing], "red"
    )
    parts.append(plain("dry run: nothing was written", "dim"))
    return parts


def dry_run_events(prepared: PreparedBatch, missing: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The plan as (event, facts), every job and every reason, the totals last."""
    plan = prepared.plan
    for one in plan.jobs:
        stages = [
            {"stage": decision.stage, "action": decision.action.value, "reason": decision.reason}
            for decision in one.decisions
        ]
        yield "planned_job", {"job": str(one.job.id), "stages": stages, "problem": one.problem}
    for skipped in plan.file.skipped:
        facts = {"index": skipped.index, "variant": skipped.variant, "reason": skipped.reason}
        yield "skipped_variant", facts
    for text in _warnings(prepared):
        yield "log", {"level": "WARNING", "text": text}
    yield "dry_run", {**_totals(prepared), "engine_label": prepared.engine.label, "missing": list(missing)}


def _totals(prepared: PreparedBatch) -> dict[str, int]:
    """Jobs by what becomes of them, stages by what happens to them."""
    jobs = prepared.plan.jobs
    actions = Counter(decision.action for one in jobs for decision in one.decisions)
    fates = Counter(_fate(one) for one in jobs)
    return {
        "jobs": len(jobs),
        "jobs_to_run": fates["run"],
        "jobs_finished_before": fates["finished"],
        "jobs_that_will_fail": fates["fail"],
        **{f"stages_to_{action.value}": actions[action] for action in Action},
        "skipped_variants": len(prepared.plan.file.skipped),
    }


def _fate(one: JobPlan) -> str:
    if one.problem or any(decision.action is Action.REFUSE for decision in one.decisions):
        return "fail"
    return "finished" if one.is_finished else "run"


def _totals_line(prepared: PreparedBatch) -> str:
    totals = _totals(prepared)
    jobs = f"{totals['jobs']:,} {plural(totals['jobs'], 'job')}"
    fates = f"{totals['jobs_to_run']:,} to run, {totals['jobs_finished_before']:,} finished before"
    if totals["jobs_that_will_fail"]:
        fates += f", {totals['jobs_that_will_fail']:,} that will fail"
    stages = ", ".join(f"{totals[f'stages_to_{action.value}']:,} {action.value}" for action in Action)
    return f"{jobs}: {fates}; stages: {stages}  [{prepared.engine.label}]"


def _warnings(prepared: PreparedBatch) -> list[str]:
    return list(prepared.plan.file.warnings)


def _without(one: JobPlan, stage: str) -> Text:
    """What stands for a stage about which nothing was decided."""
    return plain("not reached" if stage in one.stages else "-", "dim")
