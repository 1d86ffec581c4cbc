"""What each size of card does, and the error for one that is too small."""

from __future__ import annotations

import pytest

from worldexplorer.errors import UserError
from worldexplorer.models.seva.memory import GIB, Placement, choose_placement, least_gib

PIXELS = 576 * 576


def free_on(card_gb: float) -> int:
    """What a card of so many GB has free when nothing else runs on it."""
    return int((card_gb * 1e9 / GIB - 0.7) * GIB) if card_gb > 48 else int((card_gb - 0.9) * GIB)


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        (10, Placement(resident=False, recorded=False, samplings=1)),
        (12, Placement(resident=True, recorded=True, samplings=1)),
        (16, Placement(resident=True, recorded=True, samplings=1)),
        (24, Placement(resident=True, recorded=True, samplings=1)),
        (40, Placement(resident=True, recorded=True, samplings=2)),
        (80, Placement(resident=True, recorded=True, samplings=2)),
    ],
)
def test_each_card_does_what_the_page_says(card: int, expected: Placement) -> None:
    assert choose_placement(free_on(card), 21, PIXELS, 2) == expected


def test_too_little_memory_names_the_least() -> None:
    with pytest.raises(UserError) as caught:
        choose_placement(4 * GIB, 21, PIXELS, 2)
    assert "4.0 GiB are free" in caught.value.what
    assert f"{least_gib(21, PIXELS, 2):.1f} GiB are needed" in caught.value.what
    assert "more memory" in caught.value.remedy


def test_more_frames_and_float32_need_more() -> None:
    assert least_gib(42, PIXELS, 2) > least_gib(21, PIXELS, 2)
    assert least_gib(21, PIXELS, 4) == pytest.approx(2 * least_gib(21, PIXELS, 2))


def test_an_8_gb_card_is_too_small() -> None:
    with pytest.raises(UserError):
        choose_placement(free_on(8), 21, PIXELS, 2)
