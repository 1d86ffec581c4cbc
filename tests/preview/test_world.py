"""The world's files: what is written is read again, and nothing damaged is accepted."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from worldexplorer.errors import DefectError
from worldexplorer.preview.world import World


@pytest.fixture
def world() -> World:
    random = np.random.default_rng(0)
    ranges = random.uniform(1, 10, size=(16, 32)).astype(np.float32)
    return World(
        random.integers(0, 256, size=(16, 32, 3), dtype=np.uint8),
        ranges,
        random.integers(0, 256, size=(16, 32, 3), dtype=np.uint8),
        ranges + random.uniform(0, 5, size=(16, 32)).astype(np.float32),
    )


def test_a_saved_world_is_read_exactly(world: World, tmp_path: Path) -> None:
    world.save(tmp_path)
    read = World.load(tmp_path)
    for name in ("panorama", "range_m", "backdrop", "backdrop_range_m"):
        np.testing.assert_array_equal(getattr(read, name), getattr(world, name))
        assert getattr(read, name).dtype == getattr(world, name).dtype
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backdrop.png", "panorama.png", "range.npz"]


def test_the_same_world_gives_the_same_bytes(world: World, tmp_path: Path) -> None:
    contents = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        world.save(tmp_path / name)
        contents.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert contents[0] == contents[1]


@pytest.mark.parametrize("name", ["panorama.png", "backdrop.png", "range.npz"])
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "garbage", "flipped"])
def test_a_damaged_file_is_named(world: World, tmp_path: Path, name: str, damage: str) -> None:
    world.save(tmp_path)
    path = tmp_path / name
    data = path.read_bytes()
    middle = len(data) // 2
    contents = {
        "empty": b"",
        "half": data[:middle],
        "garbage": b"not what it should be" * 100,
        "flipped": data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :],
    }
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(contents[damage])
    with pytest.raises(DefectError) as caught:
        World.load(tmp_path)
    assert caught.value.where == str(path)
    assert caught.value.remedy


def test_pickles_are_refused(world: World, tmp_path: Path) -> None:
    world.save(tmp_path)
    np.savez(tmp_path / "range.npz", range_m=np.array([{}], dtype=object), backdrop_range_m=world.backdrop_range_m)
    with pytest.raises(DefectError, match=r"range\.npz"):
        World.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "file"),
    [
        (lambda world: replace(world, panorama=world.panorama[:, :31]), "panorama.png"),
        (lambda world: replace(world, backdrop=world.backdrop[:8, :16]), "backdrop.png"),
        (lambda world: replace(world, range_m=world.range_m[:8]), "range.npz"),
        (lambda world: replace(world, range_m=world.range_m.astype(np.float64)), "range.npz"),
        (lambda world: replace(world, range_m=np.full_like(world.range_m, np.nan)), "range.npz"),
        (lambda world: replace(world, range_m=np.zeros_like(world.range_m)), "range.npz"),
        (lambda world: replace(world, backdrop_range_m=world.range_m - 0.5), "range.npz"),
    ],
)
def test_files_that_contradict_themselves_are_refused(
    world: World, tmp_path: Path, change: Callable[[World], World], file: str
) -> None:
    change(world).save(tmp_path)
    with pytest.raises(DefectError) as caught:
        World.load(tmp_path)
    assert caught.value.where == str(tmp_path / file)


def test_a_grey_picture_is_refused(world: World, tmp_path: Path) -> None:
    world.save(tmp_path)
    assert cv2.imwrite(str(tmp_path / "panorama.png"), world.panorama[..., 0])
    with pytest.raises(DefectError, match="8-bit colour"):
        World.load(tmp_path)


def test_files_that_claim_to_be_huge_are_refused_unread(world: World, tmp_path: Path) -> None:
    world.save(tmp_path)
    np.savez_compressed(tmp_path / "range.npz", range_m=np.zeros(3_000_000, np.float32), backdrop_range_m=world.range_m)
    with pytest.raises(DefectError, match="more than two range maps"):
        World.load(tmp_path)
    data = bytearray((tmp_path / "panorama.png").read_bytes())
    data[16:24] = struct.pack(">II", 200_000, 100_000)
    (tmp_path / "panorama.png").write_bytes(bytes(data))
    with pytest.raises(DefectError, match="200000 x 100000"):
        World.load(tmp_path)
