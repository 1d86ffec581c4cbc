"""The errors a person reads: what is wrong, where, and what to do; and the class that decides what happens next.

Only the classes in :data:`RETRIED` are tried again, inside the process that met them.

Example:
    >>> str(UserError("metadata.json is not JSON", where="data/metadata.json:3", remedy="correct line 3"))
    'metadata.json is not JSON (data/metadata.json:3). What to do: correct line 3'
"""

from __future__ import annotations

import errno
from enum import StrEnum


class ErrorClass(StrEnum):
    """What kind of thing went wrong; recorded with every failure."""

    USER = "user"
    """The input or the command: the same command fails again until a person changes something."""
    TRANSIENT = "transient"
    """A service did not answer or answered that it is busy."""
    OUT_OF_MEMORY = "out-of-memory"
    """Memory ran out, on the GPU or the host."""
    INFRASTRUCTURE = "infrastructure"
    """The machine: disk full, a process killed from outside, a device lost."""
    DEFECT = "defect"
    """A mistake in this program."""


RETRIED = frozenset({ErrorClass.TRANSIENT, ErrorClass.OUT_OF_MEMORY, ErrorClass.INFRASTRUCTURE})


class WorldExplorerError(Exception):
    """An error this program understands.

    Args:
        what: what is wrong, one sentence without its full stop.
        where: file, JSON path or URI it is wrong in.
        remedy: what the person can do about it.
    """

    error_class = ErrorClass.DEFECT

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        super().__init__(self._text())

    def _text(self) -> str:
        place = f" ({self.where})" if self.where else ""
        advice = f". What to do: {self.remedy}" if self.remedy else ""
        return f"{self.what}{place}{advice}"

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the three parts when the error crosses a process border."""
        return (_rebuild, (type(self), self.what, self.where, self.remedy))


def _rebuild(kind: type[WorldExplorerError], what: str, where: str, remedy: str) -> WorldExplorerError:
    return kind(what, where=where, remedy=remedy)


class UserError(WorldExplorerError):
    """The data set, an image, a setting: one job's fault or the command's."""

    error_class = ErrorClass.USER


class UsageError(UserError):
    """The command or the structure of the data set is wrong: nothing runs, nothing is written, exit code 2."""


class TransientError(WorldExplorerError):
    """A service was busy or away."""

    error_class = ErrorClass.TRANSIENT


class OutOfMemoryError(WorldExplorerError):
    """Memory ran out."""

    error_class = ErrorClass.OUT_OF_MEMORY


class InfrastructureError(WorldExplorerError):
    """The machine failed: disk, process, device."""

    error_class = ErrorClass.INFRASTRUCTURE


class DamagedInputError(InfrastructureError):
    """A committed file is gone or changed: trying again does not help, making it again does."""


class DefectError(WorldExplorerError):
    """This program made something it should not have: a validation of its own output failed."""


class Cancelled(BaseException):
    """The run was stopped from outside; not an error of the job. Raised through progress callbacks."""


def classify(error: BaseException) -> ErrorClass:
    """The class of any exception, including those of libraries."""
    if isinstance(error, WorldExplorerError):
        return error.error_class
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return ErrorClass.OUT_OF_MEMORY
    if isinstance(error, BrokenPipeError):
        return ErrorClass.DEFECT  # a program that this one feeds has died: it would again
    if isinstance(error, (ConnectionError, TimeoutError)):
        return ErrorClass.TRANSIENT
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return ErrorClass.OUT_OF_MEMORY
    if isinstance(error, OSError) and error.errno in _MACHINE_ERRNOS:
        return ErrorClass.INFRASTRUCTURE
    return ErrorClass.DEFECT


def describe_error(error: BaseException) -> tuple[str, str, str]:
    """What is wrong, where, and what to do, of any exception."""
    if isinstance(error, WorldExplorerError):
        return error.what, error.where, error.remedy
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({error.strerror})", str(error.filename or ""), "free some space and run it again"
    if classify(error) is ErrorClass.OUT_OF_MEMORY:
        return f"out of memory ({error})", "", "reduce --num_images_for_vggt, or run fewer samples with --indices"
    return f"{type(error).__name__}: {error}", "", ""


_MACHINE_ERRNOS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ENODEV}
)
