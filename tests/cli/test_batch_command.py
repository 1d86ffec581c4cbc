from __future__ import annotations

import errno
import json
import logging
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_plans import Engine, a_failure, a_result, a_summary, fresh, prepared_batch, reused

import worldexplorer.cli.batch as command
from worldexplorer.batch import BatchOutcome, Interrupted
from worldexplorer.cli import main
from worldexplorer.errors import UsageError, UserError
from worldexplorer.events import BatchFinished, BatchStarted, LogLine, StageProgress
from worldexplorer.layout import JobId

WORDS = ["batch", "--dataset_dir", "data", "--engine", "preview"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def stub(monkeypatch, tmp_path):
    """Replaces the batch by one that is planned by hand and does what the test says."""

    def install(run=None, jobs=None, **settings):
        def prepare(config):
            given = {"only_stages": config.batch.only_stages, "log_format": config.batch.log_format}
            given |= {"dry_run": config.batch.dry_run, "check_checkpoints": config.batch.check_checkpoints}
            return prepared_batch(jobs or [fresh(0)], tmp_path / "out", **given, **settings)

        def must_not_run(prepared, listener):
            pytest.fail("the batch ran")

        monkeypatch.setattr(command, "prepare_batch", prepare)
        monkeypatch.setattr(command, "run_batch", run or must_not_run)

    return install


def ending(code, results, **facts):
    """A batch that says how it begins and ends, and nothing between."""
    summary = a_summary(results, **facts)

    def run(prepared, listener):
        listener(BatchStarted("run-1", len(results), 0, "synthesised preview"))
        listener(BatchFinished(summary))
        return BatchOutcome(summary, code)

    return run


@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_exit_code_is_that_of_the_batch(stub, code):
    stub(ending(code, [a_result(0)]))
    assert main([*WORDS, "--log_format", "text"]) == code


def test_the_table_follows_the_progress(stub, capsys):
    stub(ending(1, [a_result(0), a_failure(2)]))
    main([*WORDS, "--log_format", "text"])
    lines = capsys.readouterr().out.splitlines()
    assert "run run-1: 2 jobs" in lines[0]
    assert "again     run the same command with: --indices 2" in lines


@pytest.mark.slow
def test_json_has_one_object_a_line_and_nothing_else():
    program = """
import sys
import test_batch_command as here
import worldexplorer.cli.batch as command
from cli_plans import fresh, prepared_batch
command.prepare_batch = lambda config: prepared_batch([fresh(0)], here.Path("out"), log_format="json")
command.run_batch = here.talkative
sys.exit(here.main([*here.WORDS, "--log_format", "json"]))
"""
    done = run_python(program)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events] == ["stage_progress", "log", "batch_started", "summary"]
    assert events[1]["text"] == "low light, token [redacted]"
    assert "a library that talks" in done.stderr


def talkative(prepared, listener):
    sys.stdout.write("a library that talks\n")
    listener(StageProgress(JobId(0, "photorealistic"), "splat", 1, 2, "training"))
    logging.getLogger("worldexplorer.batch").warning("low light, token hf_0123456789abcdef")
    return ending(0, [a_result(0)])(prepared, listener)


def run_python(program: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment_path = f"{ROOT}:{ROOT / 'tests'}:{ROOT / 'tests' / 'cli'}"
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": environment_path, "PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
    )


def test_a_dry_run_prints_the_plan_and_runs_nothing(stub, capsys, tmp_path):
    stub(jobs=[fresh(0), reused(1)])
    assert main([*WORDS, "--dry_run", "--log_format", "text"]) == 0
    shown = capsys.readouterr().out
    assert "2 jobs: 1 to run, 1 finished before" in shown
    assert not (tmp_path / "out").exists()


def test_a_dry_run_in_json_ends_with_the_totals(stub, capsys):
    stub(jobs=[fresh(0), reused(1)])
    assert main([*WORDS, "--dry_run"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["planned_job", "planned_job", "dry_run"]
    assert events[-1]["jobs_finished_before"] == 1


def test_missing_checkpoints_end_the_command_before_anything_runs(stub, capsys):
    stub(engine=Engine({2: ["VGGT is not there", "SEVA is not there"]}))
    assert main([*WORDS, "--check_checkpoints", "--log_format", "text"]) == 2
    assert capsys.readouterr().out.splitlines() == [
        "ok       stage 1 scaffold",
        "missing  stage 2 trajectory: VGGT is not there",
        "missing  stage 2 trajectory: SEVA is not there",
        "ok       stage 3 splat",
        "what to do: take another engine",
    ]


def test_where_all_is_there_the_check_says_so_and_the_batch_runs(stub, capsys):
    stub(ending(0, [a_result(0)]))
    assert main([*WORDS, "--check_checkpoints", "--only_stages", "3", "--log_format", "text"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["ok       stage 3 splat", "the preview engine needs no checkpoints"]
    assert "run run-1: 1 job" in lines[2]


def test_the_check_speaks_json_too(stub, capsys):
    stub(engine=Engine({1: ["SEVA is not there"]}))
    assert main([*WORDS, "--check_checkpoints", "--only_stages", "1"]) == 2
    (event,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (event["event"], event["stage"]) == ("check", "stage 1 scaffold")
    assert (event["missing"], event["remedy"]) == ("SEVA is not there", "take another engine")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_batch_shows_its_summary_and_ends_as_the_signal_says(stub, capsys, number, code):
    def run(prepared, listener):
        raise Interrupted(a_summary([a_result(0, "skipped", reason="the run was interrupted")]), int(number))

    stub(run)
    assert main([*WORDS, "--log_format", "text"]) == code
    assert "photorealistic/index_0000 skipped: the run was interrupted" in capsys.readouterr().out


def raising(error):
    def run(prepared, listener):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (UsageError("no such index: 7", where="--indices", remedy="choose 0-3"), 2, None),
        (UserError("another run committed it", where="x.json", remedy="use --force"), 1, None),
        (
            OSError(errno.ENOSPC, "No space left on device", "/data/x"),
            1,
            "the disk is full (No space left on device) (/data/x). What to do: free some space and run it again",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/data/x"),
            1,
            "Permission denied (/data/x). What to do: give yourself the permission, or name another place",
        ),
        (
            MemoryError("cannot allocate"),
            1,
            (
                "out of memory (cannot allocate). What to do: reduce --num_images_for_vggt, or run fewer samples with "
                "--indices"
            ),
        ),
    ],
    ids=["usage", "user", "disk full", "permission", "memory"],
)
def test_an_error_is_one_line(stub, capsys, error, code, text):
    stub(raising(error))
    assert main(WORDS) == code
    captured = capsys.readouterr()
    assert captured.err == f"error: {text or error}\n"
    assert captured.out == ""


def test_a_defect_names_itself_and_where_its_details_are(stub, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv("WORLDEXPLORER_DEBUG", raising=False)
    stub(raising(ZeroDivisionError("division by zero\nat hf_0123456789abcdef")))
    assert main(WORDS) == 1
    line = capsys.readouterr().err
    (log,) = tmp_path.glob("worldexplorer-*.log")
    assert line == (
        "error: ZeroDivisionError: division by zero at [redacted]. This is a defect of the program; details are in "
        f"{log}, or with WORLDEXPLORER_DEBUG=1 on the screen\n"
    )
    assert "Traceback" in log.read_text()
    assert "hf_0123456789abcdef" not in log.read_text()


def test_the_traceback_is_shown_on_request(stub, capsys, monkeypatch):
    monkeypatch.setenv("WORLDEXPLORER_DEBUG", "1")
    stub(raising(ZeroDivisionError("division by zero")))
    assert main(WORDS) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback")
    assert shown.splitlines()[-1] == (
        "error: ZeroDivisionError: division by zero. This is a defect of the program; its traceback stands above"
    )


def test_an_interrupt_before_the_first_job_is_no_defect(monkeypatch, capsys):
    def prepare(config):
        raise KeyboardInterrupt(15)

    monkeypatch.setattr(command, "prepare_batch", prepare)
    assert main(WORDS) == 143
    assert capsys.readouterr().err == "interrupted\n"


def test_the_librarys_log_goes_where_the_progress_goes_and_only_during_the_run(stub, capsys):
    logger = logging.getLogger("worldexplorer")
    before = (logger.level, logger.propagate, list(logger.handlers))

    def run(prepared, listener):
        logging.getLogger("worldexplorer.stage").info("going on")
        logging.getLogger("worldexplorer.stage").debug("details")
        return ending(0, [a_result(0)])(prepared, listener)

    stub(run)
    main([*WORDS, "--log_format", "text"])
    shown = capsys.readouterr().out
    assert "INFO going on" in shown
    assert "details" not in shown
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


def test_the_estimate_counts_what_the_plan_runs(tmp_path):
    left = command.time_left(prepared_batch([fresh(0), reused(1)], tmp_path))
    left.hear(LogLine("INFO", "x"))
    assert left.share() == 0.0
    assert left._total == sum(Engine.stage_weights)


@pytest.mark.slow
def test_run_batch_pipeline_is_the_batch_command():
    script = ROOT / "run_batch_pipeline.py"
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: run_batch_pipeline.py --dataset_dir FOLDER [flags]")
    done = subprocess.run([sys.executable, script, "--datset_dir", "x"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: unknown flag --datset_dir. What to do: perhaps --dataset_dir was meant; --help lists every flag\n"
    )


def test_a_data_set_that_is_not_there_is_one_line_and_nothing_is_written(tmp_path, capsys):
    output = tmp_path / "out"
    words = ["batch", "--dataset_dir", str(tmp_path / "no"), "--output_base", str(output), "--engine", "preview"]
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: Dataset directory not found: it does not exist")
    assert captured.err.count("\n") == 1
    assert not output.exists()


def test_a_missing_package_is_named_with_how_to_get_it():
    program = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == "rich":
            raise ModuleNotFoundError("No module named 'rich'", name="rich")
sys.meta_path.insert(0, Hide())
from worldexplorer.cli import main
sys.exit(main(["batch"]))
"""
    done = run_python(program)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: the package rich is not installed for {sys.executable}. What to do: install what is needed with: "
        'python -m pip install -e ".[preview]" (in the checkout), or run: make demo\n'
    )
