"""Adam for the Gaussians that a view shows.

Source: Kingma, Ba, "Adam: A Method for Stochastic Optimization" (2015); that Gaussians which do not show keep their averages and
stay where they are is the sparse variant of Gaussian splatting.

Example:
    >>> adam = SparseAdam.start(rows)
    >>> adam.step(rows, seen, gradients, rates)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worldexplorer.preview import threads as _threads  # noqa: F401  before numba, which reads its settings on import

from numba import njit, prange  # isort: skip


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
    first_decay: float = 0.9
    second_decay: float = 0.999

    @staticmethod
    def start(rows: NDArray[np.float32]) -> SparseAdam:
        """The memory before the first step on `rows` ([N, P])."""
        return SparseAdam(np.zeros_like(rows), np.zeros_like(rows), np.zeros(len(rows), np.int32))

    def step(
        self,
        rows: NDArray[np.float32],
        changed: NDArray[np.int32],
        gradients: NDArray[np.float32],
        rates: NDArray[np.float32],
    ) -> None:
        """Change some of the rows against their gradients, in place.

        Args:
            rows: [N, P] float32.
            changed: [V] different row numbers.
            gradients: [V, P] float32 of these rows.
            rates: [P] float32 step length of every column.
        """
        with _threads.PARALLEL_REGION:
            _step(rows, self.first, self.second, self.steps, changed, gradients, rates, self.first_decay, self.second_decay)


@njit(cache=True, parallel=True, error_model="numpy", fastmath={"contract"})
def _step(rows, first, second, steps, changed, gradients, rates, first_decay, second_decay):  # type: ignore[no-untyped-def]
    keep, keep_square = np.float32(first_decay), np.float32(second_decay)
    add, add_square = np.float32(1.0 - first_decay), np.float32(1.0 - second_decay)
    for i in prange(len(changed)):
        row = changed[i]
        steps[row] += 1
        scale = np.float32(1.0 / (1.0 - first_decay ** np.float64(steps[row])))
        square_scale = np.float32(1.0 / (1.0 - second_decay ** np.float64(steps[row])))
        for column in range(rows.shape[1]):
            gradient = gradients[i, column]
            average = keep * first[row, column] + add * gradient
            square = keep_square * second[row, column] + add_square * gradient * gradient
            first[row, column] = average
            second[row, column] = square
            rows[row, column] -= rates[column] * average * scale / (np.sqrt(square * square_scale) + np.float32(1e-15))
