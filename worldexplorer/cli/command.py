"""Which command is meant, and what its errors look like: one line and an exit code.

Example:
    >>> run_command(["summary", "output/demo"], "worldexplorer")
    0
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from worldexplorer import __version__
from worldexplorer.cli.output import one_line
from worldexplorer.cli.parser import closest
from worldexplorer.cli.signals import exit_code_of, stop_on_signals
from worldexplorer.cli.wording import error_text
from worldexplorer.errors import ErrorClass, UsageError, WorldExplorerError, classify, describe_error
from worldexplorer.log import redact

EXIT_FAILED = 1
EXIT_USAGE = 2
DEBUG_VARIABLE = "WORLDEXPLORER_DEBUG"

COMMANDS = {
    "batch": "run all stages over a data set (the same as run_batch_pipeline.py)",
    "summary": "print the table of a finished run, or write its summary again",
    "verify": "hash every committed file and name the damaged ones",
    "doctor": "say what this machine can run, and what is missing",
}


def run_command(argv: Sequence[str], program: str) -> int:
    """Run the command that the words name; every error becomes a line on standard error and an exit code."""
    try:
        with stop_on_signals():
            return _dispatch(list(argv), program)
    except KeyboardInterrupt as interrupt:
        sys.stderr.write("interrupted\n")
        return exit_code_of(int(interrupt.args[0]) if interrupt.args else 2)
    except SystemExit as ending:  # argparse after --help
        return int(ending.code or 0)
    except Exception as error:  # noqa: BLE001 (the border of the program: what comes here is reported, whatever it is)
        if os.environ.get(DEBUG_VARIABLE):
            sys.stderr.write(_trace(error))
        sys.stderr.write(f"error: {_describe(error)}\n")
        return EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED


def _dispatch(words: list[str], program: str) -> int:
    name = words[0] if words else "--help"
    if name in ("-h", "--help"):
        sys.stdout.write(_help(program))
        return 0
    if name == "--version":
        sys.stdout.write(f"worldexplorer {__version__}\n")
        return 0
    if name not in COMMANDS:
        guess = closest(name, COMMANDS)
        meant = f"perhaps {guess} was meant; " if guess else ""
        raise UsageError(f"unknown command {name!r}", remedy=f"{meant}choose from {', '.join(COMMANDS)}")
    # Each command loads only what it uses: --help and a wrong word are answered before the numeric libraries are there.
    command: Callable[[Sequence[str], str], int] = importlib.import_module(f"worldexplorer.cli.{name}").run
    return command(words[1:], f"{program} {name}" if program == "worldexplorer" else program)


def _help(program: str) -> str:
    lines = [f"usage: {program} COMMAND ...", "", "Photos become explorable Gaussian-splat worlds.", "", "commands:"]
    lines += [f"  {name:10}{what}" for name, what in COMMANDS.items()]
    return "\n".join([*lines, "", f"  {program} COMMAND --help says more; {program} --version the version.", ""])


def _describe(error: Exception) -> str:
    """One sentence: what is wrong, where, what to do."""
    if isinstance(error, WorldExplorerError):
        return redact(str(error))
    what, where, remedy = describe_error(error)
    if classify(error) is ErrorClass.OUT_OF_MEMORY or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
        return one_line(redact(error_text(what, where, remedy)))
    if isinstance(error, OSError) and error.errno is not None:
        remedy = _REMEDIES.get(error.errno, "")
        return one_line(redact(error_text(error.strerror or what, str(error.filename or ""), remedy)))
    return one_line(f"{redact(what)}. This is a defect of the program; {_where_details_are(error)}")


def _where_details_are(error: Exception) -> str:
    if os.environ.get(DEBUG_VARIABLE):
        return "its traceback stands above"
    try:
        handle, path = tempfile.mkstemp(prefix="worldexplorer-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(_trace(error))
    except OSError:
        return f"run it again with {DEBUG_VARIABLE}=1 for its details"
    return f"details are in {path}, or with {DEBUG_VARIABLE}=1 on the screen"


def _trace(error: Exception) -> str:
    return redact("".join(traceback.format_exception(error)))


_REMEDIES: dict[Any, str] = {
    errno.EACCES: "give yourself the permission, or name another place",
    errno.EPERM: "give yourself the permission, or name another place",
    errno.EROFS: "name a place that can be written to",
    errno.ENOTDIR: "name a folder",
    errno.EDQUOT: "free some space and run it again",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}
