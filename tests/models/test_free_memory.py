"""What counts as free on a GPU, by an allocator that is written down here."""

from __future__ import annotations

from typing import Any

import pytest

from worldexplorer.models.residents import free_gpu_bytes
from worldexplorer.units import GIB

torch = pytest.importorskip("torch")


class Allocator:
    """A card of 24 GiB, 2 of which others have, and what torch holds of it: blocks of GiB in segments.

    Each segment: its device, its pool, and its blocks with whether they are in use.
    """

    def __init__(self, *segments: tuple[int, tuple[int, int], dict[int, bool]]) -> None:
        self.segments = list(segments)

    def empty_cache(self) -> None:
        """As torch does it: what nobody uses goes, but for what belongs to a graph."""
        self.segments = [one for one in self.segments if one[1] != (0, 0) or any(one[2].values())]

    def mem_get_info(self, _device: Any) -> tuple[int, int]:
        held = sum(sum(blocks) for device, _, blocks in self.segments if device == 0)
        return (22 - held) * GIB, 24 * GIB

    def memory_snapshot(self) -> list[dict[str, Any]]:
        return [
            {
                "device": device,
                "segment_pool_id": pool,
                "blocks": [
                    {"size": size * GIB, "state": "active_allocated" if used else "inactive"}
                    for size, used in blocks.items()
                ],
            }
            for device, pool, blocks in self.segments
        ]


@pytest.mark.parametrize(
    ("segments", "free"),
    [
        ([], 22),
        ([(0, (0, 0), {5: False})], 22),  # kept for later: goes back to the driver
        ([(0, (0, 0), {5: True})], 17),
        ([(0, (0, 0), {5: True, 3: False})], 17),  # the gap is this process's to fill
        ([(0, (0, 1), {5: True, 3: False})], 14),  # a graph writes there at its next replay
        ([(1, (0, 0), {5: True, 3: False})], 22),  # another card's
        ([(0, (0, 0), {5: True}), (0, (0, 2), {4: False}), (0, (0, 0), {3: False})], 13),
    ],
)
@pytest.mark.parametrize("device", [None, torch.device("cuda"), torch.device("cuda", 0)])
def test_what_can_be_filled_counts(
    monkeypatch: pytest.MonkeyPatch, segments: list[Any], free: int, device: torch.device | None
) -> None:
    allocator = Allocator(*segments)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    for name in ("empty_cache", "mem_get_info", "memory_snapshot"):
        monkeypatch.setattr(torch.cuda, name, getattr(allocator, name))
    assert free_gpu_bytes(device) == free * GIB


def test_without_a_gpu_there_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert free_gpu_bytes() is None
