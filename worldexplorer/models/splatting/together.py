"""One training on several GPUs, each with a process of its own, seen from the process that wants the result.

This process draws nothing meanwhile: it listens. A member that fails, dies or falls silent ends all, as does whatever
`progress` raises; the next try goes on from the last checkpoint, on any number of GPUs.

Example:
    >>> train_together(task, progress)              # the result is the checkpoint in task.folder
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from worldexplorer.engine import SplatScene
from worldexplorer.errors import InfrastructureError, WorldExplorerError
from worldexplorer.models.gpu_processes import Failed, InProcess, Logged, Told, death
from worldexplorer.models.splatting.team import LostError
from worldexplorer.models.splatting.team_process import Done, Place, Task, serve
from worldexplorer.processes import sigint_blocked
from worldexplorer.progress import Progress
from worldexplorer.scratch import scratch_root

PATIENCE_SECONDS = 600.0
"""Without a word from the training, or from one member to another: the first step may translate kernels."""
_HEARTBEAT_SECONDS = 1.0
_LOST_SECONDS = 5.0
"""In which a member that others cannot reach is heard to have died, or says itself what is wrong."""
_END_SECONDS = 10.0


@dataclass(frozen=True)
class _Member:
    place: Place
    process: BaseProcess
    connection: Connection


def train_together(task: Task, progress: Progress) -> None:
    """Train to the end on the GPUs of a task, from the checkpoint in its folder if there is one.

    Args:
        task: what to do; returns when its folder holds the last checkpoint.
        progress: told about every tenth step, and every second while there are none; when it raises, all members are
            ended.

    Raises:
        InfrastructureError: a member died, or nothing was heard for too long; `where` names its GPU, or all.
        WorldExplorerError: what a member raised.
    """
    with _members(task) as members:
        _listen(task, members, progress)


@contextmanager
def pictures_kept(scene: SplatScene) -> Iterator[tuple[SplatScene, Path]]:
    """A scene without its pictures, and a file with them that many processes can read."""
    with TemporaryDirectory(prefix="worldexplorer-", dir=scratch_root()) as folder:
        path = Path(folder) / "images.npy"
        np.save(path, scene.train.images)
        yield replace(scene, train=replace(scene.train, images=scene.train.images[:0])), path


def _listen(task: Task, members: list[_Member], progress: Progress) -> None:
    """Until all are done."""
    working = {member.connection: member for member in members}
    unreached: LostError | None = None
    heard = deadline = time.monotonic()
    told = Told(0, task.recipe.images, "starting the GPUs")
    while working:
        for connection in wait(list(working), _HEARTBEAT_SECONDS):
            assert isinstance(connection, Connection), "nothing else is waited for"
            member, heard = working[connection], time.monotonic()
            try:
                message = connection.recv()
            except (EOFError, OSError):  # OSError: it died in the middle of a message
                raise death("a process of the training", member.place.name, _exit_code(member)) from None
            match message:
                case Told():
                    told = message
                case Logged():
                    message.write()
                case Failed(LostError() as error, _):
                    del working[connection]  # its own end is to be expected, and says nothing
                    deadline = time.monotonic() + _LOST_SECONDS
                    where = ", ".join(other.place.name for other in working.values()) or member.place.name
                    unreached = LostError(error.what, where=where, remedy=error.remedy)
                case Failed(error, trace):
                    raise _placed(error, member.place.name) from InProcess(trace)
                case Done():
                    del working[connection]
        if unreached is not None and (time.monotonic() > deadline or not working):
            raise unreached
        if time.monotonic() - heard > task.patience:
            raise InfrastructureError(
                f"the training has said nothing for {task.patience:.0f} seconds",
                where=", ".join(member.place.name for member in working.values()),
                remedy="run the same command again: it goes on where this stopped; if it happens again, a GPU or the "
                "link between them may be faulty: --gpus 1 does without",
            )
        progress(told.done, told.total, told.what)


def _placed(error: WorldExplorerError, name: str) -> WorldExplorerError:
    """A member's error, `where` beginning with its GPU."""
    if error.where.startswith(name):
        return error
    return type(error)(error.what, where=": ".join(filter(None, (name, error.where))), remedy=error.remedy)


@contextmanager
def _members(task: Task) -> Iterator[list[_Member]]:
    """The processes, which are ended at the latest when this is left."""
    context = multiprocessing.get_context("spawn")
    members: list[_Member] = []
    with TemporaryDirectory(prefix="worldexplorer-", dir=scratch_root()) as folder:
        rendezvous = Path(folder) / "rendezvous"
        try:
            for rank, place in enumerate(task.places):
                ours, theirs = context.Pipe()
                process = context.Process(target=serve, args=(rank, task, rendezvous, theirs), daemon=True)
                with sigint_blocked():
                    process.start()
                theirs.close()
                members.append(_Member(place, process, ours))
            yield members
        finally:
            for member in members:
                member.process.terminate()
            for member in members:
                _exit_code(member)
                with suppress(OSError):
                    member.connection.close()


def _exit_code(member: _Member) -> int | None:
    """Wait until a process is gone; None where it stays."""
    member.process.join(_END_SECONDS)
    if member.process.exitcode is None:
        member.process.kill()
        member.process.join(_END_SECONDS)
    return member.process.exitcode
