"""Rules E1 to E16: what the SDK compiles and the Kubeflow backend (2.17) does not run as it reads.

Each was found by reading how the backend's driver resolves inputs, how its compiler hangs exit tasks into the
workflow, and how its launcher fills placeholders.

Example:
    >>> [str(finding) for rule in ERROR_RULES for finding in rule.findings(package)]
    []
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from pipelines.lint_rule import Place, rule
from pipelines.package import PARAMETER_PLACEHOLDER, JsonObject, Package, Source, Task, struct_word

_ANY_PLACEHOLDER = re.compile(r"\{\{\$.*?\}\}")
_FILLED_PLACEHOLDER = re.compile(
    r"\{\{\$(\.inputs\.parameters\['.+?'\]|\.(inputs|outputs)\.artifacts\['.+?'\]\.(uri|path)"
    r"|\.outputs\.parameters\['.+?'\]\.output_file)?\}\}"
)
_KUBERNETES_TYPES = {
    "nodeSelectorJson": {"STRUCT"},
    "nodeAffinityJson": {"STRUCT"},
    "tolerationJson": {"STRUCT", "LIST"},
    "secretNameParameter": {"STRING"},
    "configMapNameParameter": {"STRING"},
    "pvcNameParameter": {"STRING"},
}
_NAMES = tuple(key for key, types in _KUBERNETES_TYPES.items() if types == {"STRING"})


@rule(
    "E1",
    why="the driver answers that the parent has no such input, and the task does not start; the SDK leaves it out of a "
    "loop's declarations when it serves a resource setting only",
    remedy="put what is inside the loop into a sub-pipeline and pass the value to it as a parameter",
)
def undeclared_input(package: Package) -> Iterator[Place]:
    """A task takes a value from its graph's inputs that the graph does not declare."""
    for task in package.tasks():
        for name, given in task.parameters.items():
            source = given.get("componentInputParameter")
            if source is not None and source not in task.dag.parameters:
                yield task.path, f"{name!r} is taken from the input {source!r}, which its graph does not declare"
        for name, given in task.artifacts.items():
            source = given.get("componentInputArtifact")
            if source is not None and source not in task.dag.artifacts:
                yield task.path, f"{name!r} is taken from the input {source!r}, which its graph does not declare"


@rule(
    "E2",
    why="the importer reads a constant or an input of its graph and nothing else: the URI comes out empty",
    remedy="put the importer into a sub-pipeline and pass the URI to it as a parameter",
)
def importer_uri(package: Package) -> Iterator[Place]:
    """An importer's URI is a field of a loop's item, a task's output or a text put together."""
    for task in package.tasks():
        name = task.importer.get("artifactUri", {}).get("runtimeParameter")
        if name is None:
            continue
        given = task.parameters.get(name, {})
        if "parameterExpressionSelector" in given:
            yield task.path, "the URI is a field of another value"
        elif "componentInputParameter" not in given:
            yield task.path, "the URI is no input of its graph"


@rule(
    "E3",
    why="the backend has no loops over artifacts",
    remedy="loop over parameters and let each iteration read its artifact by URI",
)
def loop_over_artifacts(package: Package) -> Iterator[Place]:
    """A ParallelFor over artifacts."""
    for task in package.tasks():
        if "artifactIterator" in task.specification:
            yield task.path, "loops over artifacts"


@rule(
    "E4",
    why="the backend drops what hangs on a loop to run after failures: it never runs",
    remedy="use dsl.ExitHandler around the loop",
)
def exit_task_on_loop(package: Package) -> Iterator[Place]:
    """A task that is to run in any case waits for a ParallelFor."""
    for task in package.tasks():
        siblings = task.dag.tasks()
        for name in task.upstream if task.is_exit_task else ():
            if name in siblings and siblings[name].is_loop:
                yield task.path, f"runs in any case and hangs on the loop {name!r}"


@rule(
    "E5",
    why="such a task is attached to each thing it waits for by itself: it runs once for each, and of two on one "
    "upstream only one stays",
    remedy="use one dsl.ExitHandler with one exit task",
)
def exit_task_fan(package: Package) -> Iterator[Place]:
    """A task that is to run in any case waits for several, or shares what it waits for with another such task."""
    for dag in package.dags():
        exit_tasks = [task for task in dag.tasks().values() if task.is_exit_task]
        claims = Counter(name for task in exit_tasks for name in set(task.upstream))
        for task in exit_tasks:
            if len(set(task.upstream)) > 1:
                yield task.path, f"runs in any case and waits for {', '.join(task.upstream)}"
            for name in set(task.upstream):
                if claims[name] > 1:
                    yield task.path, f"is one of {claims[name]} tasks that run in any case after {name!r}"


@rule(
    "E6",
    why="the driver cannot resolve the setting, and the task does not start",
    remedy="pass the value to the task's graph as a parameter",
)
def unresolved_kubernetes_setting(package: Package) -> Iterator[Place]:
    """A Kubernetes setting takes a value that the task's graph does not have."""
    for task in package.tasks():
        for key, given in _inputs_within(task.kubernetes):
            source = given.get("componentInputParameter")
            producer = given.get("taskOutputParameter", {}).get("producerTask")
            if source is not None and source not in task.dag.parameters:
                yield task.path, f"{key} is taken from the input {source!r}, which its graph does not declare"
            elif producer is not None and producer not in task.dag.tasks():
                yield task.path, f"{key} is taken from the task {producer!r}, which is not in its graph"


@rule(
    "E7",
    why='the driver reads a value that is not text as "": a GPU limit is silently left out, a quantity or image is '
    "refused",
    remedy="declare the parameter as str",
)
def resource_that_is_no_text(package: Package) -> Iterator[Place]:
    """A resource or the image is taken from a parameter that is not a string."""
    for task, key, name in _resource_parameters(package):
        given = task.parameters.get(name, {})
        kind = task.dag.type_of(given)
        if kind not in (None, "STRING"):
            yield task.path, f"{key} is taken from a parameter of the type {kind}"


@rule(
    "E8",
    why="the driver fills the command before defaults are known: it finds no such parameter, and the task does not "
    "start (backend 2.17.0)",
    remedy="pass every parameter of the component, those with defaults too",
)
def argument_that_is_not_passed(package: Package) -> Iterator[Place]:
    """A command, a resource or the image uses a parameter that the task is not given."""
    for task in package.tasks():
        used = [name for word in task.words if struct_word(word) is None for name in _parameters_in(word)]
        for name in dict.fromkeys(used):
            if name not in task.parameters:
                yield task.path, f"the command uses the parameter {name!r}, which the task does not pass"
    for task, key, name in _resource_parameters(package):
        if name not in task.parameters:
            yield task.path, f"{key} uses the parameter {name!r}, which the task does not pass"


@rule(
    "E9",
    why="the backend does not know Concat: the container gets the JSON text itself",
    remedy="pass the parts as words of their own and join them in the container",
)
def concatenated_argument(package: Package) -> Iterator[Place]:
    """A command holds a ConcatPlaceholder."""
    for task in package.tasks():
        for word in task.words:
            if '"Concat"' in word and struct_word(word) is not None:
                yield task.path, "the command holds a ConcatPlaceholder"


@rule(
    "E10",
    why="the driver looks for parameters only: the artifact always counts as absent (backend 2.17.0)",
    remedy="read the artifact from the executor input, or build a pipeline without that input",
)
def condition_on_artifact(package: Package) -> Iterator[Place]:
    """A command holds an IfPresentPlaceholder that asks for an artifact."""
    for task in package.tasks():
        artifacts = task.component.get("inputDefinitions", {}).get("artifacts", {})
        for name in (name for word in task.words for name in _conditions_in(struct_word(word))):
            if name in artifacts:
                yield task.path, f"an IfPresentPlaceholder asks for the artifact {name!r}"


@rule(
    "E11",
    why="the backend fills the run's placeholders only where they are the whole text, and hands other placeholders to "
    "a graph or an importer unfilled",
    remedy="pass the parts as parameters of their own and join them in the container",
)
def placeholder_within_text(package: Package) -> Iterator[Place]:
    """A text handed to a task has a placeholder in it that stays as it is."""
    for task in package.tasks():
        for name, given in task.parameters.items():
            constant = given.get("runtimeValue", {}).get("constant")
            if not isinstance(constant, str):
                continue
            parameters = PARAMETER_PLACEHOLDER.search(constant)
            others = [found for found in _ANY_PLACEHOLDER.findall(constant) if not PARAMETER_PLACEHOLDER.match(found)]
            if (parameters and not task.container) or any(found != constant for found in others):
                yield task.path, f"{name!r} is the text {constant!r}"


@rule(
    "E12",
    why="the backend fills parameters, URIs and paths of artifacts, output files and {{$}} in a command, nothing else "
    "and nowhere else: the container gets the text of the placeholder",
    remedy="pass the value as a parameter, or read it from the executor input",
)
def placeholder_left_literal(package: Package) -> Iterator[Place]:
    """A command or an environment variable holds a placeholder that stays as it is."""
    for task in package.tasks():
        for found in dict.fromkeys(found for word in task.words for found in _ANY_PLACEHOLDER.findall(word)):
            if not _FILLED_PLACEHOLDER.fullmatch(found):
                yield task.path, f"the command holds {found}"
        for variable in task.container.get("env", []):
            if _ANY_PLACEHOLDER.search(variable.get("value", "")):
                yield task.path, f"the environment variable {variable['name']} holds {variable['value']}"


@rule(
    "E13",
    why="the driver takes the JSON only as a structure: text for a node selector or an affinity is silently no setting "
    "at all, other wrong types are refused",
    remedy="declare the parameter as dict (tolerations: list; names: str)",
)
def kubernetes_setting_of_wrong_type(package: Package) -> Iterator[Place]:
    """A Kubernetes setting is taken from a parameter of a type that it cannot be read from."""
    for task in package.tasks():
        for key, given in _inputs_within(task.kubernetes):
            kind = task.dag.type_of(given)
            if key in _KUBERNETES_TYPES and kind is not None and kind not in _KUBERNETES_TYPES[key]:
                yield task.path, f"{key} is taken from a parameter of the type {kind}"


@rule(
    "E14",
    why="the driver refuses an empty name, quantity or image, also for a Secret that is optional, and the task does "
    "not start",
    remedy="give the parameter a default that is not empty",
)
def empty_setting(package: Package) -> Iterator[Place]:
    """The name of a Secret, a quantity or the image is empty unless the run names one."""
    for task in package.tasks():
        for key, source in _inputs_within(task.kubernetes):
            if key in _NAMES and task.dag.origin_of(source).value == "":
                yield task.path, f"{key} is empty"
    for task, key, name in _resource_parameters(package):
        given = task.parameters.get(name)
        accelerator = key in ("resourceCount", "resourceType")  # an empty one means: no accelerator
        if given is not None and not accelerator and task.dag.origin_of(given).value == "":
            yield task.path, f"{key} is empty"


@rule(
    "E15",
    why="without a value it is null: a graph that does not declare it optional (a loop, a condition, an exit handler) "
    "refuses it, and one that does drops it, so that tasks inside do not find it",
    remedy="give the run parameter a default that is not None",
)
def null_into_graph(package: Package) -> Iterator[Place]:
    """An optional parameter without default is used where a null does not arrive."""
    for task in package.tasks():
        declared: JsonObject = task.component.get("inputDefinitions", {}).get("parameters", {})
        for name, given in task.parameters.items():
            source = task.dag.origin_of(given).source
            refused = source is Source.NULL and not declared.get(name, {}).get("isOptional")
            if refused or source is Source.DROPPED_NULL:
                yield task.path, f"{name!r} is optional and has no default"
        for key, given in _inputs_within(task.kubernetes):
            if task.dag.origin_of(given).source is Source.DROPPED_NULL:
                yield task.path, f"{key} is optional and has no default"


@rule(
    "E16",
    why="the driver finds neither a value nor a default, and the task does not start",
    remedy="pass the parameter",
)
def required_input_missing(package: Package) -> Iterator[Place]:
    """A task lacks a parameter that its component requires."""
    for task in package.tasks():
        for name, declared in task.component.get("inputDefinitions", {}).get("parameters", {}).items():
            optional = declared.get("isOptional") or "defaultValue" in declared
            if not optional and name not in task.parameters and name != task.loop_item:
                yield task.path, f"the parameter {name!r} is not passed"


ERROR_RULES = (
    undeclared_input,
    importer_uri,
    loop_over_artifacts,
    exit_task_on_loop,
    exit_task_fan,
    unresolved_kubernetes_setting,
    resource_that_is_no_text,
    argument_that_is_not_passed,
    concatenated_argument,
    condition_on_artifact,
    placeholder_within_text,
    placeholder_left_literal,
    kubernetes_setting_of_wrong_type,
    empty_setting,
    null_into_graph,
    required_input_missing,
)
"""The rules in order."""


def _inputs_within(content: Any, key: str = "") -> Iterator[tuple[str, JsonObject]]:
    """Every InputParameterSpec inside Kubernetes settings, with the key that it is the value of."""
    if isinstance(content, dict):
        if content.keys() & {"componentInputParameter", "taskOutputParameter", "runtimeValue"}:
            yield key, content
            return
        for name, inner in content.items():
            yield from _inputs_within(inner, name)
    elif isinstance(content, list):
        for inner in content:
            yield from _inputs_within(inner, key)


def _parameters_in(word: str) -> list[str]:
    return PARAMETER_PLACEHOLDER.findall(word)


def _resource_parameters(package: Package) -> Iterator[tuple[Task, str, str]]:
    """Every parameter that a resource or an image is taken from: the task, the setting and the parameter."""
    for task in package.tasks():
        resources = dict(task.container.get("resources", {}))
        settings = {**resources.pop("accelerator", {}), **resources, "image": task.container.get("image", "")}
        for key, value in settings.items():
            for name in _parameters_in(value) if isinstance(value, str) else ():
                yield task, key, name


def _conditions_in(content: Any) -> Iterator[str]:
    """The inputs that IfPresent structures ask for, at any depth."""
    if isinstance(content, dict):
        if "InputName" in content:
            yield content["InputName"]
        content = list(content.values())
    for inner in content if isinstance(content, list) else ():
        yield from _conditions_in(inner)
