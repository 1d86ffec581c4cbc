"""What the Kubeflow backend does around one container task: its driver before, its launcher around the command.

The driver resolves the inputs and names the outputs; the launcher downloads the input artifacts, fills the
placeholders, runs the command, reads what it says about its outputs and uploads them. The bucket is a folder here, and
each task's `/gcs` is a fresh folder, as it is in a pod. How a program finds that folder: with `mount_variable` it is
told by an environment variable, and without by the `customPath` of every artifact.

What differs from kfp.local, and is the reason for this module: artifacts have a URI and no path; an input artifact is
named by a number, has no type and carries two metadata entries of the store; there is an output artifact
`executor-logs` that no component declares; nothing is published after a failure; a metadata value may not be null.

Example:
    launcher = Launcher(tmp_path, mount_variable="WORLDEXPLORER_GCS")
    task = ContainerTask.of_component(scaffold)
    done = launcher.run(task, {"job_id": "photorealistic/index_0007", ...})
    assert done.failure == ""
    launcher.run(ContainerTask.of_component(trajectory), {...}, {"scaffold": done.artifacts["scaffold"]})
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from kfp.dsl.base_component import BaseComponent
from kfp.pipeline_spec import pipeline_spec_pb2

from pipelines.package import PARAMETER_PLACEHOLDER, Package, Task, struct_word

_SCHEME = "gs://"
_JSON_TYPES: Mapping[str, tuple[type, ...]] = {
    "NUMBER_INTEGER": (int, float),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}


class BackendError(Exception):
    """The driver or the launcher refuses: the task fails."""


@dataclass(frozen=True)
class ContainerTask:
    """One container component of a compiled pipeline.

    Attributes:
        name: the task's name.
        component: its ComponentSpec as JSON.
        container: its container specification as JSON.
    """

    name: str
    component: Mapping[str, Any]
    container: Mapping[str, Any]

    @classmethod
    def of_component(cls, component: BaseComponent) -> ContainerTask:
        """A component as it is decorated."""
        specification = json_format.MessageToDict(component.pipeline_spec)
        (task,) = Package(specification, {}).tasks()
        return cls.of_task(task)

    @classmethod
    def of_task(cls, task: Task) -> ContainerTask:
        """A task of a compiled package."""
        return cls(task.name, task.component, task.container)

    def declared(self, side: str, kind: str) -> Mapping[str, Any]:
        """The declared "parameters" or "artifacts" of one side, "input" or "output"."""
        declared: Mapping[str, Any] = self.component.get(f"{side}Definitions", {}).get(kind, {})
        return declared


@dataclass(frozen=True)
class Done:
    """How a task ended.

    Attributes:
        failure: why it failed; "" for success.
        exit_code: the command's; None where it was not started.
        log: what the command wrote to its standard output and error.
        executor_input: what the command was given for `{{$}}`.
        parameters: the published output parameters; empty after a failure.
        artifacts: the published output artifacts as the next task gets them; empty after a failure.
    """

    failure: str
    exit_code: int | None
    log: str
    executor_input: Mapping[str, Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass
class Launcher:
    """A backend with one bucket.

    Attributes:
        folder: everything lies below it: `bucket/`, and `pods/N/` for each task.
        mount_variable: the environment variable that names the folder which stands for `/gcs`; None for `customPath`.
        pipeline_root: the pipeline root of the run.
        publish_logs: whether the backend keeps logs as the artifact `executor-logs`.
        output_file_apart: name the output file in a folder that nobody has made, as backends do for pipeline roots
            that they cannot mount; else it lies beside the output artifacts.
        environment: more variables for the commands.
    """

    folder: Path
    mount_variable: str | None = None
    pipeline_root: str = "gs://runs/pipeline_root"
    publish_logs: bool = True
    output_file_apart: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)
    artifacts_made: int = field(default=0, init=False)
    pods_made: int = field(default=0, init=False)

    def run(
        self,
        task: ContainerTask,
        parameters: Mapping[str, Any],
        artifacts: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        timeout: float = 120.0,
    ) -> Done:
        """Run a task as a pod does.

        Args:
            task: the task.
            parameters: what it is passed for its parameters; those with defaults need not be.
            artifacts: what it is passed for its artifacts: values of `Done.artifacts`, or of :meth:`import_artifact`.
            timeout: seconds after which the command is killed, which fails the test.
        """
        pod = _Pod(self, self.folder / "pods" / str(self.pods_made), task)
        self.pods_made += 1
        executor_input: dict[str, Any] = {}
        try:
            executor_input = pod.executor_input(parameters, artifacts or {})
            words = pod.driver_words(executor_input)
            executor_input = pod.with_defaults(executor_input)
            pod.download(executor_input)
            pod.make_folders(executor_input)
            words = pod.launcher_words(words, executor_input)
        except BackendError as error:
            return Done(str(error), None, "", executor_input)
        process = pod.start(words, timeout)
        failed = Done(f"exit code {process.returncode}", process.returncode, process.stdout, executor_input)
        if process.returncode != 0:
            return failed
        try:
            output = pod.executor_output(executor_input)
            collected = pod.collect_parameters(executor_input, output)
            published = pod.upload(executor_input, output)
        except BackendError as error:
            return Done(str(error), 0, process.stdout, executor_input)
        return Done("", 0, process.stdout, executor_input, collected, published)

    def import_artifact(self, uri: str, metadata: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """An artifact as an importer publishes it; its bytes are what lies at the URI."""
        return self.recorded("artifact", uri, metadata or {})

    def object_path(self, uri: str) -> Path:
        """The file or folder of the bucket that holds the bytes of a URI."""
        if not uri.startswith(_SCHEME):
            raise BackendError(f"the URI {uri!r} is not in a bucket")
        return self.folder / "bucket" / uri.removeprefix(_SCHEME)

    def recorded(self, name: str, uri: str, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
        """An artifact as it comes out of the metadata store."""
        self.artifacts_made += 1
        store = {"display_name": name, "store_session_info": '{"Provider":"gs","Params":{"fromEnv":"true"}}'}
        values = {key: _stored(key, value) for key, value in metadata.items()}
        return {
            "name": str(self.artifacts_made),
            "uri": uri,
            "type": {"instanceSchema": ""},
            "metadata": {**store, **values},
        }


@dataclass(frozen=True)
class _Pod:
    """One task's machine."""

    launcher: Launcher
    folder: Path
    task: ContainerTask

    def mounted(self, artifact: Mapping[str, Any]) -> Path:
        """Where the bytes of an artifact lie on this machine."""
        if "customPath" in artifact:
            return Path(artifact["customPath"])
        return self.mounted_uri(artifact["uri"])

    def mounted_uri(self, uri: str) -> Path:
        if not uri.startswith(_SCHEME):
            raise BackendError(f"the URI {uri!r} has no place on this machine")
        return self.folder / "gcs" / uri.removeprefix(_SCHEME)

    def executor_input(self, parameters: Mapping[str, Any], artifacts: Mapping[str, Any]) -> dict[str, Any]:
        """What the driver makes: no defaults, no paths."""
        declared = self.task.declared("input", "parameters")
        for name, specification in declared.items():
            optional = specification.get("isOptional") or "defaultValue" in specification
            if name not in parameters and not optional:
                raise BackendError(f"neither value nor default for the parameter {name!r}")
        for name in self.task.declared("input", "artifacts"):
            optional = self.task.declared("input", "artifacts")[name].get("isOptional")
            if name not in artifacts and not optional:
                raise BackendError(f"no artifact for the input {name!r}")
        values = {
            name: _typed(name, value, declared.get(name, {}).get("parameterType", ""))
            for name, value in parameters.items()
        }
        task_root = f"{self.launcher.pipeline_root}/{self.task.name}/{uuid.uuid4()}"
        outputs = dict(self.task.declared("output", "artifacts"))
        if self.launcher.publish_logs:
            outputs["executor-logs"] = {"artifactType": {"schemaTitle": "system.Artifact"}}
        made = {
            name: {"name": name, "uri": f"{task_root}/{name}", "type": specification["artifactType"]}
            for name, specification in outputs.items()
        }
        output_folder = self.folder / "outputs" if self.launcher.output_file_apart else self.mounted_uri(task_root)
        content = {
            "inputs": {"parameterValues": values, "artifacts": self._lists(artifacts)},
            "outputs": {
                "artifacts": self._lists(made),
                "parameters": {
                    name: {"outputFile": str(self.folder / "tmp/kfp/outputs" / name)}
                    for name in self.task.declared("output", "parameters")
                },
                "outputFile": str(output_folder / "output_metadata.json"),
            },
        }
        json_format.ParseDict(content, pipeline_spec_pb2.ExecutorInput())
        return content

    def _lists(self, artifacts: Mapping[str, Any]) -> dict[str, Any]:
        """The artifacts as the executor input holds them."""
        lists = {}
        for name, given in artifacts.items():
            artifact = dict(given)
            if self.launcher.mount_variable is None:
                artifact["customPath"] = str(self.mounted(given))
            lists[name] = {"artifacts": [artifact]}
        return lists

    def driver_words(self, executor_input: Mapping[str, Any]) -> list[str]:
        """The command after the driver: input parameters filled, conditions decided."""
        values = executor_input["inputs"]["parameterValues"]
        words: list[str] = []
        for word in (*self.task.container.get("command", []), *self.task.container.get("args", [])):
            content = struct_word(word)
            if "$.outputs" in word:
                words.append(word)
            elif content is not None and "IfPresent" in content:
                condition = content["IfPresent"]
                chosen = condition.get("Then" if condition["InputName"] in values else "Else") or []
                words += [_filled(part, values) for part in ([chosen] if isinstance(chosen, str) else chosen)]
            else:
                words.append(_filled(word, values))
        return words

    def with_defaults(self, executor_input: dict[str, Any]) -> dict[str, Any]:
        """The launcher adds the component's own defaults."""
        declared = self.task.declared("input", "parameters")
        defaults = {name: _number(one["defaultValue"]) for name, one in declared.items() if "defaultValue" in one}
        inputs = executor_input["inputs"]
        return {
            **executor_input,
            "inputs": {**inputs, "parameterValues": {**defaults, **inputs["parameterValues"]}},
        }

    def download(self, executor_input: Mapping[str, Any]) -> None:
        """Every input artifact whole, whether the command reads it or not; one without bytes is no error."""
        for listed in executor_input["inputs"]["artifacts"].values():
            for artifact in listed["artifacts"]:
                source, target = self.launcher.object_path(artifact["uri"]), self.mounted(artifact)
                target.parent.mkdir(parents=True, exist_ok=True)
                if source.is_dir():
                    shutil.copytree(source, target)
                elif source.exists():
                    shutil.copyfile(source, target)

    def make_folders(self, executor_input: Mapping[str, Any]) -> None:
        """The folders that outputs go into; not the artifacts themselves, and not the output file's."""
        outputs = executor_input["outputs"]
        for parameter in outputs["parameters"].values():
            Path(parameter["outputFile"]).parent.mkdir(parents=True, exist_ok=True)
        for listed in outputs["artifacts"].values():
            for artifact in listed["artifacts"]:
                self.mounted(artifact).parent.mkdir(parents=True, exist_ok=True)

    def launcher_words(self, words: Sequence[str], executor_input: Mapping[str, Any]) -> list[str]:
        """The command after the launcher: the executor input first, then every other placeholder it knows."""
        known = {}
        for side in ("inputs", "outputs"):
            for name, listed in executor_input[side]["artifacts"].items():
                artifact = listed["artifacts"][0]
                known[f"{{{{$.{side}.artifacts['{name}'].uri}}}}"] = artifact["uri"]
                known[f"{{{{$.{side}.artifacts['{name}'].path}}}}"] = str(self.mounted(artifact))
        for name, value in executor_input["inputs"]["parameterValues"].items():
            known[f"{{{{$.inputs.parameters['{name}']}}}}"] = _text(value)
        for name, parameter in executor_input["outputs"]["parameters"].items():
            known[f"{{{{$.outputs.parameters['{name}'].output_file}}}}"] = parameter["outputFile"]
        # The backend's serialiser writes blanks where it likes: a program must read JSON, not compare text.
        everything = json.dumps(executor_input, separators=(", ", ":"))
        filled = [words[0].replace("{{$}}", everything)]
        for word in words[1:]:
            for placeholder, value in {"{{$}}": everything, **known}.items():
                word = word.replace(placeholder, value)
            filled.append(word)
        return filled

    def start(self, words: Sequence[str], timeout: float) -> subprocess.CompletedProcess[str]:
        """The command, to its end."""
        program = sys.executable if re.fullmatch(r"python3?", words[0]) else words[0]
        own = {variable["name"]: variable["value"] for variable in self.task.container.get("env", [])}
        told = {"KFP_POD_NAME": f"pod-{self.folder.name}", "KFP_POD_UID": str(uuid.uuid4())}
        if self.launcher.mount_variable is not None:
            told[self.launcher.mount_variable] = str(self.folder / "gcs")
        return subprocess.run(
            [program, *words[1:]],
            env={**os.environ, **self.launcher.environment, **told, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )

    def executor_output(self, executor_input: Mapping[str, Any]) -> dict[str, Any]:
        """What the command says about its outputs; nothing where it wrote no file."""
        path = Path(executor_input["outputs"]["outputFile"])
        if not path.exists():
            return {}
        try:
            message = json_format.Parse(path.read_text(encoding="utf-8"), pipeline_spec_pb2.ExecutorOutput())
        except json_format.ParseError as error:
            raise BackendError(f"the output file is no ExecutorOutput: {error}") from error
        return json_format.MessageToDict(message)

    def collect_parameters(self, executor_input: Mapping[str, Any], output: Mapping[str, Any]) -> dict[str, Any]:
        """Output parameters: from the output file, else each from its own file."""
        collected = dict(output.get("parameterValues", {}))
        declared = self.task.declared("output", "parameters")
        for name, parameter in executor_input["outputs"]["parameters"].items():
            if name in collected:
                continue
            try:
                text = Path(parameter["outputFile"]).read_text(encoding="utf-8")
            except FileNotFoundError as error:
                raise BackendError(f"the output parameter {name!r} was not written") from error
            collected[name] = _parsed(name, text, declared[name]["parameterType"])
        return {name: _number(value) for name, value in collected.items()}

    def upload(self, executor_input: Mapping[str, Any], output: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        """Upload and record the output artifacts.

        The backend records an artifact that was not written as well, a link to nothing; here that fails, since none
        of these components leaves an output out.
        """
        published = {}
        for name in self.task.declared("output", "artifacts"):
            artifact = dict(executor_input["outputs"]["artifacts"][name]["artifacts"][0])
            for said in output.get("artifacts", {}).get(name, {}).get("artifacts", [])[:1]:
                metadata = {**artifact.get("metadata", {}), **said.get("metadata", {})}
                artifact |= {key: said[key] for key in ("uri", "customPath") if said.get(key)}
                artifact["metadata"] = metadata
            if not artifact["uri"].startswith(self.launcher.pipeline_root):
                raise BackendError(f"the URI {artifact['uri']!r} of {name!r} is not below the pipeline root")
            source, target = self.mounted(artifact), self.launcher.object_path(artifact["uri"])
            if not source.exists():
                raise BackendError(f"the output artifact {name!r} was not written: {source}")
            links = [path for path in source.rglob("*") if path.is_symlink() and path.is_dir()]
            if links:
                raise BackendError(f"the output artifact {name!r} holds a link to a folder: {links[0]}")
            _upload(source, target)
            published[name] = self.launcher.recorded(name, artifact["uri"], artifact.get("metadata", {}))
        return published


def _upload(source: Path, target: Path) -> None:
    """Every file to its object; a bucket has no folders, so empty ones are gone."""
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    for path in files:
        place = target / path.relative_to(source) if path != source else target
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def _filled(word: str, values: Mapping[str, Any]) -> str:
    def value_of(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise BackendError(f"the parameter {match[1]!r} is used in the command and was not passed")
        return _text(values[match[1]])

    return PARAMETER_PLACEHOLDER.sub(value_of, word)


def _text(value: Any) -> str:
    """A value as a word of a command."""
    if isinstance(value, str):
        return value
    if isinstance(value, (dict, list)):
        plain = json.dumps(_number(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return plain.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return json.dumps(_number(value))


def _number(value: Any) -> Any:
    """Whole numbers as integers: the protocol buffer knows floating point numbers only."""
    if isinstance(value, dict):
        return {key: _number(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_number(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _typed(name: str, value: Any, kind: str) -> Any:
    """A parameter as the driver passes it: anything becomes text where text is declared, nothing else is converted."""
    if kind == "STRING":
        return _text(value)
    expected = _JSON_TYPES.get(kind)
    if expected is not None and (not isinstance(value, expected) or (isinstance(value, bool) and kind != "BOOLEAN")):
        raise BackendError(f"the parameter {name!r} is a {type(value).__name__} and is declared {kind}")
    return _number(value)


def _parsed(name: str, text: str, kind: str) -> Any:
    """An output parameter's file as its declared type."""
    if kind == "STRING":
        return text
    try:
        value = json.loads(text.strip().lower() if kind == "BOOLEAN" else text)
    except json.JSONDecodeError as error:
        raise BackendError(f"the output parameter {name!r} is no {kind}: {text!r}") from error
    return _typed(name, value, kind)


def _stored(key: str, value: Any) -> Any:
    """A metadata value as it comes out of the metadata store."""
    if value is None:
        raise BackendError(f"the metadata value {key!r} is null")
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, list):
        return {"list": value}
    if isinstance(value, dict):
        return {"struct": value}
    return _number(value)
