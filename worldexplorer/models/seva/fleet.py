"""Several equal models on the GPUs of one machine, as one: requests are made side by side, one on each GPU at a time.

Each model lives in a process of its own, the first GPU's too: a GPU that fails takes its process with it and nothing
else, and the stage's next try starts a new one. All take from one queue, so no GPU waits for another. A request's
frames follow from that request alone (:class:`worldexplorer.engine.NovelViewModel`), so they are the same on whichever
GPU they are made, however many there are.

Example:
    >>> with Fleet({"cuda:0": load_first, "cuda:1": load_second}) as fleet:       # loaders are picklable
    ...     for number, frames in fleet.sample_each(requests, progress):
    ...         keep(number, frames)
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue
from types import TracebackType

from worldexplorer.engine import Images, NovelViewRequest
from worldexplorer.errors import DefectError
from worldexplorer.models.gpu_processes import Failed, InProcess, Logged, Told
from worldexplorer.models.seva.fleet_member import Call, Member, Task, Waiting
from worldexplorer.models.seva.fleet_process import Made, ModelLoader, Stopped, completed, packed
from worldexplorer.progress import Progress

_STOP_SECONDS = 20.0
"""What a process has to give up its request in: a few steps, or the decoding of its pictures."""
_KILL_SECONDS = 10.0
_TOGETHER = 1000


class Fleet:
    """Models in processes of their own, as one (:class:`worldexplorer.engine.NovelViewModel`).

    Returns when all are loaded. Several threads may use it at once: who asks first is served first.

    Args:
        loaders: what loads the model of each member, by the member's name for errors and logs. The models must give
            the same frames. Loaders cross a process border.

    Raises:
        WorldExplorerError: a model could not be loaded; `where` begins with the member's name.
    """

    def __init__(self, loaders: Mapping[str, ModelLoader]) -> None:
        self._waiting: Waiting = SimpleQueue()
        self._members = [Member(name, load, self._waiting) for name, load in loaders.items()]
        self._end = weakref.finalize(self, _end_all, self._waiting, self._members)
        try:
            for member in self._members:
                member.start()
            for member in self._members:
                member.wait_until_ready(Logged.write)
        except BaseException:
            self.close()
            raise
        for member in self._members:
            member.go()

    def sample(self, requests: Sequence[NovelViewRequest], progress: Progress) -> list[Images]:
        """See NovelViewModel; what it raises, the fleet raises.

        Raises:
            InfrastructureError: a process died, or a GPU failed; `where` names it.
        """
        results = dict(self.sample_each(requests, progress))
        return [results[number] for number in range(len(results))]

    def sample_each(self, requests: Sequence[NovelViewRequest], progress: Progress) -> Iterator[tuple[int, Images]]:
        """See NovelViewModel; in the order they are done.

        The members go on while the caller deals with a result. They are given up where the caller stops taking results,
        and where `progress` or a member raises.
        """
        call = Call()
        shares: dict[int, float] = {}
        under_way: dict[int, NovelViewRequest] = {}
        coming = iter(range(len(requests)))
        try:
            while True:
                if not self._end.alive:
                    raise DefectError("a fleet was asked for views after it was closed")
                while len(under_way) < 2 * len(self._members) and (number := next(coming, None)) is not None:
                    request = requests[number]
                    self._waiting.put(Task(call, number, packed(request)))
                    under_way[number] = request
                if not under_way:
                    return
                news = call.news.get()
                match news.message:
                    case Told(done, total, what):
                        shares[news.number] = done / total if total else 1.0
                        progress(round(_TOGETHER * sum(shares.values()) / len(requests)), _TOGETHER, what)
                    case Made(pictures):
                        shares[news.number] = 1.0
                        yield news.number, completed(under_way.pop(news.number), pictures)
                    case Failed(error, trace):
                        del under_way[news.number]
                        raise error from (InProcess(trace) if trace else None)
                    case Logged():
                        news.message.write()
        finally:
            if under_way:
                self._give_up(call, len(under_way))

    def close(self) -> None:
        """End the processes, whatever they do; also done when nobody holds the fleet any more."""
        self._end()

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _give_up(self, call: Call, under_way: int) -> None:
        """Return when nobody works for a call any more; who does not stop in time is ended."""
        call.over = True
        for member in self._members:
            member.stop(call)
        deadline = time.monotonic() + _STOP_SECONDS
        while under_way:
            try:
                news = call.news.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                if not self._end.alive:
                    return  # it was closed before the last requests came: nobody will say anything of them
                for member in self._members:
                    member.kill(call)
                deadline = time.monotonic() + _KILL_SECONDS
                continue
            under_way -= isinstance(news.message, (Made, Stopped, Failed))


def _end_all(waiting: Waiting, members: Sequence[Member]) -> None:
    for _ in members:
        waiting.put(None)
    for member in members:
        member.end()
