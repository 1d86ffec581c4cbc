"""The walk over a photo's columns: always valid, cheapest by its own prices, and sparing with what catches the eye."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldexplorer.preview import column_walk
from worldexplorer.preview.column_walk import Profiles, Run, plan_walk, reflected


def random_profiles(count: int, seed: int) -> Profiles:
    random = np.random.default_rng(seed)
    values = np.cumsum(random.normal(size=count))
    return Profiles(np.abs(values[:, None] - values[None, :]) * 0.3, random.uniform(size=count))


def shown(runs: list[Run]) -> list[tuple[int, int]]:
    """Column and direction of every step."""
    return [
        (run.first_column + run.direction * (step - run.first_step), run.direction)
        for run in runs
        for step in range(run.first_step, run.last_step)
    ]


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(count=st.integers(4, 60), steps=st.integers(60, 200), seed=st.integers(0, 1000))
def test_a_walk_is_valid(count: int, steps: int, seed: int) -> None:
    runs = plan_walk(random_profiles(count, seed), steps, seed)
    assert runs[0].first_step == 0
    assert runs[-1].last_step == steps
    least = max(2, min(10, count // 2))
    state = (count - 1, 1)  # the photo's right edge
    for before, run in itertools.pairwise([None, *runs]):
        assert run is not None
        assert before is None or before.last_step == run.first_step
        assert run.last_step - run.first_step >= least
        if not run.jumps:
            assert (run.first_column, run.direction) == (state[0], -state[1])
        state = (run.first_column + run.direction * (run.last_step - run.first_step - 1), run.direction)
    assert all(0 <= column < count for column, _ in shown(runs))


def test_the_walk_is_the_cheapest_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against all walks of eight steps over four columns with runs of at least two."""
    monkeypatch.setattr(column_walk, "_LEAST_RUN", 2)
    random = np.random.default_rng(0)
    count, steps = 4, 8
    for _ in range(3):
        prices = random.uniform(size=(steps, count))
        jump = random.uniform(0.5, 2, size=(2 * count, 2 * count))
        turn = random.uniform(0.3, 1.5, size=count)
        walk = column_walk._cheapest_walk(prices, jump, turn)
        found = column_walk._seam_price(walk, jump, turn) + prices[np.arange(steps), walk.columns].sum()
        assert found == pytest.approx(cheapest_by_trying(prices, jump, turn))


def cheapest_by_trying(prices: np.ndarray, jump: np.ndarray, turn: np.ndarray) -> float:
    """The price of the cheapest walk, found by trying them all; states m and up run leftwards."""
    steps, count = prices.shape

    def follow(step: int, state: int, age: int) -> float:
        if step == steps:
            closing = jump[state, 0]
            if state == count:
                closing = min(closing, turn[0])
            return closing if age >= 2 else np.inf
        column, leftwards = state % count, state >= count
        best = np.inf
        ahead = column - 1 if leftwards else column + 1
        if 0 <= ahead < count and step > 0:
            best = prices[step, ahead] + follow(step + 1, state + ahead - column, age + 1)
        if age >= 2:
            for after in range(2 * count):
                price = jump[state, after]
                if after == (state + count) % (2 * count):
                    price = min(price, turn[column])
                best = min(best, price + prices[step, after % count] + follow(step + 1, after, 1))
        return best

    return follow(0, count - 1, 2)


def test_the_subject_is_shown_less_often_than_the_rest() -> None:
    count = 80
    subject = np.exp(-((np.arange(count) - 30) ** 2) / (2 * 6**2))
    level = subject * 2
    profiles = Profiles(np.abs(level[:, None] - level[None, :]), subject)
    columns = np.array([column for column, _ in shown(plan_walk(profiles, 280, 0))])
    visits = np.bincount(columns, minlength=count)
    assert visits[24:37].mean() < 0.5 * visits.mean()


def test_jumps_lead_to_columns_that_fit() -> None:
    """Two halves that never fit each other: no jump crosses."""
    count = 60
    half = (np.arange(count) >= 30).astype(float)
    profiles = Profiles(np.abs(half[:, None] - half[None, :]) * 50, np.zeros(count))
    runs = plan_walk(profiles, 300, 0)
    columns = [column for column, _ in shown(runs)]
    for run in runs:
        if run.jumps and run.first_step:
            window = [columns[run.first_step - 1], columns[run.first_step]]
            assert (window[0] >= 30) == (window[1] >= 30)


def test_seeds_decide_between_equal_walks_only() -> None:
    profiles = random_profiles(50, 3)
    assert plan_walk(profiles, 200, 7) == plan_walk(profiles, 200, 7)


def test_reflection_folds_every_position_into_the_photo() -> None:
    np.testing.assert_array_equal(reflected(np.arange(-4, 9), 3), [2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0, 1, 2])
