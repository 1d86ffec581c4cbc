"""Sparse Adam against the published formulas, row by row."""

from __future__ import annotations

import numpy as np

from worldexplorer.preview.optimizer import SparseAdam


def test_rows_take_the_steps_of_the_publication() -> None:
    random = np.random.default_rng(0)
    count, columns, decay, square_decay = 7, 14, 0.8, 0.95
    rows = random.normal(size=(count, columns)).astype(np.float32)
    lengths = random.uniform(0.1, 3.0, count).astype(np.float32)
    rates = random.uniform(0.01, 0.1, columns).astype(np.float32)
    expected = rows.astype(np.float64)
    moments = [[np.zeros(columns), np.zeros(columns), 0] for _ in range(count)]
    adam = SparseAdam.start(rows, decay, square_decay)
    for _ in range(6):
        changed = random.permutation(count)[:4].astype(np.int32)
        gradients = random.normal(size=(4, columns)).astype(np.float32)
        adam.step(rows, changed, gradients, rates, lengths)
        for row, gradient in zip(changed, gradients.astype(np.float64), strict=True):
            memory = moments[row]
            memory[2] += 1
            memory[0] = decay * memory[0] + (1 - decay) * gradient
            memory[1] = square_decay * memory[1] + (1 - square_decay) * gradient**2
            unit = np.where(np.arange(columns) < 3, lengths[row], 1.0)
            average, square = memory[0] / (1 - decay ** memory[2]), memory[1] / (1 - square_decay ** memory[2])
            expected[row] -= unit * rates * average / np.sqrt(square)
    np.testing.assert_allclose(rows, expected, rtol=2e-5, atol=2e-6)
    assert adam.steps.tolist() == [memory[2] for memory in moments]


def test_rows_that_do_not_show_stay() -> None:
    rows = np.random.default_rng(1).normal(size=(5, 14)).astype(np.float32)
    before = rows.copy()
    adam = SparseAdam.start(rows, 0.9, 0.99)
    changed, gradients = np.array([3], np.int32), np.ones((1, 14), np.float32)
    adam.step(rows, changed, gradients, np.full(14, 0.5, np.float32), np.ones(5, np.float32))
    np.testing.assert_array_equal(np.delete(rows, 3, axis=0), np.delete(before, 3, axis=0))
    np.testing.assert_allclose(rows[3], before[3] - 0.5, rtol=1e-5)
    assert not np.delete(adam.first, 3, axis=0).any()


def test_a_gradient_of_zero_moves_nothing() -> None:
    rows = np.ones((2, 14), np.float32)
    adam = SparseAdam.start(rows, 0.9, 0.99)
    both, none = np.arange(2, dtype=np.int32), np.zeros((2, 14), np.float32)
    adam.step(rows, both, none, np.ones(14, np.float32), np.ones(2, np.float32))
    np.testing.assert_array_equal(rows, 1.0)
