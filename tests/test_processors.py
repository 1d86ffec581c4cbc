from __future__ import annotations

from pathlib import Path

import pytest

from worldexplorer import processors


@pytest.mark.parametrize(
    ("text", "expected"),
    [("max 100000\n", 8), ("200000 100000\n", 2), ("150000 100000\n", 2), ("50000 100000\n", 1), ("nonsense", 8)],
)
def test_a_containers_quota_counts(text: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    limit = tmp_path / "cpu.max"
    limit.write_text(text)
    assert processors.usable_processors(limit) == expected


def test_without_a_quota_the_schedulers_set_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors.os, "sched_getaffinity", lambda pid: {1, 4, 5}, raising=False)
    assert processors.usable_processors(tmp_path / "missing") == 3
