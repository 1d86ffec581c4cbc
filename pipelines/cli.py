"""`python -m pipelines COMMAND`: compile, submit, wait, status, cancel, schedule, lint.

The exit codes are those of :mod:`pipelines.exit_codes`. A command that waits can be stopped with Ctrl-C: what runs in
the cluster goes on.

Example:
    >>> main(["status", "--host", "http://localhost:8080"])
    0
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence

from pipelines.exit_codes import MEANINGS, UNREACHABLE, USAGE

PROGRAM = "python -m pipelines"
COMMANDS = {
    "compile": "write the pipeline packages",
    "submit": "start a batch, as one run or several",
    "wait": "wait for runs, and with --gate judge what they made",
    "status": "show runs",
    "cancel": "stop runs",
    "schedule": "recurring runs: create, list, enable, disable, delete",
    "lint": "look into compiled pipelines for what breaks in a cluster",
}
_NEEDED = {"kfp", "kfp_server_api", "yaml", "google", "kubernetes", "urllib3", "worldexplorer"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; what goes wrong is one line on standard error.

    Args:
        argv: the command's words; None for those of this process.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        from worldexplorer.cli.border import guarded
    except ModuleNotFoundError as error:
        return _missing(error)
    return guarded(lambda: _dispatch(words))


def _dispatch(words: list[str]) -> int:
    from pipelines.errors import UnreachableError
    from worldexplorer.cli.parser import closest
    from worldexplorer.errors import UsageError
    from worldexplorer.log import redact

    name = words[0] if words else "--help"
    if name in ("-h", "--help"):
        sys.stdout.write(_help())
        return 0
    if name not in COMMANDS:
        guess = closest(name, COMMANDS)
        meant = f"perhaps {guess} was meant; " if guess else ""
        raise UsageError(f"unknown command {name!r}", remedy=f"{meant}choose from {', '.join(COMMANDS)}")
    try:
        run: Callable[[Sequence[str], str], int] = importlib.import_module(f"pipelines.commands.{name}").run
        return run(words[1:], f"{PROGRAM} {name}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in _NEEDED:
            raise
        return _missing(error)
    except UnreachableError as error:
        sys.stderr.write(f"error: {redact(str(error))}\n")
        return UNREACHABLE


def _missing(error: ModuleNotFoundError) -> int:
    sys.stderr.write(
        f"error: the package {error.name} is not installed for {sys.executable}. What to do: install what is needed "
        'with: python -m pip install -e ".[kfp,gcs]" (in the checkout)\n'
    )
    return USAGE


def _help() -> str:
    lines = [f"usage: {PROGRAM} COMMAND ...", "", "The batch as Kubeflow pipelines.", "", "commands:"]
    lines += [f"  {name:10}{what}" for name, what in COMMANDS.items()]
    return "\n".join([*lines, "", f"  {PROGRAM} COMMAND --help says more.", "", MEANINGS, ""])
