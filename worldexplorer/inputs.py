"""The files of the stage before, read through its record and checked against it.

Example:
    >>> inputs = RecordedInputs(storage, job_id, "scaffold")
    >>> inputs.path("scaffold/final/000.png")
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from worldexplorer import layout
from worldexplorer.errors import DamagedInputError
from worldexplorer.layout import JobId
from worldexplorer.publish import publish
from worldexplorer.records import FileEntry, InputEntry, StageRecord
from worldexplorer.storage import Storage
from worldexplorer.verify import find_file, mark_damaged


class RecordedInputs:
    """What a committed stage left, one file at a time.

    Args:
        storage: the `output_base`.
        job: whose files.
        stage: the stage that made them.
    """

    def __init__(self, storage: Storage, job: JobId, stage: str) -> None:
        key = layout.record(job, stage)
        record = StageRecord.from_json(storage.read(key), where=key)
        self.record: StageRecord = publish(storage, job, record)
        self._storage = storage
        self._job = job
        self._checked: dict[str, Path] = {}

    @property
    def entry(self) -> InputEntry:
        """How the next record names this input."""
        return InputEntry(stage=self.record.stage, fingerprint=self.record.fingerprint, content=self.record.content)

    def path(self, relative: str) -> Path:
        """See InputFiles; DamagedInputError where the file is gone or changed."""
        if relative not in self._checked:
            entry = self.record.file(relative)
            if entry is None:
                raise DamagedInputError(
                    f"the {self.record.stage} record names no such file",
                    where=f"{layout.job_folder(self._job)}/{relative}",
                    remedy=f"run {self.record.stage} again with --force",
                )
            self._checked[relative] = self._verified(entry)
        return self._checked[relative]

    def paths(self, folder: str) -> list[Path]:
        """See InputFiles."""
        return [self.path(entry.path) for entry in self.record.files if entry.path.startswith(f"{folder}/")]

    def folder(self, relative: str) -> Path | None:
        """See InputFiles."""
        found = self.paths(relative)
        return found[0].parents[len(_below(self.record, relative)) - 1] if found else None

    def _verified(self, entry: FileEntry) -> Path:
        found = find_file(self._storage, self._job, self.record, entry)
        if found is not None:
            path = self._storage.local_copy(found.key)
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256:
                    return path
        mark_damaged(self._storage, self._job, self.record, [entry.path])
        raise DamagedInputError(
            f"a file of {self.record.stage} is missing or was changed",
            where=f"{layout.job_folder(self._job)}/{entry.path}",
            remedy="run the same command again: it heals",
        )


def _below(record: StageRecord, folder: str) -> list[str]:
    """The path parts of the folder's first file below the folder."""
    first = next(entry.path for entry in record.files if entry.path.startswith(f"{folder}/"))
    return first[len(folder) + 1 :].split("/")
