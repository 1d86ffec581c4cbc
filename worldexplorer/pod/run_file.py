"""`runs/RUN_ID/run.json`: what the plan tells the other pods of a run.

The plan reads the parameters and the data set once; every other pod goes by what it found, so that one run has one
configuration, whatever changes in the data set meanwhile.

Example:
    >>> run_file = RunFile.load(storage, run_id)
    >>> run_file.job("photorealistic/index_0007").image
    PosixPath('.../photorealistic/7.png')
"""

from __future__ import annotations

import logging
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from worldexplorer import __version__, layout
from worldexplorer.config import SCAFFOLD_GEN, RunConfig
from worldexplorer.dataset import Job
from worldexplorer.dataset.handover import fetch_job, restore_job
from worldexplorer.errors import DefectError, UsageError
from worldexplorer.storage import NotFoundError, Storage

RUN_SCHEMA_VERSION = 1
_REMEDY = "take images of one version for the whole run"
_logger = logging.getLogger(__name__)


class RunFile(BaseModel):
    """A run's configuration and its unfinished jobs, by the name of their folder.

    Attributes:
        began_at: when the plan began to look at what is there.
        jobs: from :func:`worldexplorer.dataset.handover.describe_job`.
        to_run: the stages of each job that had to run then; the others were to be reused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = RUN_SCHEMA_VERSION
    run_id: str
    code_version: str = __version__
    began_at: str
    config: RunConfig
    jobs: dict[str, dict[str, Any]]
    to_run: dict[str, tuple[str, ...]]

    def to_json(self) -> bytes:
        """The file as it is stored."""
        return (self.model_dump_json(indent=1) + "\n").encode()

    @staticmethod
    def load(storage: Storage, run_id: str) -> RunFile:
        """Read a run's file; UsageError where the plan left none, DefectError where it cannot be understood."""
        key = layout.run_file(run_id)
        try:
            data = storage.read(key)
        except NotFoundError:
            raise UsageError(
                "the run has no plan", where=f"{storage.uri}/{key}", remedy="look at the log of the run's plan step"
            ) from None
        try:
            file = RunFile.model_validate_json(data)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in problem["loc"])
            raise DefectError(
                f"the run's file cannot be read: {place}: {problem['msg']}",
                where=key,
                remedy=_REMEDY,
            ) from None
        if file.schema_version != RUN_SCHEMA_VERSION:
            raise DefectError(
                f"the run's file has schema {file.schema_version}, this version reads {RUN_SCHEMA_VERSION}",
                where=key,
                remedy=_REMEDY,
            )
        if file.code_version != __version__:
            _logger.warning("the run was planned by version %s, this image has %s", file.code_version, __version__)
        return file

    def job(self, name: str) -> Job:
        """A job, with what it starts from on this machine."""
        self.job_id(name)
        from_text = self.config.scaffold.scaffold_method == SCAFFOLD_GEN
        job = restore_job(self.jobs[name], self.config.batch.dataset_dir, from_text=from_text)
        fetch_job(self.config.batch.dataset_dir, job)
        return job

    def job_id(self, name: str) -> layout.JobId:
        """The id of one of the run's jobs; UsageError for any other name."""
        if name not in self.jobs:
            raise UsageError(f"the run has no job {name}", where=layout.run_file(self.run_id))
        return layout.JobId(self.jobs[name]["index"], self.jobs[name]["variant"])
