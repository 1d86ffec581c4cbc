"""Which command is meant.

Example:
    >>> run_command(["summary", "output/demo"], "worldexplorer")
    0
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence

from worldexplorer import __version__
from worldexplorer.cli.border import guarded
from worldexplorer.cli.parser import perhaps
from worldexplorer.errors import UsageError

COMMANDS = {
    "batch": "run all stages over a data set (the same as run_batch_pipeline.py)",
    "summary": "print the table of a finished run, or write its summary again",
    "verify": "hash every committed file and name the damaged ones",
    "render": "render a splat PLY along a path, to a video or to pictures",
    "convert": "make smaller or other files of trained worlds, without training again",
    "weights": "list, pin, download, check and copy the models' weights",
    "doctor": "say what this machine can run, and what is missing",
}


def run_command(argv: Sequence[str], program: str) -> int:
    """Run the command that the words name; every error becomes a line on standard error and an exit code."""
    return guarded(lambda: _dispatch(list(argv), program))


def _dispatch(words: list[str], program: str) -> int:
    name = words[0] if words else "--help"
    if name in ("-h", "--help"):
        sys.stdout.write(_help(program))
        return 0
    if name == "--version":
        sys.stdout.write(f"worldexplorer {__version__}\n")
        return 0
    if name not in COMMANDS:
        remedy = "; ".join([*perhaps(name, COMMANDS), f"choose from {', '.join(COMMANDS)}"])
        raise UsageError(f"unknown command {name!r}", remedy=remedy)
    # Each command loads only what it uses: --help and a wrong word are answered before the numeric libraries are there.
    command: Callable[[Sequence[str], str], int] = importlib.import_module(f"worldexplorer.cli.{name}").run
    return command(words[1:], f"{program} {name}" if program == "worldexplorer" else program)


def _help(program: str) -> str:
    lines = [f"usage: {program} COMMAND ...", "", "Photos become explorable Gaussian-splat worlds.", "", "commands:"]
    lines += [f"  {name:10}{what}" for name, what in COMMANDS.items()]
    return "\n".join([*lines, "", f"  {program} COMMAND --help says more; {program} --version the version.", ""])
