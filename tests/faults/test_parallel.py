"""Two runs over one output at the same time: neither harms the other, nothing is left over, the summary is whole.

Most of these tests hold one run still between two operations on the storage and let another one run from beginning to
end there; that is done at every place where something changes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import (
    STAGES,
    RememberedRooms,
    Workbench,
    canonical_tree,
    failures,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
    together,
)
from faulty_storage import Moment, WatchedStorage, crash_moments, note, thinned

from worldexplorer import layout
from worldexplorer.config import RunConfig
from worldexplorer.errors import ErrorClass
from worldexplorer.events import Event, StageFinished
from worldexplorer.layout import JobId
from worldexplorer.records import StageRecord
from worldexplorer.verify import verify_all

pytestmark = pytest.mark.slow


def meanwhile(moment: Moment, work: Callable[[], Any]) -> Callable[[Moment], None]:
    """Let something happen at a moment seen in an earlier, equal run."""

    def watch(now: Moment) -> None:
        if (now.number, now.side) == (moment.number, moment.side):
            work()

    return watch


def before_create(key: str, work: Callable[[], Any]) -> Callable[[Moment], None]:
    """Let something happen right before an object is created."""

    def watch(now: Moment) -> None:
        if (now.operation, now.side, now.key) == ("create", "before", key):
            work()

    return watch


def changed_files(bench: Workbench) -> list[str]:
    return [path for _, changed in verify_all(bench.storage) for path in changed]


class Interleaving:
    """One run held still at each of its changes in turn, and another one inside."""

    def __init__(
        self,
        bench: Workbench,
        rooms: RememberedRooms,
        held: RunConfig,
        inside: RunConfig,
        prepare: Callable[[], Any] = lambda: None,
    ) -> None:
        self.bench, self._rooms, self._held, self._inside = bench, rooms, held, inside
        self._start = bench.output.with_name("start")
        bench.output.mkdir()
        prepare()
        bench.output.rename(self._start)
        self.begin()
        self._run(inside)
        self.begin()
        self._run(held)
        self.begin()
        moments: list[Moment] = []
        self._run(held, WatchedStorage(bench.storage, note(moments)))
        self.moments = thinned(crash_moments(moments))

    def begin(self) -> None:
        shutil.rmtree(self.bench.output, ignore_errors=True)
        shutil.copytree(self._start, self.bench.output)

    def at(self, moment: Moment) -> tuple[list[StageRecord], list[StageRecord]]:
        """The failures of the run held still and of the one inside."""
        inside: list[list[StageRecord]] = []
        self.begin()
        watch = meanwhile(moment, lambda: inside.append(self._run(self._inside)))
        held = self._run(self._held, WatchedStorage(self.bench.storage, watch))
        return held, inside[0]

    def finish(self) -> list[StageRecord]:
        """One more run like the one inside."""
        return self._run(self._inside)

    def _run(self, run: RunConfig, storage: Any = None) -> list[StageRecord]:
        events: list[Event] = []
        self.bench.batch(run, storage=storage, definitions=self._rooms.definitions, listener=events.append)
        return failures(events)


def test_the_same_batch_inside_itself(folder: Path, rooms: RememberedRooms) -> None:
    bench = Workbench(folder)
    run = bench.config(only_stages=(1, 2))
    both = Interleaving(bench, rooms, held=run, inside=run)
    both.begin()
    bench.batch(run, definitions=rooms.definitions)
    expected = canonical_tree(bench.output)
    for moment in both.moments:
        assert both.at(moment) == ([], []), moment
        assert canonical_tree(bench.output) == expected, moment
        assert bench.leftovers() == [], moment


def test_a_forced_batch_inside_one_with_other_settings(folder: Path, rooms: RememberedRooms) -> None:
    """Whatever of the first batch is still to come, it spoils nothing of what the forced one has made."""
    bench = Workbench(folder)
    stages = (1, 2)
    forced = bench.config(translation_scaling_factor=10.0, force=True, only_stages=stages)
    both = Interleaving(bench, rooms, held=bench.config(only_stages=stages), inside=forced)
    for moment in both.moments:
        held, inside = both.at(moment)
        assert inside == [], moment
        assert changed_files(bench) == [], moment
        for failure in held:
            assert failure.error is not None
            assert failure.error.error_class is ErrorClass.USER, moment
            assert "--force" in failure.error.remedy, moment


def test_what_a_late_publish_removes_is_noticed_and_made_again(folder: Path, rooms: RememberedRooms) -> None:
    """Scale 3 is replaced by 10 while another run replaces that by 3 again: files come, go and come back."""
    bench = Workbench(folder)
    back = bench.config(translation_scaling_factor=3.0, force=True, only_stages=(2,))
    both = Interleaving(
        bench,
        rooms,
        held=bench.config(translation_scaling_factor=10.0, force=True, only_stages=(2,)),
        inside=back,
        prepare=lambda: bench.batch(definitions=rooms.definitions),
    )
    for moment in both.moments:
        both.at(moment)
        assert both.finish() == [], moment
        assert changed_files(bench) == [], moment
        scenes = [path.name for path in bench.job_path("scenes").iterdir()]
        assert scenes == ["index_0000_3.0"], moment
        assert bench.leftovers() == [], moment


def test_the_loser_takes_the_result_of_the_winner(folder: Path, rooms: RememberedRooms) -> None:
    bench = Workbench(folder)
    events: list[Event] = []

    def other() -> None:
        bench.batch(definitions=rooms.definitions)

    key = layout.record(JobId(0, "photorealistic"), "scaffold")
    storage = WatchedStorage(bench.storage, before_create(key, other))
    summary = bench.batch(storage=storage, definitions=rooms.definitions, listener=events.append)
    assert summary["success"] == 1
    assert [event.reused for event in events if isinstance(event, StageFinished)] == [True, True, True]
    assert bench.leftovers() == []
    assert len({bench.record(stage).run_id for stage in STAGES} - {summary["run_id"]}) == 1


def test_a_loser_with_other_settings_fails_and_names_force(folder: Path, rooms: RememberedRooms) -> None:
    bench = Workbench(folder)
    events: list[Event] = []

    def other() -> None:
        bench.batch(bench.config(translation_scaling_factor=10.0), definitions=rooms.definitions)

    key = layout.record(JobId(0, "photorealistic"), "trajectory")
    storage = WatchedStorage(bench.storage, before_create(key, other))
    bench.batch(storage=storage, definitions=rooms.definitions, listener=events.append)
    (failure,) = failures(events)
    assert failure.error is not None
    assert failure.error.error_class is ErrorClass.USER
    assert "--force" in failure.error.remedy
    assert bench.record("trajectory").run_id in failure.error.message
    assert bench.record("trajectory").basis["settings"]["translation_scaling_factor"] == 10.0
    assert bench.leftovers() == []
    assert changed_files(bench) == []


def test_a_record_that_another_run_only_marks_is_replaced_all_the_same(folder: Path, rooms: RememberedRooms) -> None:
    """Healing a stage whose publish was interrupted, while that publish goes on elsewhere."""
    bench = Workbench(folder)
    job = JobId(0, "photorealistic")
    bench.batch(definitions=rooms.definitions)
    old = bench.record("trajectory")

    def set_published(value: bool) -> None:
        record = bench.record("trajectory").model_copy(update={"published": value})
        bench.storage.write(layout.record(job, "trajectory"), record.to_json())

    set_published(False)
    bench.job_path(old.files[0].path).unlink()

    def watch(now: Moment) -> None:
        if now.operation == "replace" and now.side == "before" and bench.record("trajectory").attempt == old.attempt:
            set_published(True)

    storage = WatchedStorage(bench.storage, watch)
    summary = bench.batch(storage=storage, definitions=rooms.definitions)
    assert summary["success"] == 1
    assert bench.record("trajectory").attempt != old.attempt
    assert changed_files(bench) == []


def test_two_runs_in_threads(folder: Path, rooms: RememberedRooms) -> None:
    bench = Workbench(folder, samples=3)
    summaries = together(lambda _: bench.batch(definitions=rooms.definitions), 2)
    assert [summary["success"] for summary in summaries] == [3, 3]
    assert bench.leftovers() == []
    assert changed_files(bench) == []


def test_overlapping_indices_in_threads(folder: Path, rooms: RememberedRooms) -> None:
    bench = Workbench(folder, samples=4)
    ranges = [range(3), range(1, 4)]
    summaries = together(lambda number: bench.batch(definitions=rooms.definitions, indices=ranges[number]), 2)
    assert all(isinstance(summary, dict) for summary in summaries), summaries
    whole = json.loads(bench.storage.read(layout.SUMMARY))
    assert (whole["total"], whole["success"]) == (4, 4)
    assert bench.leftovers() == []
    assert changed_files(bench) == []


@pytest.mark.parametrize("runs", [4])
def test_many_runs_of_one_job_make_one_result(folder: Path, rooms: RememberedRooms, runs: int) -> None:
    bench = Workbench(folder)
    for _ in range(3):
        shutil.rmtree(bench.output, ignore_errors=True)
        summaries = together(lambda _: bench.batch(definitions=rooms.definitions), runs)
        assert [summary["success"] for summary in summaries] == [1] * runs
        assert bench.leftovers() == []
        assert changed_files(bench) == []
