"""What is fixed when a pipeline is compiled, because the cluster takes no run parameter for it.

Example:
    >>> BuildSettings(parallelism=8).parallelism
    8
"""

import re
from dataclasses import dataclass, fields

from worldexplorer.errors import UsageError

_HOUR = 3600
_SIZE = re.compile(r"[1-9][0-9]*(Ki|Mi|Gi|Ti)")


@dataclass(frozen=True)
class BuildSettings:
    """Settings of a compiled pipeline; the defaults are those of the packages in `pipelines/compiled/`."""

    parallelism: int = 4
    """Jobs at work at the same time; more wait for their turn."""
    shared_memory: str = "8Gi"
    """Size of /dev/shm in the stages' pods; it counts towards their memory."""
    scratch: str = "100Gi"
    """How much a stage's pod may keep on its node's disk while it works; a full scene is some 3 GiB."""
    plan_timeout: int = _HOUR
    """Seconds after which a plan or summary that does not end is stopped."""
    scaffold_timeout: int = 4 * _HOUR
    """Seconds after which a stage 1 that does not end is stopped."""
    trajectory_timeout: int = 24 * _HOUR
    """Seconds after which a stage 2 that does not end is stopped; the next run goes on where it was."""
    splat_timeout: int = 8 * _HOUR
    """Seconds after which a stage 3 that does not end is stopped; the next run goes on where it was."""
    retries: int = 2
    """How often the cluster starts a pod again that it lost. A stage's own errors are not retried this way."""

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            least = 0 if one.name == "retries" else 1
            if isinstance(value, int) and value < least:
                raise UsageError(f"{one.name} is {value}", where=one.name, remedy=f"give a whole number from {least}")
            if isinstance(value, str) and not _SIZE.fullmatch(value):
                raise UsageError(
                    f"{one.name} is {value!r}, which is no size",
                    where=one.name,
                    remedy="give a number with its unit, such as 8Gi",
                )
