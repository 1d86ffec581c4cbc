"""The licence gate: which weights may not be used with --commercial, and what to take instead.

`weights.json` states the licence of every set, and whether it allows every use. Nothing here needs torch.

Example:
    >>> commercial_refusals(["flux1-dev"])
    ['--commercial does not allow black-forest-labs/FLUX.1-dev (views from text; FLUX.1-dev non-commercial): take --text_to_image flux2-klein']
"""  # noqa: E501 (one line of output)

from __future__ import annotations

from collections.abc import Iterable

from worldexplorer.errors import UsageError
from worldexplorer.models.weights import WeightSet, weight_sets


def commercial_refusals(names: Iterable[str]) -> list[str]:
    """One sentence for each of the sets whose licence is restricted."""
    return [_refusal(one) for one in map(weight_sets().__getitem__, names) if not one.permissive]


def require_permitted(names: Iterable[str]) -> None:
    """Refuse sets whose licence is restricted; UsageError naming the first of them."""
    for one in map(weight_sets().__getitem__, names):
        if not one.permissive:
            raise UsageError(
                f"--commercial does not allow {one.repository} ({one.role}; {one.licence})",
                where="--commercial",
                remedy=f"take {one.instead}" if one.instead else "leave out --commercial, or the stage that needs it",
            )


def _refusal(one: WeightSet) -> str:
    advice = f"take {one.instead}" if one.instead else "there is no model in its place yet"
    return f"--commercial does not allow {one.repository} ({one.role}; {one.licence}): {advice}"
