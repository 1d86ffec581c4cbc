"""First passes: equal to the published plan, and to its rules whatever collisions leave."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldexplorer.errors import DefectError
from worldexplorer.scaffold.poses import scaffold_poses
from worldexplorer.trajectory.first_pass import (
    FirstPassChunk,
    is_opposite,
    plan_first_pass,
    plan_without_collisions,
)
from worldexplorer.trajectory.generate import planned_samplings
from worldexplorer.trajectory.memory import Memory
from worldexplorer.trajectory.paths import published_trajectories
from worldexplorer.trajectory.walks import Walk, scene_walks

LIMIT = 21
ORDER = ("in", "left", "right", "up")
PUBLISHED = json.loads((Path(__file__).parent / "fixtures" / "first_pass_plan.json").read_bytes())
steady = settings(deadline=None, derandomize=True, max_examples=25)


def walks(order: tuple[str, ...] = ORDER, frames: int | None = None, anchors: int | None = None) -> list[Walk]:
    return scene_walks(scaffold_poses(), published_trajectories(), order, frames, anchors)


def spread(chunk: FirstPassChunk) -> str:
    return " ".join(chunk.words()[8:])


def test_the_published_plan() -> None:
    scene = walks()
    assert [walk.folder for walk in scene] == list(PUBLISHED)
    for walk, plan in zip(scene, plan_without_collisions(scene, LIMIT), strict=True):
        assert walk.anchors.tolist() == PUBLISHED[walk.folder]["anchor_frames"]
        assert [spread(chunk) for chunk in plan] == PUBLISHED[walk.folder]["chunks"], walk.folder
        assert all(chunk.words()[:8] == [f"view:{view}" for view in range(8)] for chunk in plan)


def test_samplings_of_a_scene() -> None:
    assert planned_samplings(walks(), LIMIT) == (63, 240)
    assert sum(len(walk.targets) for walk in walks()) == 2880
    assert planned_samplings(walks(anchors=9), LIMIT) == (32, 176)
    assert planned_samplings(walks(frames=4), None) == (32, 0)


@st.composite
def collisions(draw: st.DrawFn) -> tuple[list[Walk], list[int], int]:
    """Trajectories of a scene, what is left of the anchors of each, and a limit."""
    order = draw(st.permutations(ORDER).map(lambda names: tuple(names)[:2]))
    scene = walks(order, draw(st.sampled_from([None, None, 6])), draw(st.integers(3, 20)))
    kept = [draw(st.sampled_from([0, 2, 3, len(walk.anchors) // 2, len(walk.anchors)])) for walk in scene]
    return (
        scene,
        [min(one, len(walk.anchors)) for one, walk in zip(kept, scene, strict=True)],
        draw(st.integers(10, 24)),
    )


@steady
@given(collisions())
def test_rules_whatever_collisions_leave(case: tuple[list[Walk], list[int], int]) -> None:
    scene, kept, limit = case
    memory = Memory()
    left: dict[str, int] = {}
    for walk, count in zip(scene, kept, strict=True):
        plan = plan_first_pass(walk, memory, limit)
        made: list[int] = []
        for chunk in plan:
            assert chunk.size <= limit
            assert len(set(chunk.memory)) == len(chunk.memory)
            for frame in chunk.memory:
                assert not is_opposite(walk.view, frame.view)
                assert 2 <= frame.anchor < left[frame.folder]
            assert set(chunk.anchors) <= set(made)
            assert list(chunk.anchors) == sorted(set(chunk.anchors))
            if made:
                assert chunk.anchors[-1] == made[-1]
            assert chunk.new
            made += chunk.new
        assert made == list(range(walk.given_anchors, len(walk.anchors)))
        memory.remember(walk, count)
        left[walk.folder] = count
    assert len(set(memory.frames)) == len(memory.frames) == sum(max(0, count - 2) for count in kept)


@steady
@given(collisions())
def test_votes_equal_a_plain_count(case: tuple[list[Walk], list[int], int]) -> None:
    """Of every sampling: nobody who is not given has more votes than somebody who is."""
    scene, kept, limit = case
    memory = Memory()
    for walk, count in zip(scene, kept, strict=True):
        rotations = walk.poses(walk.anchors)[:, :3, :3]
        for chunk in plan_first_pass(walk, memory, limit):
            start = chunk.new[0]
            own = list(range(walk.given_anchors, start))
            candidates = [*memory.frames, *own]
            turned = [*memory.rotations(), *rotations[own]]
            votes: Counter[object] = Counter()
            for new in chunk.new:
                angles = [_degrees(rotations[new], other) for other in turned]
                for place in sorted(range(len(angles)), key=lambda place: angles[place])[:5]:
                    votes[candidates[place]] += 1
            for name in [name for name in votes if not isinstance(name, int) and is_opposite(walk.view, name.view)]:
                del votes[name]
            if own:
                del votes[own[-1]]
            chosen = [*chunk.memory, *chunk.anchors][: len(chunk.memory) + len(chunk.anchors) - bool(own)]
            assert all(votes[name] for name in chosen)
            others = [votes[name] for name in votes if name not in chosen]
            assert max(others, default=0) <= min((votes[name] for name in chosen), default=math.inf) or not chosen
        memory.remember(walk, count)


def _degrees(one: np.ndarray, other: np.ndarray) -> float:
    return round(math.degrees(math.acos(max(-1.0, min(1.0, (float(np.sum(one * other)) - 1) / 2)))), 2)


def test_without_a_memory_the_views_are_all_there_is() -> None:
    (chunk,) = plan_first_pass(walks()[5], Memory(), LIMIT)
    assert chunk == FirstPassChunk((), (), tuple(range(13)))


def test_where_all_earlier_ones_were_cut_the_views_are_all_there_is() -> None:
    memory = Memory()
    for walk, kept in zip(walks()[:3], (0, 2, 2), strict=True):
        memory.remember(walk, kept)
    assert len(memory) == 0
    assert plan_first_pass(walks()[3], memory, LIMIT) == [FirstPassChunk((), (), tuple(range(13)))]


@pytest.mark.parametrize("remembered", range(1, 8))
def test_fewer_remembered_than_asked_for_leave_room_for_new_anchors(remembered: int) -> None:
    """Of the 13 places beside the views; the second trajectory of a view, so nobody is refused."""
    memory = Memory()
    memory.remember(walks()[0], 2 + remembered)
    first, *_ = plan_first_pass(walks()[1], memory, LIMIT)
    given = min(remembered, 5)
    assert [frame.anchor for frame in first.memory] == list(range(2, 2 + given))
    assert (first.anchors, first.new) == ((), tuple(range(13 - given)))


def test_an_engine_without_a_limit_makes_all_from_the_views() -> None:
    scene = walks(frames=4)
    memory = Memory()
    memory.remember(scene[0], 5)
    assert plan_first_pass(scene[1], memory, None) == [FirstPassChunk((), (), (1, 2, 3, 4))]


def test_more_anchors_than_fit_go_on_from_their_own() -> None:
    first, second = plan_first_pass(walks(anchors=20)[0], Memory(), LIMIT)
    assert first.new == tuple(range(13))
    assert second.anchors[-1] == 12
    assert second.new == tuple(range(13, 20))


def test_what_looks_the_other_way() -> None:
    assert [source for source in range(8) if is_opposite(0, source)] == [3, 4, 5]
    assert [source for source in range(8) if is_opposite(6, source)] == [1, 2, 3]


def test_a_sampling_too_small_is_refused() -> None:
    with pytest.raises(DefectError, match="no room beside the 8 scaffold views"):
        plan_first_pass(walks()[0], Memory(), 9)
