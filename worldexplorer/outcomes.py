"""What a stage left behind, looked at before it counts.

Example:
    >>> files = describe_files(attempt.out)
    >>> check_outcome(outcome, files, "splat")
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from worldexplorer.context import Outcome
from worldexplorer.errors import DefectError
from worldexplorer.fingerprint import canonical_json
from worldexplorer.records import FileEntry
from worldexplorer.storage import LocalStorage


def describe_files(folder: Path) -> list[FileEntry]:
    """The entries of every file below a folder, in order of names."""
    here = LocalStorage(folder)
    return [FileEntry(path=info.key, size=info.size, sha256=here.sha256(info.key)) for info in here.list("")]


def check_outcome(outcome: Outcome, files: Sequence[FileEntry], stage: str) -> None:
    """A stage that names an output has written it, nothing is empty, and its figures are figures; DefectError."""
    paths = [entry.path for entry in files]
    for name, place in outcome.outputs.items():
        if not any(path == place or path.startswith(f"{place}/") for path in paths):
            raise DefectError(f"{stage} ended without its {name}", where=place)
    for entry in files:
        if entry.size == 0:
            raise DefectError(f"{stage} wrote an empty file", where=entry.path)
    for name, value in outcome.metrics.items():
        try:
            canonical_json(value)
        except (TypeError, ValueError) as error:
            raise DefectError(f"{stage} measured {value!r}: {error}", where=f"metrics.{name}") from None
