"""`python -m worldexplorer.pod STAGE --executor_input JSON`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from worldexplorer.cli.border import guarded
from worldexplorer.cli.parser import Parser, perhaps
from worldexplorer.errors import UsageError

TASKS = ("plan", "scaffold", "trajectory", "splat", "batch_summary")


def main(argv: Sequence[str]) -> int:
    """Run one task; the exit code."""
    return guarded(lambda: _run(argv))


def _run(argv: Sequence[str]) -> int:
    parser = Parser(prog="python -m worldexplorer.pod", description="One task of the cluster pipeline.")
    parser.add_argument("task", metavar="TASK", help=" ".join(TASKS))
    parser.add_argument("--executor_input", metavar="JSON", help="what the pipeline passes as '{{$}}'")
    words = parser.parse_words(argv)
    if words.task not in TASKS:
        remedy = "; ".join([*perhaps(words.task, TASKS), f"choose from {', '.join(TASKS)}"])
        raise UsageError(f"unknown task {words.task!r}", remedy=remedy)
    if words.executor_input is None:
        raise UsageError("--executor_input is missing", remedy="this program is started by the pipeline")
    return run_task(words.task, words.executor_input)


def run_task(task: str, executor_input: str) -> int:
    """Run one task with what the pipeline passed."""
    from worldexplorer.pod.executor import Executor

    executor = Executor.parse(executor_input)
    if task not in ("plan", "batch_summary"):
        from worldexplorer.pod.stage import run_stage

        return run_stage(executor, task)
    from worldexplorer.cli.output import exclusive_stdout
    from worldexplorer.pod.log import log_lines

    with exclusive_stdout() as stream, log_lines(stream):
        if task == "plan":
            from worldexplorer.pod.plan import run_plan

            run_plan(executor)
        else:
            from worldexplorer.pod.summary import run_summary

            run_summary(executor)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
