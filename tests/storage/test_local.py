from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from storage_contract import StorageContract

from worldexplorer.errors import ErrorClass, UsageError, classify
from worldexplorer.storage import LocalStorage, open_storage


class TestLocalStorage(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> LocalStorage:
        return LocalStorage(tmp_path / "root" / "deep")

    def test_nothing_is_made_before_the_first_object(self, storage: LocalStorage) -> None:
        assert list(storage.list("")) == []
        assert not storage.local_root().exists()

    def test_a_full_disk_leaves_the_old_object_and_nothing_else(
        self, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        storage.write("folder/a", b"old")
        version = storage.read_versioned("folder/a")[1]

        def full(handle: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        for fail in (
            lambda: storage.write("folder/a", b"new"),
            lambda: storage.replace("folder/a", b"new", version),
            lambda: storage.create("folder/b", b"new"),
        ):
            with pytest.raises(OSError, match="space") as caught:
                fail()
            assert classify(caught.value) is ErrorClass.INFRASTRUCTURE
        assert storage.read("folder/a") == b"old"
        assert [path.name for path in storage.local_root().rglob("*")] == ["folder", "a"]

    def test_what_a_killed_writer_left_is_no_object(self, storage: LocalStorage) -> None:
        storage.create("folder/a", b"")
        (storage.local_root() / "folder" / ".part-killed").write_bytes(b"half")
        assert [info.key for info in storage.list("")] == ["folder/a"]
        storage.delete("folder/a")
        assert not storage.exists("folder")

    @pytest.mark.parametrize(
        "write",
        [
            lambda storage: storage.create("folder/new", b"new"),
            lambda storage: storage.write("folder/a", b"new"),
            lambda storage: storage.replace("folder/a", b"new", storage.read_versioned("folder/a")[1]),
        ],
    )
    def test_what_a_killed_writer_left_is_removed_once_it_cannot_be_anothers(
        self, tmp_path: Path, write: Callable[[LocalStorage], None]
    ) -> None:
        LocalStorage(tmp_path).create("folder/a", b"")
        LocalStorage(tmp_path).create("elsewhere/a", b"")
        old, young, far = (
            tmp_path / name for name in ("folder/.part-old", "folder/.part-young", "elsewhere/.part-old")
        )
        for path, age in ((old, 3700.0), (young, 3500.0), (far, 3700.0)):
            path.write_bytes(b"half")
            os.utime(path, (time.time() - age,) * 2)
        write(LocalStorage(tmp_path))
        assert not old.exists()
        assert young.exists()  # may be a run's that is just about to give it its name
        assert far.exists()  # nobody has written there

    def test_who_tidies_up_at_the_same_time_is_no_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        old = tmp_path / ".part-old"
        old.write_bytes(b"half")
        os.utime(old, (0, 0))
        unlink = Path.unlink

        def after_another(path: Path, missing_ok: bool = False) -> None:
            unlink(path, missing_ok=True)
            unlink(path, missing_ok=missing_ok)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", after_another)
            LocalStorage(tmp_path).write("a", b"new")
        assert [path.name for path in tmp_path.iterdir()] == ["a"]

    def test_objects_can_be_read_by_others(self, storage: LocalStorage) -> None:
        storage.create("a", b"")
        storage.write("b", b"")
        for name in ("a", "b"):
            assert (storage.local_root() / name).stat().st_mode & 0o444 == 0o444

    def test_a_folder_in_the_storage_is_not_copied_onto_itself(self, storage: LocalStorage) -> None:
        storage.create("attempt/a", b"content")
        storage.upload(storage.local_root() / "attempt", "attempt")
        assert storage.read("attempt/a") == b"content"

    def test_a_move_keeps_the_time(self, storage: LocalStorage) -> None:
        storage.create("a", b"content")
        os.utime(storage.local_root() / "a", (1_000_000_000, 1_000_000_000))
        storage.move("a", "b")
        info = storage.stat("b")
        assert info is not None
        assert info.modified == 1_000_000_000


class TestWithoutHardLinks(TestLocalStorage):
    """As on exFAT: the same promises, kept with a lock."""

    @pytest.fixture(autouse=True)
    def _no_links(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(source: object, target: object) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refuse)


def test_other_schemes_are_refused() -> None:
    with pytest.raises(UsageError, match="--output_base"):
        open_storage("s3://bucket/output")


def test_a_folder_is_opened(tmp_path: Path) -> None:
    assert open_storage(str(tmp_path)).local_root() == tmp_path
