"""Where a trainer keeps its checkpoints and logs, and how another machine comes by them.

They lie in the attempt, or where a person says (`--nerf_folder`). Where attempts are kept in a remote storage, every
checkpoint goes there, from either place.

Example:
    >>> run_data = run_data_folder(context, nerf_folder=None)
    >>> trainer.train(scene, seed, run_data, keeping(progress, run_data, keep_with(context, run_data)))
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worldexplorer.context import StageContext, nothing_to_keep
from worldexplorer.progress import Progress

_KEPT = "training"
"""The attempt's folder of run data."""


def run_data_folder(context: StageContext[Any], nerf_folder: str | None) -> Path:
    """A folder of this attempt alone, which exists; a resumed attempt finds its own again, on another machine too."""
    kept = context.work / _KEPT
    if nerf_folder is None:
        folder = kept
    else:
        job = context.job.id
        folder = Path(nerf_folder) / job.variant / f"{job.index:04d}-{context.attempt}"
        if kept.is_dir() and not folder.exists():
            _copy_folder(kept, folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def keep_with(context: StageContext[Any], run_data: Path) -> Callable[[], None]:
    """What is to be done after a checkpoint.

    Run data that lie elsewhere are copied into the attempt first where the attempt is kept in a remote storage.
    """
    kept = context.work / _KEPT
    if context.keep is nothing_to_keep or run_data == kept:
        return context.keep

    def copy_and_keep() -> None:
        _copy_folder(run_data, kept)
        context.keep()

    return copy_and_keep


def keeping(progress: Progress, run_data: Path, keep: Callable[[], None]) -> Progress:
    """Progress that calls `keep` after every checkpoint.

    Trainers put a checkpoint in place by a rename, which changes the time of the folder.
    """
    seen = run_data.stat().st_mtime_ns

    def report(done: int, total: int, what: str) -> None:
        nonlocal seen
        now = run_data.stat().st_mtime_ns
        if now != seen:
            seen = now
            keep()
        progress(done, total, what)

    return report


def _copy_folder(source: Path, target: Path) -> None:
    """Copy under another name and rename: who is stopped in between leaves no half of a folder."""
    fresh = target.with_name(f"{target.name}.part")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(source, fresh, copy_function=_copy_if_there)
    shutil.rmtree(target, ignore_errors=True)
    fresh.replace(target)


def _copy_if_there(source: str, target: str) -> None:
    """Copy a file; a trainer that works meanwhile may put it in its place by a rename, or tidy it up."""
    try:
        shutil.copy2(source, target)
    except FileNotFoundError:
        if Path(source).exists():
            raise
