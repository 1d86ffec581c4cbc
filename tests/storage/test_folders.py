from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import pytest
from builders import together

from worldexplorer.storage.folders import make_folder


def test_it_is_made_with_its_parents_and_may_be_there(tmp_path: Path) -> None:
    for _ in range(2):
        make_folder(tmp_path / "a" / "b" / "c")
        assert (tmp_path / "a" / "b" / "c").is_dir()


def test_others_may_remove_it_and_its_parents_all_the_time(tmp_path: Path) -> None:
    stop = threading.Event()
    folders = [tmp_path / "a" / "b" / "c", tmp_path / "a" / "b", tmp_path / "a"]

    def work(number: int) -> None:
        if number:
            while not stop.is_set():
                for folder in folders:
                    with suppress(OSError):
                        folder.rmdir()
            return
        try:
            for _ in range(3000):
                make_folder(folders[0])
        finally:
            stop.set()

    assert together(work, 3) == [None] * 3


@pytest.mark.parametrize("place", ["file", "file/below", "link", "link/below"])
def test_what_stands_in_the_way_for_good_is_an_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match=r"link|file"):
        make_folder(tmp_path / place)
