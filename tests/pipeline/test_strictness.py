"""The fake server refuses what it says it refuses: without that, tests against it would prove nothing."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from pipeline.strictness import RefusalError, check_body, check_parameters, check_pipeline

from pipelines.compile import compiled_path


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(compiled_path((1, 2, 3)).read_text()))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"display_nam": "x"}, "unknown field 'display_nam'"),
        ({"display_name": 7}, "not a string"),
        ({"runtime_config": {"parameter": {}}}, "unknown field 'parameter' in V2beta1RuntimeConfig"),
        ({"runtime_config": []}, "is no object"),
        ({"storage_state": "NOWHERE"}, "is no V2beta1RunStorageState"),
        ([], "is no object"),
    ],
)
def test_bodies(body: Any, said: str) -> None:
    with pytest.raises(RefusalError, match=said):
        check_body(body, "V2beta1Run")


def test_pipelines(documents: list[dict[str, Any]]) -> None:
    specification, platform = documents
    check_pipeline({"pipeline_spec": specification, "platform_spec": platform})
    with pytest.raises(RefusalError, match="surprise"):
        check_pipeline({**specification, "surprise": 1})
    with pytest.raises(RefusalError, match="Failed to parse"):
        check_pipeline({"pipeline_spec": specification, "platform_spec": {"plattforms": {}}})
    with pytest.raises(RefusalError, match="missing"):
        check_pipeline(None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sead": 1}, "unknown parameter 'sead'"),
        ({"seed": "1"}, "not NUMBER_INTEGER"),
        ({"seed": True}, "not NUMBER_INTEGER"),
        ({"force": 1}, "not BOOLEAN"),
        ({"node_selector": "{}"}, "not STRUCT"),
        ({"tolerations": {}}, "not LIST"),
        ({"gpu_count": 1}, "not STRING"),
    ],
)
def test_run_parameters(documents: list[dict[str, Any]], change: dict[str, Any], said: str) -> None:
    specification = check_pipeline(documents[0])
    required = {"dataset_dir": "gs://b/set", "output_base": "gs://b/out"}
    check_parameters(specification, required)
    with pytest.raises(RefusalError, match=said):
        check_parameters(specification, {**required, **change})
    with pytest.raises(RefusalError, match="'dataset_dir' is missing"):
        check_parameters(specification, {"output_base": "gs://b/out"})
