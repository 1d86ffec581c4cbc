"""A bucket keeps what every storage promises, and rides out what a network does."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

import pytest
from builders import together
from gcs_emulator import (
    emulator_url,
    gcs_client,
    gcs_emulator,  # noqa: F401 (a fixture)
)
from google.api_core.exceptions import PreconditionFailed
from google.auth.exceptions import DefaultCredentialsError, RefreshError
from google.cloud import storage as gcs
from google.cloud.storage import Blob
from loopback_proxy import Answer, BrokenRequest, CutAnswer, Fault, LoopbackProxy, LostAnswer, Request, Silence
from storage_contract import StorageContract

from worldexplorer.errors import ErrorClass, TransientError, UsageError, UserError, classify
from worldexplorer.storage import AlreadyExistsError, ChangedError, NotFoundError, open_storage
from worldexplorer.storage.gcs import GcsStorage, split_uri

pytestmark = pytest.mark.slow


class TestGcsStorage(StorageContract):
    @pytest.fixture
    def storage(self, gcs_emulator: str) -> GcsStorage:  # noqa: F811
        storage = open_storage(f"gs://{gcs_emulator}/root/deep")
        assert isinstance(storage, GcsStorage)
        return storage


def test_a_whole_bucket_is_a_storage_too(gcs_emulator: str) -> None:  # noqa: F811
    storage = open_storage(f"gs://{gcs_emulator}")
    storage.create("a/b", b"1")
    storage.create("c", b"2")
    assert [info.key for info in storage.list("")] == ["a/b", "c"]
    assert [info.key for info in storage.list("a")] == ["a/b"]
    storage.delete_tree("a")
    assert storage.exists("")
    storage.delete("c")
    assert not storage.exists("")


def test_folders_of_one_bucket_are_apart(gcs_emulator: str) -> None:  # noqa: F811
    one, two = (open_storage(f"gs://{gcs_emulator}/{name}") for name in ("a", "ab"))
    one.create("x", b"1")
    two.create("x", b"2")
    assert [info.key for info in one.list("")] == ["x"]
    one.delete_tree("x")
    one.delete("x")
    assert two.read("x") == b"2"


def test_a_browser_can_open_what_is_written(gcs_emulator: str, tmp_path: Path) -> None:  # noqa: F811
    storage = open_storage(f"gs://{gcs_emulator}")
    storage.create("a.json", b"{}")
    storage.write("b.html", b"")
    (tmp_path / "c.png").write_bytes(b"")
    storage.upload(tmp_path, "up")
    storage.move("up/c.png", "c.png")
    kinds = {blob.name: blob.content_type for blob in gcs_client(emulator_url()).list_blobs(gcs_emulator)}
    assert kinds == {"a.json": "application/json", "b.html": "text/html", "c.png": "image/png"}


def test_folders_made_in_a_console_are_no_objects(gcs_emulator: str) -> None:  # noqa: F811
    bucket = gcs_client(emulator_url()).bucket(gcs_emulator)
    bucket.blob("out/").upload_from_string(b"")
    bucket.blob("out/runs/").upload_from_string(b"")
    storage = open_storage(f"gs://{gcs_emulator}/out")
    assert not storage.exists("runs")
    assert list(storage.list("")) == []
    for number in range(20):
        bucket.blob(f"out/empty/{number:02d}/").upload_from_string(b"")
    storage.create("empty/last", b"")
    assert storage.exists("")
    assert [info.key for info in storage.list("")] == ["empty/last"]


def test_files_in_pieces_are_whole(gcs_emulator: str, tmp_path: Path) -> None:  # noqa: F811
    """Above 8 MiB the client changes to an upload in pieces."""
    data = bytes(range(256)) * (20 * 2**20 // 256)
    (tmp_path / "large").write_bytes(data)
    storage = open_storage(f"gs://{gcs_emulator}")
    storage.upload(tmp_path, "up")
    assert storage.read("up/large") == data
    assert storage.local_copies(["up/large"], tmp_path / "scratch")[0].read_bytes() == data


class TestOpening:
    @pytest.mark.parametrize("uri", ["gs://", "gs:///folder", "gs://bucket//folder", "gs://bucket/../x", "gs://b/a//b"])
    def test_what_names_no_folder_of_a_bucket(self, uri: str) -> None:
        with pytest.raises(UsageError, match="gs://BUCKET/FOLDER"):
            open_storage(uri)

    def test_slashes_at_the_end_do_not_matter(self) -> None:
        assert split_uri("gs://bucket") == split_uri("gs://bucket/") == ("bucket", "")
        assert split_uri("gs://bucket/a/b/") == ("bucket", "a/b")

    def test_the_uri_is_told_as_it_was_given(self, gcs_emulator: str) -> None:  # noqa: F811
        assert open_storage(f"gs://{gcs_emulator}/a/b/").uri == f"gs://{gcs_emulator}/a/b"
        assert open_storage(f"gs://{gcs_emulator}/").uri == f"gs://{gcs_emulator}"

    def test_a_bucket_that_is_not_there(self, gcs_emulator: str) -> None:  # noqa: F811
        with pytest.raises(UsageError, match="no bucket no-such-bucket"):
            open_storage("gs://no-such-bucket/x")

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_bucket_that_is_forbidden(self, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
        with LoopbackProxy(emulator_url(), lambda request: Answer(status)) as proxy:
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
            with pytest.raises(UsageError, match=r"closed-bucket.*roles/storage.objectUser"):
                open_storage("gs://closed-bucket/x")

    def test_no_credentials(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def none(**_: Any) -> None:
            raise DefaultCredentialsError("none were found")

        monkeypatch.setattr(gcs, "Client", none)
        with pytest.raises(UsageError, match="gcloud auth application-default login"):
            open_storage("gs://bucket/x")

    def test_no_client_library(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(sys.modules, "worldexplorer.storage.gcs")
        for name in [name for name in sys.modules if name.startswith("google.cloud.storage")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "google.cloud.storage", None)
        monkeypatch.delattr("google.cloud.storage")
        with pytest.raises(UsageError, match=r'pip install "worldexplorer\[gcs\]"'):
            open_storage("gs://bucket/x")


class Faults:
    """Faults for the first so many requests of a kind, and what was asked."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._waiting: list[tuple[Callable[[Request], bool], Fault]] = []
        self._lock = threading.Lock()

    def add(self, matches: Callable[[Request], bool], fault: Fault, times: int = 1) -> None:
        self._waiting += [(matches, fault)] * times

    def __call__(self, request: Request) -> Fault | None:
        with self._lock:
            self.requests.append(request)
            for number, (matches, fault) in enumerate(self._waiting):
                if matches(request):
                    del self._waiting[number]
                    return fault
        return None

    @property
    def all_met(self) -> bool:
        return not self._waiting


def uploads(request: Request) -> bool:
    return request.method == "POST" and "/upload/" in request.target


def downloads(request: Request) -> bool:
    return request.method == "GET" and "alt=media" in request.target


def anything(request: Request) -> bool:
    return True


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("google.api_core.retry.retry_base.random.uniform", lambda low, high: 0.001)


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def storage(gcs_emulator: str, faults: Faults) -> Iterator[GcsStorage]:  # noqa: F811
    """Behind the proxy; gives up early."""
    with LoopbackProxy(emulator_url(), faults) as proxy:
        yield GcsStorage(gcs_client(proxy.url), gcs_emulator, "out", timeout_seconds=0.5, patience_seconds=5)


PASSING = [
    Answer(429),
    Answer(500),
    Answer(502),
    Answer(503),
    Answer(504),
    BrokenRequest(),
    LostAnswer(),
    pytest.param(Silence(1.0), marks=pytest.mark.slow),  # every request waits until its time is up
]


class TestNetwork:
    @pytest.mark.parametrize("fault", PASSING, ids=str)
    def test_what_passes_is_ridden_out(self, storage: GcsStorage, faults: Faults, tmp_path: Path, fault: Fault) -> None:
        times = 1 if isinstance(fault, Silence) else 2
        (tmp_path / "up").mkdir()
        (tmp_path / "up" / "file").write_bytes(b"content")

        def once_more(work: Callable[[], Any]) -> Any:
            faults.add(anything, fault, times)
            result = work()
            assert faults.all_met
            return result

        once_more(lambda: storage.create("a", b"one"))
        data, version = once_more(lambda: storage.read_versioned("a"))
        assert data == b"one"
        once_more(lambda: storage.replace("a", b"two", version))
        once_more(lambda: storage.write("b", b"three"))
        assert once_more(lambda: [info.key for info in storage.list("")]) == ["a", "b"]
        assert once_more(lambda: storage.stat("a")).size == 3
        assert once_more(lambda: storage.local_copies(["a"], tmp_path / "scratch"))[0].read_bytes() == b"two"
        once_more(lambda: storage.upload(tmp_path / "up", "up"))
        once_more(lambda: storage.move("up/file", "moved"))
        assert storage.read("moved") == b"content"
        once_more(lambda: storage.delete("moved"))
        once_more(lambda: storage.delete_tree("up"))
        assert [info.key for info in storage.list("")] == ["a", "b"]

    @pytest.mark.parametrize("size", [0, 1, 70_000])
    def test_an_answer_that_breaks_off_is_asked_for_again(
        self, storage: GcsStorage, faults: Faults, tmp_path: Path, size: int
    ) -> None:
        data = bytes(range(256)) * 400
        storage.write("a", data)
        for ask in (
            storage.read,
            lambda key: storage.local_copies([key], tmp_path)[0].read_bytes(),
        ):
            faults.add(downloads, CutAnswer(size))
            assert ask("a") == data
        faults.add(downloads, CutAnswer(size))
        before = storage.sha256("a")
        assert faults.all_met
        assert storage.sha256("a") == before

    def test_a_record_replaced_while_its_answer_breaks_off_is_read_whole(
        self, storage: GcsStorage, faults: Faults
    ) -> None:
        storage.write("a", b"old" * 1000)
        faults.add(downloads, CutAnswer(1000))

        def replace(request: Request) -> bool:
            cut = len([one for one in faults.requests if downloads(one)])
            if downloads(request) and cut == 2:
                gcs_client(emulator_url()).bucket(storage.uri.split("/")[2]).blob("out/a").upload_from_string(b"new")
            return False

        faults.add(replace, Answer(500))
        assert storage.read("a") == b"new"

    @pytest.mark.parametrize("fault", [Answer(429), Answer(503), BrokenRequest(), Silence(1.0)], ids=str)
    def test_what_does_not_pass_is_transient(self, gcs_emulator: str, tmp_path: Path, fault: Fault) -> None:  # noqa: F811
        (tmp_path / "file").write_bytes(b"")
        with LoopbackProxy(emulator_url(), lambda request: fault) as proxy:
            client = gcs_client(proxy.url)
            storage = GcsStorage(client, gcs_emulator, timeout_seconds=0.1, patience_seconds=0.2)
            for ask in (
                lambda: storage.read("a"),
                lambda: storage.create("a", b""),
                lambda: storage.stat("a"),
                lambda: storage.exists("a"),
                lambda: storage.upload(tmp_path, "a"),
                lambda: storage.local_copies(["a"], tmp_path / "scratch"),
                lambda: storage.move("a", "b"),
                lambda: storage.sha256("a"),
                lambda: storage.delete("a"),
            ):
                with pytest.raises(TransientError, match=gcs_emulator) as caught:
                    ask()
                assert classify(caught.value) is ErrorClass.TRANSIENT

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_lost_permission_names_the_role(self, storage: GcsStorage, faults: Faults, status: int) -> None:
        faults.add(anything, Answer(status), 2)
        with pytest.raises(UserError, match=r"roles/storage\.objectUser"):
            storage.read("a")
        with pytest.raises(UserError, match=r"roles/storage\.objectUser"):
            storage.create("a", b"")

    def test_credentials_that_ran_out_are_the_users(self, storage: GcsStorage, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise RefreshError("reauthenticate")

        monkeypatch.setattr(storage._client._http, "request", refuse)
        with pytest.raises(UserError, match=r"reauthenticate.*gcloud auth"):
            storage.read("a")

    def test_only_what_may_pass_is_asked_twice(self, storage: GcsStorage, faults: Faults) -> None:
        with pytest.raises(NotFoundError):
            storage.read("a")
        faults.add(anything, Answer(400))
        with pytest.raises(Exception, match="made up by the proxy") as caught:
            storage.read("a")
        assert classify(caught.value) is ErrorClass.DEFECT
        assert len(faults.requests) == 2


class TestLostAnswers:
    def test_a_create_finds_its_own_object(self, storage: GcsStorage, faults: Faults) -> None:
        faults.add(uploads, LostAnswer())
        storage.create("a", b"mine")
        assert [uploads(request) for request in faults.requests] == [True, True, False]
        assert storage.read("a") == b"mine"

    def test_a_replace_finds_its_own_object(self, storage: GcsStorage, faults: Faults) -> None:
        storage.create("a", b"old")
        version = storage.read_versioned("a")[1]
        faults.add(uploads, LostAnswer())
        storage.replace("a", b"mine", version)
        assert storage.read("a") == b"mine"

    def test_equal_bytes_of_another_are_not_taken_for_its_own(self, storage: GcsStorage) -> None:
        storage.create("a", b"equal")
        with pytest.raises(AlreadyExistsError):
            storage.create("a", b"equal")

    def test_others_objects_are_not_taken_for_its_own(self, storage: GcsStorage, faults: Faults) -> None:
        storage.create("a", b"theirs")
        version = storage.read_versioned("a")[1]
        faults.add(uploads, BrokenRequest())
        with pytest.raises(AlreadyExistsError):
            storage.create("a", b"mine")
        storage.replace("a", b"theirs too", version)
        faults.add(uploads, BrokenRequest())
        with pytest.raises(ChangedError):
            storage.replace("a", b"mine", version)

    def test_of_eight_creators_with_lost_answers_exactly_one_wins(self, storage: GcsStorage, faults: Faults) -> None:
        faults.add(uploads, LostAnswer(), 6)
        outcomes = together(lambda number: storage.create("a", b"%d" % number), 8)
        assert sum(outcome is None for outcome in outcomes) == 1
        assert storage.read("a") == b"%d" % outcomes.index(None)

    def test_a_move_whose_copy_was_answered_by_nobody_is_done_once(self, storage: GcsStorage, faults: Faults) -> None:
        storage.create("a", b"content")
        faults.add(lambda request: request.method == "DELETE", LostAnswer())
        storage.move("a", "b")
        assert [info.key for info in storage.list("")] == ["b"]


def test_uploads_skip_what_is_there_and_copies_run_side_by_side(
    storage: GcsStorage, faults: Faults, tmp_path: Path
) -> None:
    for number in range(8):
        (tmp_path / str(number)).write_bytes(b"%d" % number)
    storage.upload(tmp_path, "up")
    faults.requests.clear()
    (tmp_path / "3").write_bytes(b"x")
    storage.upload(tmp_path, "up")
    assert [uploads(request) for request in faults.requests] == [False, True]


def test_a_broken_upload_is_told_after_the_others_are_there(
    storage: GcsStorage, faults: Faults, tmp_path: Path
) -> None:
    for number in range(8):
        (tmp_path / str(number)).write_bytes(b"%d" % number)
    faults.add(lambda request: uploads(request) and b'"out/up/5"' in request.body, Answer(403))
    with pytest.raises(UserError, match="up/5"):
        storage.upload(tmp_path, "up")
    assert len(list(storage.list("up"))) == 7


def test_copies_that_fail_leave_nothing_half(storage: GcsStorage, faults: Faults, tmp_path: Path) -> None:
    storage.create("a", b"1")
    storage.create("b", b"2")
    faults.add(lambda request: downloads(request) and "b?" in request.target, Answer(403))
    with pytest.raises(UserError):
        storage.local_copies(["a", "b"], tmp_path / "scratch")
    assert list((tmp_path / "scratch").rglob("*")) == []


def test_no_connection_is_thrown_away(
    gcs_emulator: str,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    storage = open_storage(f"gs://{gcs_emulator}")
    with caplog.at_level(logging.WARNING, logger="urllib3"):
        storage.map(lambda number: storage.write(f"{number}", b""), range(200))
    assert caplog.messages == []


class TestConditions:
    """What the emulator does not enforce for every kind of request is at least asked for."""

    @pytest.fixture
    def blob(self) -> Any:
        return create_autospec(Blob, instance=True)

    @pytest.fixture
    def storage(self, blob: Any) -> GcsStorage:
        bucket = SimpleNamespace(name="bucket", blob=lambda name, **_: blob)
        session = SimpleNamespace(mount=lambda *_: None)
        client: Any = SimpleNamespace(bucket=lambda name: bucket, _http=session)
        return GcsStorage(client, "bucket", "out")

    def test_create_asks_for_no_generation(self, storage: GcsStorage, blob: Any) -> None:
        storage.create("a", b"x")
        assert blob.upload_from_string.call_args.kwargs["if_generation_match"] == 0

    def test_replace_asks_for_the_one_that_was_read(self, storage: GcsStorage, blob: Any) -> None:
        blob.download_as_bytes.return_value = b"old"
        blob.generation = "1234567890123456"
        _, version = storage.read_versioned("a")
        storage.replace("a", b"x", version)
        assert blob.upload_from_string.call_args.kwargs["if_generation_match"] == 1234567890123456

    def test_write_asks_for_nothing(self, storage: GcsStorage, blob: Any) -> None:
        storage.write("a", b"x")
        assert blob.upload_from_string.call_args.kwargs["if_generation_match"] is None

    def test_everything_is_checked_by_crc32c_and_tried_again(self, storage: GcsStorage, blob: Any) -> None:
        blob.download_as_bytes.return_value = b"x"
        storage.read("a")
        storage.write("a", b"x")
        storage.sha256("a")
        for call in (blob.download_as_bytes, blob.upload_from_string, blob.download_to_file):
            assert call.call_args.kwargs["checksum"] == "crc32c"
            assert call.call_args.kwargs["timeout"] == 60
        for call in (blob.upload_from_string, blob.download_to_file):
            assert call.call_args.kwargs["retry"].timeout == 180

    def test_a_refused_condition_is_no_other_error(self, storage: GcsStorage, blob: Any) -> None:
        found: dict[str, str] = {}

        def refuse(*_: Any, **__: Any) -> None:
            blob.metadata |= found
            raise PreconditionFailed("412")

        blob.upload_from_string.side_effect = refuse
        storage.create("a", b"mine")
        found["worldexplorer-write"] = "another"
        with pytest.raises(AlreadyExistsError):
            storage.create("a", b"mine")
