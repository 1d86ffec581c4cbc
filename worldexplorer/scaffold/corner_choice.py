"""`corners.json`: how each corner view was made, which of its variants became the view, and by what right.

Example:
    >>> choice = best_by_score(1, variants, scores)
    >>> choice.chosen.name, round(choice.score, 2)
    ('g7.5_s3', 0.31)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worldexplorer.errors import DefectError
from worldexplorer.scaffold.variants import Variant, corner_name

_DIGITS = 6


@dataclass(frozen=True)
class CornerChoice:
    """The variants of one corner and the one that was taken.

    Attributes:
        corner: 1, 3, 5 or 7.
        scores: [N, 2] similarity of every variant with the left and with the right neighbour's subject; None where
            nothing was scored.
    """

    corner: int
    variants: tuple[Variant, ...]
    chosen: Variant
    scores: NDArray[np.float32] | None = None

    @property
    def score(self) -> float | None:
        """That of the chosen variant: the mean over both neighbours."""
        if self.scores is None:
            return None
        return round(float(_means(self.scores)[self.variants.index(self.chosen)]), _DIGITS)


def best_by_score(corner: int, variants: Sequence[Variant], scores: NDArray[np.float32]) -> CornerChoice:
    """The variant that is most like what both neighbours show, the first of equals.

    Raises:
        DefectError: the scorer's answer is not a number for every variant and neighbour.
    """
    if scores.shape != (len(variants), 2) or not np.isfinite(scores).all():
        raise DefectError(
            f"the scorer gave {scores.shape} values for {len(variants)} variants and 2 texts, "
            f"{int((~np.isfinite(scores)).sum())} of them no numbers",
            where=f"corner view {corner_name(corner)}",
            remedy="the model failed without saying so; run it again, and report it if it stays",
        )
    return CornerChoice(corner, tuple(variants), variants[int(np.argmax(_means(scores)))], scores)


def write_choices(
    path: Path,
    choices: Sequence[CornerChoice],
    texts: Mapping[int, Mapping[str, Any]],
    seed: int,
    facts: Mapping[str, Any],
) -> None:
    """Write the file; equal choices give equal bytes.

    Args:
        path: of the file.
        choices: one a corner.
        texts: what each corner was made from and judged by.
        seed: the run's.
        facts: of all corners: mode, models.
    """
    corners = {corner_name(one.corner): {**texts[one.corner], **_described(one, seed)} for one in choices}
    document = {"version": 1, **facts, "corners": corners}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def _described(choice: CornerChoice, seed: int) -> dict[str, Any]:
    entries: list[dict[str, Any]] = []
    for place, variant in enumerate(choice.variants):
        entry: dict[str, Any] = {
            "name": variant.name,
            "guidance": variant.guidance,
            "seed": variant.seed(seed, choice.corner),
        }
        if choice.scores is not None:
            left, right = (round(float(value), _DIGITS) for value in choice.scores[place])
            entry |= {
                "score": round(float(_means(choice.scores)[place]), _DIGITS),
                "score_left": left,
                "score_right": right,
            }
        entries.append(entry)
    return {"chosen": choice.chosen.name, "variants": entries}


def _means(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(scores.astype(np.float64).mean(axis=1), dtype=np.float64)
