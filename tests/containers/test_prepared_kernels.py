from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from numba.core.caching import UserProvidedCacheLocator

from images.cpu import prepared_kernels
from images.cpu.prepared_kernels import PreparedCacheLocator, copy_whole


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "prepared"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number}.nbc").write_bytes(bytes([number]) * 1000)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_folder_appears_whole(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "scratch" / "numba" / "preview_1"
    copy_whole(source, target)
    assert contents(target) == contents(source)
    assert [path.name for path in target.parent.iterdir()] == ["preview_1"]


def test_the_first_of_many_processes_wins(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "numba" / "preview_1"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: copy_whole(source, target), range(8)))
    assert contents(target) == contents(source)
    assert [path.name for path in target.parent.iterdir()] == ["preview_1"]


def test_what_is_there_is_kept(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "preview_1"
    target.mkdir()
    (target / "new.nbc").write_bytes(b"compiled here")
    copy_whole(source, target)
    assert contents(target) == {"new.nbc": b"compiled here"}


def test_a_place_that_cannot_be_had_is_an_error(source: Path, tmp_path: Path) -> None:
    (tmp_path / "preview_1").write_text("a file")
    with pytest.raises(OSError):
        copy_whole(source, tmp_path / "preview_1")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("prepared", [True, False])
def test_numba_is_given_the_prepared_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepared: bool) -> None:
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(prepared_kernels, "PREPARED", tmp_path / "image")
    name = Path(UserProvidedCacheLocator(copy_whole, prepared_kernels.__file__).get_cache_path()).name
    (tmp_path / "image" / (name if prepared else "preview_of_elsewhere")).mkdir(parents=True)
    for folder in (tmp_path / "image").iterdir():
        (folder / "kernel.nbc").write_bytes(b"machine code")

    locator = PreparedCacheLocator.from_function(copy_whole, prepared_kernels.__file__)

    assert locator.get_cache_path() == str(tmp_path / "cache" / name)
    assert contents(tmp_path / "cache" / name) == ({"kernel.nbc": b"machine code"} if prepared else {})
