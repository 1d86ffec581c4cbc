"""Look into compiled pipelines for what compiles and then breaks: `python -m pipelines lint FILE...`.

:func:`lint_package` applies the rules of `pipelines.lint_errors` (E) and `pipelines.lint_warnings` (W). The command
prints one line a finding; its exit code is 1 when a rule named E found something (with `--strict`: any rule).

Example:
    >>> lint_package(Path("pipelines/compiled/worldexplorer_123.yaml"))
    []
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines.exit_codes import FAILED, SUCCESS
from pipelines.lint_errors import ERROR_RULES
from pipelines.lint_rule import Finding, Rule
from pipelines.lint_warnings import WARNING_RULES
from pipelines.package import Package, read_package
from worldexplorer.cli.parser import Parser

RULES: tuple[Rule, ...] = (*ERROR_RULES, *WARNING_RULES)
"""Every rule: errors, then warnings, each in the order of their numbers."""


def lint_package(path: Path) -> list[Finding]:
    """What the rules find in a compiled pipeline.

    Args:
        path: the package, as the SDK's compiler writes it.

    Returns:
        The findings in the order of :data:`RULES`, then of the tasks; each once, however often a task is unfolded.

    Raises:
        UsageError: the file is no compiled pipeline.
    """
    return lint(read_package(path))


def lint(package: Package) -> list[Finding]:
    """What the rules find in a package that has been read."""
    return list(dict.fromkeys(finding for rule in RULES for finding in rule.findings(package)))


def main(argv: Sequence[str], program: str = "python -m pipelines lint") -> int:
    """Print the findings of the files that the words name, one line each, and a count for each file.

    Args:
        argv: the command's words.
        program: the command's name in its help.

    Returns:
        0 for no finding that fails, 1 for some.

    Raises:
        UsageError: the words are wrong, or a file is no compiled pipeline.
    """
    parser = Parser(prog=program, description="Look into compiled pipelines for what breaks in a cluster.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="Compiled pipelines.")
    parser.add_argument("--strict", action="store_true", help="Warnings fail as well.")
    words = parser.parse_words(argv)
    failed = False
    for path in words.files:
        findings = lint_package(Path(path))
        for finding in findings:
            sys.stdout.write(f"{path}: {finding}\n")
        errors = sum(finding.is_error for finding in findings)
        failed |= bool(findings) if words.strict else errors > 0
        sys.stdout.write(f"{path}: {errors} errors, {len(findings) - errors} warnings\n")
    return FAILED if failed else SUCCESS
