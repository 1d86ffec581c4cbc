"""Rules W1 to W10: what runs on the backend and costs something: a surprise, a summary, a second computation.

Example:
    >>> [finding.rule for rule in WARNING_RULES for finding in rule.findings(package)]
    ['W1']
"""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.lint_rule import Place, rule
from pipelines.package import PARAMETER_PLACEHOLDER, Dag, Package, Task

_MADE_BY_DRIVER = "argostub/"


@rule(
    "W1",
    why="the tag can be moved: two runs of one pipeline, and two jobs of one run, can run different programs",
    remedy="pin the image by its digest (name:tag@sha256:...)",
)
def image_without_digest(package: Package) -> Iterator[Place]:
    """An image is named by its tag only."""
    for task in package.tasks():
        image = task.container.get("image", "")
        parameter = PARAMETER_PLACEHOLDER.fullmatch(image)
        if parameter and parameter[1] in task.parameters:
            image = task.dag.origin_of(task.parameters[parameter[1]]).value or ""
        if isinstance(image, str) and image and "@sha256:" not in image and not image.startswith(_MADE_BY_DRIVER):
            yield task.path, f"the image {image} has no digest"


@rule(
    "W2",
    why="kfp.local names the folder of outputs by the component: the second task overwrites the first one's",
    remedy="run the component at most once in a graph; put each use into a sub-pipeline",
)
def component_twice(package: Package) -> Iterator[Place]:
    """Two tasks of one graph run the same command."""
    for dag in package.dags():
        seen: dict[tuple[str, ...], str] = {}
        for task in dag.tasks().values():
            words = tuple(task.words)
            if words and words in seen:
                yield task.path, f"runs the same command as {seen[words]!r}"
            seen.setdefault(words, task.name)


@rule(
    "W3",
    why="kfp.local gives the inner item for the outer one without a word, and collects another shape than the backend",
    remedy="make one list of all combinations and loop over that",
)
def nested_loop(package: Package) -> Iterator[Place]:
    """A ParallelFor inside another."""
    for task in package.tasks():
        if task.is_loop and any(caller.is_loop for caller in _callers(task.dag)):
            yield task.path, "is a loop inside a loop"


@rule(
    "W4",
    why="kfp.local fails at it for artifacts, and so do backends before 2.17",
    remedy="build one pipeline for each case",
)
def one_of(package: Package) -> Iterator[Place]:
    """A graph's output is dsl.OneOf several tasks."""
    for dag in package.dags():
        for name, output in dag.outputs.get("parameters", {}).items():
            if "valueFromOneof" in output:
                yield dag.path or "root", f"the output {name!r} is one of several"
        for name, output in dag.outputs.get("artifacts", {}).items():
            if len(output.get("artifactSelectors", [])) > 1:
                yield dag.path or "root", f"the output {name!r} is one of several"


@rule(
    "W5",
    why="it never runs when one iteration has failed, and all results travel in one argument",
    remedy="let each iteration write to the bucket, and read that in the exit task",
)
def collected(package: Package) -> Iterator[Place]:
    """A task reads what all iterations of a loop made."""
    for task in package.tasks():
        siblings = task.dag.tasks()
        for name, given in {**task.parameters, **task.artifacts}.items():
            output = given.get("taskOutputParameter") or given.get("taskOutputArtifact") or {}
            producer = siblings.get(output.get("producerTask", ""))
            if producer is not None and producer.is_loop:
                yield task.path, f"{name!r} collects the iterations of {producer.name!r}"


@rule(
    "W6",
    why="the key knows neither the image's content nor what lies in the bucket, and a reused task writes no record",
    remedy="call set_caching_options(False) on the task",
)
def caching_on(package: Package) -> Iterator[Place]:
    """A container or an importer may be answered from the cache."""
    for task in package.tasks():
        if task.executor_label and task.specification.get("cachingOptions", {}).get("enableCache"):
            yield task.path, "is cached"


@rule(
    "W7",
    why="nothing runs after a failure: there is no summary of what succeeded",
    remedy="put all tasks of the outermost pipeline into one dsl.ExitHandler",
)
def without_exit_handler(package: Package) -> Iterator[Place]:
    """Work in the outermost graph that no exit task follows."""
    tasks = package.root.tasks().values()
    covered = {name for task in tasks if task.is_exit_task for name in task.upstream}
    for task in tasks:
        if not task.is_exit_task and task.name not in covered:
            yield task.path, "no exit task follows it"


@rule(
    "W8",
    why="it arrives as the text of a placeholder that the launcher fills only where it happens to stand in the command",
    remedy="pass the parts as parameters of their own and join them in the container",
)
def text_put_together(package: Package) -> Iterator[Place]:
    """A text handed to a container is put together of parameters."""
    for task in package.tasks():
        for name, given in task.parameters.items():
            constant = given.get("runtimeValue", {}).get("constant")
            text = constant if isinstance(constant, str) and task.container else ""
            if PARAMETER_PLACEHOLDER.search(text) and not PARAMETER_PLACEHOLDER.fullmatch(text):
                yield task.path, f"{name!r} is the text {text!r}"


@rule(
    "W9",
    why="the form that starts a run shows a name and nothing else",
    remedy="describe it under Args: in the pipeline's docstring",
)
def parameter_without_description(package: Package) -> Iterator[Place]:
    """A run parameter is not described."""
    for name, declared in package.root.parameters.items():
        if not declared.get("description"):
            yield "root", f"the run parameter {name!r} has no description"


@rule(
    "W10",
    why="all iterations start at once, as many as there are",
    remedy="pass parallelism to dsl.ParallelFor",
)
def unlimited_loop(package: Package) -> Iterator[Place]:
    """A ParallelFor without a limit."""
    for task in package.tasks():
        if task.is_loop and not task.specification.get("iteratorPolicy", {}).get("parallelismLimit"):
            yield task.path, "is a loop without a limit"


WARNING_RULES = (
    image_without_digest,
    component_twice,
    nested_loop,
    one_of,
    collected,
    caching_on,
    without_exit_handler,
    text_put_together,
    parameter_without_description,
    unlimited_loop,
)
"""The rules in order."""


def _callers(dag: Dag) -> Iterator[Task]:
    """The tasks that a graph lies in, from the inside outwards."""
    while dag.caller is not None:
        yield dag.caller
        dag = dag.caller.dag
