"""The command line: `worldexplorer batch`, `summary`, `verify`, `doctor`.

:func:`main` turns a command into an exit code:

| code     | meaning                                                        |
|----------|----------------------------------------------------------------|
| 0        | every job succeeded                                            |
| 1        | something failed                                               |
| 2        | the command or the data set is wrong: nothing ran              |
| 3        | nothing failed, but something waits for a person               |
| 128 + n  | stopped by signal n (130 after Ctrl-C, 143 after SIGTERM), the |
|          | summary written                                                |

This module imports nothing but the standard library, so that it can say in one line which package is missing.

Example:
    >>> main(["batch", "--dataset_dir", "data/curated_set", "--engine", "preview"])
    0
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_USAGE = 2


def main(argv: Sequence[str] | None = None, program: str = "worldexplorer") -> int:
    """Run one command; what goes wrong is one line on standard error, never a traceback.

    Args:
        argv: the command's words without the program's name; None for those of this process.
        program: the program's name in help texts.
    """
    try:
        from worldexplorer.cli.command import run_command
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing == __name__.split(".")[0]:
            raise
        sys.stderr.write(
            f"error: the package {missing} is not installed for {sys.executable}. What to do: install what is needed "
            'with: python -m pip install -e ".[preview]" (in the checkout), or run: make demo\n'
        )
        return EXIT_USAGE
    return run_command(sys.argv[1:] if argv is None else argv, program)
