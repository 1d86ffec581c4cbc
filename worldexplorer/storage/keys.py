"""What a key may look like, in every storage alike.

Example:
    >>> require_plain("photorealistic/index_0000/records/splat.json")
"""

from __future__ import annotations

from worldexplorer.errors import DefectError


def require_plain(key: str) -> None:
    """DefectError unless a key is a plain relative POSIX path: no empty part, no `.` or `..`, no NUL."""
    if not {"", ".", ".."}.isdisjoint(key.split("/")) or "\0" in key:
        raise DefectError("a key leaves the storage, or is not written plainly", where=repr(key))
