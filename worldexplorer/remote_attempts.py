"""Attempts at results in a bucket, kept there so that another machine can go on.

Such an attempt is worked at in a local scratch folder. What is finished of it is copied to the bucket now and then:

    <job>/.attempts/<attempt>/begun      written when it is claimed, before anything else; removed first
    <job>/.attempts/<attempt>/STAGE/     the files to commit, as far as they are made
    <job>/.attempts/<attempt>/work/      what a resumed stage goes on from

Nobody can see whether its owner lives, so an attempt of another machine is copied and never taken over. The copies may
be of different moments: what a stage goes on from carries checksums that the stage itself looks at.

Example:
    >>> seed_attempt(storage, job, "splat", "splat-0123456789ab-", committed="", folder=scratch)
    True
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from worldexplorer import layout
from worldexplorer.errors import TransientError
from worldexplorer.layout import JobId
from worldexplorer.storage import NotFoundError, Storage

WORK = "work"
FORGOTTEN_SECONDS = 24 * 3600.0
"""An attempt to which nothing was written for so long has no owner any more."""
_BEGUN = "begun"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Kept:
    """An attempt as the bucket has it.

    Attributes:
        begun: when it was claimed last, by the bucket's clock; None where it is being removed.
        written: when its newest file was written.
        keys: of everything but the mark of its beginning.
    """

    name: str
    begun: float | None
    written: float
    keys: tuple[str, ...]


def announce_attempt(storage: Storage, job: JobId, name: str) -> None:
    """Say that an attempt is claimed, before anything of it is kept."""
    storage.write(_begun(job, name), b"")


def seed_attempt(storage: Storage, job: JobId, stage: str, prefix: str, *, committed: str, folder: Path) -> bool:
    """Copy what the attempt that got furthest has kept into a new attempt's local folder.

    Args:
        storage: the bucket.
        job: whose stage.
        stage: which one.
        prefix: that the names of attempts at the same result share.
        committed: the attempt that the stage's record names, which is nobody's to go on with.
        folder: of the new attempt.

    Returns:
        Whether there was anything to go on from.
    """
    kept = [one for one in _kept_attempts(storage, job, prefix) if one.begun and one.keys and one.name != committed]
    if not kept:
        return False
    source = max(kept, key=lambda one: (len(one.keys), one.begun, one.name))
    arrived = folder / "seed"
    for left in (arrived, folder / stage):  # of a process that died while it did the same
        shutil.rmtree(left, ignore_errors=True)
    arrived.mkdir()
    try:
        storage.local_copies(source.keys, arrived)
    except NotFoundError:
        _logger.info("%s was removed while it was copied; the stage begins anew", source.name)
        shutil.rmtree(arrived)
        return False
    for name in (stage, WORK):  # in this order: with its work folder an attempt counts as seeded
        part = arrived / layout.attempt_folder(job, source.name) / name
        if part.is_dir():
            part.rename(folder / name)
    shutil.rmtree(arrived)
    _logger.info("going on with what another machine has kept in %s", source.name)
    return True


def keeper(storage: Storage, job: JobId, name: str, out: Path, work: Path) -> Callable[[], None]:
    """What a stage calls to keep an attempt as it is now; it goes on where the bucket does not answer."""

    def keep() -> None:
        try:
            storage.upload(out, layout.attempt_output(job, name, out.name))
            storage.upload(work, f"{layout.attempt_folder(job, name)}/{WORK}")
        except (TransientError, FileNotFoundError) as error:  # a program beside this one may tidy its own files up
            _logger.warning("what is finished of %s could not be kept for other machines this time: %s", name, error)

    return keep


def discard_kept_attempt(storage: Storage, job: JobId, name: str) -> None:
    """Remove an attempt from the bucket; without its first object nobody goes on with the rest."""
    storage.delete(_begun(job, name))
    storage.delete_tree(layout.attempt_folder(job, name))


def discard_superseded_attempts(storage: Storage, job: JobId, stage: str, committed: str) -> None:
    """Remove the attempts at a stage that cannot be committed any more, or that nobody works at.

    An attempt at the committed result that was claimed before the commit read the record before it as well, so its own
    commit will be refused. One that was claimed later may belong to a run with `--force` and is left alone, as are
    those at other results, until nothing was written to them for a day.
    """
    record = storage.stat(layout.record(job, stage))
    if record is None:
        return
    same_result = committed.rpartition("-")[0] + "-"
    forgotten = time.time() - FORGOTTEN_SECONDS
    for kept in _kept_attempts(storage, job, f"{stage}-"):
        superseded = kept.begun is None or (kept.name.startswith(same_result) and kept.begun < record.modified)
        if superseded or kept.written < forgotten:
            discard_kept_attempt(storage, job, kept.name)


def _kept_attempts(storage: Storage, job: JobId, prefix: str) -> list[_Kept]:
    folder = layout.attempts_folder(job)
    begun: dict[str, float] = {}
    written: dict[str, float] = {}
    keys: dict[str, list[str]] = {}
    for info in storage.list(folder):
        name, _, rest = info.key[len(folder) + 1 :].partition("/")
        if not name.startswith(prefix):
            continue
        written[name] = max(written.get(name, 0.0), info.modified)
        keys.setdefault(name, [])
        if rest == _BEGUN:
            begun[name] = info.modified
        else:
            keys[name].append(info.key)
    return [_Kept(name, begun.get(name), written[name], tuple(keys[name])) for name in keys]


def _begun(job: JobId, name: str) -> str:
    return f"{layout.attempt_folder(job, name)}/{_BEGUN}"
