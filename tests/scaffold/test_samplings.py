"""Which frames are made together: each once, from frames that are there, never more than the model takes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldexplorer.errors import DefectError, UsageError
from worldexplorer.scaffold.poses import key_frame_indices
from worldexplorer.scaffold.samplings import PHOTO, PlannedSampling, Window, joint_frames, plan_samplings

SEVA = Window(joint=24, between=21)
steady = settings(deadline=None, derandomize=True)
counts = st.integers(1, 45).map(lambda eighth: 8 * eighth)
windows = st.builds(Window, joint=st.integers(17, 40), between=st.integers(3, 40))


def sizes(count: int, **more: object) -> list[list[int]]:
    steps = plan_samplings(count, **{"closed": True, "window": SEVA, **more})  # type: ignore[arg-type]
    return [[len(sampling.frames) for sampling in step] for step in steps]


@steady
@given(counts, windows, st.booleans(), st.booleans(), st.booleans())
def test_every_frame_is_made_once_from_frames_that_are_there(
    count: int, window: Window, closed: bool, two_steps: bool, fills: bool
) -> None:
    steps = plan_samplings(count, closed=closed, window=window, two_steps=two_steps, photo_fills_first=fills)
    there = {0} if fills else {PHOTO}
    made: list[int] = []
    for step in steps:
        for sampling in step:
            assert {frame % count if frame != PHOTO else PHOTO for frame in sampling.given} <= there
            assert sampling.given < set(sampling.frames)
            assert list(sampling.frames) == sorted(set(sampling.frames))
            assert len(sampling.frames) <= (window.between if sampling.second_pass else window.joint)
            made += sampling.made
        there |= {frame for sampling in step for frame in sampling.made}
    assert sorted(made) == list(range(1 if fills else 0, count))
    names = [sampling.name for step in steps for sampling in step]
    assert len(set(names)) == len(names)


@steady
@given(counts, windows, st.booleans(), st.booleans())
def test_views_are_joint_and_the_rest_lies_between_given_frames(
    count: int, window: Window, closed: bool, fills: bool
) -> None:
    joint, *between = plan_samplings(count, closed=closed, window=window, photo_fills_first=fills)
    assert len(joint) == 1
    assert set(key_frame_indices(count)) <= set(joint[0].frames)
    assert (joint[0].guider, joint[0].second_pass) == ("multiview", False)
    assert len(between) <= 1
    for sampling in between[0] if between else ():
        assert (sampling.guider, sampling.second_pass) == ("temporal", True)
        assert {sampling.frames[0], sampling.frames[-1]} <= sampling.given
        assert PHOTO not in sampling.frames


@steady
@given(counts, st.integers(16, 40), st.booleans())
def test_joint_frames_are_spread_evenly(count: int, joint: int, closed: bool) -> None:
    frames = joint_frames(count, closed=closed, window=Window(joint, 21))
    ends = [*frames, count] if closed else frames
    gaps = [after - before for before, after in pairwise(ends)]
    assert min(gaps) >= 1
    if closed:
        assert max(gaps) - min(gaps) <= 1
    else:
        assert frames[-1] == count - 1


def test_eighty_frames_are_five_samplings_that_are_full():
    assert sizes(80) == [[24], [21, 21, 21, 21]]
    joint, between = plan_samplings(80, closed=True, window=SEVA)
    assert joint[0].frames[:4] == (0, 3, 7, 10)
    assert between[-1].frames[-4:] == (77, 78, 79, 80)
    assert {77, 80} <= between[-1].given


@pytest.mark.parametrize("count", [8, 16, 24])
def test_the_quick_way_is_one_sampling(count):
    assert sizes(count) == [[count]]


def test_a_model_of_any_number_makes_all_in_one_go():
    assert plan_samplings(360, closed=True, window=None) == [
        (PlannedSampling("views", tuple(range(360)), frozenset({0})),)
    ]
    assert plan_samplings(8, closed=True, window=None, photo_fills_first=False)[0][0].given == frozenset()


def test_two_steps_look_ahead_first():
    (ahead,), (behind,) = plan_samplings(24, closed=True, window=SEVA, two_steps=True)
    assert ahead.frames == (0, 1, 2, 3, 4, 5, 6, 18, 19, 20, 21, 22, 23)
    assert ahead.given == {0}
    assert behind.given == {0, 3, 6, 18, 21}
    assert behind.made == tuple(range(7, 18))
    assert sizes(80, two_steps=True) == [[13], [16], [21, 21, 21, 21]]
    assert sizes(8, two_steps=True) == [[5], [8]]


def test_a_photo_beside_frame_zero_takes_a_place():
    (joint,), between = plan_samplings(80, closed=True, window=SEVA, photo_fills_first=False)
    assert joint.frames[:2] == (PHOTO, 0)
    assert joint.given == {PHOTO}
    assert len(joint.frames) == 17
    assert sum(len(sampling.made) for sampling in between) == 64


def test_what_cannot_be_planned():
    with pytest.raises(UsageError, match="not a multiple of 8"):
        plan_samplings(81, closed=True, window=SEVA)
    with pytest.raises(DefectError, match="takes 16"):
        plan_samplings(80, closed=True, window=Window(joint=12, between=21))
