"""The choice of frames: exact totals, fair shares, never a first frame."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldexplorer.errors import DefectError
from worldexplorer.trajectory.frame_choice import choose_frames
from worldexplorer.trajectory.paths import path_length, published_trajectories, relative, target_parameters

steady = settings(deadline=None, derandomize=True)

SCENE = list(published_trajectories().values()) * 8
COUNTS = [trajectory.count for trajectory in SCENE]
LENGTHS = [path_length(relative(trajectory, target_parameters(trajectory, None))) for trajectory in SCENE]

trajectories = st.lists(st.tuples(st.integers(0, 140), st.floats(0, 3)), max_size=34)


def available(count):
    return count - 1 if count > 1 else count


@steady
@given(trajectories, st.integers(0, 400))
def test_the_total_is_exact_and_no_frame_is_first_or_twice(scene, places):
    counts = [count for count, _ in scene]
    chosen = choose_frames(counts, [length for _, length in scene], places)
    assert sum(map(len, chosen)) == min(places, sum(map(available, counts)))
    for count, frames in zip(counts, chosen, strict=True):
        assert frames == sorted(set(frames))
        assert all(0 <= frame < count for frame in frames)
        assert 0 not in frames or count == 1


@steady
@given(st.lists(st.tuples(st.just(1000), st.integers(1, 3_000_000)), min_size=1, max_size=34), st.integers(0, 400))
def test_shares_are_largest_remainders(scene, places):
    """Where no limit binds: every share rounded down or up, and whoever is rounded up had no smaller remainder."""
    micro = [length for _, length in scene]
    chosen = choose_frames([count for count, _ in scene], [length * 1e-6 for length in micro], places)
    up, down = [], []
    for frames, length in zip(chosen, micro, strict=True):
        share = Fraction(places * length, sum(micro))
        assert len(frames) in (share.__floor__(), share.__floor__() + 1)
        (up if len(frames) > share else down).append(share - share.__floor__())
    assert not up or not down or min(up) >= max(down)


@steady
@given(trajectories.filter(bool), st.integers(0, 400))
def test_longer_paths_get_no_fewer_frames(scene, places):
    chosen = choose_frames([count for count, _ in scene], [length for _, length in scene], places)
    for (count, length), frames in zip(scene, chosen, strict=True):
        for (other_count, other_length), other in zip(scene, chosen, strict=True):
            if count >= other_count and length > other_length + 1e-5:
                assert len(frames) >= len(other) or len(frames) == available(count)


def test_indices_are_the_middles_of_equal_parts():
    assert choose_frames([134], [1.0], 4) == [[16, 50, 83, 117]]
    assert choose_frames([45], [1.0], 1) == [[22]]


@steady
@given(st.integers(2, 200), st.data())
def test_the_formula_is_bent_only_where_it_would_take_frame_0(count, data):
    quota = data.draw(st.integers(1, count - 1))
    plain = [int(Fraction(2 * j + 1, 2) * Fraction(count, quota)) for j in range(quota)]
    [frames] = choose_frames([count], [1.0], quota)
    assert frames == plain if plain[0] else frames[0] > 0


def test_a_full_scene_shares_forty_frames_over_all_trajectories():
    chosen = choose_frames(COUNTS, LENGTHS, 40)
    assert sum(map(len, chosen)) == 40
    by_kind = {
        name: [len(chosen[4 * view + place]) for view in range(8)]
        for place, name in enumerate(("in", "left", "right", "up"))
    }
    # 40 places over 42.6 units of path: in .98, left 1.58, right 1.57, up .87 each.
    assert by_kind == {"in": [1] * 8, "left": [2] * 8, "right": [1] * 8, "up": [1] * 8}


def test_equals_are_served_all_around():
    """Eight places for sixteen trajectories of one length, two a view: at most four views in a row go without."""
    chosen = choose_frames([45] * 16, [1.0] * 16, 8)
    served = [index // 2 for index, frames in enumerate(chosen) if frames]
    assert len(set(served)) >= 6
    assert max(served.count(view) for view in range(8)) <= 2
    sides = [index % 2 for index, frames in enumerate(chosen) if frames]
    assert sides.count(0) == sides.count(1) == 4


def test_rounding_of_lengths_does_not_decide_ties():
    noisy = [length * (1 + (-1) ** index * 1e-13) for index, length in enumerate(LENGTHS)]
    assert choose_frames(COUNTS, noisy, 44) == choose_frames(COUNTS, LENGTHS, 44)


def test_short_trajectories_of_the_preview():
    chosen = choose_frames([4] * 32, LENGTHS, 40)
    assert sum(map(len, chosen)) == 40
    assert {tuple(frames) for frames in chosen} == {(2,), (1, 3)}
    assert choose_frames([4] * 32, LENGTHS, 400) == [[1, 2, 3]] * 32


def test_cut_trajectories_give_their_places_to_others():
    chosen = choose_frames([0, 1, 3, 100], [0.0, 0.0, 5.0, 5.0], 20)
    assert chosen[0] == []
    assert chosen[2] == [1, 2]
    assert [len(frames) for frames in chosen] == [0, 0, 2, 18]
    assert [len(frames) for frames in choose_frames([0, 1, 3, 100], [0.0, 0.0, 5.0, 5.0], 500)] == [0, 1, 2, 99]


def test_trajectories_that_do_not_move_share_evenly():
    assert [len(frames) for frames in choose_frames([10, 10, 10], [0.0, 0.0, 0.0], 6)] == [2, 2, 2]


def test_nothing_to_choose_from():
    assert choose_frames([], [], 40) == []
    assert choose_frames([0, 0], [0.0, 0.0], 40) == [[], []]
    assert choose_frames([45], [1.0], 0) == [[]]


@pytest.mark.parametrize(
    ("counts", "lengths", "places"),
    [
        ([1], [], 4),
        ([-1], [1.0], 4),
        ([4], [float("nan")], 4),
        ([4], [float("inf")], 4),
        ([4], [-1.0], 4),
        ([4], [1.0], -1),
    ],
)
def test_defects_are_refused(counts, lengths, places):
    with pytest.raises(DefectError):
        choose_frames(counts, lengths, places)
