"""The ring around a photo: a walk over the photo's own columns that leaves its right edge and arrives at its left edge.

The walk is planned in steps of about one degree by a dynamic programme whose state is (column, direction, age of the
run). From each state it goes on, turns around (a mirror, at a price that grows with how eye-catching the place is) or
jumps to another column (at a price for how badly colours, layout and distance match over seven degrees). A run lasts at
least ten degrees, and the walk must fit the photo again where it closes. Eye-catching columns cost something each time,
more so near another place where they are seen already; because that depends on the walk itself, the programme is
solved several times, each time with the repetitions of the walk before, and the best walk is kept.

Example:
    >>> runs = plan_walk(profiles, steps=280, seed=0)
    >>> runs[0].first_step, runs[-1].last_step
    (0, 280)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_LEAST_RUN = 10
_HALF_WINDOW = 3
_TURN_PRICE = 2.4
_JUMP_PRICE = 1.6
_ROUNDS = 10
_SHOWING_PRICE = 0.4
_REPEATING_PRICE, _REPEATING_SALIENT_PRICE = 0.1, 0.5
_TURN, _JUMP = 1, 2


@dataclass(frozen=True)
class Profiles:
    """What the walk knows of each source column (about one degree wide).

    Attributes:
        mismatch: [m, m] how badly two columns would stand side by side, 0 and up, 1 being clearly visible.
        saliency: [m] 0 to 1, how eye-catching a column is.
    """

    mismatch: Doubles
    saliency: Doubles


@dataclass(frozen=True)
class Run:
    """A stretch of the ring that shows consecutive source columns.

    Attributes:
        first_step: its first step along the ring.
        last_step: the step after its last one.
        first_column: the source column it begins with.
        direction: 1 where source columns go up to the right, -1 where they go down (mirrored).
        jumps: whether it begins with a jump; otherwise with a turn.
    """

    first_step: int
    last_step: int
    first_column: int
    direction: int
    jumps: bool


@dataclass(frozen=True)
class Walk:
    """A walk step by step: source column, direction (1 or -1) and kind of joint before it (0 none, 1 turn, 2 jump)."""

    columns: NDArray[np.int64]
    directions: NDArray[np.int64]
    kinds: NDArray[np.int64]


def reflected(position: NDArray[np.integer], count: int) -> NDArray[np.int64]:
    """Positions beyond either end of `count` places, mirrored back into them."""
    folded = np.mod(position, 2 * count)
    return np.asarray(np.where(folded < count, folded, 2 * count - 1 - folded), dtype=np.int64)


def plan_walk(profiles: Profiles, steps: int, seed: int) -> list[Run]:
    """The runs that fill `steps` steps from the right edge of the source columns to their left edge.

    Args:
        profiles: of the m source columns.
        steps: how many columns to fill.
        seed: of the small price differences that tell equal walks apart.
    """
    count = len(profiles.saliency)
    if steps == 0:
        return []
    jump = _jump_prices(profiles)
    turn = 0.8 + _TURN_PRICE * _turn_prices(profiles)
    random = np.random.default_rng(seed)
    base = _SHOWING_PRICE * profiles.saliency
    best_price, best_walk = np.inf, None
    prices = np.broadcast_to(base, (steps, count)) + _noise(random, steps, count)
    for _ in range(_ROUNDS):
        walk = _cheapest_walk(prices, jump, turn)
        repetition = _repetition(walk.columns, profiles.saliency, steps)
        price = _seam_price(walk, jump, turn) + base[walk.columns].sum()
        price += 0.5 * repetition[np.arange(steps), walk.columns].sum()
        if price < best_price:
            best_price, best_walk = price, walk
        prices = base + repetition + _noise(random, steps, count)
    assert best_walk is not None
    return _as_runs(best_walk)


def _seam_price(walk: Walk, jump: Doubles, turn: Doubles) -> float:
    """What the seams of a walk cost, the one at its end included."""
    count = len(turn)
    state = walk.columns + count * (walk.directions < 0)
    before = np.concatenate([[count - 1], state[:-1]])
    jumps, turns = walk.kinds == _JUMP, walk.kinds == _TURN
    return float(
        jump[before[jumps], state[jumps]].sum() + turn[walk.columns[turns]].sum() + _closing(jump, turn)[state[-1]]
    )


def _noise(random: np.random.Generator, steps: int, count: int) -> Doubles:
    """Small prices, constant over twenty degrees or so, that break ties and periods."""
    coarse = random.uniform(0, 0.06, size=(steps // 20 + 2, count // 10 + 2))
    return np.asarray(np.repeat(np.repeat(coarse, 20, axis=0), 10, axis=1)[:steps, :count])


def _jump_prices(profiles: Profiles) -> Doubles:
    """[2m, 2m] price of going from one (column, direction) to another; states m and up run leftwards."""
    count = len(profiles.saliency)
    offsets = np.arange(-_HALF_WINDOW, _HALF_WINDOW + 1)
    columns = np.arange(count)
    price = np.zeros((2, count, 2, count))
    for a, before in enumerate((1, -1)):
        for b, after in enumerate((1, -1)):
            for offset in offsets:  # both runs go on beyond the joint, reflected where the photo ends
                left = reflected(columns + before * offset, count)
                right = reflected(columns + after * (offset - 1), count)
                price[a, :, b, :] += profiles.mismatch[np.ix_(left, right)]
    return _JUMP_PRICE * (0.5 + price.reshape(2 * count, 2 * count) / len(offsets) * 2.0)


def _turn_prices(profiles: Profiles) -> Doubles:
    """[m] how eye-catching the surroundings of each column are: a mirror there shows."""
    count = len(profiles.saliency)
    around = reflected(np.arange(count)[:, None] + np.arange(-6, 7)[None, :], count)
    return np.asarray(profiles.saliency[around].mean(axis=1) * 1.6)


def _closing(jump: Doubles, turn: Doubles) -> Doubles:
    """[2m] price of the seam between the last step in each state and the photo's first column."""
    count = len(turn)
    closing = jump[:, 0].copy()
    closing[count] = min(closing[count], turn[0])  # arriving leftwards at column 0: a turn
    return closing


def _repetition(columns: NDArray[np.int64], saliency: Doubles, steps: int) -> Doubles:
    """[steps, m] price of showing each column at each step, from where the walk and the photo show it already."""
    count = len(saliency)
    ring = steps + count
    shown = np.concatenate([columns, np.arange(count)])  # the photo follows the last step
    price = np.zeros((steps, count))
    step = np.arange(steps)[:, None]
    apart = np.abs(step - np.arange(ring)[None, :])
    apart = np.minimum(apart, ring - apart)
    near = 0.5 * np.exp(-apart / 70.0) * (apart >= 5)  # [steps, ring]; the step itself and its run do not count
    np.add.at(price.T, shown, near.T)
    spread = scipy.ndimage.gaussian_filter1d(price, 2.0, axis=1, mode="nearest")
    return np.asarray(spread * (_REPEATING_PRICE + _REPEATING_SALIENT_PRICE * saliency))


def _cheapest_walk(prices: Doubles, jump: Doubles, turn: Doubles) -> Walk:
    """The cheapest walk over all steps.

    States are [age, 2m], columns with directions; the oldest age stands for all older ones and is the only one from
    which a run may end. The photo's last column, before step 0, is old, and the last step must be.
    """
    steps, count = prices.shape
    least_run = max(2, min(_LEAST_RUN, count // 2))  # runs of any length from one to two of it exist
    column = np.concatenate([np.arange(count)] * 2)
    leftwards = np.arange(2 * count) >= count
    behind = np.where(leftwards, column + 1, column - 1)  # the column that a run shows one step earlier
    inside = (behind >= 0) & (behind < count)
    comes_from = np.where(leftwards, count, 0) + np.clip(behind, 0, count - 1)
    turned = np.where(leftwards, column, column + count)  # the state before a turn
    turn_price = np.concatenate([turn, turn])

    origin = np.full((steps, 2 * count), count - 1)
    kind = np.full((steps, 2 * count), _JUMP)
    grew_older = np.zeros((steps, 2 * count), dtype=bool)
    best = np.full((least_run, 2 * count), np.inf)
    best[0] = jump[count - 1]
    if turn[count - 1] < best[0, -1]:
        best[0, -1] = turn[count - 1]
        kind[0, -1] = _TURN
    best[0] += prices[0, column]
    for step in range(1, steps):
        by_jump = best[-1][:, None] + jump
        origin[step] = np.argmin(by_jump, axis=0)
        enter = by_jump[origin[step], np.arange(2 * count)]
        by_turn = best[-1][turned] + turn_price
        turns = by_turn < enter
        origin[step][turns] = turned[turns]
        kind[step][turns] = _TURN
        goes_on = np.where(inside, best[:, comes_from], np.inf)
        grew_older[step] = goes_on[-1] <= goes_on[-2]
        best[1:] = goes_on[:-1]
        best[-1] = np.minimum(goes_on[-1], goes_on[-2])
        best[0] = np.minimum(by_turn, enter)
        best += prices[step, column]

    state = int(np.argmin(best[-1] + _closing(jump, turn)))
    states = np.zeros(steps, dtype=np.int64)
    kinds = np.zeros(steps, dtype=np.int64)
    step = steps - 1
    while True:
        states[step] = state
        if grew_older[step, state]:
            state = int(comes_from[state])
            step -= 1
            continue
        for _ in range(least_run - 1):
            state = int(comes_from[state])
            step -= 1
            states[step] = state
        kinds[step] = kind[step, state]
        if step == 0:
            return Walk(column[states], np.where(leftwards[states], -1, 1), kinds)
        state = int(origin[step, state])
        step -= 1


def _as_runs(walk: Walk) -> list[Run]:
    """The walk as runs, each from one seam to the next."""
    starts = np.flatnonzero(walk.kinds)
    ends = np.append(starts[1:], len(walk.kinds))
    return [
        Run(int(a), int(b), int(walk.columns[a]), int(walk.directions[a]), bool(walk.kinds[a] == _JUMP))
        for a, b in zip(starts, ends, strict=True)
    ]
