"""Worker processes: each runs one job at a time, so that a crash or a kill takes one job and nothing else.

Workers share the machine: its cores, and its GPUs, of which each sees its own share alone. Where there are more workers
than GPUs, several see the same one, whose memory has to do for them.

The parent sends jobs through a pipe and hears events back. A worker ends when its parent does. SIGINT is the parent's
to handle: it stops its workers with SIGTERM.

Example:
    >>> not_started = run_jobs(run, run_id, jobs, listener, stop_on_failure=True)
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from worldexplorer.config import RunConfig
from worldexplorer.dataset import Job
from worldexplorer.engine import Engine
from worldexplorer.engines import gpus_of, load_engine
from worldexplorer.errors import ErrorClass, InfrastructureError
from worldexplorer.events import Event, JobFinished, JobStarted, LogLine, StageFinished
from worldexplorer.job import run_job
from worldexplorer.log import PACKAGE, current_work, redact
from worldexplorer.processes import end_with_parent, sigint_blocked
from worldexplorer.processors import usable_processors
from worldexplorer.stage import StageRunner
from worldexplorer.storage import Storage, open_storage

EngineLoader = Callable[[RunConfig], Engine]
_STOP_SECONDS = 10.0
_SIGNAL_GRACE_SECONDS = 0.2
_OF_THE_INPUT = (ErrorClass.USER, ErrorClass.TRANSIENT)
"""Failures that say nothing about the process."""
_GPU_VARIABLE = "CUDA_VISIBLE_DEVICES"
_THREAD_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class _Worker:
    """A worker as its parent sees it.

    Attributes:
        place: its number among the workers of the run; who follows it in its place gets its share of the machine.
        stages: those that its job has not finished yet, None before it began.
    """

    process: BaseProcess
    connection: Connection
    job: Job
    place: int = 0
    stages: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Shares:
    """How the workers of a run share the machine.

    Attributes:
        workers: how many there are.
        threads: of each.
        gpus: that the run may use, as CUDA_VISIBLE_DEVICES names them.
    """

    workers: int
    threads: int
    gpus: tuple[str, ...]

    @staticmethod
    def of(run: RunConfig, workers: int) -> Shares:
        """The shares of so many workers in this machine."""
        return Shares(workers, max(1, usable_processors() // workers), gpus_of(run))

    def variables(self, place: int) -> dict[str, str]:
        """What a worker's environment says; the libraries read it when the new process loads them."""
        found = {name: str(self.threads) for name in _THREAD_VARIABLES if name not in os.environ}
        if self.gpus:
            own = self.gpus[place :: self.workers] or (self.gpus[place % len(self.gpus)],)
            found[_GPU_VARIABLE] = ",".join(own)
        return found


@dataclass(frozen=True)
class _Task:
    """What every worker of a run is told; crosses the process border."""

    run: RunConfig
    run_id: str
    load: EngineLoader

    def runner(self, storage: Storage) -> StageRunner:
        return StageRunner(storage, self.run, self.load(self.run), self.run_id)


def run_jobs(
    run: RunConfig,
    run_id: str,
    jobs: Iterable[Job],
    listener: Callable[[Event], None],
    *,
    stop_on_failure: bool,
    load: EngineLoader = load_engine,
) -> list[Job]:
    """Run jobs in `run.batch.workers` processes; returns the jobs that were not started.

    Every worker loads its own engine with `load`, which is picklable.

    A worker that dies fails its job with class `infrastructure`; the others go on, in a new worker. So they do after a
    failure that was not the input's: a GPU that failed in one job fails in all that the process does later.
    KeyboardInterrupt and any other exception stop the workers first; jobs under way then have no record of this run.
    """
    waiting = list(reversed(list(jobs)))
    shares = Shares.of(run, max(1, min(run.batch.workers, len(waiting))))
    # What a worker sees of the GPUs is its share already.
    task = _Task(replace(run, batch=replace(run.batch, gpus=None)), run_id, load)
    workers: list[_Worker] = []
    stopping = False
    try:
        while waiting and len(workers) < run.batch.workers:
            workers.append(_start(task, shares, waiting.pop(), len(workers)))
        while workers:
            ready = wait([worker.connection for worker in workers])
            for worker in [one for one in workers if one.connection in ready]:
                finished = _hear(worker, task, listener)
                if finished is None:
                    continue
                stopping = stopping or (stop_on_failure and finished.failure is not None)
                if stopping or not waiting or _is_spent(worker, finished):
                    workers.remove(worker)
                    _dismiss(worker)
                if stopping or not waiting:
                    continue
                if worker in workers:
                    _give(worker, waiting.pop())
                else:
                    workers.append(_start(task, shares, waiting.pop(), worker.place))
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            _bury(worker.process)
    return list(reversed(waiting))


def _start(task: _Task, shares: Shares, job: Job, place: int) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with _environment(shares.variables(place)), sigint_blocked():
        # No daemon: those may have no processes of their own, such as one a GPU. It ends with its parent all the same.
        process = context.Process(target=_work, args=(theirs, task), name="worldexplorer-worker")
        process.start()
    theirs.close()
    worker = _Worker(process, ours, job, place)
    _give(worker, job)
    return worker


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables while a process is started, which inherits them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _give(worker: _Worker, job: Job) -> None:
    worker.job = job
    worker.stages = None
    with suppress(OSError):  # it died while it had nothing to do; the next word from it says so
        worker.connection.send(job)


def _is_spent(worker: _Worker, finished: JobFinished) -> bool:
    """Whether the next job needs another process."""
    if not worker.process.is_alive():
        return True
    error = finished.failure.error if finished.failure is not None else None
    return error is not None and error.error_class not in _OF_THE_INPUT


def _dismiss(worker: _Worker) -> None:
    """Let a worker end that has nothing more to do."""
    worker.connection.close()
    _bury(worker.process)


def _bury(process: BaseProcess) -> None:
    process.join(_STOP_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()


def _hear(worker: _Worker, task: _Task, listener: Callable[[Event], None]) -> JobFinished | None:
    """Pass on one event; the end of the worker's job, or its death, is returned as well."""
    try:
        event: Event = worker.connection.recv()
    except (EOFError, OSError):  # OSError: it died in the middle of a message
        event = _death(worker, task)
    if isinstance(event, JobStarted):
        worker.stages = event.stages
    if isinstance(event, StageFinished) and worker.stages is not None:
        worker.stages = worker.stages[1:]
    listener(event)
    return event if isinstance(event, JobFinished) else None


def _death(worker: _Worker, task: _Task) -> JobFinished:
    """Record the failure of a job whose worker died; none if it died after the last stage was committed."""
    worker.connection.close()
    _bury(worker.process)
    if worker.stages == ():
        return JobFinished(worker.job.id, None)
    code = worker.process.exitcode or 0
    if code == -signal.SIGTERM:
        # A SIGTERM to the whole process group reaches this process as well, and its handler ends the run; the job has
        # not failed then. The signals of one group arrive together, so the wait need not be long.
        time.sleep(_SIGNAL_GRACE_SECONDS)
    cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    remedy = "run the same command again: it goes on where this stopped"
    if code == -signal.SIGKILL:
        remedy = f"if the machine ran out of memory, use fewer --workers or a smaller --preset; {remedy}"
    error = InfrastructureError(f"the job's process died ({cause})", where=str(worker.job.id), remedy=remedy)
    runner = task.runner(open_storage(task.run.batch.output_base))
    stage = worker.stages[0] if worker.stages else runner.stages_of(worker.job)[0]
    return JobFinished(worker.job.id, runner.record_failure(worker.job.id, stage, error))


def _work(connection: Connection, task: _Task) -> None:
    """A worker's life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    sending = threading.Lock()

    def send(event: Event) -> None:
        with sending:
            connection.send(event)

    logging.getLogger(PACKAGE).addHandler(_Forwarder(send))
    logging.getLogger(PACKAGE).setLevel(logging.INFO)
    storage = open_storage(task.run.batch.output_base)
    runner = task.runner(storage)
    while True:
        try:
            job: Job = connection.recv()
        except EOFError:
            return
        run_job(runner, storage, task.run, job, send)


class _Forwarder(logging.Handler):
    """Sends this package's log records to the parent."""

    def __init__(self, send: Callable[[Event], None]) -> None:
        super().__init__(logging.INFO)
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        self._send(LogLine(record.levelname, redact(record.getMessage()), current_work()))
