"""The settings of a run as the pipeline's parameters: the flags of the command, minus those that a pod decides.

Names, defaults and help are those of :mod:`worldexplorer.config`. A pipeline parameter has one type and no "unset":
text is empty where the flag was left out, and lists are words separated by spaces.

Example:
    >>> words_of({"dataset_dir": "gs://sets/one", "seed": 7, "force": True, "hfov": ""}, (1, 2, 3))
    ['--dataset_dir=gs://sets/one', '--seed=7', '--force', '--only_stages', '1', '2', '3']
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from worldexplorer.cli.arguments import Flag, batch_flags, parse_run
from worldexplorer.config import RunConfig
from worldexplorer.errors import UsageError

DECIDED_BY_THE_POD: Mapping[str, str] = {
    "only_stages": "the pipeline's own stages",
    "workers": "the cluster runs jobs side by side",
    "gpus": "SEVA uses all that a pod gets, training one",
    "dry_run": "`submit --dry_run` and the plan's report tell",
    "log_format": "JSON lines",
    "confine_paths": "always on: a pod must not read what the data set does not hold",
    "check_checkpoints": "always on: a stage's pod checks its models before it begins",
    "nerf_folder": "inside the stage's attempt, which outlives the pod; keep_training keeps it",
}
"""Flags that are no parameters, and why."""
REQUIRED_IN_A_CLUSTER = ("dataset_dir", "output_base")
"""No default serves them: a folder of the command's machine means nothing to a pod."""


@dataclass(frozen=True)
class RunParameter:
    """One parameter of a run.

    Attributes:
        kind: string, int or bool for a setting; object or list for what only the cluster needs, as JSON.
        default: None where the run has to say it.
    """

    name: str
    kind: Literal["string", "int", "bool", "object", "list"]
    default: Any
    help: str
    group: str


def flag_parameters() -> tuple[RunParameter, ...]:
    """The flags that are parameters, in the order of the command's help."""
    return tuple(_parameter(flag) for flag in batch_flags() if flag.name not in DECIDED_BY_THE_POD)


def words_of(values: Mapping[str, Any], stages: Sequence[int]) -> list[str]:
    """The command that says the same as the parameters."""
    flags = {flag.name: flag for flag in batch_flags()}
    unknown = values.keys() - {one.name for one in flag_parameters()}
    if unknown:
        raise UsageError(f"unknown parameters {', '.join(sorted(unknown))}", remedy="compile the pipeline again")
    words: list[str] = []
    for name, value in values.items():
        if isinstance(value, str) and not value.strip():
            continue
        if flags[name].is_switch:
            words += [f"--{name}"] if value else []
        elif flags[name].several:
            items = str(value).split()
            if any(item.startswith("-") for item in items):  # it would be read as a flag of its own
                raise UsageError(f"{name} is {value!r}", where=name, remedy="give words separated by spaces")
            words += [f"--{name}", *items]
        else:
            words.append(f"--{name}={str(_whole(value)).strip()}")  # a text may begin with a hyphen
    return [*words, "--only_stages", *map(str, stages)]


def read_run(values: Mapping[str, Any], stages: Sequence[int]) -> RunConfig:
    """The configuration the parameters describe; UsageError as the command line would say it."""
    return parse_run([*words_of(values, stages), "--confine_paths", "--log_format", "json"], "the pipeline")


def _parameter(flag: Flag) -> RunParameter:
    default = None if flag.name in REQUIRED_IN_A_CLUSTER else flag.default_text
    if flag.is_switch:
        return RunParameter(flag.name, "bool", flag.default, flag.help, flag.group)
    if flag.kind is int and isinstance(flag.default, int):
        return RunParameter(flag.name, "int", flag.default, flag.help, flag.group)
    return RunParameter(flag.name, "string", default, flag.help, flag.group)


def _whole(value: Any) -> Any:
    """Numbers pass through the pipeline as floating-point ones."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
