"""The flags of a run: one for each run parameter, with its name, help and default; and what they come to.

What is said wins over the profile, the profile over the defaults. Everything is checked before anything is sent:
names and types here, the values themselves by the very parser that the planning pod uses.

Example:
    >>> values = run_values(RUN_PARAMETERS, {"gpu_count": "1"}, {"dataset_dir": "gs://b/set", "output_base": "gs://b/out"})
    >>> values["gpu_count"], values["num_seva_frames"]
    ('1', 80)
"""

from __future__ import annotations

import json
import re
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from components.container import image_reference
from worldexplorer.cli.arguments import batch_flags
from worldexplorer.cli.parser import Parser, closest
from worldexplorer.config import STAGE_NAMES
from worldexplorer.engines import refuse_unused_settings
from worldexplorer.errors import UsageError
from worldexplorer.pod.parameters import RunParameter, flag_parameters, read_run

_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
_COUNT = re.compile(r"[0-9]{1,4}")
_QUANTITY = re.compile(r"(?=.*[1-9])[0-9]+(\.[0-9]+)?(m|[kMGTPE]|[KMGTPE]i)?")
"""A Kubernetes quantity above zero, as far as processors and memory are written so."""
_TRUE, _FALSE = frozenset({"true", "yes", "1"}), frozenset({"false", "no", "0"})
_WORDS = {
    "string": "text",
    "bool": "true or false",
    "int": "a whole number",
    "object": "a JSON object",
    "list": "a JSON list",
}


def add_run_flags(parser: Parser, parameters: Mapping[str, RunParameter]) -> None:
    """One flag a parameter, and `--param NAME=VALUE` for scripts; a flag the parser has already is left as it is."""
    parser.add_argument(
        "--param",
        action="extend",
        nargs="+",
        metavar="NAME=VALUE",
        help="A run parameter by its name; the same as its flag.",
    )
    several = {flag.name for flag in batch_flags() if flag.several}
    groups: dict[str, Any] = {}
    for parameter in parameters.values():
        flag = f"--{parameter.name}"
        if flag in parser._option_string_actions:
            continue
        group = groups.setdefault(parameter.group, None) or parser.add_argument_group(parameter.group)
        groups[parameter.group] = group
        group.add_argument(flag, dest=_destination(parameter.name), help=_help(parameter), **_shape(parameter, several))


def given_values(words: Namespace, parameters: Mapping[str, RunParameter]) -> dict[str, Any]:
    """What the words of a command say about parameters, typed.

    Raises:
        UsageError: an unknown parameter, a value of the wrong type, or two values for one parameter.
    """
    texts: dict[str, str] = {}
    for name in parameters:
        raw = getattr(words, _destination(name), None)
        if raw is not None:
            texts[name] = " ".join(raw) if isinstance(raw, list) else raw
    for pair in words.param or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"{pair!r} has no value", where="--param", remedy="write it as NAME=VALUE")
        require_known(name, parameters, "--param")
        if name in texts and texts[name] != value:
            raise UsageError(
                f"{name} is said to be {texts[name]!r} and {value!r}", where="--param", remedy="say it once"
            )
        texts[name] = value
    return {name: typed(parameters[name], text) for name, text in texts.items()}


def run_values(
    parameters: Mapping[str, RunParameter], profile: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Every parameter's value.

    Args:
        parameters: those there are.
        profile: those of a profile.
        given: those of the command.

    Raises:
        UsageError: an unknown name, a wrong type, or one that has no value and no default.
    """
    for place, values in (("the profile", profile), ("the command", given)):
        for name, value in values.items():
            require_known(name, parameters, place)
            require_type(parameters[name], value, place)
    said = {**profile, **given}
    for name, one in parameters.items():
        if one.default is None and not said.get(name):
            raise UsageError(f"--{name} is missing", remedy=f"add --{name} VALUE")
    return {name: said.get(name, one.default) for name, one in parameters.items()}


def check_values(values: Mapping[str, Any], stages: Sequence[int]) -> None:
    """Read the settings as the planning pod will.

    Raises:
        UsageError: a value that it would refuse, or a place that no pod can reach.
    """
    settings = {one.name for one in flag_parameters()}
    run = read_run({name: value for name, value in values.items() if name in settings}, stages)
    refuse_unused_settings(run)
    for name in ("dataset_dir", "output_base"):
        place = str(values[name])
        if "://" not in place and not place.startswith("/"):
            raise UsageError(
                f"{name} is {place!r}, a folder of this machine that no pod sees",
                where=f"--{name}",
                remedy="give a bucket: gs://BUCKET/FOLDER",
            )
    _check_pods(values)


def _check_pods(values: Mapping[str, Any]) -> None:
    """Refuse what the cluster would refuse of the pods, and engines on pods that cannot run them.

    A cluster's driver takes an empty text here for an error, and says so only when the pod is to start.
    """
    for name in ("cpu", "memory", "gpu_count"):
        form = _COUNT if name == "gpu_count" else _QUANTITY
        if not form.fullmatch(values[name]):
            raise UsageError(
                f"{name} is {values[name]!r}",
                where=f"--{name}",
                remedy="give a whole number" if name == "gpu_count" else "give a quantity, such as 7 or 28Gi",
            )
    for name in ("gpu_type", "hf_secret", *(name for name in values if name.startswith("image_"))):
        if not values[name].strip():
            raise UsageError(f"{name} is empty", where=f"--{name}", remedy="leave it out to have its default")
    without_gpu = int(values["gpu_count"]) == 0
    if values["engine"] == "full" and without_gpu:
        raise UsageError("the full engine needs a GPU", where="--gpu_count", remedy="give 1, or --engine preview")
    stage_images = {values[f"image_{name}"] for name in STAGE_NAMES.values()}
    gpu_images = {image_reference(name) for name in STAGE_NAMES.values()}
    if values["engine"] == "preview" and stage_images & gpu_images:
        raise UsageError(
            "the GPU images do not hold the preview engine",
            where="--engine preview",
            remedy="take --profile cpu-preview, or give --image_scaffold, --image_trajectory and --image_splat the cpu "
            "image",
        )
    if values["splat_trainer"] == "nerfstudio" and values["image_splat"] == image_reference("splat"):
        raise UsageError(
            "the image of stage 3 does not hold nerfstudio",
            where="--splat_trainer nerfstudio",
            remedy=f"give --image_splat {image_reference('splat-nerfstudio')}",
        )


def require_known(name: str, parameters: Mapping[str, Any], where: str) -> None:
    """Refuse a name that is no parameter's, with the nearest one that is."""
    if name in parameters:
        return
    guess = closest(name, parameters)
    meant = f"perhaps {guess} was meant; " if guess else ""
    raise UsageError(
        f"there is no run parameter {name!r}", where=where, remedy=f"{meant}submit --help lists all of them"
    )


def require_type(parameter: RunParameter, value: Any, where: str) -> None:
    """Refuse a value of another type than the parameter's."""
    fits = {
        "string": isinstance(value, str),
        "bool": isinstance(value, bool),
        "int": isinstance(value, int) and not isinstance(value, bool),
        "object": isinstance(value, dict),
        "list": isinstance(value, list),
    }[parameter.kind]
    if not fits:
        raise UsageError(
            f"{parameter.name} is {value!r}, not {_WORDS[parameter.kind]}",
            where=where,
            remedy=f"give {_WORDS[parameter.kind]}",
        )


def typed(parameter: RunParameter, text: str) -> Any:
    """The value that a text stands for."""
    kind = parameter.kind
    value: Any = text
    if kind == "bool":
        word = text.strip().lower()
        value = True if word in _TRUE else False if word in _FALSE else text
    elif kind == "int":
        value = int(text) if _WHOLE_NUMBER.fullmatch(text.strip()) else text
    elif kind in ("object", "list"):
        try:
            value = json.loads(text)
        except ValueError:
            value = text
    require_type(parameter, value, f"--{parameter.name}")
    return value


def _destination(name: str) -> str:
    """Where argparse keeps a parameter's value, apart from the command's own flags."""
    return f"run_parameter_{name}"


def _shape(parameter: RunParameter, several: set[str]) -> dict[str, Any]:
    kind = parameter.kind
    if kind == "bool":
        return {"nargs": "?", "const": "true", "metavar": "true|false"}
    metavar = {"int": "N", "object": "JSON", "list": "JSON"}.get(kind, "VALUE")
    if parameter.name in several:
        return {"action": "extend", "nargs": "+", "metavar": metavar}
    return {"metavar": metavar}


def _help(parameter: RunParameter) -> str:
    default = parameter.default
    shown = json.dumps(default) if isinstance(default, (dict, list, bool)) else str(default)
    note = " (required)" if default is None else f" (default: {shown})" if default not in ("", False) else ""
    return (parameter.help + note).replace("%", "%%")
