"""How processes that work for this one on GPUs speak with it, and what their errors and deaths are.

Such a process sends back through a pipe how far it is, the lines of its log, and the error that it ends with.

Example:
    >>> line = Line(connection)                       # in the process, at its start
    >>> forward_log("cuda:1", line)
    >>> line.send(Told(3, 10, "training"))
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from worldexplorer.errors import (
    DefectError,
    ErrorClass,
    InfrastructureError,
    OutOfMemoryError,
    TransientError,
    WorldExplorerError,
    classify,
    describe_error,
)
from worldexplorer.log import PACKAGE
from worldexplorer.processes import EXIT_ORPHANED

_GPU_FAILURES = ("CUDA error", "CUDA driver error", "CUDNN_STATUS", "CUBLAS_STATUS", "Triton Error [CUDA]")
"""What the errors of torch and Triton say when the GPU, its driver or a kernel failed; torch has no class for all."""
_CLASSES: dict[ErrorClass, type[WorldExplorerError]] = {
    ErrorClass.TRANSIENT: TransientError,
    ErrorClass.OUT_OF_MEMORY: OutOfMemoryError,
    ErrorClass.INFRASTRUCTURE: InfrastructureError,
    ErrorClass.DEFECT: DefectError,
}


@dataclass(frozen=True)
class Told:
    """How far the work is."""

    done: int
    total: int
    what: str


@dataclass(frozen=True)
class Logged:
    """A line of the log."""

    logger: str
    level: int
    text: str

    def write(self) -> None:
        """Into this process's log."""
        logging.getLogger(self.logger).log(self.level, "%s", self.text)


@dataclass(frozen=True)
class Failed:
    """The work could not be done.

    Attributes:
        error: as the parent raises it.
        trace: where it arose, for the log of the failure.
        ends: whether the process ends with it.
    """

    error: WorldExplorerError
    trace: str
    ends: bool


class InProcess(Exception):  # noqa: N818 (never raised: the cause of an error that was)
    """Where an error arose in another process."""

    def __init__(self, trace: str) -> None:
        self._trace = trace

    def __str__(self) -> str:
        return f"\n{self._trace}"


class Line:
    """The pipe to the parent; without a parent the process ends."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()

    def send(self, message: object) -> None:
        """Anything that crosses a process border; from any thread."""
        with self._sending:
            try:
                self._connection.send(message)
            except (BrokenPipeError, ConnectionResetError):
                os._exit(EXIT_ORPHANED)

    def receive(self) -> Any:
        """What the parent says next."""
        try:
            return self._connection.recv()
        except (EOFError, ConnectionResetError):
            os._exit(EXIT_ORPHANED)

    def has_news(self) -> bool:
        """Whether the parent has said something."""
        return self._connection.poll()


def forward_log(name: str, line: Line, level: int = logging.INFO) -> None:
    """Send this package's log from a level on to the parent, each line after the process's name."""
    logging.getLogger(PACKAGE).addHandler(_Forwarder(name, line, level))
    logging.getLogger(PACKAGE).setLevel(level)


class _Forwarder(logging.Handler):
    def __init__(self, name: str, line: Line, level: int) -> None:
        super().__init__(level)
        self._name = name
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        self._line.send(Logged(record.name, record.levelno, f"{self._name}: {record.getMessage()}"))


def failed(name: str, error: Exception, *, ends: bool) -> Failed:
    """The error as it is, or where it is of a library or of CUDA, as one of ours that names the process's GPU."""
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, WorldExplorerError):
        return Failed(error, trace, ends)
    what, where, remedy = describe_error(error)
    kind = _CLASSES[classify(error)]
    if any(sign in str(error) for sign in _GPU_FAILURES):
        kind = OutOfMemoryError if "out of memory" in str(error) else InfrastructureError
        remedy = "run the same command again: it goes on where this stopped; if it fails again, the GPU may be faulty"
    return Failed(kind(what, where=": ".join(filter(None, (name, where))), remedy=remedy), trace, ends)


def death(what: str, name: str, code: int | None) -> InfrastructureError:
    """The error of a process (`what`, on the GPU `name`) that died with an exit code; None where it does not go."""
    cause = f"exit code {code}"
    if code is None:
        cause = "it cannot even be killed, the GPU's driver may hang"
    elif code < 0:
        cause = f"signal {signal.Signals(-code).name}"
    remedy = "run the same command again: it goes on where this stopped"
    if code == -signal.SIGKILL:
        remedy = f"if the machine ran out of memory, use fewer --gpus or --workers; {remedy}"
    return InfrastructureError(f"{what} died ({cause})", where=name, remedy=remedy)
