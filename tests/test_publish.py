"""The second half of a commit, finished by whoever comes along, and left alone by who comes too late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import Workbench, toy_room, toy_rooms

from worldexplorer import layout
from worldexplorer.context import Outcome, StageContext
from worldexplorer.layout import JobId
from worldexplorer.progress import silent
from worldexplorer.publish import publish
from worldexplorer.records import StageRecord
from worldexplorer.storage import NotFoundError

JOB = JobId(0, "photorealistic")


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


def with_extra_file(context: StageContext[Any]) -> Outcome:
    (context.out / "old").mkdir()
    (context.out / "old" / "file.txt").write_text("old")
    return toy_room(context, "scaffold")


def scaffold(bench: Workbench, rooms: Any = None, **settings: Any) -> StageRecord:
    return bench.runner(bench.config(**settings), definitions=rooms or toy_rooms()).run(bench.job(), "scaffold", silent)


def unpublished(bench: Workbench, record: StageRecord) -> StageRecord:
    """The record and its files as they are between commit and publish."""
    record = record.model_copy(update={"published": False})
    for entry in record.files:
        waiting = f"{layout.attempt_output(JOB, record.attempt, record.stage)}/{entry.path}"
        bench.storage.move(f"{layout.job_folder(JOB)}/{entry.path}", waiting)
    bench.storage.write(layout.record(JOB, record.stage), record.to_json())
    return record


def test_an_interrupted_publish_is_finished(bench: Workbench) -> None:
    record = unpublished(bench, scaffold(bench))
    assert not bench.job_path("scaffold/result.txt").exists()
    done = publish(bench.storage, JOB, record)
    assert done == record.model_copy(update={"published": True}) == bench.record("scaffold")
    assert bench.job_path("scaffold/result.txt").is_file()
    assert bench.leftovers() == []


def test_a_finished_one_is_left_alone(bench: Workbench) -> None:
    record = scaffold(bench)
    bench.job_path("scaffold/result.txt").unlink()
    assert publish(bench.storage, JOB, record) == record


def test_a_file_that_is_nowhere_is_told(bench: Workbench) -> None:
    record = unpublished(bench, scaffold(bench))
    bench.storage.delete(f"{layout.attempt_output(JOB, record.attempt, 'scaffold')}/scaffold/result.txt")
    with pytest.raises(NotFoundError):
        publish(bench.storage, JOB, record)
    assert not bench.record("scaffold").published


def test_who_comes_too_late_takes_nothing_away(bench: Workbench) -> None:
    """A run replaces `old/file.txt` by nothing and stops; another one brings the file back; the first one goes on."""
    scaffold(bench, toy_rooms(scaffold=with_extra_file))
    late = scaffold(bench, force=True)
    assert late.supersedes == ["old/file.txt"]
    late = late.model_copy(update={"published": False})
    newest = scaffold(bench, toy_rooms(scaffold=with_extra_file), force=True)
    assert publish(bench.storage, JOB, late) == newest
    assert bench.job_path("old/file.txt").read_text() == "old"


def test_who_comes_too_late_finds_the_new_record(bench: Workbench) -> None:
    """Its own files have been published by another run, superseded and removed."""
    late = scaffold(bench, toy_rooms(scaffold=with_extra_file)).model_copy(update={"published": False})
    newest = scaffold(bench, force=True)
    assert not bench.job_path("old").exists()
    assert publish(bench.storage, JOB, late) == newest
