"""Units that more than one module counts in.

Example:
    >>> f"{3 * GIB / MIB:.0f} MiB"
    '3072 MiB'
"""

from __future__ import annotations

MIB = 2**20
GIB = 2**30
"""Bytes."""
