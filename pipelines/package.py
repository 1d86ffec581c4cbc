"""A compiled pipeline as a tree that can be walked: the graphs, the tasks in them, and where a value comes from.

The compiler writes components into one flat table. A run unfolds them: a sub-pipeline, a loop and an exit handler are
graphs inside graphs, and the same component can be reached by several ways. :class:`Package` unfolds them likewise,
from the YAML as it is, so that a package that the protocol buffers refuse can be looked at as well.

Example:
    >>> package = read_package(Path("pipelines/compiled/worldexplorer_123.yaml"))
    >>> [task.path for task in package.tasks() if task.is_loop]
    ['exit-handler-1/run-jobs/for-loop-1']
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from worldexplorer.errors import UsageError

PARAMETER_PLACEHOLDER = re.compile(r"\{\{\$\.inputs\.parameters\['(.+?)'\]\}\}")
"""The placeholder of a parameter in a command, an image name or a resource; the group is the parameter's name."""
SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Reads data only; the one in C, where it is built in, is ten times as fast."""
EXIT_STRATEGY = "ALL_UPSTREAM_TASKS_COMPLETED"

JsonObject = Mapping[str, Any]


class Source(StrEnum):
    """How a parameter of a graph gets its value."""

    CONSTANT = "constant"
    """Written in the pipeline."""
    DEFAULT = "default"
    """The default of a run parameter."""
    RUN = "run"
    """Named by whoever starts the run."""
    RUNTIME = "runtime"
    """An item of a loop, a field of one, or a task's output."""
    NULL = "null"
    """An optional parameter with neither value nor default, in the graph that declares it."""
    REFUSED_NULL = "refused null"
    """A null handed to a graph that does not declare it optional: the graph's driver refuses it."""
    DROPPED_NULL = "dropped null"
    """A null handed to a graph that declares it optional: it is not there inside."""
    UNDECLARED = "undeclared"


@dataclass(frozen=True)
class Origin:
    """Where a value comes from, and the value where it can be known before a run."""

    source: Source
    value: Any = None


@dataclass(frozen=True)
class Dag:
    """One graph: the root, a sub-pipeline, a loop's body, a condition's or an exit handler's.

    Attributes:
        package: the package it is in.
        component: its component specification.
        caller: the task that runs it; None for the root.
    """

    package: Package
    component: JsonObject
    caller: Task | None = None

    @property
    def path(self) -> str:
        """The names of the tasks that lead here, joined by slashes; "" for the root."""
        return self.caller.path if self.caller else ""

    @property
    def parameters(self) -> JsonObject:
        """The parameters that it declares."""
        return _mapping(self.component, "inputDefinitions", "parameters")

    @property
    def artifacts(self) -> JsonObject:
        """The input artifacts that it declares."""
        return _mapping(self.component, "inputDefinitions", "artifacts")

    @property
    def outputs(self) -> JsonObject:
        """Its outputs: "parameters" and "artifacts"."""
        return _mapping(self.component, "dag", "outputs")

    def tasks(self) -> dict[str, Task]:
        """The tasks directly in it, by name."""
        specifications = _mapping(self.component, "dag", "tasks")
        return {name: Task(self, name, specification) for name, specification in specifications.items()}

    def origin(self, parameter: str) -> Origin:
        """Where the value of one of its parameters comes from."""
        declared = self.parameters.get(parameter)
        if self.caller is None:
            return _unset(declared, run_names_it=True)
        given = self.caller.parameters.get(parameter)
        if given is None:
            if parameter == self.caller.loop_item:
                return Origin(Source.RUNTIME)
            return _unset(declared, run_names_it=False)
        origin = self.caller.dag.origin_of(given)
        if origin.source is Source.NULL:
            optional = declared is not None and declared.get("isOptional")
            return Origin(Source.DROPPED_NULL if optional else Source.REFUSED_NULL)
        return origin

    def origin_of(self, given: JsonObject) -> Origin:
        """Where the value that a task in this graph is given comes from."""
        if "runtimeValue" in given:
            return Origin(Source.CONSTANT, given["runtimeValue"].get("constant"))
        if "componentInputParameter" in given and "parameterExpressionSelector" not in given:
            return self.origin(given["componentInputParameter"])
        return Origin(Source.RUNTIME)

    def type_of(self, given: JsonObject) -> str | None:
        """The declared type of the value that a task in this graph is given; None where none is declared.

        A field of a structure has no declared type, and neither has a constant.
        """
        if "parameterExpressionSelector" in given:
            return None
        if "componentInputParameter" in given:
            return _parameter_type(self.parameters, given["componentInputParameter"])
        if "taskOutputParameter" in given:
            output = given["taskOutputParameter"]
            producer = self.tasks().get(output["producerTask"])
            outputs = _mapping(producer.component, "outputDefinitions", "parameters") if producer else {}
            return _parameter_type(outputs, output["outputParameterKey"])
        return None


@dataclass(frozen=True)
class Task:
    """One task of a graph.

    Attributes:
        dag: the graph it is in.
        name: its name there.
        specification: its PipelineTaskSpec.
    """

    dag: Dag
    name: str
    specification: JsonObject

    @property
    def path(self) -> str:
        """The names of the tasks from the root to this one, joined by slashes."""
        return f"{self.dag.path}/{self.name}" if self.dag.path else self.name

    @property
    def component_name(self) -> str:
        """The name of its component in the package's table."""
        return str(_mapping(self.specification, "componentRef").get("name", ""))

    @property
    def component(self) -> JsonObject:
        """Its component specification."""
        return self.dag.package.component(self.component_name, self.path)

    @property
    def parameters(self) -> JsonObject:
        """What it is given for each parameter: the InputParameterSpec by name."""
        return _mapping(self.specification, "inputs", "parameters")

    @property
    def artifacts(self) -> JsonObject:
        """What it is given for each artifact: the InputArtifactSpec by name."""
        return _mapping(self.specification, "inputs", "artifacts")

    @property
    def upstream(self) -> list[str]:
        """The tasks that it waits for."""
        return list(self.specification.get("dependentTasks", []))

    @property
    def is_loop(self) -> bool:
        """Whether it is a ParallelFor."""
        return "parameterIterator" in self.specification or "artifactIterator" in self.specification

    @property
    def loop_item(self) -> str | None:
        """The parameter that holds the item, in the body of a ParallelFor over parameters."""
        return _mapping(self.specification, "parameterIterator").get("itemInput")

    @property
    def is_exit_task(self) -> bool:
        """Whether it runs when what it waits for has ended, however that ended."""
        return bool(_mapping(self.specification, "triggerPolicy").get("strategy") == EXIT_STRATEGY)

    @property
    def body(self) -> Dag | None:
        """The graph that it runs; None for a container or an importer."""
        return Dag(self.dag.package, self.component, self) if "dag" in self.component else None

    @property
    def executor_label(self) -> str:
        """The name of its executor; "" for a task that runs a graph."""
        return str(self.component.get("executorLabel", ""))

    @property
    def container(self) -> JsonObject:
        """Its container specification; empty for an importer and a graph."""
        return _mapping(self.dag.package.executors, self.executor_label, "container")

    @property
    def importer(self) -> JsonObject:
        """Its importer specification; empty for a container and a graph."""
        return _mapping(self.dag.package.executors, self.executor_label, "importer")

    @property
    def words(self) -> list[str]:
        """Its container's command and arguments, with their placeholders."""
        return [*self.container.get("command", []), *self.container.get("args", [])]

    @property
    def kubernetes(self) -> JsonObject:
        """What the second document says about its pod; empty for none."""
        return _mapping(self.dag.package.pods, self.executor_label)


@dataclass(frozen=True)
class Package:
    """A compiled pipeline.

    Attributes:
        specification: the first document, a PipelineSpec as JSON.
        platform: the second document, a PlatformSpec as JSON; empty where there is none.
        where: the file it was read from, for messages.
    """

    specification: JsonObject
    platform: JsonObject
    where: str = "the pipeline"

    @property
    def executors(self) -> JsonObject:
        """The executors by label."""
        return _mapping(self.specification, "deploymentSpec", "executors")

    @property
    def pods(self) -> JsonObject:
        """The Kubernetes settings by executor label."""
        return _mapping(self.platform, "platforms", "kubernetes", "deploymentSpec", "executors")

    @property
    def root(self) -> Dag:
        """The outermost graph."""
        return Dag(self, _mapping(self.specification, "root"))

    def component(self, name: str, path: str) -> JsonObject:
        """A component of the table.

        Raises:
            UsageError: the table has none of that name.
        """
        components = _mapping(self.specification, "components")
        if name not in components:
            raise UsageError(
                f"the task runs the component {name!r}, which the package does not have",
                where=f"{self.where}: {path}",
                remedy="compile the pipeline again",
            )
        component: JsonObject = components[name]
        return component

    def dags(self) -> Iterator[Dag]:
        """Every graph, from the root inwards.

        Raises:
            UsageError: a component runs itself.
        """
        yield from self._unfold(self.root, ())

    def tasks(self) -> Iterator[Task]:
        """Every task of every graph, from the root inwards."""
        for dag in self.dags():
            yield from dag.tasks().values()

    def _unfold(self, dag: Dag, above: tuple[str, ...]) -> Iterator[Dag]:
        yield dag
        for task in dag.tasks().values():
            if task.body is None:
                continue
            if task.component_name in above:
                raise UsageError(
                    f"the component {task.component_name!r} runs itself",
                    where=f"{self.where}: {task.path}",
                    remedy="compile the pipeline again",
                )
            yield from self._unfold(task.body, (*above, task.component_name))


def read_package(path: Path) -> Package:
    """Read a compiled pipeline: one YAML document, or two when it has Kubernetes settings.

    Raises:
        UsageError: the file cannot be read or holds no compiled pipeline.
    """
    remedy = "name a file that `python -m pipelines compile` or the SDK's compiler wrote"
    try:
        documents = list(yaml.load_all(path.read_text(encoding="utf-8"), Loader=SAFE_LOADER))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the package cannot be read: {error}", where=str(path), remedy=remedy) from error
    except yaml.YAMLError as error:
        raise UsageError(f"the package is not YAML: {error}", where=str(path), remedy=remedy) from error
    shaped = bool(documents) and all(isinstance(document, dict) for document in documents)
    if not shaped or len(documents) > 2 or not {"root", "deploymentSpec"} <= documents[0].keys():
        raise UsageError("the file holds no compiled pipeline", where=str(path), remedy=remedy)
    return Package(documents[0], documents[1] if len(documents) == 2 else {}, str(path))


def struct_word(word: str) -> JsonObject | None:
    """The content of a word of a command that is a Concat or IfPresent structure; None for any other word."""
    if not word.lstrip().startswith("{"):
        return None
    try:
        content = json.loads(word)
    except json.JSONDecodeError:
        return None
    return content if isinstance(content, dict) and content.keys() & {"Concat", "IfPresent"} else None


def _mapping(content: JsonObject, *keys: str) -> JsonObject:
    """What lies at a path of keys; an empty mapping where the path ends before."""
    for key in keys:
        content = content.get(key) or {}
    return content


def _parameter_type(declared: JsonObject, name: str) -> str | None:
    return _mapping(declared, name).get("parameterType")


def _unset(declared: JsonObject | None, *, run_names_it: bool) -> Origin:
    """Where a parameter that nothing is passed for gets its value."""
    if declared is None:
        return Origin(Source.UNDECLARED)
    if "defaultValue" in declared:
        return Origin(Source.DEFAULT, declared["defaultValue"])
    if declared.get("isOptional"):
        return Origin(Source.NULL)
    return Origin(Source.RUN if run_names_it else Source.UNDECLARED)
