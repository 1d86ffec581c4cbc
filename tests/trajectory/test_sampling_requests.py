"""Requests, and sequences that make them when their turn comes."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from worldexplorer.engine import Views
from worldexplorer.scaffold.poses import scaffold_poses
from worldexplorer.trajectory.sampling_requests import MadeWhenAsked, RequestMaker, lenses

SIZE = 4


def maker(seed: int = 0) -> RequestMaker:
    pictures = np.arange(8 * SIZE * SIZE * 3, dtype=np.uint8).reshape(8, SIZE, SIZE, 3)
    return RequestMaker(Views(pictures, scaffold_poses(), lenses(8)), size=SIZE, scale=2.0, seed=seed, world=None)


def test_frames_beside_the_scaffold_come_after_it_in_their_order() -> None:
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, 0, 3] = [1.0, 2.0, 3.0]
    given = np.full((SIZE, SIZE, 3), 7, dtype=np.uint8)
    request = maker().beside_the_scaffold([given], poses[:1], poses[1:], "somewhere")
    assert request.given.tolist() == [True] * 9 + [False] * 2
    assert (request.images[8] == 7).all()
    assert not request.images[9:].any()
    np.testing.assert_array_equal(request.c2w[8:, 0, 3], [2.0, 4.0, 6.0])


def test_the_seed_names_the_run_and_the_work() -> None:
    poses = np.eye(4)[None]
    seeds = [
        maker(seed).beside_the_scaffold([], poses[:0], poses, *work).seed
        for seed, work in [(0, ("a", 0)), (0, ("a", 1)), (0, ("b", 0)), (1, ("a", 0))]
    ]
    assert len(set(seeds)) == 4
    assert maker().beside_the_scaffold([], poses[:0], poses, "a", 0).seed == seeds[0]


def test_pictures_and_given_frames_must_agree() -> None:
    with pytest.raises(ValueError, match="zip"):
        maker().make([], np.eye(4)[None], np.array([True]), 3.0, "work")


def test_items_are_made_when_they_are_looked_up_and_not_before() -> None:
    asked: list[int] = []

    def make(number: int) -> int:
        asked.append(number)
        return 10 * number

    items = MadeWhenAsked(4, make)
    assert len(items) == 4
    assert asked == []
    assert (items[2], items[-1], items[1:3], list(items)) == (20, 30, [10, 20], [0, 10, 20, 30])
    assert asked == [2, 3, 1, 2, 0, 1, 2, 3]
    with pytest.raises(IndexError):
        items[4]


def test_requests_cross_a_process_border() -> None:
    request = maker().beside_the_scaffold([], np.empty((0, 4, 4)), np.eye(4)[None], "a")
    again = pickle.loads(pickle.dumps(request))
    assert (again.images == request.images).all()
    assert again.seed == request.seed
