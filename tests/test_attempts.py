from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from builders import together
from faulty_storage import WatchedStorage
from remote_storage import RemoteStorage

from worldexplorer import layout
from worldexplorer.attempts import claim_attempt, discard_attempt, discard_dead_attempts
from worldexplorer.layout import JobId
from worldexplorer.storage import LocalStorage

JOB = JobId(0, "default")
PRINT = "0123456789abcdef"
OTHER_PRINT = "fedcba9876543210"


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


def attempts(storage: LocalStorage) -> list[str]:
    folder = storage.local_root() / layout.attempts_folder(JOB)
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_a_new_attempt_is_empty(storage: LocalStorage) -> None:
    with claim_attempt(storage, JOB, "splat", PRINT) as attempt:
        assert not attempt.resumed
        assert list(attempt.out.iterdir()) == list(attempt.work.iterdir()) == []
        assert attempt.out == storage.local_root() / layout.attempt_output(JOB, attempt.name, "splat")
        assert attempts(storage) == [attempt.name]


def test_two_at_once_do_not_share(storage: LocalStorage) -> None:
    with claim_attempt(storage, JOB, "splat", PRINT) as one, claim_attempt(storage, JOB, "splat", PRINT) as two:
        assert one.name != two.name
        assert not two.resumed


def test_an_error_leaves_the_work_to_the_next(storage: LocalStorage) -> None:
    with pytest.raises(ZeroDivisionError), claim_attempt(storage, JOB, "splat", PRINT) as first:
        (first.work / "checkpoint").write_text("half")
        raise ZeroDivisionError
    with claim_attempt(storage, JOB, "splat", PRINT) as second:
        assert second.resumed
        assert second.name == first.name
        assert (second.work / "checkpoint").read_text() == "half"


def test_a_killed_process_leaves_its_work_to_the_next(storage: LocalStorage) -> None:
    child = os.fork()
    if child == 0:
        with claim_attempt(storage, JOB, "splat", PRINT) as attempt:
            (attempt.work / "checkpoint").write_text("half")
            os._exit(9)
    os.waitpid(child, 0)
    with claim_attempt(storage, JOB, "splat", PRINT) as resumed:
        assert resumed.resumed
        assert (resumed.work / "checkpoint").read_text() == "half"


@pytest.mark.parametrize(("stage", "fingerprint"), [("trajectory", PRINT), ("splat", OTHER_PRINT)])
def test_another_result_has_other_attempts(storage: LocalStorage, stage: str, fingerprint: str) -> None:
    with claim_attempt(storage, JOB, "splat", PRINT) as first:
        pass
    with claim_attempt(storage, JOB, stage, fingerprint) as second:
        assert not second.resumed
        assert second.name != first.name


def test_a_committed_attempt_is_nobodys_to_go_on_with(storage: LocalStorage) -> None:
    """Its files count: a run that makes them again must not write over them."""
    with claim_attempt(storage, JOB, "splat", PRINT) as first:
        (first.out / "splat.ply").write_text("committed")
    with claim_attempt(storage, JOB, "splat", PRINT, committed=first.name) as second:
        assert second.name != first.name
    assert (first.out / "splat.ply").read_text() == "committed"


def test_a_discarded_attempt_leaves_nothing(storage: LocalStorage) -> None:
    with claim_attempt(storage, JOB, "splat", PRINT) as attempt:
        (attempt.out / "file").write_text("")
        discard_attempt(storage, JOB, attempt.name)
    assert list(storage.local_root().iterdir()) == []


def test_half_a_discarded_attempt_is_not_taken_over(storage: LocalStorage) -> None:
    """Removing files one by one may end after any of them; what remains must not pass for work to go on from."""
    with claim_attempt(storage, JOB, "splat", PRINT) as attempt:
        (attempt.work / "checkpoint").write_text("whole")

    class Crash(BaseException):
        pass

    def die(moment: object) -> None:
        raise Crash

    with pytest.raises(Crash):
        discard_attempt(WatchedStorage(storage, die), JOB, attempt.name)
    assert (attempt.work / "checkpoint").exists()
    with claim_attempt(storage, JOB, "splat", PRINT) as second:
        assert second.name != attempt.name
    discard_dead_attempts(storage, JOB, "splat", committed="")
    assert attempts(storage) == []


def test_only_the_dead_are_tidied_away(storage: LocalStorage) -> None:
    with claim_attempt(storage, JOB, "splat", OTHER_PRINT):
        pass
    with claim_attempt(storage, JOB, "trajectory", PRINT) as other_stage:
        pass
    folder = storage.local_root() / layout.attempts_folder(JOB)
    (folder / "splat-rubbish" / "splat").mkdir(parents=True)
    (folder / "new-splat-empty").mkdir()
    (folder / "new-splat-locked").mkdir()
    (folder / "new-splat-locked" / "lock").touch()
    with claim_attempt(storage, JOB, "splat", PRINT) as living:
        discard_dead_attempts(storage, JOB, "splat", committed="")
        assert attempts(storage) == sorted([living.name, other_stage.name])


def test_nobody_loses_a_folder_to_those_who_tidy(storage: LocalStorage) -> None:
    """Claims, discards and tidying at the same time, in a folder that is empty again and again."""
    stop = threading.Event()

    def work(number: int) -> int:
        if number < 2:
            while not stop.is_set():
                discard_dead_attempts(storage, JOB, "splat", committed="")
            return 0
        kept = 0
        try:
            for _ in range(40):
                with claim_attempt(storage, JOB, "splat", PRINT) as attempt:
                    (attempt.out / "mine").write_text(str(number))
                    (attempt.work / "mine").write_text(str(number))
                    kept += (attempt.out / "mine").read_text() == str(number)
                    discard_attempt(storage, JOB, attempt.name)
        finally:
            if number == 2:
                stop.set()
        return kept

    outcomes = together(work, 5)
    assert outcomes == [0, 0, 40, 40, 40]


def test_attempts_at_remote_results_live_in_a_scratch_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLDEXPLORER_SCRATCH", str(tmp_path / "scratch"))
    storage = RemoteStorage(tmp_path / "bucket")
    with claim_attempt(storage, JOB, "splat", PRINT) as attempt:
        assert attempt.out.is_relative_to(tmp_path / "scratch")
        (attempt.out / "file").write_text("content")
        prefix = layout.attempt_output(JOB, attempt.name, "splat")
        storage.upload(attempt.out, prefix)
        begun = f"{layout.attempt_folder(JOB, attempt.name)}/begun"
        assert [info.key for info in storage.list("")] == [begun, f"{prefix}/file"]
        discard_attempt(storage, JOB, attempt.name)
    assert not storage.exists("")
    assert [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()] == []
