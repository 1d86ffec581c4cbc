"""`wait`, `status` and `cancel`: what a script learns from an exit code."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from pipeline.driver import QUICK, Driver, drive, server, submit
from pipeline.fake_kfp import FakeKubeflow, Fault, Request, state

from pipelines.client import open_cluster
from pipelines.connection import connect_settings
from pipelines.wait import WaitTimeoutError, wait_for_runs

pytestmark = pytest.mark.slow

__all__ = ["drive", "server"]


@pytest.mark.parametrize(("last", "code"), [("SUCCEEDED", 0), ("FAILED", 1), ("CANCELED", 4), ("SKIPPED", 1)])
def test_every_final_state_ends_the_wait(
    drive: Driver, server: FakeKubeflow, tmp_path: Path, last: str, code: int
) -> None:
    server.script = [state("PENDING"), state("RUNNING"), state(last)]
    outcome = drive("wait", *submit(drive, tmp_path), *QUICK, "--json")
    assert outcome.code == code
    assert [one["state"] for one in outcome.events() if one["event"] == "run"] == ["PENDING", "RUNNING", last]
    assert outcome.event("ended")["exit_code"] == code


def test_states_on_the_way_do_not_end_it(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    server.script = [state("CANCELING"), state("PAUSED"), state("SOMETHING_NEW"), state("SUCCEEDED")]
    assert drive("wait", *submit(drive, tmp_path), *QUICK).code == 0


def test_a_failed_run_says_what_failed_and_where_its_summary_is(
    drive: Driver, server: FakeKubeflow, tmp_path: Path
) -> None:
    tasks = {"jobs": "FAILED", "jobs/scaffold": "SUCCEEDED", "jobs/splat": "FAILED: exit code 1"}
    server.script = [state("RUNNING", tasks), state("FAILED", tasks, error="main: Error (exit code 1)")]
    outcome = drive("wait", *submit(drive, tmp_path), *QUICK, "--log_format", "text")
    assert outcome.code == 1
    assert "3 of 3 tasks ended" in outcome.out
    assert "splat failed: exit code 1" in outcome.out
    assert "jobs failed" not in outcome.out
    assert f"{tmp_path / 'output'}/batch_summary.json" in outcome.out


@pytest.mark.parametrize(
    ("states", "code"),
    [(("SUCCEEDED", "SUCCEEDED"), 0), (("SUCCEEDED", "CANCELED"), 4), (("CANCELED", "FAILED"), 1)],
)
def test_several_runs_end_as_the_worst_of_them(
    drive: Driver, server: FakeKubeflow, tmp_path: Path, states: tuple[str, str], code: int
) -> None:
    run_ids = []
    for number, last in enumerate(states):
        server.script = [state("RUNNING")] * (number * 3 + 1) + [state(last)]
        run_ids += submit(drive, tmp_path)
    outcome = drive("wait", *run_ids, *QUICK, "--json")
    assert outcome.code == code
    assert outcome.event("ended")["runs"] == dict(zip(run_ids, states, strict=True))


def test_a_quiet_api_is_borne_as_long_as_patience_lasts(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    (run_id,) = submit(drive, tmp_path)
    look = f"GET /apis/v2beta1/runs/{run_id}"
    server.faults = [Fault(look, status=500), Fault(look, status=0), Fault(look, status=504), Fault(look, status=429)]
    outcome = drive("wait", run_id, *QUICK, "--json")
    assert outcome.code == 0
    assert sum(one["event"] == "trouble" for one in outcome.events()) == 4
    server.script = [state("RUNNING")]
    (run_id,) = submit(drive, tmp_path)
    server.faults = [Fault(f"GET /apis/v2beta1/runs/{run_id}")] * 1000
    outcome = drive("wait", run_id, *QUICK, "--patience", "0.05s")
    assert outcome.code == 6
    assert f"the runs go on: Wait again: python -m pipelines wait {run_id}" in outcome.err


def test_a_connection_that_goes_silent_is_given_up(
    server: FakeKubeflow, monkeypatch: pytest.MonkeyPatch, drive: Driver, tmp_path: Path
) -> None:
    monkeypatch.setattr("pipelines.transport.READ_SECONDS", 0.1)
    (run_id,) = submit(drive, tmp_path)
    release = threading.Event()
    asked = []

    def stay_silent_once(request: Request) -> None:
        if request.path.endswith(run_id) and not asked:
            asked.append(request)
            release.wait(10)

    server.on_request = stay_silent_once
    outcome = drive("wait", run_id, *QUICK, "--json")
    release.set()
    assert outcome.code == 0
    assert outcome.event("trouble")


def test_timeout_leaves_the_run_and_says_how_to_go_on(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    server.script = [state("RUNNING")]
    (run_id,) = submit(drive, tmp_path)
    outcome = drive("wait", run_id, *QUICK, "--timeout", "0.1s", "--log_format", "text")
    assert outcome.code == 5
    assert f"python -m pipelines wait {run_id}" in outcome.out
    assert server.count(".*:terminate") == 0


def test_pauses_grow_while_nothing_changes_and_shrink_when_something_does(
    server: FakeKubeflow, drive: Driver, tmp_path: Path
) -> None:
    server.script = [state("RUNNING")] * 5 + [state("RUNNING", {"plan": "SUCCEEDED"})] * 2 + [state("SUCCEEDED")]
    (run_id,) = submit(drive, tmp_path)
    pauses: list[float] = []
    cluster = open_cluster(connect_settings(host=server.url))
    wait_for_runs(cluster, [run_id], longest_pause=5.0, sleep=pauses.append)
    assert pauses == [2.0, 3.0, 4.5, 5.0, 5.0, 2.0, 3.0]


def test_the_last_pause_ends_with_the_time(server: FakeKubeflow, drive: Driver, tmp_path: Path) -> None:
    server.script = [state("RUNNING")]
    (run_id,) = submit(drive, tmp_path)
    now = [0.0]
    cluster = open_cluster(connect_settings(host=server.url))

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with pytest.raises(WaitTimeoutError) as late:
        wait_for_runs(cluster, [run_id], timeout=12.0, longest_pause=8.0, clock=lambda: now[0], sleep=sleep)
    assert now[0] == 12.0
    assert [one.state for one in late.value.statuses] == ["RUNNING"]


@pytest.mark.slow
def test_ctrl_c_leaves_the_run(server: FakeKubeflow, drive: Driver, tmp_path: Path) -> None:
    server.script = [state("RUNNING")]
    (run_id,) = submit(drive, tmp_path)
    words = [sys.executable, "-m", "pipelines", "wait", run_id, "--host", server.url, *QUICK, "--log_format", "text"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert "RUNNING" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the runs go on in the cluster" in told
    assert server.count(".*:terminate") == 0


def test_no_such_run(drive: Driver) -> None:
    for command in ("wait", "cancel", "status"):
        outcome = drive(command, "nothing")
        assert outcome.code == 2
        assert "there is no such thing" in outcome.err


# Cancelling and looking


def test_cancel_is_idempotent(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    server.script = [state("RUNNING")]
    (run_id,) = submit(drive, tmp_path)
    stopped = [drive("cancel", run_id, "--json").event("cancel")["stopped"] for _ in range(2)]
    assert stopped == [True, False]
    assert drive("wait", run_id, *QUICK).code == 4
    assert drive("cancel", run_id).code == 0


def test_cancel_tries_every_run(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    server.script = [state("RUNNING")]
    run_ids = [*submit(drive, tmp_path), *submit(drive, tmp_path)]
    outcome = drive("cancel", "nothing", run_ids[0], "nowhere", run_ids[1], "--json")
    assert outcome.code == 2
    assert [(one["run_id"], one["stopped"]) for one in outcome.events()] == [
        ("nothing", False), (run_ids[0], True), ("nowhere", False), (run_ids[1], True),
    ]  # fmt: skip
    assert {one["state"] for one in server.runs.values()} == {"CANCELING"}
    assert [line.split(":")[1] for line in outcome.err.splitlines()] == [" run nothing", " run nowhere"]


def test_cancel_ends_with_the_worst_code(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    server.script = [state("RUNNING")]
    run_ids = submit(drive, tmp_path)
    silent = Fault("GET /apis/v2beta1/runs/silent")
    server.faults = [silent] * 1000
    assert drive("cancel", "nothing", "silent", *run_ids, "--patience", "0.02s").code == 6
    server.faults = [silent] * 1000 + [Fault("GET /apis/v2beta1/runs/odd", status=200, body="{}")]
    assert drive("cancel", "nothing", "silent", "odd", "--patience", "0.02s").code == 1


def test_cancel_of_a_run_that_ends_meanwhile(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    server.script = [state("RUNNING"), state("SUCCEEDED")]
    (run_id,) = submit(drive, tmp_path)

    def end(request: Request) -> None:
        if request.path.endswith(":terminate"):
            server.runs[run_id]["state"] = "SUCCEEDED"

    server.on_request = end
    assert drive("cancel", run_id, "--json").event("cancel")["stopped"] is False


def test_status_of_named_and_of_newest_runs(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    server.script = [state("RUNNING", {"plan": "SUCCEEDED", "jobs": "RUNNING"})]
    run_ids = [*submit(drive, tmp_path, 1, "--run_name", "older"), *submit(drive, tmp_path, 1, "--run_name", "newer")]
    table = drive("status", run_ids[0]).out
    assert run_ids[0] in table
    assert "1/2" in table
    newest = json.loads(drive("status", "--json", "--newest", "1").out)
    assert [one["name"] for one in newest] == ["newer"]
    assert newest[0]["url"].endswith(run_ids[1])
    assert "no runs in the experiment elsewhere" in drive("status", "--experiment", "elsewhere").out


def test_bars_in_a_terminal_end_with_lines_that_stay(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    server.script = [state("RUNNING", {"plan": "SUCCEEDED", "jobs": "RUNNING"}), state("CANCELED")]
    (run_id,) = submit(drive, tmp_path)
    outcome = drive("wait", run_id, *QUICK, "--log_format", "rich")
    assert outcome.code == 4
    assert f"run {run_id}" in outcome.out
    assert "CANCELED" in outcome.out
