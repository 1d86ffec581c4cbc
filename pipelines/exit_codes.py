"""What the commands of :mod:`pipelines` exit with; scripts and CI may rely on these numbers.

Example:
    >>> worst([SUCCESS, CANCELED])
    4
"""

from __future__ import annotations

from collections.abc import Iterable

SUCCESS = 0
"""Done; for `wait`: every run succeeded, with `--gate` every job of theirs."""
FAILED = 1
"""A run, or with `--gate` a job of it, failed; only some runs of a batch could be started; or the API
gave an answer that makes no sense."""
USAGE = 2
"""The command, the data set or a run id is wrong; nothing was sent."""
CANCELED = 4
"""No run failed, but one was cancelled before its end."""
TIMEOUT = 5
"""`--timeout` passed; the runs go on."""
UNREACHABLE = 6
"""The API did not answer for as long as `--patience` says, or refuses the token; or the bucket that `--gate` reads did
not answer. The runs go on."""

_FROM_THE_WORST = (FAILED, CANCELED, SUCCESS)

MEANINGS = (
    "Exit codes: 0 all good, 1 a run or a job failed, 2 the command is wrong, 4 a run was cancelled, 5 --timeout "
    "passed, 6 the API or the bucket cannot be reached or refuses the token, 130 after Ctrl-C."
)


def worst(codes: Iterable[int]) -> int:
    """The code that stands for several runs: failed before cancelled before success."""
    return min(codes, key=_FROM_THE_WORST.index, default=SUCCESS)
