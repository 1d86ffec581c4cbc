from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from worldexplorer import pictures as module
from worldexplorer.errors import DefectError
from worldexplorer.pictures import is_blank, read_picture, read_pictures, write_picture, write_pictures


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (11, 12, 14, 3), dtype=np.uint8)


def test_pictures_come_back_as_they_were(tmp_path: Path, noise: np.ndarray) -> None:
    paths = write_pictures(tmp_path / "deep" / "frames", noise)
    assert [path.name for path in paths] == [f"{number:03d}.png" for number in range(11)]
    assert (read_pictures(paths) == noise).all()
    assert (read_picture(paths[3]) == noise[3]).all()


def test_equal_pictures_have_equal_bytes(tmp_path: Path, noise: np.ndarray) -> None:
    one, two = (write_pictures(tmp_path / name, noise) for name in "ab")
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_pictures_are_resized_where_that_is_asked_for(tmp_path: Path) -> None:
    ramp = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], 64, axis=0).repeat(3, axis=2)
    write_picture(tmp_path / "a.png", ramp)
    small = read_picture(tmp_path / "a.png", size=16)
    assert small.shape == (16, 16, 3)
    blocks = ramp.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
    assert np.abs(small[:, 2:-2].astype(float) - blocks[:, 2:-2]).max() < 2
    assert (read_picture(tmp_path / "a.png", size=64) == ramp).all()


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:40], lambda data: b"", lambda data: data[:-300], lambda data: b"x"]
)
def test_what_is_no_picture_is_named(tmp_path: Path, noise: np.ndarray, spoil: object) -> None:
    path = tmp_path / "a.png"
    write_picture(path, noise[0])
    path.write_bytes(spoil(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(DefectError, match="a picture of this pipeline cannot be read") as caught:
        read_picture(path)
    assert caught.value.where == str(path)


def test_what_the_machine_does_not_give_is_its_own_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError):
        read_picture(tmp_path / "none.png")

    def broken(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(module.Image, "open", broken)
    with pytest.raises(OSError, match="Input/output"):
        read_picture(tmp_path / "a.png")


def test_one_error_of_many_pictures_is_raised(tmp_path: Path, noise: np.ndarray) -> None:
    paths = write_pictures(tmp_path, noise)
    paths[5].write_bytes(b"")
    with pytest.raises(DefectError) as caught:
        read_pictures(paths)
    assert caught.value.where == str(paths[5])


def test_blank_pictures() -> None:
    shown = np.zeros((5, 8, 9, 3), dtype=np.uint8)
    shown[1] = 255
    shown[2] = (10, 200, 30)
    shown[3, 0, 0, 2] = 1  # the last bit of one pixel
    shown[4, 7, 8, 1] = 2
    assert is_blank(shown).tolist() == [True, True, True, True, False]
    assert is_blank(shown[:0]).shape == (0,)
