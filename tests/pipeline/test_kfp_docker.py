"""Container components in real containers: hardened, with their true exit codes, on the images' own base."""

import json
import re

import pytest
from containers.engine import base_image, docker_engine  # noqa: F401 (a fixture)
from kfp import dsl
from kfp_local import HARDENED, docker_session

# No `from __future__ import annotations`: kfp reads the annotations as objects.

pytestmark = [pytest.mark.slow, pytest.mark.requires_part("docker"), pytest.mark.requires_part("mmdebstrap")]

WRITE = """
import json, os, sys
outputs = json.loads(sys.argv[1])["outputs"]
made = outputs["artifacts"]["facts"]["artifacts"][0]
os.makedirs(os.path.dirname(made["uri"]))
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
def writable(folder):
    try:
        open(os.path.join(folder, "file"), "w").close()
    except OSError:
        return False
    return True
json.dump({"user": os.getuid(), "capabilities": int(status["CapEff"], 16), "new": status["NoNewPrivs"].strip(),
           "writable": [folder for folder in ("/", "/usr", "/tmp", "/scratch") if writable(folder)],
           "colour": os.environ["COLOUR"], "own": os.environ["OWN"]}, open(made["uri"], "w"))
os.makedirs(os.path.dirname(outputs["outputFile"]), exist_ok=True)
json.dump({"artifacts": {"facts": {"artifacts": [made]}}}, open(outputs["outputFile"], "w"))
"""
SHOW = "import sys; print('facts:', open(sys.argv[1]).read())"


@pytest.fixture
def session(tmp_path, docker_engine):  # noqa: F811 (the fixture)
    with docker_session(tmp_path / "root", docker_engine.host, {"COLOUR": "red"}, **HARDENED) as opened:
        yield opened


def exits():
    """A component that ends at once with a code: what kfp's own runner now and then takes for success."""

    @dsl.container_component
    def ends(code: str):
        return dsl.ContainerSpec(image=base_image(), command=["sh", "-c"], args=['exit "$0"', code])

    @dsl.pipeline
    def pipeline(codes: list):
        with dsl.ParallelFor(codes) as code:
            ends(code=code)

    return pipeline


def test_artifact_travels_between_hardened_containers(session, capsys):
    @dsl.container_component
    def write(facts: dsl.Output[dsl.Artifact]):
        return dsl.ContainerSpec(image=base_image(), command=["python", "-c", WRITE], args=["{{$}}"])

    @dsl.container_component
    def show(facts: dsl.Input[dsl.Artifact]):
        return dsl.ContainerSpec(image=base_image(), command=["python", "-c", SHOW], args=[facts.path])

    @dsl.pipeline
    def pipeline():
        written = write()
        written.set_env_variable("OWN", "blue")
        show(facts=written.outputs["facts"])

    outcome = session.run(pipeline)
    assert outcome.succeeded, outcome.message
    (facts,) = re.findall(r"facts: (\{.*\})", capsys.readouterr().out)
    assert json.loads(facts) == {
        "user": 10001,
        "capabilities": 0,
        "new": "1",
        "writable": ["/tmp", "/scratch"],
        "colour": "red",
        "own": "blue",
    }


def test_exit_codes_are_the_containers(session):
    pipeline = exits()
    assert session.run(pipeline, codes=["0", "0", "0"]).succeeded
    assert [session.run(pipeline, codes=["3"]).succeeded for _ in range(8)] == [False] * 8
    assert not session.run(pipeline, codes=["0", "137", "0"]).succeeded


def test_nothing_is_left_in_the_engine(session, docker_engine):  # noqa: F811 (the fixture)
    session.run(exits(), codes=["0", "1"])
    assert docker_engine.docker("ps", "--all", "--quiet").stdout == ""


def test_image_that_is_not_there_is_not_pulled(session):
    @dsl.container_component
    def nowhere():
        return dsl.ContainerSpec(image="nobody/has-this:1", command=["true"])

    @dsl.pipeline
    def pipeline():
        nowhere()

    with pytest.raises(LookupError, match=r"no image nobody/has-this:1; it has .*worldexplorer-test-base"):
        session.run(pipeline)
