"""Worker processes: a job that takes its process down takes nothing else with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from builders import STAGES, Workbench, failures, small_engine
from worker_engines import cannot_be_loaded, dies_while_drawing, has_a_process_of_its_own, obedient

from worldexplorer import worker as module
from worldexplorer.errors import ErrorClass
from worldexplorer.events import Event, JobFinished, JobStarted, LogLine, StageFinished, StageProgress
from worldexplorer.plan import new_run_id
from worldexplorer.worker import Shares, _give, _hear, _Task, _Worker, run_jobs

pytestmark = pytest.mark.slow  # real processes take seconds to start


def of_job(events: list[Event], index: int) -> list[Event]:
    return [event for event in events if getattr(event, "job", None) is not None and event.job.index == index]  # type: ignore[union-attr]


class Batch:
    """Four jobs in two processes: one is killed, one has a bad photo, two are fine."""

    def __init__(self, folder: Path) -> None:
        self.bench = Workbench(folder, samples=4)
        (self.bench.data / "2.png").write_bytes(b"no picture")
        (self.bench.data / "kill-in-training").touch()
        self.run = self.bench.config(workers=2, only_stages=(1, 2, 3))
        self.events: list[Event] = []
        jobs = self.bench.jobs().jobs
        self.not_started = run_jobs(
            self.run, "this-run", jobs, self.events.append, stop_on_failure=False, load=obedient
        )
        (self.killed,) = [
            failure.index for failure in failures(self.events) if failure.error and "SIGKILL" in failure.error.message
        ]
        self.fine = sorted({0, 1, 3} - {self.killed})


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    return Batch(tmp_path_factory.mktemp("batch"))


def test_the_others_go_on(batch: Batch) -> None:
    assert batch.not_started == []
    assert sorted(event.job.index for event in batch.events if isinstance(event, JobFinished)) == [0, 1, 2, 3]
    assert sorted(failure.index for failure in failures(batch.events)) == sorted([2, batch.killed])
    for index in batch.fine:
        assert batch.bench.record("splat", index).run_id == "this-run"


def test_a_job_tells_what_it_does_in_order(batch: Batch) -> None:
    events = of_job(batch.events, batch.fine[0])
    assert events[0] == JobStarted(batch.bench.job(batch.fine[0]).id, STAGES)
    finished = [event for event in events if isinstance(event, StageFinished)]
    assert [(event.stage, event.reused) for event in finished] == [(stage, False) for stage in STAGES]
    assert any(isinstance(event, StageProgress) for event in events)
    assert isinstance(events[-1], JobFinished)


def test_log_lines_come_across_without_tokens(batch: Batch) -> None:
    lines = [event for event in batch.events if isinstance(event, LogLine)]
    assert LogLine("WARNING", "training with [redacted]", "photorealistic/index_0003 splat") in lines


def test_a_killed_process_is_a_failure_of_the_machine(batch: Batch) -> None:
    record = batch.bench.failure("splat", batch.killed)
    assert record.run_id == "this-run"
    assert record.error is not None
    assert record.error.error_class is ErrorClass.INFRASTRUCTURE
    assert "the job's process died (signal SIGKILL)" in record.error.message
    assert "run the same command again" in record.error.remedy
    assert "--workers" in record.error.remedy


def test_a_bad_photo_is_its_own_jobs_failure(batch: Batch) -> None:
    record = batch.bench.failure("scaffold", 2)
    assert record.error is not None
    assert record.error.error_class is ErrorClass.USER


def test_the_killed_job_goes_on_where_it_was(batch: Batch) -> None:
    runner = batch.bench.runner(batch.run)
    job = batch.bench.job(batch.killed)
    again = [runner.run(job, stage, lambda done, total, what: None) for stage in STAGES]
    assert [record.run_id == runner.run_id for record in again] == [False, False, True]
    assert batch.bench.leftovers() == []


def test_the_first_failure_stops_the_rest(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, samples=3)
    (bench.data / "0.png").write_bytes(b"no picture")
    events: list[Event] = []
    jobs = bench.jobs().jobs
    not_started = run_jobs(bench.config(), new_run_id(), jobs, events.append, stop_on_failure=True, load=small_engine)
    assert [job.index for job in not_started] == [1, 2]
    assert [event.job.index for event in events if isinstance(event, JobFinished)] == [0]


def test_a_process_that_goes_after_the_last_commit_leaves_a_finished_job(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    events: list[Event] = []
    jobs = bench.jobs().jobs
    run_jobs(bench.config(), new_run_id(), jobs, events.append, stop_on_failure=True, load=dies_while_drawing)
    assert events[-1] == JobFinished(jobs[0].id, None)
    assert bench.record("splat").published
    assert sorted(path.name for path in bench.job_path("records").iterdir()) == sorted(f"{one}.json" for one in STAGES)


def test_a_process_that_cannot_begin_fails_its_job(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    events: list[Event] = []
    run_jobs(
        bench.config(), new_run_id(), bench.jobs().jobs, events.append, stop_on_failure=True, load=cannot_be_loaded
    )
    (failure,) = failures(events)
    assert failure.stage == "scaffold"
    assert failure.error is not None
    assert "exit code 1" in failure.error.message


def test_after_a_failure_that_was_not_the_inputs_the_others_get_a_new_process(tmp_path: Path) -> None:
    """A GPU that failed stays so for the whole process; a photo that cannot be read changes nothing."""
    bench = Workbench(tmp_path, samples=4)
    (bench.data / "fail-in-training").touch()
    (bench.data / "2.png").write_bytes(b"no picture")
    events: list[Event] = []
    jobs = bench.jobs().jobs
    run_jobs(bench.config(), new_run_id(), jobs, events.append, stop_on_failure=False, load=obedient)
    assert [failure.index for failure in failures(events)] == [0, 2]
    failed, second, fourth = (bench.data / "pids").read_text().split()
    assert failed != second == fourth


def test_an_interrupt_stops_the_workers(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    (bench.data / "sleep-in-training").touch()

    def listener(event: Event) -> None:
        if isinstance(event, LogLine) and "training" in event.text:
            raise KeyboardInterrupt(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        run_jobs(bench.config(), new_run_id(), bench.jobs().jobs, listener, stop_on_failure=True, load=obedient)
    assert multiprocessing.active_children() == []
    assert sorted(path.name for path in bench.job_path("records").iterdir()) == ["scaffold.json", "trajectory.json"]


def test_a_worker_does_not_outlive_its_parent(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    (bench.data / "sleep-in-training").touch()
    script = (
        "from pathlib import Path; from builders import Workbench; from worker_engines import obedient\n"
        "from worldexplorer.worker import run_jobs\n"
        "if __name__ == '__main__':\n"
        f"    bench = Workbench(Path({str(tmp_path)!r}))\n"
        "    jobs = bench.jobs().jobs\n"
        "    run_jobs(bench.config(), 'run', jobs, lambda event: None, stop_on_failure=True, load=obedient)\n"
    )
    (tmp_path / "parent.py").write_text(script)
    parent = _python(tmp_path / "parent.py")
    try:
        worker = int(_when(lambda: (bench.data / "pid").read_text()))
    finally:
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
    _when(lambda: _gone(worker))


@pytest.mark.parametrize(
    ("workers", "gpus", "expected"),
    [
        (1, "0 1 2", ["0,1,2"]),
        (2, "0 1", ["0", "1"]),
        (2, "2 5 GPU-7", ["2,GPU-7", "5"]),
        (3, "4 6", ["4", "6", "4"]),
    ],
)
def test_workers_share_the_gpus(workers: int, gpus: str, expected: list[str]) -> None:
    shares = Shares(workers, 1, tuple(gpus.split()))
    assert [shares.variables(place)["CUDA_VISIBLE_DEVICES"] for place in range(workers)] == expected


def test_without_gpus_nothing_is_said_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert Shares(2, 3, ()).variables(1) == {"NUMBA_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3"}


def test_a_worker_sees_its_gpus_alone_and_may_have_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Workbench(tmp_path, samples=2)
    monkeypatch.setattr(module, "gpus_of", lambda run: ("3", "1")[: run.batch.gpus])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1,2")
    run = bench.config(workers=2, gpus=2, only_stages=(1,))
    jobs = bench.jobs().jobs
    run_jobs(run, new_run_id(), jobs, lambda event: None, stop_on_failure=True, load=has_a_process_of_its_own)
    assert sorted(path.read_text() for path in (bench.data / "gpus").iterdir()) == ["1 None", "3 None"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,1,2"


class DeadProcess:
    exitcode = -signal.SIGKILL

    def join(self, timeout: float | None = None) -> None:
        pass


def test_a_process_killed_in_the_middle_of_a_message_fails_its_job(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    job = bench.job()
    ours, theirs = multiprocessing.Pipe()
    os.write(theirs.fileno(), (1000).to_bytes(4, "big") + b"only the beginning")
    theirs.close()
    worker: Any = _Worker(DeadProcess(), ours, job, stages=("trajectory", "splat"))  # type: ignore[arg-type]
    events: list[Event] = []
    finished = _hear(worker, _Task(bench.config(), "this-run", small_engine), events.append)
    assert finished is not None
    assert finished.failure == bench.failure("trajectory")
    assert events == [finished]


def test_a_process_that_died_between_two_jobs_fails_the_second(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    ours, theirs = multiprocessing.Pipe()
    theirs.close()
    worker: Any = _Worker(DeadProcess(), ours, bench.job(), stages=())  # type: ignore[arg-type]
    _give(worker, bench.job())
    finished = _hear(worker, _Task(bench.config(), "this-run", small_engine), lambda event: None)
    assert finished is not None
    assert finished.failure == bench.failure("scaffold")


def _python(script: Path) -> int:
    import sys

    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": f"{here.parent}{os.pathsep}{here}"}
    return os.spawnve(os.P_NOWAIT, sys.executable, [sys.executable, str(script)], environment)


def _when(ask: Any) -> Any:
    """The answer, as soon as there is one."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            answer = ask()
        except FileNotFoundError:
            answer = None
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError("nothing happened for a minute")


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A process that nobody waits for stays in the table as a zombie.
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"
