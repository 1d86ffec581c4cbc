"""What every storage promises. A test class for an implementation inherits this one and supplies `storage`.

class TestLocalStorage(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path): return LocalStorage(tmp_path / "root")
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from contextvars import ContextVar
from pathlib import Path

import pytest
from builders import together

from worldexplorer.errors import DefectError, ErrorClass, classify
from worldexplorer.storage import AlreadyExistsError, ChangedError, NotFoundError, Storage

CALLERS = 8
WORD: ContextVar[str] = ContextVar("word", default="")


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

    def test_what_is_not_there(self, storage: Storage, tmp_path: Path) -> None:
        storage.create("there", b"")
        for ask in (
            storage.read,
            storage.read_versioned,
            storage.sha256,
            lambda key: storage.local_copies(["there", key], tmp_path),
        ):
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

    def test_upload_leaves_alone_what_is_there(self, storage: Storage, tmp_path: Path) -> None:
        folder = tmp_path / "made"
        folder.mkdir()
        for name in ("same", "same size", "other size"):
            (folder / name).write_bytes(b"old")
        storage.upload(folder, "target")
        storage.create("target/other", b"")
        (folder / "same size").write_bytes(b"new")
        (folder / "other size").write_bytes(b"longer")
        storage.upload(folder, "target")
        assert {info.key: storage.read(info.key) for info in storage.list("target")} == {
            "target/same": b"old",
            "target/same size": b"new",
            "target/other size": b"longer",
            "target/other": b"",
        }

    def test_an_uploaded_file_keeps_its_time_until_somebody_writes_over_it(
        self, storage: Storage, tmp_path: Path
    ) -> None:
        folder = tmp_path / "made"
        folder.mkdir()
        (folder / "a").write_bytes(b"content")
        os.utime(folder / "a", (1_000_000_000, 1_000_000_000))
        storage.upload(folder, "attempt")
        storage.move("attempt/a", "published/a")
        info = storage.stat("published/a")
        assert info is not None
        assert info.modified == 1_000_000_000
        assert list(storage.list("published")) == [info]
        storage.write("published/a", b"changed")
        info = storage.stat("published/a")
        assert info is not None
        assert info.modified > 1_000_000_000

    def test_local_copies_have_the_bytes_in_order(self, storage: Storage, tmp_path: Path) -> None:
        names = [f"a/{number % 3}/{number}" for number in range(20)]
        for name in names:
            storage.create(name, name.encode())
        asked = [*reversed(names), names[0]]
        assert [path.read_bytes() for path in storage.local_copies(asked, tmp_path / "scratch")] == [
            name.encode() for name in asked
        ]
        assert storage.local_copies([], tmp_path / "scratch") == []

    def test_local_copies_of_a_folder_lie_like_the_folder(self, storage: Storage, tmp_path: Path) -> None:
        storage.create("a/b/one", b"")
        storage.create("a/b/c/two", b"")
        one, two = storage.local_copies(["a/b/one", "a/b/c/two"], tmp_path / "scratch")
        assert two.parent.parent == one.parent
        assert (one.name, two.name) == ("one", "two")

    def test_map_keeps_the_order_and_the_context(self, storage: Storage) -> None:
        storage.create("a", b"x")
        token = WORD.set("said")
        try:
            assert storage.map(lambda number: (number, WORD.get(), storage.read("a")), range(100)) == [
                (number, "said", b"x") for number in range(100)
            ]
        finally:
            WORD.reset(token)
        assert storage.map(storage.read, []) == []

    def test_map_may_be_called_inside_map(self, storage: Storage) -> None:
        found = storage.map(lambda row: storage.map(lambda column: (row, column), range(40)), range(40))
        assert found == [[(row, column) for column in range(40)] for row in range(40)]

    def test_map_ends_at_the_first_failure(self, storage: Storage) -> None:
        begun = []

        def work(number: int) -> int:
            begun.append(number)
            time.sleep(0.001)
            return 1 // number

        with pytest.raises(ZeroDivisionError):
            storage.map(work, range(5000))
        assert len(begun) < 5000

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
            lambda key: storage.local_copies([key], Path()),
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
