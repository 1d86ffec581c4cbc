"""Marks: what they name is whole and in order, or they do not count."""

from __future__ import annotations

from pathlib import Path

import pytest

from worldexplorer.trajectory.marks import Marks


def pictures(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{number:03d}.png" for number in range(count)]
    for path in paths:
        path.write_bytes(path.name.encode())
    return paths


def test_more_than_a_thousand_pictures_keep_their_order(tmp_path: Path) -> None:
    """By name `1000.png` comes before `999.png`."""
    paths = pictures(tmp_path / "long", 1003)
    Marks(tmp_path / "marks").write("long", paths, {"number": 3})
    kept = Marks(tmp_path / "marks").read("long", tmp_path / "long")
    assert kept is not None
    assert kept.paths == paths
    assert kept.facts == {"number": 3}


@pytest.mark.parametrize("content", [b"", b"\0\0\0\0", b'{"frames": {"000.png": "', b"\xff\xfe"])
def test_a_half_written_mark_does_not_count(tmp_path: Path, content: bytes) -> None:
    marks = Marks(tmp_path / "marks")
    marks.write("short", pictures(tmp_path / "short", 2), {})
    (tmp_path / "marks" / "short.json").write_bytes(content)
    assert marks.read("short", tmp_path / "short") is None


def test_what_a_killed_run_began_is_no_mark(tmp_path: Path) -> None:
    marks = Marks(tmp_path / "marks")
    (tmp_path / "marks" / "short.part").write_bytes(b"{")
    assert marks.read("short", tmp_path) is None
    marks.write("short", [], {})
    assert [path.name for path in (tmp_path / "marks").iterdir()] == ["short.json"]
