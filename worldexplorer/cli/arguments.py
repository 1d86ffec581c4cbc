"""The flags of a batch, made from the dataclasses of :mod:`worldexplorer.config`.

Every field is one flag with the field's name, help, choices and default; nothing about it is written here. argparse
only sorts the words: values are read afterwards, so that every complaint says what, where and what to do.

Example:
    >>> run = parse_run(["--dataset_dir", "data", "--only-stages", "3", "1"])
    >>> run.batch.only_stages, run.scaffold.num_seva_frames
    ((1, 3), 80)
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any

from worldexplorer.cli.parser import Parser, choose_from
from worldexplorer.config import (
    CONFIG_CLASSES,
    BatchConfig,
    FullEngineConfig,
    RunConfig,
    ScaffoldConfig,
    SplatConfig,
    TrajectoryConfig,
    help_texts,
)
from worldexplorer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_REQUIRED = "Required"
_LAST_GROUP = "General"
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
_SHOWN_LENGTH = 60
_EPILOGUE = (
    "Exit codes: 0 all good, 1 something failed, 2 the command or the data set is wrong (nothing ran), 3 something "
    "waits for a person, 130 after Ctrl-C. Running the same command again goes on where it stopped."
)


@dataclass(frozen=True)
class Flag:
    """One field as the command line sees it; the attributes are those of :func:`worldexplorer.config.setting`."""

    name: str
    config_class: type
    help: str
    default: Any
    group: str
    choices: tuple[Any, ...]
    several: bool
    kind: type
    synonym: str
    metavar: str

    @property
    def is_switch(self) -> bool:
        """Whether it takes no value."""
        return self.default is False

    @property
    def is_number_list(self) -> bool:
        """Whether its one value is a list of numbers separated by commas."""
        return isinstance(self.default, tuple) and not self.several

    @property
    def is_required(self) -> bool:
        """Whether the command makes no sense without it."""
        return self.group == _REQUIRED

    @property
    def default_text(self) -> str:
        """The default as a person would type it; empty where the help text says what holds without the flag."""
        if self.default is None or self.default is False or self.default in ((), ""):
            return ""
        if isinstance(self.default, tuple):
            return (" " if self.several else ",").join(str(value) for value in self.default)
        return str(self.default)


@cache
def batch_flags() -> tuple[Flag, ...]:
    """Every flag of a batch."""
    return tuple(
        Flag(one.name, config_class, help_texts(config_class)[one.name], one.default, **one.metadata)
        for config_class in CONFIG_CLASSES
        for one in fields(config_class)
    )


def batch_parser(program: str = "run_batch_pipeline.py") -> Parser:
    """The parser of a batch's words; the values come out as strings."""
    parser = Parser(
        prog=program,
        usage="%(prog)s --dataset_dir FOLDER [flags]",
        description="Turn the photos of a curated data set into explorable Gaussian-splat worlds, stage by stage.",
        epilog=_EPILOGUE,
    )
    flags = batch_flags()
    names = dict.fromkeys(flag.group for flag in flags)
    for name in sorted(names, key=lambda name: name == _LAST_GROUP):
        group = parser.add_argument_group(name)
        for flag in (one for one in flags if one.group == name):
            group.add_argument(f"--{flag.name}", help=_help(flag), **_shape(flag))
            if flag.synonym:
                group.add_argument(f"--{flag.synonym}", help=f"Another name of --{flag.name}.", **_shape(flag))
    return parser


def parse_run(argv: Sequence[str], program: str = "run_batch_pipeline.py") -> RunConfig:
    """Read the words of a batch command.

    Raises:
        UsageError: an unknown flag, a missing or a wrong value.
        SystemExit: after `--help`.
    """
    given = vars(batch_parser(program).parse_words(argv))
    values: dict[type, dict[str, Any]] = {config_class: {} for config_class in CONFIG_CLASSES}
    for flag in batch_flags():
        raw = _spoken(flag, given)
        if raw is not None:
            values[flag.config_class][flag.name] = _value(flag, raw)
        elif flag.is_required:
            raise UsageError(f"--{flag.name} is missing", remedy=f"add --{flag.name} {flag.metavar}")
    return RunConfig(
        batch=BatchConfig(**values[BatchConfig]),
        scaffold=ScaffoldConfig(**values[ScaffoldConfig]),
        trajectory=TrajectoryConfig(**values[TrajectoryConfig]),
        splat=SplatConfig(**values[SplatConfig]),
        full=FullEngineConfig(**values[FullEngineConfig]),
    )


def _shape(flag: Flag) -> dict[str, Any]:
    """What argparse needs to sort the words: how many belong to the flag, and how help names them."""
    if flag.is_switch:
        return {"action": "store_true", "default": None}
    metavar = flag.metavar or "{" + ",".join(str(choice) for choice in flag.choices) + "}"
    if flag.several:
        return {"action": "extend", "nargs": "+", "metavar": metavar}
    return {"metavar": metavar}


def _help(flag: Flag) -> str:
    note = " (required)" if flag.is_required else f" (default: {flag.default_text})" if flag.default_text else ""
    return (flag.help + note).replace("%", "%%")


def _spoken(flag: Flag, given: Mapping[str, Any]) -> Any:
    """What the command says for a flag under either of its names; None where it says nothing."""
    first = given[flag.name]
    if not flag.synonym or given[flag.synonym] is None:
        return first
    second = given[flag.synonym]
    if first is not None and _value(flag, first) != _value(flag, second):
        raise UsageError(
            f"--{flag.name} is {first} and --{flag.synonym} is {second}, and both are names of one setting",
            remedy=f"give --{flag.name} alone",
        )
    return second


def _value(flag: Flag, raw: Any) -> Any:
    """The typed value of a flag's words."""
    if flag.is_switch:
        return raw
    if flag.several:
        words = [word for text in raw for word in text.split()]
        if not words:
            raise UsageError(f"{flag.name} is empty", where=f"--{flag.name}", remedy=f"give it as {_usage(flag)}")
        items = [_item(flag, word) for word in words]
        return tuple(sorted(set(items)) if flag.choices else items)
    if flag.is_number_list:
        return _numbers(flag, raw)
    return _item(flag, raw)


def _item(flag: Flag, text: str) -> Any:
    """One word of a flag, typed and among its choices."""
    value: Any = text
    if not text.strip():
        raise UsageError(f"{flag.name} is empty", where=f"--{flag.name}", remedy=f"give it as {_usage(flag)}")
    if flag.kind is int:
        if not _WHOLE_NUMBER.fullmatch(text):
            raise _not_a(flag, text, "whole number")
        value = int(text)
    elif flag.kind is float:
        value = _number(text)
        if value is None:
            raise _not_a(flag, text, "number")
    if flag.choices and value not in flag.choices:
        raise UsageError(
            f"{flag.name} is {_shown(text)}",
            where=f"--{flag.name}",
            remedy=choose_from(text, map(str, flag.choices)),
        )
    return value


def _numbers(flag: Flag, text: str) -> tuple[float, ...]:
    numbers = [_number(part) for part in text.split(",")]
    if None in numbers:
        count = f"{len(flag.default)} " if flag.default else ""
        raise UsageError(
            f"{flag.name} is {_shown(text)}, not {count}numbers separated by commas",
            where=f"--{flag.name}",
            remedy=f"give numbers separated by commas, such as {flag.default_text or flag.metavar}",
        )
    return tuple(number for number in numbers if number is not None)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _not_a(flag: Flag, text: str, what: str) -> UsageError:
    hint = " numbers separated by spaces" if flag.several else f" a {what}"
    example = f", such as {_usage(flag)}" if flag.default_text else ""
    return UsageError(
        f"{flag.name} is {_shown(text)}, not a {what}", where=f"--{flag.name}", remedy=f"give{hint}{example}"
    )


def _usage(flag: Flag) -> str:
    return f"--{flag.name} {flag.default_text or flag.metavar}"


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}...")
