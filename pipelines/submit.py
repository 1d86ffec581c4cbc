"""Sending a batch to the cluster: one run, or several over one `output_base`.

:func:`prepare` makes everything that will be sent and checks it; :func:`send` sends it. Between the two nothing is
decided, so what `--dry_run` prints is what goes out.

Example:
    >>> submission = prepare(read_package(path), values, parts, experiment="worldexplorer")
    >>> [run.name for run in submission.runs]
    ['worldexplorer-20260301T101500Z-6f3a 1 of 2', 'worldexplorer-20260301T101500Z-6f3a 2 of 2']
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from kfp_server_api import V2beta1Run

from pipelines.client import Cluster, runtime_config
from pipelines.errors import PartlySubmittedError
from pipelines.package import Package
from pipelines.split import Part
from worldexplorer.cli.parser import closest
from worldexplorer.cli.wording import plural
from worldexplorer.errors import UsageError, WorldExplorerError

DEFAULT_EXPERIMENT = "worldexplorer"
_PARAMETER_TYPES: Mapping[str, tuple[type, ...]] = {
    "STRING": (str,),
    "BOOLEAN": (bool,),
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "STRUCT": (dict,),
    "LIST": (list,),
}


@dataclass(frozen=True)
class PreparedRun:
    """One run as it will be sent.

    Attributes:
        name: its display name.
        description: names the batch and the part; no other run has it.
        arguments: every parameter that the package knows.
        part: which samples.
    """

    name: str
    description: str
    arguments: Mapping[str, Any]
    part: Part


@dataclass(frozen=True)
class Submission:
    """A batch as it will be sent.

    Attributes:
        batch_id: what tells its runs from all others.
        experiment: the experiment's name.
        pipeline: the body's `pipeline_spec`.
        pipeline_name: the pipeline's own name.
        runs: in the order of their samples.
        pipeline_root: where artifacts go; empty for the installation's place.
        service_account: the pods' account; empty for the installation's.
    """

    batch_id: str
    experiment: str
    pipeline: Mapping[str, Any]
    pipeline_name: str
    runs: tuple[PreparedRun, ...]
    pipeline_root: str = ""
    service_account: str = ""

    def body(self, run: PreparedRun, experiment_id: str) -> V2beta1Run:
        """The request that starts a run."""
        return V2beta1Run(
            experiment_id=experiment_id,
            display_name=run.name,
            description=run.description,
            pipeline_spec=dict(self.pipeline),
            runtime_config=runtime_config(dict(run.arguments), self.pipeline_root),
            service_account=self.service_account or None,
        )


@dataclass(frozen=True)
class SubmittedRun:
    """A run that the cluster has taken."""

    run_id: str
    url: str
    prepared: PreparedRun

    def facts(self) -> dict[str, Any]:
        """For a JSON line."""
        part = self.prepared.part
        return {
            "run_id": self.run_id,
            "url": self.url,
            "name": self.prepared.name,
            "indices": part.indices,
            "jobs": part.jobs,
            "output_base": self.prepared.arguments.get("output_base"),
        }


def prepare(
    package: Package,
    values: Mapping[str, Any],
    parts: Sequence[Part],
    *,
    experiment: str = DEFAULT_EXPERIMENT,
    run_name: str = "",
    pipeline_root: str = "",
    service_account: str = "",
) -> Submission:
    """Make and check all that will be sent.

    Args:
        package: the compiled pipeline.
        values: the run parameters, all of which the package has to know.
        parts: one a run, at least one.
        experiment: the experiment's name, made where there is none.
        run_name: the display name; "" for the pipeline's with the time.
        pipeline_root: where artifacts go.
        service_account: the pods' Kubernetes service account.

    Raises:
        UsageError: the package is none, or does not take the values.
    """
    pipeline = pipeline_body(package)
    pipeline_name = str(package.specification.get("pipelineInfo", {}).get("name", "pipeline"))
    batch_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    if pipeline_root and "://" not in pipeline_root:
        raise UsageError(
            f"pipeline_root is {pipeline_root!r}, not a URI", where="--pipeline_root", remedy="give gs://BUCKET/FOLDER"
        )
    runs = []
    for number, part in enumerate(parts, start=1):
        arguments = {**values, "indices": part.indices} if "indices" in values or part.indices else dict(values)
        check_arguments(package, arguments)
        several = f" {number} of {len(parts)}" if len(parts) > 1 else ""
        jobs = f", {part.jobs} {plural(part.jobs, 'job')}" if part.jobs is not None else ""
        runs.append(
            PreparedRun(
                name=(run_name or f"{pipeline_name}-{batch_id}") + several,
                description=f"worldexplorer batch {batch_id}, run {number} of {len(parts)}, samples "
                f"{_shortened(part.indices) or 'all'}{jobs}",
                arguments=arguments,
                part=part,
            )
        )
    return Submission(batch_id, experiment, pipeline, pipeline_name, tuple(runs), pipeline_root, service_account)


def send(
    cluster: Cluster, submission: Submission, on_sent: Callable[[SubmittedRun], None] = lambda run: None
) -> list[SubmittedRun]:
    """Start every run.

    Raises:
        PartlySubmittedError: some went out and one did not; says which, and how to go on.
        WorldExplorerError: none went out.
    """
    experiment_id = cluster.experiment_id(submission.experiment)
    sent: list[SubmittedRun] = []
    for prepared in submission.runs:
        try:
            made = cluster.create_run(submission.body(prepared, experiment_id))
        except WorldExplorerError as error:
            if not sent:
                raise
            raise _partly(submission, sent, error) from error
        run = SubmittedRun(made.run_id, cluster.connection.run_url(made.run_id), prepared)
        sent.append(run)
        on_sent(run)
    return sent


def pipeline_body(package: Package) -> dict[str, Any]:
    """A package as a request holds it; UsageError where the protocol buffers do not know it."""
    remedy = "compile it with the SDK of this checkout: python -m pipelines compile"
    try:
        pipeline = json_format.ParseDict(dict(package.specification), pipeline_spec_pb2.PipelineSpec())
        platform = json_format.ParseDict(dict(package.platform), pipeline_spec_pb2.PlatformSpec())
    except json_format.ParseError as error:
        raise UsageError(f"this is no pipeline package: {error}", where=package.where, remedy=remedy) from None
    body: dict[str, Any] = json_format.MessageToDict(pipeline)
    if not package.platform:
        return body
    return {"pipeline_spec": body, "platform_spec": json_format.MessageToDict(platform)}


def check_arguments(package: Package, arguments: Mapping[str, Any]) -> None:
    """Compare arguments with the parameters that a package declares.

    Raises:
        UsageError: one that it does not know, one of another type, or one that is missing.
    """
    declared = package.root.parameters
    for name, value in arguments.items():
        if name not in declared:
            guess = closest(name, declared)
            meant = f"perhaps {guess} was meant; or compile" if guess else "compile"
            raise UsageError(
                f"the package has no parameter {name!r}", where=package.where, remedy=f"{meant} the package again"
            )
        kind = declared[name].get("parameterType", "")
        fits = isinstance(value, _PARAMETER_TYPES.get(kind, (object,)))
        if not fits or (isinstance(value, bool) and kind.startswith("NUMBER")):
            raise UsageError(f"{name} is {value!r}, and the package wants {kind}", where=package.where)
    for name, declaration in declared.items():
        if name not in arguments and not declaration.get("isOptional") and "defaultValue" not in declaration:
            raise UsageError(f"--{name} is missing", where=package.where, remedy=f"add --{name} VALUE")


def _partly(submission: Submission, sent: Sequence[SubmittedRun], error: WorldExplorerError) -> PartlySubmittedError:
    """Which runs went out, which did not, and the flags that send the others."""
    missing = submission.runs[len(sent) :]
    went_out = "; ".join(f"{run.run_id} (samples {_shortened(run.prepared.part.indices) or 'all'})" for run in sent)
    rest = " ".join(run.part.indices for run in missing)
    return PartlySubmittedError(
        f"{len(sent)} of {len(submission.runs)} runs went out and go on: {went_out}. The next did not: {error.what}",
        where=error.where,
        remedy=f"{error.remedy + '; then ' if error.remedy else ''}send the others with the same command and "
        f"--indices {rest}",
    )


def _shortened(text: str, length: int = 120) -> str:
    return text if len(text) <= length else f"{text[:length]}..."
