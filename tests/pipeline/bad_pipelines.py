"""For every rule of the lint a pipeline that breaks it, and its neighbour that does the same and does not.

They are made with the SDK. Where the SDK does not compile what the rule is about, the compiled package is edited.

Example:
    >>> [finding.rule for finding in lint(compiled(PAIRS["E7"].bad)) if finding.is_error]
    ['E7']
"""

# No `from __future__ import annotations`: kfp reads the annotations as objects.
import copy
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from kfp import compiler, dsl, kubernetes

from pipelines.package import Package, read_package

IMAGE = "registry/work:1@sha256:" + "0" * 64
Edit = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Pair:
    """A pipeline that breaks a rule, and one that does not.

    Attributes:
        bad: the pipeline that breaks it.
        good: its neighbour.
        where: the places that the rule names in the bad one.
        edit: what is changed in the bad one's compiled specification.
    """

    bad: Any
    good: Any
    where: tuple[str, ...]
    edit: Edit | None = None


def compiled(pipeline: Any, edit: Edit | None = None) -> Package:
    """The package of a pipeline, with an edit of its specification."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        package = read_package(path)
    if edit is None:
        return package
    specification = copy.deepcopy(dict(package.specification))
    edit(specification)
    return Package(specification, package.platform)


@dsl.container_component
def work(text: str):
    return dsl.ContainerSpec(image=IMAGE, command=["work"], args=["--text", text])


@dsl.container_component
def work_more(text: str, speed: str = "slow"):
    return dsl.ContainerSpec(image=IMAGE, command=["more"], args=["--text", text, "--speed", speed])


@dsl.container_component
def find(text: str, uri: dsl.OutputPath(str), count: dsl.OutputPath(int), items: dsl.OutputPath(list)):
    return dsl.ContainerSpec(image=IMAGE, command=["find"], args=[text, uri, count, items])


@dsl.container_component
def make(text: str, thing: dsl.Output[dsl.Artifact]):
    return dsl.ContainerSpec(image=IMAGE, command=["make"], args=[text, thing.path])


@dsl.container_component
def take(thing: dsl.Input[dsl.Artifact]):
    return dsl.ContainerSpec(image=IMAGE, command=["take"], args=[thing.path])


@dsl.container_component
def take_many(things: dsl.Input[list[dsl.Artifact]]):
    return dsl.ContainerSpec(image=IMAGE, command=["take-many"], args=["--executor_input", "{{$}}"])


@dsl.container_component
def finish(text: str):
    return dsl.ContainerSpec(image=IMAGE, command=["finish"], args=[text])


@dsl.container_component
def joins(text: str):
    return dsl.ContainerSpec(image=IMAGE, command=["join"], args=[dsl.ConcatPlaceholder(["--text=", text])])


@dsl.container_component
def asks_for_artifact(thing: dsl.Input[dsl.Artifact] = None):
    return dsl.ContainerSpec(
        image=IMAGE, command=["ask"], args=[dsl.IfPresentPlaceholder("thing", ["--thing", thing.path], ["--none"])]
    )


@dsl.container_component
def asks_for_parameter(text: Optional[str] = None):  # noqa: UP045 kfp does not read the newer spelling
    return dsl.ContainerSpec(
        image=IMAGE, command=["ask"], args=[dsl.IfPresentPlaceholder("text", ["--text", text], ["--none"])]
    )


@dsl.container_component
def names_its_run(text: str):
    return dsl.ContainerSpec(image=IMAGE, command=["work"], args=[text, dsl.PIPELINE_JOB_ID_PLACEHOLDER])


@dsl.container_component
def reads_metadata(thing: dsl.Input[dsl.Artifact]):
    return dsl.ContainerSpec(image=IMAGE, command=["read"], args=[thing.metadata["size"]])


@dsl.container_component
def with_tag_only(text: str):
    return dsl.ContainerSpec(image="registry/work:1", command=["work"], args=[text])


def _pair(*where: str, edit: Edit | None = None) -> Callable[[Callable[[], tuple[Any, Any]]], Pair]:
    """A pair of the pipelines that a function makes."""
    return lambda build: Pair(*build(), where, edit)


@_pair("for-loop-1/work")
def undeclared_input() -> tuple[Any, Any]:
    @dsl.pipeline
    def bad(cpu: str, items: list):
        with dsl.ParallelFor(items) as item:
            work(text=item).set_cpu_limit(cpu)

    @dsl.pipeline
    def one(text: str, cpu: str):
        work(text=text).set_cpu_limit(cpu)

    @dsl.pipeline
    def good(cpu: str, items: list):
        with dsl.ParallelFor(items) as item:
            one(text=item, cpu=cpu)

    return bad, good


@_pair("for-loop-1/importer", "importer-2")
def importer_uri() -> tuple[Any, Any]:
    @dsl.pipeline
    def bad(items: list[dict]):
        with dsl.ParallelFor(items) as item:
            take(thing=dsl.importer(artifact_uri=item.uri, artifact_class=dsl.Artifact).output)
        found = find(text="a")
        dsl.importer(artifact_uri=found.outputs["uri"], artifact_class=dsl.Artifact)

    @dsl.pipeline
    def one(uri: str):
        take(thing=dsl.importer(artifact_uri=uri, artifact_class=dsl.Artifact).output)

    @dsl.pipeline
    def good(items: list[dict]):
        with dsl.ParallelFor(items) as item:
            one(uri=item.uri)
        one(uri=find(text="a").outputs["uri"])
        dsl.importer(artifact_uri="gs://bucket/constant", artifact_class=dsl.Artifact)

    return bad, good


@_pair("for-loop-1")
def loop_over_artifacts() -> tuple[Any, Any]:
    @dsl.pipeline
    def several(items: list) -> list[dsl.Artifact]:
        with dsl.ParallelFor(items) as item:
            made = make(text=item)
        return dsl.Collected(made.outputs["thing"])

    @dsl.pipeline
    def bad(items: list):
        made = several(items=items)
        with dsl.ParallelFor(made.output) as thing:
            take(thing=thing)

    @dsl.pipeline
    def good(items: list):
        with dsl.ParallelFor(items) as item:
            take(thing=make(text=item).outputs["thing"])

    return bad, good


@_pair("finish")
def exit_task_on_loop() -> tuple[Any, Any]:
    @dsl.pipeline
    def bad(items: list):
        with dsl.ParallelFor(items) as item:
            done = work(text=item)
        finish(text="a").after(done).ignore_upstream_failure()

    @dsl.pipeline
    def good(items: list):
        with dsl.ExitHandler(finish(text="a")), dsl.ParallelFor(items) as item:
            work(text=item)

    return bad, good


@_pair("finish", "work-more", "asks-for-parameter")
def exit_task_fan() -> tuple[Any, Any]:
    @dsl.pipeline
    def bad():
        first = work(text="a")
        second = make(text="b")
        finish(text="c").after(first, second).ignore_upstream_failure()
        third = find(text="a")
        work_more(text="a", speed="b").after(third).ignore_upstream_failure()
        asks_for_parameter(text="a").after(third).ignore_upstream_failure()

    @dsl.pipeline
    def good():
        with dsl.ExitHandler(finish(text="c")):
            work(text="a")
            make(text="b")

    return bad, good


@_pair("for-loop-1/work")
def unresolved_kubernetes_setting() -> tuple[Any, Any]:
    @dsl.pipeline
    def bad(items: list[dict]):
        with dsl.ParallelFor(items) as item:
            kubernetes.add_node_selector_json(work(text=item.text), item.selector)

    @dsl.pipeline
    def one(text: str, selector: dict):
        kubernetes.add_node_selector_json(work(text=text), selector)

    @dsl.pipeline
    def good(items: list[dict]):
        with dsl.ParallelFor(items) as item:
            one(text=item.text, selector=item.selector)

    return bad, good


@_pair("work", "make", "finish")
def resource_that_is_no_text() -> tuple[Any, Any]:
    @dsl.pipeline
    def bad(gpus: int, memory: int):
        work(text="a").set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(gpus)
        make(text="a").set_memory_limit(memory)
        finish(text="a").set_cpu_limit(find(text="a").outputs["count"])

    @dsl.pipeline
    def good(kind: str, gpus: str, memory: str):
        work(text="a").set_accelerator_type(kind).set_accelerator_limit(gpus)
        make(text="a").set_memory_limit(memory)
        finish(text="a").set_cpu_limit("2")

    return bad, good


@_pair("work-more")
def argument_that_is_not_passed() -> tuple[Any, Any]:
    @dsl.pipeline
    def bad():
        work_more(text="a")

    @dsl.pipeline
    def good():
        work_more(text="a", speed="slow")
        asks_for_parameter()

    return bad, good


@_pair("joins")
def concatenated_argument() -> tuple[Any, Any]:
    @dsl.pipeline
    def bad():
        joins(text="a")

    @dsl.pipeline
    def good():
        work(text='the word "Concat" is no placeholder')

    return bad, good


@_pair("asks-for-artifact")
def condition_on_artifact() -> tuple[Any, Any]:
    @dsl.pipeline
    def bad():
        asks_for_artifact(thing=make(text="a").outputs["thing"])

    @dsl.pipeline
    def good():
        asks_for_parameter(text="a")

    return bad, good


@_pair("work", "inner", "importer")
def placeholder_within_text() -> tuple[Any, Any]:
    @dsl.pipeline
    def inner(text: str):
        work(text=text)

    @dsl.pipeline
    def bad(base: str):
        work(text=f"run-{dsl.PIPELINE_JOB_ID_PLACEHOLDER}")
        inner(text=f"{base}/a")
        dsl.importer(artifact_uri=f"{base}/a", artifact_class=dsl.Artifact)

    @dsl.pipeline
    def good(base: str):
        work(text=dsl.PIPELINE_JOB_ID_PLACEHOLDER)
        inner(text=base)

    return bad, good


@_pair("names-its-run", "reads-metadata", "work")
def placeholder_left_literal() -> tuple[Any, Any]:
    @dsl.pipeline
    def bad():
        names_its_run(text="a")
        reads_metadata(thing=make(text="a").outputs["thing"])
        work(text="a").set_env_variable("RUN", dsl.PIPELINE_JOB_ID_PLACEHOLDER)

    @dsl.pipeline
    def good():
        work(text="a").set_env_variable("RUN", "a")
        take(thing=make(text="a").outputs["thing"])
        find(text="a")

    return bad, good


def _text_for_selector(specification: dict[str, Any]) -> None:
    specification["root"]["inputDefinitions"]["parameters"]["selector"]["parameterType"] = "STRING"


@_pair("work", edit=_text_for_selector)
def kubernetes_setting_of_wrong_type() -> tuple[Any, Any]:
    @dsl.pipeline
    def pipeline(selector: dict, tolerations: list, secret: str):
        task = work(text="a")
        kubernetes.add_node_selector_json(task, selector)
        kubernetes.add_toleration_json(task, tolerations)
        kubernetes.use_secret_as_env(task, secret, {"TOKEN": "TOKEN"}, optional=True)

    return pipeline, pipeline


@_pair("one/work", "one/make")
def empty_setting() -> tuple[Any, Any]:
    @dsl.pipeline
    def one(secret: str, memory: str, gpu: str, gpus: str):
        kubernetes.use_secret_as_env(work(text="a"), secret, {"TOKEN": "TOKEN"}, optional=True)
        make(text="a").set_memory_limit(memory).set_accelerator_type(gpu).set_accelerator_limit(gpus)

    @dsl.pipeline
    def bad(secret: str = "", memory: str = "", gpu: str = "", gpus: str = ""):
        one(secret=secret, memory=memory, gpu=gpu, gpus=gpus)

    @dsl.pipeline
    def good(secret: str = "token", memory: str = "4Gi", gpu: str = "", gpus: str = ""):
        one(secret=secret, memory=memory, gpu=gpu, gpus=gpus)

    return bad, good


@_pair("exit-handler-1", "inner/asks-for-parameter")
def null_into_graph() -> tuple[Any, Any]:
    @dsl.pipeline
    def inner(text: Optional[str] = None):  # noqa: UP045
        asks_for_parameter(text=text)

    @dsl.pipeline
    def bad(text: Optional[str] = None):  # noqa: UP045
        inner(text=text)
        with dsl.ExitHandler(finish(text="a")):
            asks_for_parameter(text=text)

    @dsl.pipeline
    def good(text: str = "", other: Optional[str] = None):  # noqa: UP045
        inner(text=text)
        asks_for_parameter(text=other)
        with dsl.ExitHandler(finish(text="a")):
            asks_for_parameter(text=text)

    return bad, good


def _forget_text(specification: dict[str, Any]) -> None:
    del specification["root"]["dag"]["tasks"]["make"]["inputs"]["parameters"]["text"]
    specification["deploymentSpec"]["executors"]["exec-make"]["container"]["args"] = []


@_pair("make", edit=_forget_text)
def required_input_missing() -> tuple[Any, Any]:
    @dsl.pipeline
    def pipeline(items: list):
        make(text="a")
        with dsl.ParallelFor(items) as item:
            work(text=item)

    return pipeline, pipeline


@_pair("with-tag-only", "work")
def image_without_digest() -> tuple[Any, Any]:
    @dsl.pipeline
    def bad(image: str = "registry/work:2"):
        with_tag_only(text="a")
        work(text="a").set_container_image(image)

    @dsl.pipeline
    def good(named_at_start: str, image: str = IMAGE):
        work(text="a").set_container_image(image)
        make(text="a").set_container_image(named_at_start)

    return bad, good


@_pair("work-2")
def component_twice() -> tuple[Any, Any]:
    @dsl.pipeline
    def one(text: str):
        work(text=text)

    @dsl.pipeline
    def bad():
        work(text="a")
        work(text="b")

    @dsl.pipeline
    def good():
        one(text="a")
        one(text="b")
        work(text="c")

    return bad, good


@_pair("for-loop-1/one/for-loop-1")
def nested_loop() -> tuple[Any, Any]:
    @dsl.pipeline
    def one(items: list):
        with dsl.ParallelFor(items) as item:
            work(text=item)

    @dsl.pipeline
    def bad(items: list[list]):
        with dsl.ParallelFor(items) as item:
            one(items=item)

    @dsl.pipeline
    def good(items: list):
        one(items=items)
        with dsl.ParallelFor(items) as item:
            make(text=item)

    return bad, good


@_pair("condition-branches-1")
def one_of() -> tuple[Any, Any]:
    @dsl.pipeline
    def bad(kind: str):
        with dsl.If(kind == "a"):
            first = make(text="a")
        with dsl.Else():
            second = make(text="b")
        take(thing=dsl.OneOf(first.outputs["thing"], second.outputs["thing"]))

    @dsl.pipeline
    def good(kind: str):
        with dsl.If(kind == "a"):
            take(thing=make(text="a").outputs["thing"])

    return bad, good


@_pair("take-many")
def collected() -> tuple[Any, Any]:
    @dsl.pipeline
    def bad(items: list):
        with dsl.ParallelFor(items) as item:
            made = make(text=item)
        take_many(things=dsl.Collected(made.outputs["thing"]))

    @dsl.pipeline
    def good(items: list):
        with dsl.ParallelFor(items) as item:
            take(thing=make(text=item).outputs["thing"])

    return bad, good


@_pair("work", "importer")
def caching_on() -> tuple[Any, Any]:
    def build(caching: bool) -> Any:
        @dsl.pipeline
        def pipeline(uri: str):
            work(text="a").set_caching_options(caching)
            dsl.importer(artifact_uri=uri, artifact_class=dsl.Artifact).set_caching_options(caching)

        return pipeline

    return build(True), build(False)


@_pair("make")
def without_exit_handler() -> tuple[Any, Any]:
    @dsl.pipeline
    def bad():
        make(text="a")
        with dsl.ExitHandler(finish(text="a")):
            work(text="a")

    @dsl.pipeline
    def good():
        with dsl.ExitHandler(finish(text="a")):
            make(text="a")
            work(text="a")

    return bad, good


@_pair("work")
def text_put_together() -> tuple[Any, Any]:
    @dsl.pipeline
    def bad(base: str):
        work(text=f"{base}/a")

    @dsl.pipeline
    def good(base: str, image: str = IMAGE):
        work(text=base).set_container_image(image)

    return bad, good


@_pair("root")
def parameter_without_description() -> tuple[Any, Any]:
    @dsl.pipeline
    def bad(base: str):
        work(text=base)

    @dsl.pipeline
    def good(base: str):
        """Work.

        Args:
            base: where to work.
        """
        work(text=base)

    return bad, good


@_pair("for-loop-1")
def unlimited_loop() -> tuple[Any, Any]:
    def build(parallelism: int | None) -> Any:
        @dsl.pipeline
        def pipeline(items: list):
            with dsl.ParallelFor(items, parallelism=parallelism) as item:
                work(text=item)

        return pipeline

    return build(None), build(4)


PAIRS: Mapping[str, Pair] = {
    "E1": undeclared_input,
    "E2": importer_uri,
    "E3": loop_over_artifacts,
    "E4": exit_task_on_loop,
    "E5": exit_task_fan,
    "E6": unresolved_kubernetes_setting,
    "E7": resource_that_is_no_text,
    "E8": argument_that_is_not_passed,
    "E9": concatenated_argument,
    "E10": condition_on_artifact,
    "E11": placeholder_within_text,
    "E12": placeholder_left_literal,
    "E13": kubernetes_setting_of_wrong_type,
    "E14": empty_setting,
    "E15": null_into_graph,
    "E16": required_input_missing,
    "W1": image_without_digest,
    "W2": component_twice,
    "W3": nested_loop,
    "W4": one_of,
    "W5": collected,
    "W6": caching_on,
    "W7": without_exit_handler,
    "W8": text_put_together,
    "W9": parameter_without_description,
    "W10": unlimited_loop,
}
"""The pair of every rule."""
