"""The processes that train one scene together, a GPU each, as a step sees them.

Every member holds all Gaussians and all pictures, and draws its share of a step's pictures. What a step learns from
pictures (gradients, losses, what a strategy gathers) is added up over the members; everything else of it follows from
these sums and from seeds, so it is done by all alike and Gaussians stay equal. Where draws are made by a GPU's sums of
many numbers, whose last digits it does not repeat, the first member's Gaussians count for all.

Example:
    >>> team = Together(rank=1, size=2)             # of a group that torch.distributed knows
    >>> team.own(4)
    range(2, 4)
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from worldexplorer.errors import DefectError, InfrastructureError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worldexplorer.models.splatting.state import GaussianState


_CPU = torch.device("cpu")


class Team(Protocol):
    """What a training asks of the processes that it is done by."""

    first: bool
    """Whether this process is the one that writes checkpoints and whose word counts."""

    def own(self, pictures: int) -> range:
        """Which of a step's pictures this process draws."""

    def add(self, arrays: Iterable[Tensor]) -> None:
        """Replace arrays by their sums over the members."""

    def largest(self, array: Tensor) -> None:
        """Replace an array by its largest values among the members."""

    def level(self, state: GaussianState) -> None:
        """Give all members the Gaussians of the first, and the optimiser's memory of them."""

    def decided(self, decision: bool) -> bool:
        """What the first member has decided."""


class Alone:
    """A training in one process; nothing of this waits for its GPU."""

    first = True

    def own(self, pictures: int) -> range:
        """All."""
        return range(pictures)

    def add(self, arrays: Iterable[Tensor]) -> None:
        """They are the sums."""

    def largest(self, array: Tensor) -> None:
        """They are the largest."""

    def level(self, state: GaussianState) -> None:
        """It is level."""

    def decided(self, decision: bool) -> bool:
        """This one."""
        return decision


class LostError(InfrastructureError):
    """Another member cannot be reached: it is gone, and its own end says why."""


class Together:
    """A member of a group of `torch.distributed`; see Team.

    Args:
        rank: which one this is; 0 is the first.
        size: how many there are.
        device: that the group's numbers lie on.
    """

    def __init__(self, rank: int, size: int, device: torch.device = _CPU) -> None:
        self.first = rank == 0
        self._rank, self._size, self._device = rank, size, device

    def own(self, pictures: int) -> range:
        """Pictures next to each other, as many as every other member's or one more."""
        return range(pictures * self._rank // self._size, pictures * (self._rank + 1) // self._size)

    def add(self, arrays: Iterable[Tensor]) -> None:
        """See Team."""
        with _lost_named():
            for array in arrays:
                torch.distributed.all_reduce(array)

    def largest(self, array: Tensor) -> None:
        """See Team."""
        with _lost_named():
            torch.distributed.all_reduce(array, op=torch.distributed.ReduceOp.MAX)

    def level(self, state: GaussianState) -> None:
        """See Team.

        Raises:
            DefectError: members have different numbers of Gaussians.
        """
        self.require_equal(state.count, "Gaussians")
        with _lost_named():
            for array in state.arrays().values():
                torch.distributed.broadcast(array, src=0)

    def decided(self, decision: bool) -> bool:
        """See Team."""
        answer = torch.tensor([int(decision)], device=self._device)
        with _lost_named():
            torch.distributed.broadcast(answer, src=0)
        return bool(answer.item())

    def require_equal(self, number: int, what: str) -> None:
        """Refuse to go on with members that are not equal.

        Raises:
            DefectError: another member has another number.
        """
        both = torch.tensor([number, -number], device=self._device)
        self.largest(both)
        most, least = int(both[0]), -int(both[1])
        if most != least:
            raise DefectError(
                f"the GPUs of one training have come apart: one has {least:,} {what}, another {most:,}",
                remedy="train with --gpus 1, and report this as a defect",
            )


def useful_members(batch: int, gpus: int) -> int:
    """How many of some GPUs make a step of so many pictures shorter: with 4 pictures 3 take as long as 2."""
    return -(-batch // -(-batch // gpus))


@contextmanager
def _lost_named() -> Iterator[None]:
    """What torch says of a member that is gone, as ours."""
    try:
        yield
    except (RuntimeError, OSError) as error:  # torch's errors of groups are RuntimeErrors
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise LostError(
            f"the other GPUs of this training cannot be reached: {str(error).splitlines()[0]}",
            remedy="run the same command again: it goes on where this stopped",
        ) from error
