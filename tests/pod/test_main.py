"""`python -m worldexplorer.pod`: its words, its exit codes, its log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import (
    Workbench,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
)
from pod.pods import JOB, RUN_ID, Cluster, parameters_of

from worldexplorer.pod import plan as plan_module
from worldexplorer.pod import stage as stage_module
from worldexplorer.pod.__main__ import TASKS, main
from worldexplorer.pod.executor import Executor


def executor_input(folder: Path, parameters: dict[str, Any], outputs: dict[str, Any] | None = None) -> str:
    output_file = str(folder / "output.json")
    return json.dumps(
        {"inputs": {"parameterValues": parameters}, "outputs": {"outputFile": output_file, **(outputs or {})}}
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required"),
        (["pln", "--executor_input", "{}"], "unknown task 'pln'. What to do: perhaps plan was meant"),
        (["plan"], "--executor_input is missing. What to do: this program is started by the pipeline"),
        (["plan", "--executor_input", "{"], "the executor input cannot be read"),
        (["plan", "--executor_input", "{}", "--more"], "unknown flag --more"),
    ],
)
def test_wrong_words(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize("task", TASKS)
def test_every_task_needs_an_output_base(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = executor_input(tmp_path, {"run_id": RUN_ID, "output_base": ""})
    assert main([task, "--executor_input", text]) == 2
    assert "the parameter output_base is empty" in capsys.readouterr().err


def test_run_that_was_not_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = {"run_id": RUN_ID, "output_base": str(tmp_path / "out"), "job_id": JOB}
    assert main(["splat", "--executor_input", executor_input(tmp_path, places)]) == 2
    assert "the run has no plan" in capsys.readouterr().err


def test_plan_and_summary_speak_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Workbench(tmp_path)
    parameters = parameters_of(bench, indices="7") | {"only_stages": "1 2 3", "run_id": RUN_ID}
    assert main(["plan", "--executor_input", executor_input(tmp_path, parameters)]) == 2
    captured = capsys.readouterr()
    (line,) = [json.loads(text) for text in captured.out.splitlines()]
    assert (line["event"], line["level"]) == ("log", "ERROR")
    assert "the run cannot be planned: no such index: 7" in line["text"]
    assert captured.err.startswith("error: no such index: 7")


def test_defect_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def break_down(executor: Executor) -> None:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(plan_module, "run_plan", break_down)
    assert main(["plan", "--executor_input", executor_input(tmp_path, {})]) == 1
    assert "ZeroDivisionError: by nought. This is a defect" in capsys.readouterr().err


@pytest.mark.parametrize("code", [0, 1])
def test_exit_code_of_a_stage_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    seen: list[str] = []

    def run_stage(executor: Executor, stage: str) -> int:
        seen.append(stage)
        return code

    monkeypatch.setattr(stage_module, "run_stage", run_stage)
    assert main(["trajectory", "--executor_input", executor_input(tmp_path, {})]) == code
    assert seen == ["trajectory"]


def test_stopped_run_is_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = Cluster(Workbench(tmp_path), tmp_path)
    cluster.plan()
    (cluster.bench.output / "runs" / RUN_ID / "ABORT").write_text("another job failed")
    places = {"run_id": RUN_ID, "output_base": str(cluster.bench.output), "job_id": JOB}
    assert main(["scaffold", "--executor_input", executor_input(tmp_path, places)]) == 2
    assert f"{JOB} is skipped: another job failed" in capsys.readouterr().err
