"""argparse with one-line errors: what is wrong and what to do, never the whole usage text.

Flags are spelt with underscores; hyphens are understood as well. Abbreviations are not: a flag that is added later must
not change what a command means.

Example:
    >>> parser = Parser(prog="worldexplorer summary")
    >>> parser.add_argument("--rebuild", action="store_true")
    >>> parser.parse_words(["--rebiuld"])
    Traceback (most recent call last):
    worldexplorer.errors.UsageError: unknown flag --rebiuld. What to do: perhaps --rebuild was meant; --help lists ...
"""

from __future__ import annotations

import argparse
import difflib
import re
import textwrap
from typing import TYPE_CHECKING, Any, NoReturn

from worldexplorer.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_HELP_COLUMN = 32


class Parser(argparse.ArgumentParser):
    """A parser that raises UsageError."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, exit_on_error=False, formatter_class=_Formatter, **settings)

    def parse_words(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse all words; UsageError where one is not understood, SystemExit(0) after `--help`."""
        try:
            namespace, unknown = self.parse_known_args([self._underscored(word) for word in argv])
        except argparse.ArgumentError as error:
            raise self._wrong_value(error) from None
        if unknown:
            raise self._unknown_word(unknown[0])
        return namespace

    def error(self, message: str) -> NoReturn:
        """Turn what argparse has to say into a UsageError."""
        raise UsageError(message, remedy=f"see {self.prog} --help")

    def _underscored(self, word: str) -> str:
        """A known flag in the spelling it was added with; any other word as it is."""
        name, equals, value = word.partition("=")
        if not name.startswith("--") or name in self._option_string_actions:
            return word
        spelt = "--" + name.removeprefix("--").replace("-", "_")
        return f"{spelt}{equals}{value}" if spelt in self._option_string_actions else word

    def _wrong_value(self, error: argparse.ArgumentError) -> UsageError:
        flag = (error.argument_name or "").split("/")[0]
        action = self._option_string_actions.get(flag)
        if action is None:
            return UsageError(f"{error}", remedy=f"see {self.prog} --help")
        if action.nargs == 0:
            return UsageError(f"{flag} takes no value", remedy=f"write {flag} alone")
        count = "at least one value" if action.nargs == "+" else "a value"
        return UsageError(f"{flag} needs {count}", remedy=f"give it as {flag} {action.metavar}")

    def _unknown_word(self, word: str) -> UsageError:
        if not word.startswith("-"):
            return UsageError(f"unexpected argument {word!r}", remedy="--help lists what the command takes")
        name = word.partition("=")[0]
        known = self._option_string_actions
        meant = perhaps(name.replace("-", "_"), known, key=lambda flag: flag.replace("-", "_"))
        return UsageError(f"unknown flag {name}", remedy="; ".join([*meant, "--help lists every flag"]))


class _Wrapper(textwrap.TextWrapper):
    """Breaks lines at white space and after commas, never within a number or a name."""

    wordsep_simple_re = re.compile(r"(\s+|(?<=,)(?=\S))")


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=_HELP_COLUMN)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return _Wrapper(width, break_on_hyphens=False).wrap(" ".join(text.split()))


def closest(word: str, known: Iterable[str], key: Any = str) -> str | None:
    """The known word most like `word`, or None where none is near; `key` is what of a known word is compared."""
    words = {key(one): one for one in known}
    matches = difflib.get_close_matches(word, words, n=1)
    return words[matches[0]] if matches else None


def perhaps(word: str, known: Iterable[str], key: Any = str) -> list[str]:
    """What may have been meant, as a sentence; empty where no known word is near."""
    guess = closest(word, known, key)
    return [] if guess is None else [f"perhaps {guess} was meant"]


def choose_from(word: str, known: Iterable[str], other: str = "") -> str:
    """The remedy for a word that is none of those known; `other` is what else could be said."""
    names = tuple(known)
    return "; ".join([f"choose from {', '.join(names)}{other}", *perhaps(word, names)])


def choice(text: str, name: str, choices: Sequence[str]) -> str:
    """The word of flag `name`; UsageError where it is none of the choices."""
    if text not in choices:
        raise UsageError(f"{name} is {text!r}", where=f"--{name}", remedy=choose_from(text, choices))
    return text


def whole_number(text: str, name: str, limits: tuple[int, int]) -> int:
    """The number of flag `name`; UsageError where it is none from the first limit to the second."""
    low, high = limits
    if not re.fullmatch("[0-9]{1,9}", text) or not low <= int(text) <= high:
        raise UsageError(f"{name} is {text!r}", where=f"--{name}", remedy=f"give a number from {low} to {high}")
    return int(text)
