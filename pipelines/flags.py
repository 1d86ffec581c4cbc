"""The flags that the commands share: how to reach the API, and how to show what happens.

Example:
    >>> parser = Parser(prog="python -m pipelines status")
    >>> add_connection_flags(parser)
    >>> cluster = reach(parser.parse_words(["--host", "http://localhost:8080"]), show)
"""

from __future__ import annotations

import math
import re
from argparse import Namespace
from collections.abc import Callable

from pipelines.client import Cluster, open_cluster
from pipelines.connection import (
    CA_FILE_VARIABLE,
    HOST_VARIABLE,
    NAMESPACE_VARIABLE,
    TOKEN_FILE_VARIABLE,
    TOKEN_VARIABLE,
    connect_settings,
)
from pipelines.transport import DEFAULT_PATIENCE
from worldexplorer.cli.parser import Parser
from worldexplorer.errors import UsageError

LOG_FORMATS = ("auto", "rich", "text", "json")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)")
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def add_connection_flags(parser: Parser) -> None:
    """Where the API is."""
    group = parser.add_argument_group("Connection")
    group.add_argument(
        "--host",
        metavar="URL",
        default="",
        help=f"The Kubeflow Pipelines API (default: ${HOST_VARIABLE}, in a pod the cluster's own).",
    )
    group.add_argument(
        "--namespace", metavar="NAME", default="", help=f"The Kubeflow profile (default: ${NAMESPACE_VARIABLE})."
    )
    group.add_argument(
        "--token_env",
        metavar="NAME",
        default="",
        help=f"The environment variable that holds the token (default: {TOKEN_VARIABLE}). A token itself is no flag.",
    )
    group.add_argument(
        "--token_file",
        metavar="FILE",
        default="",
        help=f"A file that holds the token, read again when it expires (default: ${TOKEN_FILE_VARIABLE}, in a pod its "
        "projected token).",
    )
    group.add_argument(
        "--ca_file", metavar="FILE", default="", help=f"Certificates to trust (default: ${CA_FILE_VARIABLE})."
    )
    group.add_argument(
        "--kubeflow_namespace",
        metavar="NAME",
        default="kubeflow",
        help="Where Kubeflow Pipelines is installed, for the address in a pod (default: kubeflow).",
    )
    group.add_argument(
        "--patience",
        metavar="TIME",
        help="How long an API that does not answer is asked again, such as 90s or 15m (default: 60s, while waiting "
        "for runs 15m).",
    )


def add_format_flags(parser: Parser) -> None:
    """How it is shown."""
    group = parser.add_argument_group("Output")
    group.add_argument(
        "--log_format",
        choices=LOG_FORMATS,
        default="auto",
        metavar="{" + ",".join(LOG_FORMATS) + "}",
        help="Bars (rich), plain lines (text) or JSON lines (json); auto takes bars in a terminal and JSON lines "
        "elsewhere (default: auto).",
    )
    group.add_argument("--json", action="store_true", help="The same as --log_format json.")


def reach(words: Namespace, on_trouble: Callable[[str], None]) -> Cluster:
    """The cluster that the connection flags name; a wrong address is known for one before a long wait begins."""
    connection = connect_settings(
        host=words.host,
        namespace=words.namespace,
        token_variable=words.token_env,
        token_file=words.token_file,
        ca_file=words.ca_file,
        kubeflow_namespace=words.kubeflow_namespace,
    )
    patience = DEFAULT_PATIENCE if words.patience is None else seconds(words.patience, "--patience")
    return open_cluster(connection, patience=patience, on_trouble=on_trouble)


def seconds(text: str, flag: str) -> float:
    """A time such as 90, 90s, 15m, 12h or 2d in seconds.

    Raises:
        UsageError: it is none, or not above zero.
    """
    match = _DURATION.fullmatch(text.strip())
    value = float(match[1]) * _UNITS[match[2]] if match else math.nan
    if not 0 < value < math.inf:
        raise UsageError(f"{text!r} is not a time", where=flag, remedy="give it as 90s, 15m, 12h or 2d")
    return value


def whole_number(text: str, flag: str, least: int = 1) -> int:
    """A whole number from `least`; UsageError otherwise."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < least:
        raise UsageError(f"{text!r} is not a whole number from {least}", where=flag, remedy=f"give {flag} {least}")
    return int(text)
