"""The contract with the pipeline: what is read, what is refused, what is written."""

from __future__ import annotations

import json
import math
import string
import tempfile
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from kfp.pipeline_spec import pipeline_spec_pb2

from worldexplorer.errors import DefectError, UsageError
from worldexplorer.pod.executor import LOGS, Executor


def document(folder: Path, **outputs: Any) -> dict[str, Any]:
    return {
        "inputs": {
            "parameterValues": {"output_base": " gs://worlds/seven ", "seed": 7.0, "empty": " ", "force": True},
            "artifacts": {"scene": {"artifacts": [{"name": "12", "uri": "gs://root/run/scene", "metadata": {"a": 1}}]}},
        },
        "outputs": {
            "parameters": {"pending": {"outputFile": "/tmp/kfp/outputs/pending"}},
            "artifacts": {"report": {"artifacts": [{"name": "report", "uri": str(folder / "report")}]}},
            "outputFile": str(folder / "not" / "yet" / "there" / "output_metadata.json"),
            **outputs,
        },
    }


@pytest.fixture
def executor(tmp_path: Path) -> Executor:
    return Executor.parse(json.dumps(document(tmp_path)))


def written(executor: Executor) -> Any:
    return json.loads(executor.output_file.read_text())


class TestReading:
    def test_parameters_are_what_was_passed(self, executor: Executor) -> None:
        assert executor.text("output_base") == "gs://worlds/seven"
        assert executor.parameters["seed"] == 7.0
        assert executor.parameters["force"] is True

    @pytest.mark.parametrize("name", ["empty", "unknown", "seed"])
    def test_text_that_says_nothing_is_refused(self, executor: Executor, name: str) -> None:
        with pytest.raises(UsageError, match=f"the parameter {name} is empty") as caught:
            executor.text(name)
        assert caught.value.remedy == f"give the run a value for {name}"

    @pytest.mark.parametrize(
        ("uri", "path"),
        [
            ("gs://bucket/a/b", "/gcs/bucket/a/b"),
            ("s3://bucket/a", "/s3/bucket/a"),
            ("minio://mlpipeline/v2/a", "/minio/mlpipeline/v2/a"),
            ("/tmp/root/a", "/tmp/root/a"),
            ("relative/a", "relative/a"),
        ],
    )
    def test_folder_of_an_artifact_follows_from_its_uri(self, tmp_path: Path, uri: str, path: str) -> None:
        given = document(tmp_path)
        given["inputs"]["artifacts"]["scene"]["artifacts"][0]["uri"] = uri
        artifact = Executor.parse(json.dumps(given)).input("scene")
        assert (artifact.uri, artifact.path) == (uri, Path(path))

    def test_custom_path_wins(self, tmp_path: Path) -> None:
        given = document(tmp_path)
        given["inputs"]["artifacts"]["scene"]["artifacts"][0]["customPath"] = "/elsewhere/scene"
        assert Executor.parse(json.dumps(given)).input("scene").path == Path("/elsewhere/scene")

    def test_store_without_a_mount_is_refused(self, tmp_path: Path) -> None:
        given = document(tmp_path)
        given["inputs"]["artifacts"]["scene"]["artifacts"][0]["uri"] = "oci://registry/scene"
        with pytest.raises(UsageError, match=r"a store that this program does not know.*oci://registry/scene"):
            _ = Executor.parse(json.dumps(given)).input("scene").path

    def test_what_the_component_lacks_is_named(self, executor: Executor) -> None:
        with pytest.raises(UsageError, match=r"no input artifact scaffold.*compile the pipeline again"):
            executor.input("scaffold")
        with pytest.raises(DefectError, match="no output artifact splat"):
            executor.output("splat")
        with pytest.raises(DefectError, match="no output parameter jobs"):
            executor.set_parameter("jobs", [])

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "[]",
            "null",
            "7",
            "{}",
            '{"outputs": {}}',
            '{"outputs": null}',
            '{"outputs": {"outputFile": null}}',
            '{"outputs": {"outputFile": "x", "artifacts": {"a": {"artifacts": []}}}}',
            '{"outputs": {"outputFile": "x", "artifacts": {"a": {"artifacts": [{"uri": "x"}, {"uri": "y"}]}}}}',
            '{"outputs": {"outputFile": "x", "artifacts": {"a": {"artifacts": [{"name": "a"}]}}}}',
            '{"outputs": {"outputFile": "x", "artifacts": {"a": {"artifacts": [{"uri": ""}]}}}}',
            '{"outputs": {"outputFile": "x", "artifacts": ["a"]}}',
            '{"outputs": {"outputFile": "x"}, "inputs": {"parameterValues": "x"}}',
            "{{$}}",
        ],
    )
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match=r"^the executor input cannot be read") as caught:
            Executor.parse(text)
        assert caught.value.where == "--executor_input"

    def test_task_without_inputs(self) -> None:
        executor = Executor.parse('{"outputs": {"outputFile": "x"}}')
        assert (executor.parameters, executor.inputs, executor.outputs) == ({}, {}, {})


class TestWriting:
    def test_output_file_holds_all_and_its_folder_is_made(self, executor: Executor) -> None:
        executor.set_parameter("pending", "yes")
        executor.write_text("report", "# Plan ü")
        executor.describe("report", {"jobs": 3, "share": 0.5, "label": "tiny", "ready": True, "nothing": None})
        executor.describe("report", {"jobs": 4})
        executor.finish()
        uri = executor.output("report").uri
        metadata = {"jobs": 4, "share": 0.5, "label": "tiny", "ready": True}
        assert written(executor) == {
            "parameterValues": {"pending": "yes"},
            "artifacts": {"report": {"artifacts": [{"name": "report", "uri": uri, "metadata": metadata}]}},
        }
        assert Path(uri).read_text(encoding="utf-8") == "# Plan ü"
        assert [path.name for path in executor.output_file.parent.iterdir()] == ["output_metadata.json"]

    def test_the_pipelines_own_protocol_buffer_reads_it(self, executor: Executor) -> None:
        executor.set_parameter("pending", [{"job_id": "a", "upstream_uri": ""}])
        executor.write_text("report", "")
        executor.describe("report", {"jobs": 3, "ready": True})
        executor.finish()
        message = json_format.Parse(executor.output_file.read_text(), pipeline_spec_pb2.ExecutorOutput())
        assert message.parameter_values["pending"].list_value[0]["job_id"] == "a"
        assert dict(message.artifacts["report"].artifacts[0].metadata) == {"jobs": 3, "ready": True}

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [1], {"a": 1}, b"x"])
    def test_metadata_that_the_cluster_refuses_are_refused_here(self, executor: Executor, value: Any) -> None:
        with pytest.raises(DefectError, match="the metadata figure of report is"):
            executor.describe("report", {"figure": value})

    def test_nothing_is_written_without_every_output_parameter(self, executor: Executor) -> None:
        executor.write_text("report", "")
        with pytest.raises(DefectError, match="without its output parameters pending"):
            executor.finish()
        assert not executor.output_file.exists()

    def test_nothing_is_written_without_every_output_artifact(self, executor: Executor) -> None:
        executor.set_parameter("pending", "no")
        with pytest.raises(DefectError, match="without its output artifacts report"):
            executor.finish()
        assert not executor.output_file.exists()

    def test_parameter_that_is_no_json_leaves_no_file(self, executor: Executor) -> None:
        executor.write_text("report", "")
        executor.set_parameter("pending", math.nan)
        with pytest.raises(ValueError, match="JSON"):
            executor.finish()
        assert not executor.output_file.exists()

    def test_the_clusters_own_artifact_is_left_to_it(self, tmp_path: Path) -> None:
        artifacts = {LOGS: {"artifacts": [{"name": LOGS, "uri": "gs://root/run/executor-logs"}]}}
        executor = Executor.parse(json.dumps(document(tmp_path, artifacts=artifacts, parameters={})))
        executor.finish()
        assert written(executor) == {"parameterValues": {}, "artifacts": {}}

    def test_text_without_utf8_is_written_all_the_same(self, executor: Executor) -> None:
        executor.write_text("report", "half a pair: \ud800, ü")
        assert executor.output("report").path.read_text(encoding="utf-8") == "half a pair: \\ud800, ü"


names = st.text(string.ascii_lowercase + "_", min_size=1, max_size=12)
scalars = st.one_of(
    st.text(max_size=20), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3))


@settings(max_examples=50, deadline=None)
@given(parameters=st.dictionaries(names, values, max_size=4), metadata=st.dictionaries(names, scalars, max_size=4))
def test_what_goes_in_comes_out(parameters: dict[str, Any], metadata: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        given = document(Path(folder), parameters={name: {"outputFile": "x"} for name in parameters})
        given["inputs"]["parameterValues"] = parameters
        executor = Executor.parse(json.dumps(given))
        assert executor.parameters == parameters
        for name, value in executor.parameters.items():
            executor.set_parameter(name, value)
        executor.write_text("report", "")
        executor.describe("report", metadata)
        executor.finish()
        output = written(executor)
    assert output["parameterValues"] == parameters
    assert output["artifacts"]["report"]["artifacts"][0]["metadata"] == metadata
