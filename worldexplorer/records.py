"""Records: what a stage writes about itself. One format for a result, a failure and a question to a person.

A stage's files count once `records/STAGE.json` names them, with size and SHA-256; readers trust nothing else.

Example:
    >>> record = StageRecord.from_json(storage.read(layout.record(job, "splat")), where="records/splat.json")
    >>> record.outputs["export_path"]
    'splat/splat.ply'
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from worldexplorer.errors import DefectError, ErrorClass

SCHEMA_VERSION = 1
Quality = Literal["ok", "degraded"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a stage; the path is relative to the job's folder.

    No model of its own: a full scene has some 3,000 of them, and a plan looks at thousands of scenes.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    path: str
    size: int
    sha256: str


class ErrorEntry(_Model):
    """What went wrong."""

    error_class: ErrorClass
    message: str
    where: str = ""
    remedy: str = ""
    log_tail: list[str] = Field(default_factory=list)


class Retry(_Model):
    """A failure that the stage met and tried again after."""

    error_class: ErrorClass
    message: str
    adjustment: str = ""
    """What was made smaller for the next try."""


class InputEntry(_Model):
    """What a stage was made from: the record of the stage before it, or the photo."""

    stage: str
    fingerprint: str
    content: str = ""


class StageRecord(_Model):
    """What a stage says about one attempt of one job.

    Attributes:
        fingerprint: of `basis`.
        basis: everything the result depends on: settings, engine, input fingerprint.
        supersedes: files of the record this one replaced that are not among its own; removed by the publish.
        outputs: the guide's named paths (`scaffold_path`, `scene_path`, `export_path`), relative to the job's folder;
            of a stage that waits, `answer`: the file that a person writes in.
        notes: for a person; of a stage that waits, what it waits for and what to do.
    """

    schema_version: int = SCHEMA_VERSION
    stage: str
    index: int
    variant: str
    status: Literal["committed", "failed", "waiting"]
    run_id: str
    attempt: str
    fingerprint: str
    basis: dict[str, Any]
    input: InputEntry | None = None
    engine: str
    engine_label: str
    code_version: str
    versions: dict[str, str] = Field(default_factory=dict)
    seed: int
    started_at: str
    finished_at: str
    seconds: float
    peak_memory_mib: float | None = None
    retries: list[Retry] = Field(default_factory=list)
    quality: Quality = "ok"
    notes: list[str] = Field(default_factory=list)
    metrics: dict[str, Any] = Field(default_factory=dict)
    outputs: dict[str, str] = Field(default_factory=dict)
    files: list[FileEntry] = Field(default_factory=list)
    supersedes: list[str] = Field(default_factory=list)
    published: bool = False
    error: ErrorEntry | None = None

    @field_validator("started_at", "finished_at")
    @classmethod
    def _is_a_time(cls, value: str) -> str:
        datetime.fromisoformat(value)
        return value

    @property
    def content(self) -> str:
        """A hash of all the files' names and checksums: equal for equal results."""
        lines = sorted(f"{entry.sha256} {entry.path}\n" for entry in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def shortcuts(self) -> dict[str, Any]:
        """What the engine was told that makes other results than the published way; empty for that."""
        return dict(self.basis.get("engine", {}).get("shortcuts", {}))

    def file(self, path: str) -> FileEntry | None:
        """The entry of a path, None where the record names no such file."""
        return next((entry for entry in self.files if entry.path == path), None)

    def to_json(self) -> bytes:
        """The record as it is stored."""
        return (self.model_dump_json(indent=1) + "\n").encode()

    @staticmethod
    def from_json(data: bytes, where: str) -> StageRecord:
        """Read a record; DefectError where it is damaged or of another schema."""
        try:
            record = StageRecord.model_validate_json(data)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in problem["loc"])
            raise DefectError(
                f"a stage record cannot be read: {place}: {problem['msg']}",
                where=where,
                remedy="run that stage again with --force",
            ) from None
        if record.schema_version != SCHEMA_VERSION:
            raise DefectError(
                f"a stage record has schema {record.schema_version}, this version reads {SCHEMA_VERSION}",
                where=where,
                remedy="use the version that wrote it, or run the stage again with --force",
            )
        return record
