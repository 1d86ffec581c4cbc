from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worldexplorer.trajectory.chunks import CHUNK_FRAMES, Chunk, second_pass_chunks
from worldexplorer.trajectory.paths import anchor_parameters, published_trajectories, target_parameters


@st.composite
def trajectories(draw: st.DrawFn) -> tuple[list[float], list[float], int]:
    """Anchors that are targets as well, targets up to the last anchor, and a limit."""
    count = draw(st.integers(2, 60))
    last = count - 1
    anchors = sorted(draw(st.sets(st.integers(1, last), max_size=12)) | {0, last})
    dropped = draw(st.sets(st.integers(0, last)))
    targets = [float(k) for k in range(count) if k in anchors or k not in dropped]
    return targets, [float(k) for k in anchors], draw(st.integers(3, 21))


@given(trajectories())
def test_every_frame_is_made_once_between_its_own_anchors(case: tuple[list[float], list[float], int]) -> None:
    targets, anchors, limit = case
    chunks = second_pass_chunks(targets, anchors, limit)
    made = [target for chunk in chunks for target in chunk.targets]
    assert made == [target for target in targets if target not in anchors]
    for chunk in chunks:
        assert len(chunk.anchors) + len(chunk.targets) <= limit
        assert len(chunk.anchors) >= 2
        start = anchors.index(chunk.anchors[0])
        assert list(chunk.anchors) == anchors[start : start + len(chunk.anchors)]
        assert chunk.targets
        for left, right in pairwise(chunk.anchors):
            assert any(left < target < right for target in chunk.targets), "an anchor that nothing lies beside"
        assert chunk.anchors[0] < chunk.targets[0]
        assert chunk.targets[-1] < chunk.anchors[-1]


@given(trajectories())
def test_neighbours_share_a_sampling_while_there_is_room(case: tuple[list[float], list[float], int]) -> None:
    targets, anchors, limit = case
    for one, two in pairwise(second_pass_chunks(targets, anchors, limit)):
        if one.anchors[-1] != two.anchors[0]:
            continue  # a gap without frames between them, or two parts of one gap
        first_gap = sum(1 for target in targets if two.anchors[0] < target < two.anchors[1])
        alone_too_wide = 2 + first_gap > limit
        assert len(one.anchors) + len(one.targets) + 1 + first_gap > limit or alone_too_wide or _is_part(one, targets)


def _is_part(chunk: Chunk, targets: list[float]) -> bool:
    """Whether a chunk holds only some of the frames between its two anchors."""
    between = [target for target in targets if chunk.anchors[0] < target < chunk.anchors[-1]]
    return between != list(chunk.targets)


@pytest.mark.parametrize("name", ["in", "left", "right", "up"])
def test_published_trajectories(name: str) -> None:
    trajectory = published_trajectories()[name]
    targets = target_parameters(trajectory, None)
    anchors = anchor_parameters(targets)
    chunks = second_pass_chunks(tuple(targets), tuple(anchors))
    assert sum(len(chunk.targets) for chunk in chunks) == trajectory.count - len(anchors)
    assert max(len(chunk.anchors) + len(chunk.targets) for chunk in chunks) <= CHUNK_FRAMES


def test_shortened_trajectories_need_no_second_pass() -> None:
    for trajectory in published_trajectories().values():
        targets = target_parameters(trajectory, 4)
        assert second_pass_chunks(tuple(targets), tuple(anchor_parameters(targets))) == []


def test_a_gap_too_wide_is_cut() -> None:
    targets = tuple(float(k) for k in range(12))
    chunks = second_pass_chunks(targets, (0.0, 11.0), limit=6)
    assert chunks == [
        Chunk((0.0, 11.0), (1.0, 2.0, 3.0, 4.0)),
        Chunk((0.0, 11.0), (5.0, 6.0, 7.0, 8.0)),
        Chunk((0.0, 11.0), (9.0, 10.0)),
    ]


@pytest.mark.parametrize(
    ("targets", "anchors"), [((), ()), ((0.0,), (0.0,)), ((), (0.0, 4.0)), ((0.0, 4.0), (0.0, 4.0))]
)
def test_nothing_to_make(targets: tuple[float, ...], anchors: tuple[float, ...]) -> None:
    assert second_pass_chunks(targets, anchors) == []
