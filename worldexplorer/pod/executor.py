"""The contract between a container and the pipeline that runs it: one JSON text in, one JSON file out.

In comes what the pipeline knows: parameters, and artifacts with their URIs. An artifact's local folder follows from its
URI: the cluster mounts `gs://bucket/key` at `/gcs/bucket/key`, and likewise `/s3` and `/minio`; a local run names the
folder itself, and a `customPath` wins over both. Out goes a file that holds the output parameters and the artifacts'
metadata. Metadata are text, numbers and true or false: the cluster refuses null, and shows nested values to nobody.

Example:
    >>> executor = Executor.parse(text)
    >>> executor.text("output_base")
    'gs://worlds/batch-7'
    >>> executor.set_parameter("pending", "yes")
    >>> executor.finish()
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worldexplorer.errors import DefectError, UsageError

MOUNTS: Mapping[str, str] = {"gs://": "/gcs/", "s3://": "/s3/", "minio://": "/minio/"}
"""Where the cluster puts the objects of a store."""
LOGS = "executor-logs"
"""The output artifact that the cluster adds to every task and writes itself."""
Scalar = str | int | float | bool


@dataclass
class Artifact:
    """One artifact of a task.

    Attributes:
        uri: where it lies for good.
        custom_path: where this container finds it, where that does not follow from the URI.
        metadata: what the pipeline's pages show of it.
    """

    name: str
    uri: str
    custom_path: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Where this container reads or writes it; UsageError for a store that has no mount."""
        if self.custom_path:
            return Path(self.custom_path)
        for scheme, mount in MOUNTS.items():
            if self.uri.startswith(scheme):
                return Path(mount + self.uri.removeprefix(scheme))
        if "://" in self.uri:
            raise UsageError(
                f"artifact {self.name} lies in a store that this program does not know",
                where=self.uri,
                remedy=f"take a pipeline root that begins with one of {' '.join(MOUNTS)}",
            )
        return Path(self.uri)


@dataclass
class Executor:
    """What one task was given and what it gives back.

    Attributes:
        parameters: input parameters by name.
        inputs: input artifacts by name.
        outputs: output artifacts by name.
        output_parameters: the names of those that :meth:`finish` has to report.
        output_file: where :meth:`finish` writes; its folder need not exist.
    """

    parameters: Mapping[str, Any]
    inputs: Mapping[str, Artifact]
    outputs: Mapping[str, Artifact]
    output_parameters: frozenset[str]
    output_file: Path
    _values: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def parse(text: str) -> Executor:
        """Read the pipeline's JSON text; UsageError where it is none."""
        try:
            document = json.loads(text)
            inputs = document.get("inputs") or {}
            outputs = document["outputs"]
            return Executor(
                parameters=dict(inputs.get("parameterValues") or {}),
                inputs=_artifacts(inputs.get("artifacts") or {}),
                outputs=_artifacts(outputs.get("artifacts") or {}),
                output_parameters=frozenset(outputs.get("parameters") or {}),
                output_file=Path(outputs["outputFile"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise UsageError(
                f"the executor input cannot be read ({type(error).__name__}: {error})",
                where="--executor_input",
                remedy="this program is started by the pipeline, which passes it as '{{$}}'",
            ) from None

    def text(self, name: str) -> str:
        """An input parameter that has to be there and to say something."""
        value = self.parameters.get(name)
        if not isinstance(value, str) or not value.strip():
            raise UsageError(f"the parameter {name} is empty", where=name, remedy=f"give the run a value for {name}")
        return value.strip()

    def input(self, name: str) -> Artifact:
        """An input artifact that has to be there."""
        if name not in self.inputs:
            raise UsageError(f"the task has no input artifact {name}", remedy="compile the pipeline again")
        return self.inputs[name]

    def output(self, name: str) -> Artifact:
        """An output artifact that has to be there."""
        if name not in self.outputs:
            raise DefectError(f"the task has no output artifact {name}", remedy="compile the pipeline again")
        return self.outputs[name]

    def set_parameter(self, name: str, value: Any) -> None:
        """Give an output parameter its value."""
        if name not in self.output_parameters:
            raise DefectError(f"the task has no output parameter {name}", remedy="compile the pipeline again")
        self._values[name] = value

    def describe(self, name: str, facts: Mapping[str, Scalar | None]) -> None:
        """Say something of an output artifact; facts without a value are left out."""
        for key, value in facts.items():
            if value is None:
                continue
            if not isinstance(value, Scalar) or (isinstance(value, float) and not math.isfinite(value)):
                raise DefectError(f"the metadata {key} of {name} is {value!r}, which the pipeline does not take")
            self.output(name).metadata[key] = value

    def write_text(self, name: str, text: str) -> None:
        """Write an output artifact that is one text file."""
        path = self.output(name).path
        path.parent.mkdir(parents=True, exist_ok=True)
        # A data set may hold half a surrogate pair, which has no UTF-8; a page is no reason to lose a result.
        path.write_bytes(text.encode("utf-8", "backslashreplace"))

    def finish(self) -> None:
        """Write the output file: the last thing a successful task does.

        Raises:
            DefectError: an output parameter has no value, or an output artifact was not written.
        """
        missing = self.output_parameters - self._values.keys()
        if missing:
            raise DefectError(f"the task ends without its output parameters {', '.join(sorted(missing))}")
        unwritten = sorted(name for name, one in self.outputs.items() if name != LOGS and not one.path.exists())
        if unwritten:
            raise DefectError(f"the task ends without its output artifacts {', '.join(unwritten)}")
        document = {
            "parameterValues": self._values,
            "artifacts": {
                name: {"artifacts": [{"name": one.name, "uri": one.uri, "metadata": one.metadata}]}
                for name, one in self.outputs.items()
                if name != LOGS
            },
        }
        self.output_file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.output_file.with_name(self.output_file.name + ".part")
        temporary.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")
        temporary.replace(self.output_file)


def _artifacts(document: Mapping[str, Any]) -> dict[str, Artifact]:
    found = {}
    for name, entry in document.items():
        (one,) = entry["artifacts"]
        if not one["uri"]:
            raise ValueError(f"the artifact {name} has no URI")
        found[name] = Artifact(str(one.get("name", name)), str(one["uri"]), str(one.get("customPath", "")))
    return found
