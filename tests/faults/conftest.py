from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import RememberedRooms

from worldexplorer import extras

_MEMORY = Path("/dev/shm")
_SHEETS: dict[str, bytes] = {}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for thousands of small files: in memory where the system offers that."""
    if not os.access(_MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=_MEMORY) as name:
        yield Path(name)


@pytest.fixture(scope="session")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> RememberedRooms:
    return RememberedRooms(tmp_path_factory.mktemp("rooms"))


@pytest.fixture(autouse=True)
def _sheets_are_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = extras._draw_sheet

    def remembered(job: Any, stages: Any) -> bytes:
        key = str([job.id, *(stage.record.content for stage in stages)])
        if key not in _SHEETS:
            _SHEETS[key] = draw(job, stages)
        return _SHEETS[key]

    monkeypatch.setattr(extras, "_draw_sheet", remembered)
