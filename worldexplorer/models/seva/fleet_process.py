"""A process of a :class:`worldexplorer.models.seva.fleet.Fleet`: it holds one model and makes one request at a time.

The process is sent requests through a pipe, with their given pictures only, and sends back the pictures that it made,
so that no picture travels twice. While it works it says how far it is, and listens for the word to stop. It ends with
its parent, however that ends.

Example:
    >>> context.Process(target=serve, args=("cuda:1", pipe_end, load))      # load() -> NovelViewModel, picklable
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection

import numpy as np

from worldexplorer.engine import Images, NovelViewModel, NovelViewRequest
from worldexplorer.errors import Cancelled, WorldExplorerError
from worldexplorer.models.gpu_processes import Failed, Line, Logged, Told, failed, forward_log
from worldexplorer.processes import end_with_parent

ModelLoader = Callable[[], NovelViewModel]


@dataclass(frozen=True)
class Stop:
    """To the process: give up what you are making."""


@dataclass(frozen=True)
class Ready:
    """The model is loaded."""


@dataclass(frozen=True)
class Made:
    """The request's pictures that were not given, in order."""

    pictures: Images


@dataclass(frozen=True)
class Stopped:
    """The request was given up."""


Message = Ready | Told | Logged | Made | Stopped | Failed


def packed(request: NovelViewRequest) -> NovelViewRequest:
    """The request as it travels: its given pictures alone."""
    return replace(request, images=np.ascontiguousarray(request.images[request.given]), world=None)


def unpacked(request: NovelViewRequest) -> NovelViewRequest:
    """A request that has travelled, with empty pictures where none is given."""
    images = np.zeros((len(request.given), *request.images.shape[1:]), dtype=np.uint8)
    images[request.given] = request.images
    return replace(request, images=images)


def completed(request: NovelViewRequest, pictures: Images) -> Images:
    """All frames of a request: its given pictures as they are, and those that were made."""
    frames: Images = request.images.copy()
    frames[~request.given] = pictures
    return frames


def serve(name: str, connection: Connection, load: ModelLoader) -> None:
    """The life of the process.

    After an error that this program did not foresee it ends: what state the GPU is in nobody knows.

    Args:
        name: what its log lines begin with.
        connection: to the parent.
        load: loads the model.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to handle
    end_with_parent()
    line = Line(connection)
    forward_log(name, line)
    try:
        model = load()
    except Exception as error:  # noqa: BLE001 (whatever it is, the parent raises it)
        line.send(failed("", error, ends=True))  # the parent names it, as it does all errors of loading
        return
    line.send(Ready())
    while True:
        request = line.receive()
        if isinstance(request, Stop):  # it crossed an answer on its way
            continue
        answer = _make(name, model, request, line)
        line.send(answer)
        if isinstance(answer, Failed) and answer.ends:
            return


def _make(name: str, model: NovelViewModel, request: NovelViewRequest, line: Line) -> Message:
    """The answer to a request."""

    def progress(done: int, total: int, what: str) -> None:
        line.send(Told(done, total, what))
        if line.has_news():
            line.receive()  # while a request is made nothing comes but the word to stop
            raise Cancelled

    try:
        (frames,) = model.sample([unpacked(request)], progress)
    except Cancelled:
        return Stopped()
    except Exception as error:  # noqa: BLE001 (whatever it is, the parent raises it)
        return failed(name, error, ends=not isinstance(error, WorldExplorerError))
    return Made(frames[~request.given])
