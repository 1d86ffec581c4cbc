"""A program of its own, watched: its output in a log file, stopped with everything it has started.

Example:
    >>> code = watch([python, "-P", "launch.py"], environment, log, listen=lambda lines: None)
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from worldexplorer.errors import InfrastructureError, UserError
from worldexplorer.models.nerfstudio.output import LogReader

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 5.0
"""How long a program that is told to end may take."""

SILENCE_LIMIT_SECONDS = 3600.0
"""A program that prints nothing for so long is taken for dead: compiling gsplat on two cores takes seven minutes."""


def watch(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    listen: Callable[[list[str]], None],
    silence_limit: float = SILENCE_LIMIT_SECONDS,
) -> int:
    """Run a program to its end.

    Its standard output and error are added to `log`; its standard input is a pipe that is closed when this program
    ends, however it ends.

    Args:
        command: the program and its arguments; no shell reads them.
        environment: all of its variables.
        log: a file, made where it is missing.
        listen: called many times a second with the lines that the program has printed since; what it raises stops the
            program and goes through.
        silence_limit: seconds without a line after which the program is stopped.

    Returns:
        Its exit code, negative for a signal.

    Raises:
        UserError: there is no such program.
        InfrastructureError: it said nothing for too long.
    """
    with log.open("ab") as output:
        reader = LogReader(log)
        try:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
            )
        except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
            raise UserError(
                f"the program does not start ({error.strerror})",
                where=command[0],
                remedy="set WORLDEXPLORER_NERFSTUDIO_PYTHON to the Python that has nerfstudio",
            ) from error
    try:
        heard = time.monotonic()
        while not _has_ended(process):
            time.sleep(_POLL_SECONDS)
            lines = reader.lines()
            listen(lines)
            now = time.monotonic()
            if lines:
                heard = now
            elif now - heard > silence_limit:
                raise InfrastructureError(
                    f"nerfstudio's training said nothing for {silence_limit:.0f} s and was stopped",
                    where=str(log),
                    remedy="run it again; it goes on from its last checkpoint",
                )
        listen(reader.lines())
    finally:
        code = _stop(process)
    return code


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has, without taking its number away, which its group may still bear."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _stop(process: subprocess.Popen[bytes]) -> int:
    """End the program, where it has not ended, and all of its group."""
    deadline = time.monotonic() + _GRACE_SECONDS
    _signal(process, signal.SIGTERM)
    while not _has_ended(process) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS / 10)
    _signal(process, signal.SIGKILL)
    code = process.wait()
    assert process.stdin is not None
    process.stdin.close()
    return code


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
