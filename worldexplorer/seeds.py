"""Seeds of single samplings, derived from the run's seed and the name of the work.

Each piece of work has a seed of its own, so that its result depends neither on the order of the work nor on where a
resumed run went on.

Example:
    >>> derive_seed(0, "trajectory", "003_left", "first-pass") == derive_seed(0, "trajectory", "003_left", "first-pass")
    True
"""

from __future__ import annotations

import hashlib


def derive_seed(base: int, *names: str | int) -> int:
    """A seed from 0 to 2**32 - 1 for the work that `names` describe."""
    text = "/".join(str(name) for name in (base, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
