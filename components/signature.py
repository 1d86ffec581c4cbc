"""Signatures made from the library's settings, so that no name, default or help text is written twice.

Example:
    >>> generated("plan", "Plan a run.", parameters, body)      # a function with those parameters and their help
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from worldexplorer.pod.parameters import RunParameter

_TYPES: dict[str, type] = {"string": str, "int": int, "bool": bool, "object": dict, "list": list}


def generated(
    name: str,
    summary: str,
    parameters: Sequence[RunParameter],
    body: Callable[[dict[str, Any]], Any],
    *,
    defaults: bool = True,
    more: Sequence[inspect.Parameter] = (),
    more_help: dict[str, str] | None = None,
) -> Callable[..., Any]:
    """A function with the given parameters, which calls `body` with their values by name.

    Args:
        name: the function's.
        summary: the first line of its documentation.
        parameters: those without a default come first.
        body: what the function does.
        defaults: whether the parameters keep their defaults.
        more: further parameters, with annotations of their own.
        more_help: what they are.
    """
    ordered = sorted(parameters, key=lambda one: defaults and one.default is not None)
    signature = [_parameter(one, with_default=defaults) for one in ordered]
    names = [one.name for one in (*signature, *more)]

    def function(*values: Any) -> Any:
        return body(dict(zip(names, values, strict=True)))

    texts = {one.name: one.help for one in ordered} | (more_help or {})
    function.__name__ = name
    function.__doc__ = f"{summary}\n\nArgs:\n" + "\n".join(f"    {key}: {text}" for key, text in texts.items()) + "\n"
    function.__signature__ = inspect.Signature([*signature, *more])  # type: ignore[attr-defined]
    return function


def _parameter(one: RunParameter, *, with_default: bool) -> inspect.Parameter:
    has_default = with_default and one.default is not None
    return inspect.Parameter(
        one.name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        annotation=_TYPES[one.kind],
        default=one.default if has_default else inspect.Parameter.empty,
    )
