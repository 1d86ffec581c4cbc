"""The border of a program: whatever happens inside becomes an exit code, and an error one line on standard error.

Example:
    >>> guarded(lambda: 0)
    0
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import Any

from worldexplorer.cli.output import one_line
from worldexplorer.cli.signals import exit_code_of, stop_on_signals
from worldexplorer.cli.wording import error_text
from worldexplorer.errors import ErrorClass, UsageError, WorldExplorerError, classify, describe_error
from worldexplorer.log import redact

EXIT_FAILED = 1
EXIT_USAGE = 2
DEBUG_VARIABLE = "WORLDEXPLORER_DEBUG"


def guarded(work: Callable[[], int]) -> int:
    """The exit code of `work`, or of what it raised: 2 for wrong usage, 1 for any other error, 128 + n for signals."""
    try:
        with stop_on_signals():
            return work()
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
