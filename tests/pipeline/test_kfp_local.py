"""The local runs of container components: what a task wrote, whether it failed, and that nothing stays replaced."""

import os
from importlib import metadata

import kfp.local
import kfp_local
import pytest
from kfp import compiler, dsl
from kfp.local import docker_task_handler, subprocess_task_handler
from kfp_local import docker_session, process_session, require_known_version

# No `from __future__ import annotations`: kfp reads the annotations as objects.

WRITE = """
import json, os, sys
text, folder, everything = sys.argv[1:]
outputs = json.loads(everything)["outputs"]
made = outputs["artifacts"]["thing"]["artifacts"][0]
os.makedirs(os.path.dirname(made["uri"]), exist_ok=True)
open(made["uri"], "w").write(text)
os.makedirs(os.path.dirname(outputs["outputFile"]), exist_ok=True)
json.dump({"parameterValues": {"length": len(text)}, "artifacts": {"thing": {"artifacts": [made]}}},
          open(outputs["outputFile"], "w"))
open(os.path.join(folder, text), "w").write(os.environ.get("COLOUR", ""))
"""
READ = "import sys; sys.exit(open(sys.argv[1]).read() != sys.argv[2])"
FAIL_FOR_B = "import os, sys; open(os.path.join(*sys.argv[1:]), 'w'); sys.exit(sys.argv[2] == 'b')"


@dsl.container_component
def write(text: str, folder: str, thing: dsl.Output[dsl.Artifact], length: dsl.OutputPath(int)):
    return dsl.ContainerSpec(image="tiny", command=["python", "-c", WRITE], args=[text, folder, "{{$}}"])


@dsl.container_component
def read(thing: dsl.Input[dsl.Artifact], text: str):
    return dsl.ContainerSpec(image="tiny", command=["python", "-c", READ], args=[thing.path, text])


@dsl.container_component
def fail_for_b(folder: str, text: str):
    return dsl.ContainerSpec(image="tiny", command=["python", "-c", FAIL_FOR_B], args=[folder, text])


@dsl.container_component
def finish(folder: str):
    return dsl.ContainerSpec(image="tiny", command=["python", "-c", FAIL_FOR_B], args=[folder, "finished"])


@dsl.pipeline
def write_and_read(text: str, folder: str) -> int:
    written = write(text=text, folder=folder)
    read(thing=written.outputs["thing"], text=text)
    return written.outputs["length"]


@dsl.pipeline
def one(folder: str, text: str):
    tried = fail_for_b(folder=folder, text=text)
    write(text="after-b", folder=folder).after(tried)


@dsl.pipeline
def several(folder: str, texts: list[str]):
    with dsl.ExitHandler(finish(folder=folder)), dsl.ParallelFor(texts) as text:
        fail_for_b(folder=folder, text=text)


@dsl.container_component
def find(texts: dsl.OutputPath(list)):
    script = 'mkdir -p "$(dirname "$0")"; echo \'["a"]\' > "$0"'
    return dsl.ContainerSpec(image="tiny", command=["sh", "-c", script], args=[texts])


@dsl.pipeline
def loop_over_named_output():
    with dsl.ParallelFor(find().outputs["texts"]) as text:
        finish(folder=text)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "written"
    made.mkdir()
    return made


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_outputs_travel_from_process_to_process(tmp_path, folder):
    with process_session(tmp_path / "root", {"COLOUR": "red"}) as session:
        outcome = session.run(write_and_read, text="hello", folder=str(folder))
    assert outcome.succeeded
    assert outcome.outputs == {"Output": 5}
    assert (folder / "hello").read_text() == "red"


def test_compiled_package_runs_like_the_pipeline(tmp_path, folder):
    package = tmp_path / "package.yaml"
    compiler.Compiler().compile(write_and_read, str(package))
    with process_session(tmp_path / "root") as session:
        assert session.run(package, text="hello", folder=str(folder)).outputs == {"Output": 5}


def test_failed_task_fails_the_run_and_stops_what_follows(tmp_path, folder):
    with process_session(tmp_path / "root") as session:
        assert session.run(one, folder=str(folder), text="a").succeeded
        assert names(folder) == ["a", "after-b"]
        (folder / "after-b").unlink()
        outcome = session.run(one, folder=str(folder), text="b")
    assert not outcome.succeeded
    assert outcome.message == "Pipeline 'one' finished with status FAILURE. Inner task failed: 'fail-for-b'."
    assert names(folder) == ["a", "b"]


def test_siblings_of_a_failed_task_and_the_exit_task_run(tmp_path, folder):
    with process_session(tmp_path / "root") as session:
        outcome = session.run(several, folder=str(folder), texts=["a", "b", "c", "d"])
    assert not outcome.succeeded
    assert names(folder) == ["a", "b", "c", "d", "finished"]


def test_what_kfp_itself_cannot_do_is_raised(tmp_path, folder):
    """A loop over an output that has a name: the reason why the loop of this product is in a pipeline of its own."""
    with process_session(tmp_path / "root") as session, pytest.raises(Exception, match="pipelinechannel--find-texts"):
        session.run(loop_over_named_output)


def test_nothing_stays_replaced(tmp_path):
    handler = subprocess_task_handler.SubprocessTaskHandler
    before = (
        handler.validate_not_container_component,
        handler.validate_image,
        docker_task_handler.run_docker_container,
        kfp.local.config.LocalExecutionConfig.instance,
        dict(os.environ),
    )
    with process_session(tmp_path / "root", {"COLOUR": "red"}):
        assert handler.validate_not_container_component is not before[0]
    with docker_session(tmp_path / "root", "unix:///nowhere.sock"):
        assert docker_task_handler.run_docker_container is not before[2]
    after = (
        handler.validate_not_container_component,
        handler.validate_image,
        docker_task_handler.run_docker_container,
        kfp.local.config.LocalExecutionConfig.instance,
        dict(os.environ),
    )
    assert after == before


def test_other_version_of_kfp_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: "2.18.0")
    with pytest.raises(RuntimeError, match=r"kfp 2\.18\.0 is installed.*change KFP_VERSION"):
        require_known_version()
    with pytest.raises(RuntimeError), process_session(tmp_path / "root"):
        pass
    with pytest.raises(RuntimeError), docker_session(tmp_path / "root", "unix:///nowhere.sock"):
        pass


class FakeContainer:
    """A container of an engine: what the runner asks of it, in order."""

    def __init__(self, code):
        self.code = code
        self.calls = []

    def start(self):
        self.calls.append("start")

    def logs(self, *, stream, follow):
        self.calls.append("logs")
        return iter([b"a line\n", b"\xff\n"])

    def wait(self):
        self.calls.append("wait")
        return {"StatusCode": self.code}

    def remove(self, *, force):
        self.calls.append("remove")


class FakeEngine:
    def __init__(self, container):
        self.container = container
        self.created = None
        self.images = self
        self.containers = self

    def get(self, image):
        assert image == "tiny:latest"

    def create(self, image, command, **options):
        self.created = options
        return self.container


@pytest.mark.parametrize("code", [0, 3])
def test_container_is_waited_for_before_it_is_removed(tmp_path, capsys, code):
    engine = FakeEngine(FakeContainer(code))
    with docker_session(tmp_path / "root", "unix:///nowhere.sock", {"COLOUR": "red", "SIZE": "1"}):
        options = {"environment": {"SIZE": "2"}, **kfp_local.HARDENED}
        ended = docker_task_handler.run_docker_container(engine, "tiny", ["a"], {"b": "c"}, **options)
    assert ended == code
    assert engine.container.calls == ["start", "logs", "wait", "remove"]
    assert engine.created["environment"] == {"COLOUR": "red", "SIZE": "2"}
    assert engine.created["read_only"] and engine.created["cap_drop"] == ["ALL"]
    assert "auto_remove" not in engine.created
    assert capsys.readouterr().out == "a line\n\N{REPLACEMENT CHARACTER}\n"


def test_pipeline_root_is_writable_for_every_user(tmp_path):
    with docker_session(tmp_path / "root", "unix:///nowhere.sock") as session:
        assert session.pipeline_root.stat().st_mode & 0o777 == 0o777
