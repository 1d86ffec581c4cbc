"""Something done with each of several ids: all are tried, whatever becomes of the others.

Example:
    >>> for_each(["gone", "there"], lambda one: cluster.delete_recurring_run(one), complain)
    2
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pipelines.errors import UnreachableError
from pipelines.exit_codes import FAILED, SUCCESS, UNREACHABLE, USAGE
from worldexplorer.errors import UsageError, WorldExplorerError
from worldexplorer.log import redact

_FROM_THE_WORST = (FAILED, UNREACHABLE, USAGE, SUCCESS)


def for_each(ids: Iterable[str], act: Callable[[str], None], complain: Callable[[str, str], None]) -> int:
    """Act on every id, once.

    Args:
        ids: in order; what comes twice counts once.
        act: may raise any WorldExplorerError.
        complain: told the id and what is wrong with it.

    Returns:
        The worst exit code that one of them alone would have: 1 before 6 before 2 before 0.
    """
    codes = {SUCCESS}
    for one in dict.fromkeys(ids):
        try:
            act(one)
        except WorldExplorerError as error:
            codes.add(_code(error))
            complain(one, redact(str(error)))
    return min(codes, key=_FROM_THE_WORST.index)


def _code(error: WorldExplorerError) -> int:
    """What one failure alone would make the command exit with."""
    if isinstance(error, UnreachableError):
        return UNREACHABLE
    return USAGE if isinstance(error, UsageError) else FAILED
