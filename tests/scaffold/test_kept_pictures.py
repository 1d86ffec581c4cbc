"""Pictures that a resumed stage need not make again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from worldexplorer.scaffold.kept_pictures import KeptPictures

PICTURE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


@pytest.fixture
def kept(tmp_path: Path) -> KeptPictures:
    return KeptPictures(tmp_path / "pictures", tmp_path / "marks")


def test_what_was_added_is_there(kept: KeptPictures) -> None:
    assert not kept.has("001/a", made_from="x")
    kept.add("001/a", PICTURE, made_from="x")
    assert kept.has("001/a", made_from="x")
    assert (kept.read("001/a") == PICTURE).all()
    kept.add("001/b", PICTURE + np.uint8(1), made_from="x")
    assert (kept.read_all(["001/b", "001/a"]) == np.stack([PICTURE + np.uint8(1), PICTURE])).all()


def test_names_with_dots_do_not_meet(kept: KeptPictures) -> None:
    kept.add("g7.5_s0", PICTURE, made_from="x")
    kept.add("g7.5_s1", PICTURE, made_from="y")
    kept.add("g7", PICTURE, made_from="z")
    assert [kept.has(name, made_from=of) for name, of in (("g7.5_s0", "x"), ("g7.5_s1", "y"), ("g7", "z"))] == [
        True
    ] * 3


def test_one_made_from_something_else_does_not_count(kept: KeptPictures) -> None:
    kept.add("a", PICTURE, made_from="x")
    assert not kept.has("a", made_from="y")


@pytest.mark.parametrize("spoil", ["cut short", "gone", "mark cut short", "mark gone"])
def test_one_that_is_not_whole_does_not_count(tmp_path: Path, kept: KeptPictures, spoil: str) -> None:
    kept.add("a", PICTURE, made_from="x")
    path = tmp_path / ("marks/a.json" if "mark" in spoil else "pictures/a.png")
    if "gone" in spoil:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-5])
    assert not kept.has("a", made_from="x")


def test_every_picture_is_kept_for_other_machines(tmp_path: Path) -> None:
    seen: list[int] = []
    kept = KeptPictures(
        tmp_path / "pictures", tmp_path / "marks", lambda: seen.append(len(list(tmp_path.rglob("*.json"))))
    )
    kept.add("a", PICTURE, made_from="x")
    kept.add("b", PICTURE, made_from="x")
    assert seen == [1, 2]  # after the mark, which makes the picture count
