"""Attempts at results in a bucket: another machine copies what was kept and takes nothing away from its owner."""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path

import pytest
from builders import together
from faulty_storage import WatchedStorage
from gcs_emulator import gcs_emulator  # noqa: F401 (a fixture)
from remote_storage import RemoteStorage

from worldexplorer import layout
from worldexplorer.attempts import Attempt, claim_attempt, discard_attempt, discard_dead_attempts
from worldexplorer.errors import TransientError, UserError
from worldexplorer.layout import JobId
from worldexplorer.remote_attempts import FORGOTTEN_SECONDS, discard_kept_attempt
from worldexplorer.storage import NotFoundError, open_storage

JOB = JobId(0, "default")
PRINT = "0123456789abcdef"
OTHER_PRINT = "fedcba9876543210"


class Machines:
    """Two machines with scratch folders of their own, and the bucket that both see."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.storage = RemoteStorage(folder / "bucket")
        self._folder = folder
        self._monkeypatch = monkeypatch
        self.use("A")

    def use(self, name: str) -> None:
        self._monkeypatch.setenv("WORLDEXPLORER_SCRATCH", str(self._folder / name))

    def lose(self, name: str) -> None:
        shutil.rmtree(self._folder / name)

    def files(self, name: str) -> list[Path]:
        return [path for path in (self._folder / name).rglob("*") if path.is_file()]

    def kept(self) -> set[str]:
        """The attempts in the bucket."""
        start = f"{layout.attempts_folder(JOB)}/"
        return {info.key.removeprefix(start).split("/")[0] for info in self.storage.list("")}

    def age(self, name: str, seconds: float) -> None:
        """Make everything of an attempt in the bucket older."""
        then = time.time() - seconds
        for path in (self._folder / "bucket" / layout.attempt_folder(JOB, name)).rglob("*"):
            os.utime(path, (then, then))

    def commit(self, attempt: Attempt) -> None:
        self.storage.write(layout.record(JOB, "splat"), attempt.name.encode())

    def claim(self, fingerprint: str = PRINT, committed: str = "") -> object:
        return claim_attempt(self.storage, JOB, "splat", fingerprint, committed=committed)


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    return Machines(tmp_path, monkeypatch)


def leave(machines: Machines, content: str, files: int = 1) -> str:
    """An attempt with so many files, of a machine that is gone."""
    machines.use(f"machine of {content}")
    with machines.claim() as attempt:
        (attempt.out / "frame").write_text(content)
        for number in range(files - 1):
            (attempt.work / str(number)).write_text(content)
        attempt.keep()
    machines.lose(f"machine of {content}")
    machines.use("A")
    return attempt.name


def test_another_machine_goes_on_in_an_attempt_of_its_own(machines: Machines) -> None:
    with machines.claim() as first:
        assert not first.resumed
        (first.out / "deep").mkdir()
        (first.out / "deep" / "frame").write_text("made")
        (first.work / "mark").write_text("done")
        first.keep()
        (first.work / "later").write_text("not kept")
    machines.lose("A")
    machines.use("B")
    with machines.claim() as second:
        assert second.resumed
        assert second.name != first.name
        assert (second.out / "deep" / "frame").read_text() == "made"
        assert [path.name for path in second.work.iterdir()] == ["mark"]
        assert sorted(path.name for path in second.out.parent.iterdir()) == ["lock", "splat", "work"]
    assert machines.kept() == {first.name, second.name}


def test_who_lives_elsewhere_is_not_disturbed(machines: Machines) -> None:
    with machines.claim() as first:
        (first.work / "mark").write_text("first")
        first.keep()
        machines.use("B")
        with machines.claim() as second:
            (second.work / "mark").write_text("second")
            second.keep()
        assert (first.work / "mark").read_text() == "first"
    with claim_attempt(machines.storage, JOB, "splat", PRINT) as third:
        assert third.name == second.name  # its own machine's dead one is taken over, as ever


def test_the_one_that_got_furthest_is_gone_on_with(machines: Machines) -> None:
    leave(machines, "little", files=2)
    leave(machines, "much", files=5)  # itself seeded with the two
    leave(machines, "none", files=0)
    with machines.claim() as attempt:
        assert (attempt.out / "frame").read_text() == "none"
        assert sorted(path.name for path in attempt.work.iterdir()) == ["0", "1", "2", "3"]


def test_one_that_has_kept_nothing_does_not_hide_another(machines: Machines) -> None:
    leave(machines, "made")
    machines.use("B")
    with machines.claim():
        pass
    machines.lose("B")
    with machines.claim() as attempt:
        assert attempt.resumed
        assert (attempt.out / "frame").read_text() == "made"


@pytest.mark.parametrize("files", [1, 2])
def test_a_copy_that_broke_off_is_made_again(machines: Machines, files: int) -> None:
    leave(machines, "made", files)

    class Died(BaseException):
        pass

    def die(moment: object) -> None:
        if getattr(moment, "operation", "") == "local_copies" and getattr(moment, "side", "") == "after":
            raise Died

    with pytest.raises(Died), claim_attempt(WatchedStorage(machines.storage, die), JOB, "splat", PRINT):
        pass
    with machines.claim() as attempt:
        assert attempt.resumed
        assert (attempt.out / "frame").read_text() == "made"
        assert len(list(attempt.work.iterdir())) == files - 1
        assert not (attempt.out.parent / "seed").exists()


def test_what_goes_away_while_it_is_copied_is_not_gone_on_with(machines: Machines) -> None:
    name = leave(machines, "made")

    class Vanishing(RemoteStorage):
        def local_copies(self, keys, scratch):
            discard_kept_attempt(self, JOB, name)
            return super().local_copies(keys, scratch)

    storage = Vanishing(machines.storage._root)
    with claim_attempt(storage, JOB, "splat", PRINT) as attempt:
        assert not attempt.resumed
        assert list(attempt.out.iterdir()) == list(attempt.work.iterdir()) == []


def test_half_a_removed_attempt_is_not_gone_on_with(machines: Machines) -> None:
    name = leave(machines, "made")

    class Died(BaseException):
        pass

    def die(moment: object) -> None:
        if getattr(moment, "operation", "") == "delete_tree":
            raise Died

    with pytest.raises(Died):
        discard_kept_attempt(WatchedStorage(machines.storage, die), JOB, name)
    with machines.claim() as attempt:
        assert not attempt.resumed
        machines.commit(attempt)
        discard_dead_attempts(machines.storage, JOB, "splat", committed=attempt.name)
    assert name not in machines.kept()


def test_a_committed_attempt_is_nobodys_to_go_on_with(machines: Machines) -> None:
    name = leave(machines, "made")
    with machines.claim(committed=name) as attempt:
        assert not attempt.resumed


def test_another_result_is_not_gone_on_with(machines: Machines) -> None:
    leave(machines, "made")
    with machines.claim(OTHER_PRINT) as attempt:
        assert not attempt.resumed


def test_a_discarded_attempt_leaves_nothing_anywhere(machines: Machines) -> None:
    with machines.claim() as attempt:
        (attempt.out / "frame").write_text("made")
        attempt.keep()
        discard_attempt(machines.storage, JOB, attempt.name)
    assert not machines.storage.exists("")
    assert machines.files("A") == []


class TestTidying:
    def test_what_cannot_be_committed_any_more_goes(self, machines: Machines) -> None:
        dead = leave(machines, "made")
        machines.use("B")
        with machines.claim() as living:
            living.keep()
            machines.use("A")
            with machines.claim() as winner:
                machines.commit(winner)
                discard_attempt(machines.storage, JOB, winner.name)
                discard_dead_attempts(machines.storage, JOB, "splat", committed=winner.name)
            assert not {dead, living.name, winner.name} & machines.kept()
            assert living.out.is_dir()  # its owner goes on, and finds in the end that it came second

    def test_an_attempt_that_was_begun_after_the_commit_stays(self, machines: Machines) -> None:
        """It may be a run with --force, and have committed in this very moment."""
        with machines.claim() as winner:
            machines.commit(winner)
            record = machines.storage._root / layout.record(JOB, "splat")
            os.utime(record, (time.time() - 60, time.time() - 60))
            machines.use("B")
            with machines.claim() as forced:
                discard_dead_attempts(machines.storage, JOB, "splat", committed=winner.name)
                assert forced.name in machines.kept()

    def test_a_taken_over_attempt_counts_as_begun_again(self, machines: Machines) -> None:
        with machines.claim() as dead:
            pass
        machines.age(dead.name, 60)
        with machines.claim() as taken:
            assert taken.name == dead.name
            machines.storage.write(layout.record(JOB, "splat"), b"")
            record = machines.storage._root / layout.record(JOB, "splat")
            os.utime(record, (time.time() - 30, time.time() - 30))
            discard_dead_attempts(machines.storage, JOB, "splat", committed="splat-0123456789ab-another")
            assert machines.kept() >= {taken.name}

    @pytest.mark.parametrize(("hours", "stays"), [(23, True), (25, False)])
    def test_one_at_another_result_goes_when_it_is_forgotten(self, machines: Machines, hours: int, stays: bool) -> None:
        assert FORGOTTEN_SECONDS == 24 * 3600
        other = leave(machines, "made")
        machines.age(other, hours * 3600)
        with machines.claim(OTHER_PRINT) as winner:
            machines.commit(winner)
            discard_dead_attempts(machines.storage, JOB, "splat", committed=winner.name)
        assert (other in machines.kept()) == stays

    def test_other_stages_are_left_alone(self, machines: Machines) -> None:
        with claim_attempt(machines.storage, JOB, "trajectory", PRINT) as other:
            other.keep()
        machines.age(other.name, 48 * 3600)
        with machines.claim() as winner:
            machines.commit(winner)
            discard_dead_attempts(machines.storage, JOB, "splat", committed=winner.name)
        assert other.name in machines.kept()


def test_many_may_claim_keep_and_tidy_at_once(
    gcs_emulator: str,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORLDEXPLORER_SCRATCH", str(tmp_path))
    storage = open_storage(f"gs://{gcs_emulator}")

    def work(number: int) -> None:
        for _ in range(4):
            with claim_attempt(storage, JOB, "splat", PRINT) as attempt:
                (attempt.work / "mark").write_text(str(number))
                attempt.keep()
                storage.write(layout.record(JOB, "splat"), b"")
                assert (attempt.work / "mark").read_text() == str(number)
                discard_attempt(storage, JOB, attempt.name)
                discard_dead_attempts(storage, JOB, "splat", committed=attempt.name)

    assert together(work, 4) == [None] * 4


class TestKeeping:
    def test_a_silent_bucket_does_not_stop_the_stage(
        self, machines: Machines, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Silent(RemoteStorage):
            def upload(self, folder: Path, prefix: str) -> None:
                raise TransientError("the bucket does not answer")

        with (
            claim_attempt(Silent(machines.storage._root), JOB, "splat", PRINT) as attempt,
            caplog.at_level(logging.WARNING),
        ):
            attempt.keep()
        assert "does not answer" in caplog.text

    @pytest.mark.parametrize("error", [UserError("forbidden"), NotFoundError("no bucket")])
    def test_what_would_fail_at_the_commit_fails_at_once(self, machines: Machines, error: Exception) -> None:
        class Closed(RemoteStorage):
            def upload(self, folder: Path, prefix: str) -> None:
                raise error

        with claim_attempt(Closed(machines.storage._root), JOB, "splat", PRINT) as attempt, pytest.raises(type(error)):
            attempt.keep()
