"""Second passes: every frame between two anchors is made once; on trajectories the published way."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldexplorer.chunks import Chunk, second_pass_chunks
from worldexplorer.errors import DefectError
from worldexplorer.scaffold.poses import scaffold_poses
from worldexplorer.trajectory.paths import published_trajectories
from worldexplorer.trajectory.walks import Walk, scene_walks

steady = settings(deadline=None, derandomize=True)
LIMIT = 21
ORDER = ("in", "left", "right", "up")
WALKS = {
    walk.trajectory.name: walk for walk in scene_walks(scaffold_poses(), published_trajectories(), ORDER, None)[:4]
}
Case = tuple[list[float], list[float], int]


@st.composite
def cut_trajectories(draw: st.DrawFn) -> Case:
    """Stage 2: what a collision leaves of a trajectory, and a limit of frames."""
    count = draw(st.integers(2, 90))
    anchors = np.linspace(0, count - 1, draw(st.integers(2, min(20, count)))).tolist()
    kept = anchors[: draw(st.integers(2, len(anchors)))]
    return [float(k) for k in range(round(kept[-1]) + 1)], kept, draw(st.integers(3, 24))


@st.composite
def paths(draw: st.DrawFn) -> Case:
    """Stage 1: anchors that are frames themselves, some of the others, and a limit of frames."""
    last = draw(st.integers(1, 59))
    anchors = sorted(draw(st.sets(st.integers(1, last), max_size=12)) | {0, last})
    missing = sorted(draw(st.sets(st.integers(0, last))) - set(anchors))
    return [float(k) for k in missing], [float(k) for k in anchors], draw(st.integers(3, 21))


def widths(case: Case) -> dict[float, int]:
    """Targets of every gap, by the anchor before it."""
    targets, anchors, _ = case
    before = [max(anchor for anchor in anchors[:-1] if anchor <= target) for target in targets]
    return {anchor: before.count(anchor) for anchor in anchors}


@steady
@given(st.one_of(cut_trajectories(), paths()))
def test_every_frame_is_made_once_between_its_own_anchors(case: Case) -> None:
    targets, anchors, limit = case
    chunks = second_pass_chunks(targets, anchors, limit)
    assert [target for chunk in chunks for target in chunk.targets] == targets
    for chunk in chunks:
        assert chunk.size == len(chunk.frames()) <= limit
        start = anchors.index(chunk.anchors[0])
        assert list(chunk.anchors) == anchors[start : start + len(chunk.anchors)]
        assert len(chunk.anchors) >= 2
        assert chunk.anchors[0] <= chunk.targets[0]
        assert chunk.targets[-1] < chunk.anchors[-1] or chunk.anchors[-1] == anchors[-1]
        assert all(widths(case)[anchor] for anchor in chunk.anchors[:-1]), "an anchor that nothing lies beside"


@steady
@given(st.one_of(cut_trajectories(), paths()))
def test_a_sampling_takes_as_many_gaps_as_fit(case: Case) -> None:
    *_, limit = case
    for one, two in pairwise(second_pass_chunks(*case)):
        if one.anchors[-1] != two.anchors[0]:
            continue  # a gap without frames between them, or two parts of one gap
        next_gap = widths(case)[two.anchors[0]]
        cut_gap = 2 + max(next_gap, widths(case)[one.anchors[0]]) > limit
        assert cut_gap or one.size + 1 + next_gap > limit


@pytest.mark.parametrize(("name", "count"), [("in", 3), ("left", 12), ("right", 12), ("up", 3)])
def test_published_trajectories(name: str, count: int) -> None:
    walk = WALKS[name]
    chunks = chunks_of(walk)
    assert len(chunks) == count
    assert sum(len(chunk.targets) for chunk in chunks) == walk.trajectory.count
    assert all(one.anchors[-1] == two.anchors[0] for one, two in pairwise(chunks))
    for chunk, following in pairwise(chunks):
        # Whatever the place is, the frame whose camera the shared anchor has is made in one of the two.
        pose = walk.anchors[walk.anchor_places.tolist().index(chunk.anchors[-1])]
        assert pose in (chunk.targets[-1], following.targets[0])


def chunks_of(walk: Walk) -> list[Chunk]:
    return second_pass_chunks(walk.targets.tolist(), walk.anchor_places.tolist(), LIMIT)


def test_the_chunks_of_a_trajectory_of_45_frames() -> None:
    """Anchors 44/12 frames apart. The camera of the one at 29 1/3 is that of frame 29, which is made before it."""
    chunks = chunks_of(WALKS["in"])
    thirds = [[round(3 * anchor) for anchor in chunk.anchors] for chunk in chunks]
    assert thirds == [[0, 11, 22, 33, 44], [44, 55, 66, 77, 88], [88, 99, 110, 121, 132]]
    assert [chunk.targets for chunk in chunks] == [tuple(range(15)), tuple(range(15, 30)), tuple(range(30, 45))]
    order = "a 0 1 2 3 a 4 5 6 7 a 8 9 10 a 11 12 13 14 a"
    assert ["a" if is_given else f"{place:.0f}" for place, is_given in chunks[0].frames()] == order.split()


@pytest.mark.parametrize("kept", range(2, 14))
@pytest.mark.parametrize("name", ["in", "left"])
def test_all_but_the_last_frame_is_in_the_published_order(name: str, kept: int) -> None:
    """There frames are walked along once, and a frame stays if it comes before the last anchor that is left."""
    walk = WALKS[name]
    places = walk.anchor_places[:kept].tolist()
    expected = [[("anchor", places[0])]]
    for left, right in pairwise(places):
        gap = [("frame", k) for k in walk.targets.tolist() if left <= k < right]
        if len(expected[-1]) + len(gap) + 1 > LIMIT:
            expected.append([("anchor", left)])
        expected[-1] += [*gap, ("anchor", right)]
    last = walk.anchors[kept - 1]
    chunks = second_pass_chunks(walk.targets[walk.targets <= last].tolist(), places, LIMIT)
    found = [[("anchor" if is_given else "frame", place) for place, is_given in chunk.frames()] for chunk in chunks]
    if last >= places[-1]:
        assert found[-1].pop() == ("frame", last)
    assert found == expected


def test_frames_are_in_the_order_of_the_path_an_anchor_before_its_own_frame() -> None:
    (chunk,) = second_pass_chunks((0.0, 1.0, 2.0, 3.0), (0.0, 2.0, 3.0), LIMIT)
    assert chunk.frames() == (
        (0.0, True),
        (0.0, False),
        (1.0, False),
        (2.0, True),
        (2.0, False),
        (3.0, True),
        (3.0, False),
    )


def test_a_frame_just_past_the_last_anchor_that_a_collision_left_is_made() -> None:
    walk = WALKS["in"]
    (chunk,) = second_pass_chunks([0.0, 1.0, 2.0, 3.0, 4.0], walk.anchor_places[:2].tolist(), LIMIT)
    assert [is_given for _, is_given in chunk.frames()] == [True, False, False, False, False, True, False]


def test_without_a_limit_everything_is_one_sampling() -> None:
    targets = [float(k) for k in range(135)]
    (chunk,) = second_pass_chunks(targets, [0.0, 60.0, 134.0], None)
    assert chunk == Chunk((0.0, 60.0, 134.0), tuple(targets))


def test_a_gap_too_wide_is_cut_evenly() -> None:
    targets = [float(k) for k in range(12)]
    chunks = second_pass_chunks(targets, (0.0, 11.0), limit=7)
    assert [chunk.anchors for chunk in chunks] == [(0.0, 11.0)] * 3
    assert [len(chunk.targets) for chunk in chunks] == [4, 4, 4]


@pytest.mark.parametrize(("targets", "anchors"), [((), ()), ((), (0.0,)), ((), (0.0, 4.0))])
def test_nothing_to_make(targets: tuple[float, ...], anchors: tuple[float, ...]) -> None:
    assert second_pass_chunks(targets, anchors, LIMIT) == []


def test_what_cannot_be_is_refused() -> None:
    for targets, anchors, limit in [
        ((0.0, 5.0), (0.0, 4.0), 21),
        ((0.0,), (1.0, 4.0), 21),
        ((0.0,), (0.0,), 21),
        ((0.0,), (0.0, 1.0), 2),
    ]:
        with pytest.raises(DefectError):
            second_pass_chunks(targets, anchors, limit)
