"""Adam for the Gaussians that a view shows.

Source: Kingma, Ba, "Adam: A Method for Stochastic Optimization" (2015). Gaussians that do not show keep their averages
and stay where they are; each counts its own steps for the correction of its averages.

Example:
    >>> adam = SparseAdam.start(rows, first_decay=0.75, second_decay=0.95)
    >>> adam.step(rows, rendering.seen, gradients, rates, spacing)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldexplorer.preview import threads as _threads  # noqa: F401  before numba, which reads its settings on import
from worldexplorer.preview.parameters import LOG_SCALE
from worldexplorer.preview.workers import ALONE, Workers

from numba import njit  # isort: skip


@dataclass(frozen=True)
class SparseAdam:
    """The optimiser's memory, changed in place by :meth:`step`.

    Attributes:
        first: [N, P] float32 running average of the gradients.
        second: [N, P] float32 running average of their squares.
        steps: [N] int32 how many steps each row has made.
        first_decay: of the first average, a step.
        second_decay: of the second average, a step.
    """

    first: NDArray[np.float32]
    second: NDArray[np.float32]
    steps: NDArray[np.int32]
    first_decay: float
    second_decay: float

    @staticmethod
    def start(rows: NDArray[np.float32], first_decay: float, second_decay: float) -> SparseAdam:
        """The memory before the first step on `rows` ([N, P])."""
        steps = np.zeros(len(rows), np.int32)
        return SparseAdam(np.zeros_like(rows), np.zeros_like(rows), steps, first_decay, second_decay)

    def step(
        self,
        rows: NDArray[np.float32],
        changed: NDArray[np.int32],
        gradients: NDArray[np.float32],
        rates: NDArray[np.float32],
        lengths: NDArray[np.float32],
        workers: Workers = ALONE,
    ) -> None:
        """Change some of the rows against their gradients, in place.

        Args:
            rows: [N, P] float32, the first three columns positions.
            changed: [V] different row numbers.
            gradients: [V, P] float32 of these rows.
            rates: [P] float32 step length of every column; of positions in the row's own unit of length.
            lengths: [N] float32 that unit.
            workers: who work at it.
        """
        decays = self.first_decay, self.second_decay
        workers(_step, rows, self.first, self.second, self.steps, changed, gradients, rates, lengths, *decays)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _step(part, parts, rows, first, second, steps, changed, gradients, rates, lengths, decay, square_decay):  # type: ignore[no-untyped-def]
    keep, keep_square = np.float32(decay), np.float32(square_decay)
    add, add_square = np.float32(1.0 - decay), np.float32(1.0 - square_decay)
    for i in range(len(changed) * part // parts, len(changed) * (part + 1) // parts):
        row = changed[i]
        steps[row] += 1
        scale = np.float32(1.0 / (1.0 - decay ** np.float64(steps[row])))
        square_scale = np.float32(1.0 / (1.0 - square_decay ** np.float64(steps[row])))
        for column in range(rows.shape[1]):
            gradient = gradients[i, column]
            average = keep * first[row, column] + add * gradient
            square = keep_square * second[row, column] + add_square * gradient * gradient
            first[row, column] = average
            second[row, column] = square
            rate = rates[column] * lengths[row] if column < LOG_SCALE else rates[column]
            rows[row, column] -= rate * scale * average / (np.sqrt(square * square_scale) + np.float32(1e-15))
