"""What every storage promises. A test class for an implementation inherits this one and supplies `storage`.

class TestLocalStorage(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path): return LocalStorage(tmp_path / "root")
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest
from builders import together

from worldexplorer.errors import DefectError, ErrorClass, classify
from worldexplorer.storage import AlreadyExistsError, ChangedError, NotFoundError, Storage

CALLERS = 8


def keys(storage: Storage, prefix: str) -> list[str]:
    return [info.key for info in storage.list(prefix)]


class StorageContract:
    """Inherited by the tests of every implementation."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        raise NotImplementedError

    def test_what_is_created_is_read(self, storage: Storage) -> None:
        storage.create("a/b/c.json", b"one")
        assert storage.read("a/b/c.json") == b"one"

    def test_create_leaves_what_is_there(self, storage: Storage) -> None:
        storage.create("a/b", b"one")
        with pytest.raises(AlreadyExistsError):
            storage.create("a/b", b"two")
        assert storage.read("a/b") == b"one"

    def test_of_eight_creators_exactly_one_wins(self, storage: Storage) -> None:
        for name in range(5):
            outcomes = together(
                lambda number, name=name: storage.create(f"race/{name}", b"%d" % number * 5000), CALLERS
            )
            winners = [number for number, outcome in enumerate(outcomes) if outcome is None]
            assert len(winners) == 1
            assert sum(isinstance(outcome, AlreadyExistsError) for outcome in outcomes) == CALLERS - 1
            assert storage.read(f"race/{name}") == b"%d" % winners[0] * 5000
        assert keys(storage, "race") == [f"race/{name}" for name in range(5)]

    def test_replace_asks_for_the_version_that_was_read(self, storage: Storage) -> None:
        storage.create("a", b"one")
        data, version = storage.read_versioned("a")
        assert data == b"one"
        storage.replace("a", b"two", version)
        with pytest.raises(ChangedError):
            storage.replace("a", b"three", version)
        assert storage.read("a") == b"two"

    def test_replace_makes_nothing_new(self, storage: Storage) -> None:
        with pytest.raises(NotFoundError):
            storage.replace("no/such", b"two", "version")
        storage.create("folder/other", b"")
        with pytest.raises(NotFoundError):
            storage.replace("folder/such", b"two", "version")
        assert not storage.exists("no")

    def test_no_increment_is_lost_under_contention(self, storage: Storage) -> None:
        storage.create("folder/counter", b"0")

        def increment(_: int) -> None:
            for _ in range(10):
                while True:
                    data, version = storage.read_versioned("folder/counter")
                    try:
                        storage.replace("folder/counter", b"%d" % (int(data) + 1), version)
                    except ChangedError:
                        continue
                    break

        assert together(increment, CALLERS) == [None] * CALLERS
        assert storage.read("folder/counter") == b"80"

    def test_readers_see_a_whole_object(self, storage: Storage) -> None:
        contents = [bytes([letter]) * 200_000 for letter in b"ab"]
        storage.write("big", contents[0])
        done = threading.Event()

        def work(number: int) -> set[bytes]:
            seen = set()
            if number == 0:
                for turn in range(40):
                    storage.write("big", contents[turn % 2])
                done.set()
            while not done.is_set():
                seen.add(storage.read("big"))
            return seen

        seen = set().union(*together(work, 4))
        assert seen <= set(contents)

    def test_write_replaces(self, storage: Storage) -> None:
        storage.write("a/b", b"long content")
        storage.write("a/b", b"x")
        assert storage.read("a/b") == b"x"
        assert keys(storage, "") == ["a/b"]

    def test_what_is_not_there(self, storage: Storage) -> None:
        for ask in (storage.read, storage.read_versioned, storage.sha256, storage.local_copy):
            with pytest.raises(NotFoundError) as caught:
                ask("no/such")
            assert classify(caught.value) is ErrorClass.INFRASTRUCTURE
        assert storage.stat("no/such") is None
        assert not storage.exists("no")
        assert keys(storage, "no") == []
        storage.delete("no/such")
        storage.delete_tree("no/such")

    def test_stat_tells_of_objects_only(self, storage: Storage) -> None:
        storage.create("folder/file", b"12345")
        info = storage.stat("folder/file")
        assert info is not None
        assert (info.key, info.size) == ("folder/file", 5)
        assert info.modified > 0
        assert storage.stat("folder") is None
        assert storage.stat("folder/file/below") is None

    def test_list_is_in_order_of_keys(self, storage: Storage) -> None:
        names = ["a/b", "a-b/c", "a/b.c", "a/b/c" + "d", "a0", "Z", "a/.hidden/x"]
        names.remove("a/b")  # in a folder tree it cannot stand beside a/b/cd
        for name in names:
            storage.create(name, b"")
        assert keys(storage, "") == sorted(names)
        assert keys(storage, "a") == sorted(name for name in names if name.startswith("a/"))

    def test_a_folder_is_where_something_lies(self, storage: Storage) -> None:
        assert not storage.exists("")
        storage.create("a/b/c", b"")
        assert storage.exists("")
        assert storage.exists("a")
        assert storage.exists("a/b")
        storage.delete("a/b/c")
        assert not storage.exists("a")
        assert not storage.exists("")

    def test_sha256_is_that_of_the_bytes(self, storage: Storage) -> None:
        storage.create("a", b"content")
        assert storage.sha256("a") == hashlib.sha256(b"content").hexdigest()

    def test_move_takes_the_object_along(self, storage: Storage) -> None:
        storage.create("from/a", b"new")
        storage.create("to/b", b"old")
        storage.move("from/a", "to/b")
        assert storage.read("to/b") == b"new"
        assert keys(storage, "") == ["to/b"]

    def test_a_second_move_finds_it_moved(self, storage: Storage) -> None:
        storage.create("from/a", b"new")
        storage.move("from/a", "to/deep/b")
        storage.move("from/a", "to/deep/b")
        assert storage.read("to/deep/b") == b"new"
        with pytest.raises(NotFoundError):
            storage.move("from/a", "to/other")

    def test_eight_may_move_the_same_objects(self, storage: Storage) -> None:
        for number in range(10):
            storage.create(f"from/{number}", b"%d" % number)

        def move(_: int) -> None:
            for number in range(10):
                storage.move(f"from/{number}", f"to/{number}/x")

        assert together(move, CALLERS) == [None] * CALLERS
        assert [storage.read(f"to/{number}/x") for number in range(10)] == [b"%d" % number for number in range(10)]

    def test_writers_and_removers_share_folders(self, storage: Storage) -> None:
        """A folder that is empty for a moment goes away under those who are about to put something in."""

        def work(number: int) -> None:
            key = f"deep/down/here/{number}"
            for turn in range(30):
                storage.create(key, b"x")
                storage.move(key, f"deep/other/{number}/x")
                storage.write(key, b"y")
                storage.delete(key)
                storage.delete_tree(f"deep/other/{number}") if turn % 2 else storage.delete(f"deep/other/{number}/x")

        outcomes = together(work, CALLERS)
        assert outcomes == [None] * CALLERS
        assert not storage.exists("")

    def test_eight_may_remove_the_same_tree(self, storage: Storage) -> None:
        for number in range(60):
            storage.create(f"tree/{number % 6}/{number}", b"")
        storage.create("kept", b"")
        assert together(lambda _: storage.delete_tree("tree"), CALLERS) == [None] * CALLERS
        assert keys(storage, "") == ["kept"]

    def test_listing_goes_on_while_others_remove(self, storage: Storage) -> None:
        for number in range(60):
            storage.create(f"going/{number % 10}/{number}", b"")
            storage.create(f"staying/{number % 10}/{number}", b"")

        def work(number: int) -> int:
            if number == 0:
                for folder in range(10):
                    storage.delete_tree(f"going/{folder}")
                return 60
            return min(sum(key.startswith("staying/") for key in keys(storage, "")) for _ in range(10))

        assert together(work, 4) == [60] * 4

    def test_upload_brings_every_file(self, storage: Storage, tmp_path: Path) -> None:
        folder = tmp_path / "made"
        (folder / "deep").mkdir(parents=True)
        (folder / "one").write_bytes(b"1")
        (folder / "deep" / "two").write_bytes(b"2")
        for _ in range(2):
            storage.upload(folder, "target")
            assert {info.key: storage.read(info.key) for info in storage.list("target")} == {
                "target/one": b"1",
                "target/deep/two": b"2",
            }

    def test_a_local_copy_has_the_bytes(self, storage: Storage) -> None:
        storage.create("a/b", b"content")
        assert storage.local_copy("a/b").read_bytes() == b"content"

    @pytest.mark.parametrize(
        "key", ["", "/", "/etc/passwd", "..", "../x", "a/../../x", "a/..", ".", "a/./b", "a//b", "a/", "a\0b"]
    )
    def test_keys_that_are_not_plain_are_refused(self, storage: Storage, key: str) -> None:
        storage.create("kept", b"")
        for ask in (
            storage.read,
            storage.read_versioned,
            storage.delete,
            storage.delete_tree,
            storage.stat,
            storage.sha256,
            storage.local_copy,
            lambda key: storage.create(key, b""),
            lambda key: storage.write(key, b""),
            lambda key: storage.replace(key, b"", ""),
            lambda key: storage.move(key, "x"),
            lambda key: storage.move("kept", key),
            lambda key: storage.upload(Path(), key),
        ):
            with pytest.raises(DefectError):
                ask(key)
        if key:  # the empty prefix is the root
            with pytest.raises(DefectError):
                list(storage.list(key))
            with pytest.raises(DefectError):
                storage.exists(key)
        assert keys(storage, "") == ["kept"]
