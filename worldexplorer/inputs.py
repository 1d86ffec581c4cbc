"""The files of the stage before, read through its record and checked against it.

Where the storage is remote they are fetched, all that are asked for together, into a scratch folder that goes away
with the object.

Example:
    >>> with closing(RecordedInputs(storage, job_id, "scaffold")) as inputs:
    ...     views = inputs.paths("scaffold/final")
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

from worldexplorer import layout
from worldexplorer.errors import DamagedInputError
from worldexplorer.layout import JobId
from worldexplorer.publish import publish
from worldexplorer.records import FileEntry, InputEntry, StageRecord
from worldexplorer.scratch import scratch_root
from worldexplorer.storage import NotFoundError, Storage
from worldexplorer.verify import find_file, mark_damaged


class RecordedInputs:
    """What a committed stage left.

    Args:
        storage: the `output_base`.
        job: whose files.
        stage: the stage that made them.
    """

    def __init__(self, storage: Storage, job: JobId, stage: str) -> None:
        key = layout.record(job, stage)
        record = StageRecord.from_json(storage.read(key), where=key)
        self.record: StageRecord = publish(storage, job, record)
        self._entries = {entry.path: entry for entry in self.record.files}
        self._storage = storage
        self._job = job
        self._checked: dict[str, Path] = {}
        self._scratch: Path | None = None
        self._cleanup: weakref.finalize[..., RecordedInputs] | None = None

    @property
    def entry(self) -> InputEntry:
        """How the next record names this input."""
        return InputEntry(stage=self.record.stage, fingerprint=self.record.fingerprint, content=self.record.content)

    def path(self, relative: str) -> Path:
        """See InputFiles; DamagedInputError where the file is gone or changed."""
        return self.files([relative])[0]

    def files(self, relatives: Sequence[str]) -> list[Path]:
        """See InputFiles; DamagedInputError where one of the files is gone or changed."""
        new = [self._entry(path) for path in dict.fromkeys(relatives) if path not in self._checked]
        if new:
            self._checked |= zip((entry.path for entry in new), self._verified(new), strict=True)
        return [self._checked[path] for path in relatives]

    def paths(self, folder: str) -> list[Path]:
        """See InputFiles."""
        return self.files([path for path in self._entries if path.startswith(f"{folder}/")])

    def folder(self, relative: str) -> Path | None:
        """See InputFiles."""
        found = self.paths(relative)
        return found[0].parents[len(_below(self.record, relative)) - 1] if found else None

    def close(self) -> None:
        """Remove what was fetched; the paths given out are no longer there then, unless the storage is local."""
        if self._cleanup is not None:
            self._cleanup()
        self._scratch = self._cleanup = None
        self._checked.clear()

    def _entry(self, relative: str) -> FileEntry:
        entry = self._entries.get(relative)
        if entry is None:
            raise DamagedInputError(
                f"the {self.record.stage} record names no such file",
                where=f"{layout.job_folder(self._job)}/{relative}",
                remedy=f"run {self.record.stage} again with --force",
            )
        return entry

    def _verified(self, entries: Sequence[FileEntry]) -> list[Path]:
        paths = self._fetched(entries)
        changed = [entry.path for entry, path in zip(entries, paths, strict=True) if _sha256(path) != entry.sha256]
        if changed:
            raise self._damaged(changed)
        return paths

    def _fetched(self, entries: Sequence[FileEntry]) -> list[Path]:
        """Local files, from where the record's files lie."""
        if self.record.published:
            keys = [f"{layout.job_folder(self._job)}/{entry.path}" for entry in entries]
            try:
                return self._storage.local_copies(keys, self._scratch_folder())
            except NotFoundError:
                pass  # below it is found out which
        found = self._storage.map(lambda entry: find_file(self._storage, self._job, self.record, entry), entries)
        gone = [entry.path for entry, info in zip(entries, found, strict=True) if info is None]
        if gone:
            raise self._damaged(gone)
        return self._storage.local_copies([info.key for info in found if info is not None], self._scratch_folder())

    def _damaged(self, paths: list[str]) -> DamagedInputError:
        mark_damaged(self._storage, self._job, self.record, paths)
        return DamagedInputError(
            f"a file of {self.record.stage} is missing or was changed",
            where=f"{layout.job_folder(self._job)}/{paths[0]}",
            remedy="run the same command again: it heals",
        )

    def _scratch_folder(self) -> Path:
        if self._storage.local_root() is not None:
            return Path()  # nothing is fetched
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="worldexplorer-inputs-", dir=scratch_root()))
            self._cleanup = weakref.finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)
        return self._scratch


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _below(record: StageRecord, folder: str) -> list[str]:
    """The path parts of the folder's first file below the folder."""
    first = next(entry.path for entry in record.files if entry.path.startswith(f"{folder}/"))
    return first[len(folder) + 1 :].split("/")
