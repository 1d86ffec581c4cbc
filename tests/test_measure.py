from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from worldexplorer.checksum import file_sha256
from worldexplorer.measure import Measurement, peak_memory_mib


def test_time_stops_with_the_block() -> None:
    before = datetime.now(UTC)
    with Measurement() as cost:
        first = cost.seconds
        second = cost.seconds
    assert 0 <= first <= second <= cost.seconds
    assert cost.seconds == cost.seconds
    assert before <= cost.started_at <= datetime.now(UTC)


def test_the_peak_is_that_of_the_process() -> None:
    with Measurement() as cost:
        pages = np.ones(100 * 2**20, dtype=np.uint8)
        peak = cost.peak_so_far_mib()
    assert pages.sum() == pages.size
    assert 100 < peak <= peak_memory_mib() + 1


def test_a_checksum_is_that_of_the_bytes_there_are_now(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"one", b"another", b"last"):
        path.write_bytes(content)
        os.utime(path, ns=(0, len(content)))
        assert file_sha256(path) == hashlib.sha256(content).hexdigest()
