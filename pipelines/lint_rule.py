"""What a rule about compiled pipelines is, and what it finds.

Rules named E describe what compiles and then fails, or is silently left out, on the Kubeflow backend. Rules named W
describe what works and costs something: a local run that differs, a summary that is not written, an image that moves.

Example:
    >>> @rule("E3", why="the backend has no loops over artifacts", remedy="loop over parameters")
    ... def loop_over_artifacts(package):
    ...     yield from ((task.path, "loops over artifacts") for task in package.tasks() if artifacts_of(task))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipelines.package import Package

Place = tuple[str, str]
"""Where: the names of tasks from the root, joined by slashes; and what is wrong there."""
Check = Callable[[Package], Iterator[Place]]


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that a rule found.

    Attributes:
        rule: the rule's name, such as "E7".
        where: the task, as the names of tasks from the root joined by slashes; or "root".
        what: what is wrong there.
        why: what the backend makes of it.
        remedy: what to do.
    """

    rule: str
    where: str
    what: str
    why: str
    remedy: str

    @property
    def is_error(self) -> bool:
        """Whether the pipeline does not run as it reads."""
        return self.rule.startswith("E")

    def __str__(self) -> str:
        """One line for a person."""
        return f"{self.rule} {self.where}: {self.what} ({self.why}). What to do: {self.remedy}"


@dataclass(frozen=True)
class Rule:
    """A rule.

    Attributes:
        name: "E" or "W" and a number; it stays with the rule.
        why: what the backend makes of it, one sentence without its full stop.
        remedy: what to do.
        check: yields where and what.
    """

    name: str
    why: str
    remedy: str
    check: Check

    def findings(self, package: Package) -> Iterator[Finding]:
        """What it finds in a package."""
        for where, what in self.check(package):
            yield Finding(self.name, where, what, self.why, self.remedy)


def rule(name: str, *, why: str, remedy: str) -> Callable[[Check], Rule]:
    """Make a rule of a function that yields where and what."""
    return lambda check: Rule(name, why, remedy, check)
