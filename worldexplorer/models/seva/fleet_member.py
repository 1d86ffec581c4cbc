"""A member of a :class:`worldexplorer.models.seva.fleet.Fleet`: a process with one model, and the thread that feeds it.

Example:
    >>> member = Member("cuda:1", load, waiting)
    >>> member.start()
    >>> member.wait_until_ready(write_log)
    >>> member.go()                                   # takes tasks from `waiting` until there is a None
"""

from __future__ import annotations

import logging
import multiprocessing
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import SimpleQueue

from worldexplorer.engine import NovelViewRequest
from worldexplorer.errors import DefectError, InfrastructureError, WorldExplorerError
from worldexplorer.models.gpu_processes import Failed, InProcess, Logged, Told, death
from worldexplorer.models.seva.fleet_process import Message, ModelLoader, Ready, Stop, Stopped, serve
from worldexplorer.processes import sigint_blocked

_END_SECONDS = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class News:
    """What a member says about one request of a call; the last word on it unless it was told or logged."""

    number: int
    message: Message


@dataclass
class Call:
    """One call of `sample_each`, as the members see it."""

    news: SimpleQueue[News] = field(default_factory=SimpleQueue)
    over: bool = False


@dataclass(frozen=True)
class Task:
    """One request of a call, as it travels (:func:`worldexplorer.models.seva.fleet_process.packed`)."""

    call: Call
    number: int
    request: NovelViewRequest


Waiting = SimpleQueue[Task | None]
_LogWriter = Callable[[Logged], None]


class Member:
    """One model, its process, and the thread of this process that speaks with it."""

    def __init__(self, name: str, load: ModelLoader, waiting: Waiting) -> None:
        self.name = name
        self._load = load
        self._waiting = waiting
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._call: Call | None = None
        self._sending = threading.Lock()
        self._waiting_for_end = threading.RLock()  # the fleet's end may come in the middle of it, by garbage collection
        self._ended = False
        self._thread = threading.Thread(target=self._drive, name=f"fleet {name}", daemon=True)

    def start(self) -> None:
        """Start the process, which begins to load its model."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(self.name, theirs, self._load), daemon=True)
        with sigint_blocked():
            process.start()
        theirs.close()
        self._process, self._connection = process, ours
        if self._ended:  # meanwhile
            self.end()

    def wait_until_ready(self, log: _LogWriter) -> None:
        """Raise what kept the model from loading."""
        while not isinstance(message := self._hear(), Ready):
            match message:
                case Logged():
                    log(message)
                case Failed(error, trace):
                    self._bury()
                    where = f"{self.name}: {error.where}" if error.where else self.name
                    raise type(error)(error.what, where=where, remedy=error.remedy) from InProcess(trace)

    def go(self) -> None:
        """Begin to take requests."""
        self._thread.start()

    def stop(self, call: Call) -> None:
        """Let the process give up what it makes for a call."""
        with self._sending:
            if self._call is call and self._connection is not None:
                with suppress(OSError):  # it is dead: its thread finds out
                    self._connection.send(Stop())

    def kill(self, call: Call) -> None:
        """End the process where it works for a call."""
        if self._call is call and self._process is not None:
            _log.warning("%s: SEVA does not stop, its process is ended", self.name)
            self._process.kill()

    def end(self) -> None:
        """End the process for good, whatever it does."""
        self._ended = True
        self.end_process()

    def end_process(self) -> None:
        """End the process; a request that comes later starts it again."""
        if self._process is not None:
            self._process.terminate()
            self._wait_for_end(self._process)

    def _drive(self) -> None:
        """The thread: one request after the other, until there is a None."""
        while (task := self._waiting.get()) is not None:
            task.call.news.put(News(task.number, self._answer(task)))

    def _answer(self, task: Task) -> Message:
        """The last word on a request; what comes before it is passed on."""

        def tell(message: Message) -> None:
            task.call.news.put(News(task.number, message))

        try:
            self._call = task.call
            if not task.call.over:
                self._require_process(tell)
            with self._sending:
                if task.call.over:
                    return Stopped()
                assert self._connection is not None, "the process was started"
                with suppress(OSError):  # it has just died, which is what is heard of it next
                    self._connection.send(task.request)
            while isinstance(message := self._hear(), (Told, Logged)):
                tell(message)
            if isinstance(message, Failed) and message.ends:
                self._bury()
        except WorldExplorerError as error:
            return Failed(error, "", ends=True)
        except Exception as error:  # noqa: BLE001 (a request without an answer would be waited for without end)
            self.end_process()
            what = f"SEVA's process cannot be reached ({type(error).__name__}: {error})"
            return Failed(InfrastructureError(what, where=self.name), "", ends=True)
        finally:
            self._call = None
        return message

    def _require_process(self, tell: _LogWriter) -> None:
        """Start the process again where it ended after an error, or was ended."""
        if self._ended:
            raise DefectError("a fleet was closed while it was at work", where=self.name)
        if self._is_there(tell):
            return
        self._bury()
        _log.info("%s: SEVA's process is started again", self.name)
        self.start()
        self.wait_until_ready(tell)

    def _is_there(self, tell: _LogWriter) -> bool:
        """Whether the process waits for a request; its pipe ends before the system says that it is gone."""
        assert self._connection is not None, "the process was started"
        try:
            while self._connection.poll():
                tell(self._connection.recv())  # a line of the log
        except (EOFError, OSError):
            return False
        return True

    def _hear(self) -> Message:
        assert self._connection is not None, "the process was started"
        try:
            message: Message = self._connection.recv()
        except (EOFError, OSError):  # OSError: it died in the middle of a message
            raise self._death() from None
        return message

    def _death(self) -> InfrastructureError:
        return death("SEVA's process", self.name, self._bury())

    def _bury(self) -> int | None:
        """Wait until the process is gone; its exit code, None where it stays."""
        process, connection = self._process, self._connection
        assert process is not None and connection is not None, "the process was started"
        self._wait_for_end(process)
        with self._sending:
            connection.close()
        return process.exitcode

    def _wait_for_end(self, process: BaseProcess) -> None:
        with self._waiting_for_end:  # of two threads that wait for one process only one hears how it ended
            process.join(_END_SECONDS)
            if process.exitcode is None:
                process.kill()
                process.join(_END_SECONDS)
