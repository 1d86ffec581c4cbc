"""The marker that stops a run whose first failure is to stop the rest (no `--continue_on_error`).

The pod that fails writes it; every other pod looks for it before it begins.

Example:
    >>> raise_abort(storage, run_id, "photorealistic/index_0003 failed in trajectory")
    >>> aborted(storage, run_id)
    'photorealistic/index_0003 failed in trajectory'
"""

from __future__ import annotations

from worldexplorer import layout
from worldexplorer.storage import AlreadyExistsError, NotFoundError, Storage


def raise_abort(storage: Storage, run_id: str, reason: str) -> None:
    """Have the run's other pods stop before they begin; the first reason stays."""
    try:
        storage.create(layout.abort_marker(run_id), reason.encode())
    except AlreadyExistsError:
        return


def aborted(storage: Storage, run_id: str) -> str:
    """Why the run is to stop; empty while it is not."""
    try:
        return storage.read(layout.abort_marker(run_id)).decode()
    except NotFoundError:
        return ""
