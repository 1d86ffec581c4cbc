"""A cluster that makes small worlds while a run is created: for tests of what is read after runs have ended.

Example:
    >>> server.on_run = make_worlds(fails={2})
"""

from __future__ import annotations

from collections.abc import Callable, Container
from datetime import UTC, datetime
from typing import Any

from builders import SmallEngine, small_engine

from worldexplorer import layout
from worldexplorer.batch import prepare_batch
from worldexplorer.decision import Action
from worldexplorer.errors import UserError
from worldexplorer.job import run_job
from worldexplorer.pod.parameters import flag_parameters, read_run
from worldexplorer.pod.run_file import RunFile
from worldexplorer.stage import StageRunner
from worldexplorer.summary import write_summary


class _FailingEngine(SmallEngine):
    def train(self, *arguments: Any, **more: Any) -> Any:
        raise UserError("this photo cannot become a world", remedy="take another one")


def make_worlds(
    *, fails: Container[int] = (), leaves: Container[int] = (), writes_summary: bool = True
) -> Callable[[dict[str, Any]], None]:
    """What a fake server is to do with a run.

    Args:
        fails: samples whose stage 3 fails.
        leaves: samples whose pods die without a record.
        writes_summary: whether the last pod runs.
    """

    def make(run: dict[str, Any]) -> None:
        names = {one.name for one in flag_parameters()}
        values = {name: value for name, value in run["runtime_config"]["parameters"].items() if name in names}
        config = read_run(values, (1, 2, 3))
        began_at = datetime.now(UTC).isoformat()
        prepared = prepare_batch(config, small_engine, run["run_id"])
        run_file = RunFile(
            run_id=run["run_id"],
            began_at=began_at,
            config=config,
            jobs={},
            to_run={
                str(one.job.id): tuple(step.stage for step in one.decisions if step.action is Action.RUN)
                for one in prepared.plan.jobs
            },
        )
        prepared.storage.write(layout.run_file(run["run_id"]), run_file.to_json())
        prepared.storage.write(layout.plan(run["run_id"]), prepared.plan.file.to_json())
        for one in prepared.plan.jobs:
            if one.job.index in leaves:
                continue
            engine = _FailingEngine() if one.job.index in fails else SmallEngine()
            runner = StageRunner(prepared.storage, config, engine, run["run_id"], wait=lambda seconds: None)
            run_job(runner, prepared.storage, config, one.job, lambda event: None)
        if writes_summary:
            write_summary(prepared.storage, run["run_id"], elapsed_seconds=1.0, interrupted=False)

    return make
