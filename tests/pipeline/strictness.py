"""What a strict Kubeflow Pipelines API would refuse: bodies, pipelines, run parameters.

Example:
    >>> check_body({"display_nam": "x"}, "V2beta1Run")
    Traceback (most recent call last):
    RefusalError: body: unknown field 'display_nam' in V2beta1Run
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import kfp_server_api.models
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

_PARAMETER_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "STRING": lambda value: isinstance(value, str),
    "BOOLEAN": lambda value: isinstance(value, bool),
    "NUMBER_INTEGER": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "NUMBER_DOUBLE": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "STRUCT": lambda value: isinstance(value, dict),
    "LIST": lambda value: isinstance(value, list),
}


class RefusalError(Exception):
    """An answer that is none."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def check_pipeline(document: Any) -> pipeline_spec_pb2.PipelineSpec:
    """A request's pipeline, with or without settings for Kubernetes, as the backend reads it."""
    if not isinstance(document, dict):
        raise RefusalError(400, "pipeline_spec is missing")
    platform: Any = {}
    if "pipeline_spec" in document:
        if set(document) - {"pipeline_spec", "platform_spec"}:
            raise RefusalError(400, f"unknown fields beside pipeline_spec: {sorted(document)}")
        platform = document.get("platform_spec", {})
        document = document["pipeline_spec"]
    try:
        json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
        return json_format.ParseDict(document, pipeline_spec_pb2.PipelineSpec())
    except json_format.ParseError as error:
        raise RefusalError(400, f"Failed to parse the pipeline: {error}") from None


def check_parameters(specification: pipeline_spec_pb2.PipelineSpec, parameters: Mapping[str, Any]) -> None:
    """Run parameters against the pipeline's declaration."""
    declared = specification.root.input_definitions.parameters
    for name, value in parameters.items():
        if name not in declared:
            raise RefusalError(400, f"unknown parameter {name!r}")
        kind = pipeline_spec_pb2.ParameterType.ParameterTypeEnum.Name(declared[name].parameter_type)
        if not _PARAMETER_TYPES[kind](value):
            raise RefusalError(400, f"parameter {name!r} is {value!r}, not {kind}")
    for name, one in declared.items():
        if name not in parameters and not one.is_optional and not one.HasField("default_value"):
            raise RefusalError(400, f"parameter {name!r} is missing")


def check_body(document: Any, model: str, place: str = "body") -> None:
    """A document against a model of the API's own client: unknown keys and wrong types are refused."""
    kind = getattr(kfp_server_api.models, model)
    if not kind.openapi_types:
        if document not in [value for name, value in vars(kind).items() if name.isupper()]:
            raise RefusalError(400, f"{place}: {document!r} is no {model}")
        return
    if not isinstance(document, dict):
        raise RefusalError(400, f"{place} is no object")
    types = {kind.attribute_map[name]: type_name for name, type_name in kind.openapi_types.items()}
    for key, value in document.items():
        if key not in types:
            raise RefusalError(400, f"{place}: unknown field {key!r} in {model}")
        _check_value(value, types[key], f"{place}.{key}")


def _check_value(value: Any, type_name: str, place: str) -> None:
    if type_name == "object":
        return
    if match := re.fullmatch(r"dict\(str, (.*)\)", type_name):
        if not isinstance(value, dict):
            raise RefusalError(400, f"{place} is no object")
        for key, item in value.items():
            _check_value(item, match[1], f"{place}.{key}")
    elif match := re.fullmatch(r"list\[(.*)\]", type_name):
        if not isinstance(value, list):
            raise RefusalError(400, f"{place} is no list")
        for item in value:
            _check_value(item, match[1], place)
    elif type_name in ("str", "datetime"):
        # Numbers of 64 bits are texts in the API's description; its parser takes either.
        wide = place.rsplit(".", 1)[-1] in ("max_concurrency", "interval_second")
        if not (isinstance(value, str) or (wide and isinstance(value, int))):
            raise RefusalError(400, f"{place} is {value!r}, not a string")
    elif type_name in ("bool", "int"):
        if type(value).__name__ != type_name:
            raise RefusalError(400, f"{place} is {value!r}, not {type_name}")
    else:
        check_body(value, type_name, place)
