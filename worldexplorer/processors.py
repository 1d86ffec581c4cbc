"""How many processors this process may use.

Example:
    >>> usable_processors()
    2
"""

from __future__ import annotations

import math
import os
from pathlib import Path


def usable_processors(cgroup_limit: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Processors this process may use: the scheduler's set, or less where the container has a quota.

    Args:
        cgroup_limit: the control group's file of quota and period ("200000 100000" or "max 100000").
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = cgroup_limit.read_text(encoding="ascii").split()
    except (OSError, ValueError):  # no control groups, or the older layout: the scheduler's set is all there is to know
        return available
    if quota == "max":
        return available
    return max(1, min(available, math.ceil(int(quota) / int(period))))
