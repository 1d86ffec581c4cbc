"""What each size of card does, and the error for one that is too small."""

from __future__ import annotations

import pytest

from worldexplorer.errors import UserError
from worldexplorer.models.seva.memory import Placement, choose_placement, least_gib, wanted_gib, winograd_fits
from worldexplorer.models.seva.settings import SevaSettings
from worldexplorer.units import GIB

PIXELS = 576 * 576


def free_on(card_gb: float) -> int:
    """What a card of so many GB has free when nothing else runs on it."""
    return int((card_gb * 1e9 / GIB - 0.7) * GIB) if card_gb > 48 else int((card_gb - 0.9) * GIB)


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        (10, Placement(resident=False, recorded=False)),
        (12, Placement(resident=True, recorded=True)),
        (16, Placement(resident=True, recorded=True)),
        (24, Placement(resident=True, recorded=True)),
        (40, Placement(resident=True, recorded=True)),
        (80, Placement(resident=True, recorded=True)),
    ],
)
def test_each_card_does_what_the_page_says(card: int, expected: Placement) -> None:
    assert choose_placement(free_on(card), 21, PIXELS, 2) == expected


@pytest.mark.parametrize("card", [24, 40, 80])
def test_large_cards_have_room_for_the_second_weights(card: int) -> None:
    assert winograd_fits(card * 10**9 if card > 48 else card * GIB)
    assert choose_placement(free_on(card), 24, PIXELS, 2, winograd=True) == Placement(resident=True, recorded=True)
    assert not winograd_fits(16 * GIB)


def test_a_large_card_with_little_free_is_told_what_does_without_the_second_weights() -> None:
    between = int(GIB * (least_gib(21, PIXELS, 2) + 0.5))
    with pytest.raises(UserError, match=r"9\.8 GiB are needed.*or --precision bfloat16$"):
        choose_placement(between, 21, PIXELS, 2, winograd=True)
    with pytest.raises(UserError) as caught:
        choose_placement(4 * GIB, 21, PIXELS, 2, winograd=True)
    assert "bfloat16" not in caught.value.remedy, "that would not help"


@pytest.mark.parametrize(("capability", "expected"), [((9, 0), True), ((8, 0), True), ((7, 5), False)])
def test_old_gpus_have_no_second_weights(capability: tuple[int, int], expected: bool) -> None:
    assert SevaSettings().winograd(capability, 48 * GIB) is expected


def test_too_little_memory_names_the_least() -> None:
    with pytest.raises(UserError) as caught:
        choose_placement(4 * GIB, 21, PIXELS, 2)
    assert "4.0 GiB are free" in caught.value.what
    assert f"{least_gib(21, PIXELS, 2):.1f} GiB are needed" in caught.value.what
    assert "more memory" in caught.value.remedy


def test_a_joint_sampling_that_does_not_fit_names_what_would() -> None:
    between = int(1024**3 * (least_gib(21, PIXELS, 2) + 0.3))
    assert choose_placement(between, 21, PIXELS, 2) == Placement(resident=False, recorded=False)
    with pytest.raises(UserError, match=r"8\.3 GiB are needed for 24 frames at once \(7\.7 for 21, with") as caught:
        choose_placement(between, 24, PIXELS, 2)
    assert caught.value.remedy.endswith("or --num_seva_frames 8 or 16")
    with pytest.raises(UserError) as caught:
        choose_placement(4 * GIB, 24, PIXELS, 2)
    assert "num_seva_frames" not in caught.value.remedy, "that would not help"


def test_a_12_gb_card_keeps_less_of_stage_1_on_it() -> None:
    assert choose_placement(free_on(12), 24, PIXELS, 2) == Placement(resident=False, recorded=False)
    assert choose_placement(free_on(16), 24, PIXELS, 2) == Placement(resident=True, recorded=True)


def test_more_frames_and_float32_need_more() -> None:
    assert least_gib(42, PIXELS, 2) > least_gib(21, PIXELS, 2)
    assert least_gib(21, PIXELS, 4) == pytest.approx(2 * least_gib(21, PIXELS, 2))


@pytest.mark.parametrize(("frames", "size"), [(21, 2), (24, 2), (24, 4)])
def test_with_what_is_wanted_everything_stays_and_with_less_it_does_not(frames: int, size: int) -> None:
    wanted = wanted_gib(frames, PIXELS, size)
    assert choose_placement(int(GIB * (wanted + 0.01)), frames, PIXELS, size).resident
    assert not choose_placement(int(GIB * (wanted - 0.01)), frames, PIXELS, size).resident


def test_an_8_gb_card_is_too_small() -> None:
    with pytest.raises(UserError):
        choose_placement(free_on(8), 21, PIXELS, 2)
