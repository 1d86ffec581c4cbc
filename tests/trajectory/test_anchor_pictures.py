"""Pictures of anchors: at hand at once, on disk for long."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from worldexplorer.pictures import write_pictures
from worldexplorer.trajectory.anchor_pictures import AnchorPictures


def picture(level: int) -> np.ndarray:
    return np.full((4, 4, 3), level, dtype=np.uint8)


def test_what_was_just_made_is_at_hand_before_it_is_written(tmp_path: Path) -> None:
    anchors = AnchorPictures()
    anchors.add("000_in", {2: tmp_path / "000.png"}, {2: picture(9)}, Future())
    assert (anchors.get("000_in", 2) == 9).all()


def test_what_was_made_long_ago_is_read_again(tmp_path: Path) -> None:
    anchors = AnchorPictures(most_in_memory=2)
    paths = write_pictures(tmp_path, np.stack([picture(level) for level in range(5)]))
    anchors.add("000_in", dict(enumerate(paths)), {number: picture(100 + number) for number in range(5)})
    assert [int(anchors.get("000_in", number)[0, 0, 0]) for number in (3, 4)] == [103, 104]
    assert [int(anchors.get("000_in", number)[0, 0, 0]) for number in (0, 1)] == [0, 1]
    assert int(anchors.get("000_in", 4)[0, 0, 0]) == 4


def test_what_is_asked_for_often_stays(tmp_path: Path) -> None:
    anchors = AnchorPictures(most_in_memory=2)
    paths = write_pictures(tmp_path, np.stack([picture(level) for level in range(3)]))
    anchors.add("000_in", dict(enumerate(paths)), {0: picture(100), 1: picture(101)})
    anchors.get("000_in", 0)
    anchors.get("000_in", 2)
    assert int(anchors.get("000_in", 0)[0, 0, 0]) == 100
    assert int(anchors.get("000_in", 1)[0, 0, 0]) == 1


def test_a_picture_is_not_read_before_it_is_written(tmp_path: Path) -> None:
    anchors = AnchorPictures(most_in_memory=1)
    written: Future[None] = Future()
    anchors.add("000_in", {0: tmp_path / "000.png"}, {0: picture(1)}, written)
    anchors.add("000_up", {0: tmp_path / "other.png"}, {0: picture(2)})
    written.set_exception(OSError("the disk is full"))
    with pytest.raises(OSError, match="the disk is full"):
        anchors.get("000_in", 0)
