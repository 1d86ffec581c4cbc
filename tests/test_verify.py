"""One flipped byte in a committed file is found, named and healed, and nothing else is touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from builders import (
    STAGES,
    SmallEngine,
    Workbench,
    canonical_tree,
    flip_byte,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
    toy_rooms,
)
from faulty_storage import Moment, WatchedStorage

from worldexplorer import layout
from worldexplorer.layout import JobId
from worldexplorer.progress import silent
from worldexplorer.verify import changed_files, find_file, mark_damaged, verify_all

JOB = JobId(0, "photorealistic")
DAMAGES = [
    ("scaffold", "scaffold/final/003.png"),
    ("trajectory", "scenes/index_0000_3.0/img2trajvid/000_in/samples-rgb/000.png"),
    ("splat", "splat/splat.ply"),
]


def damaged(bench: Workbench) -> list[str]:
    return [path for _, changed in verify_all(bench.storage) for path in changed]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    """Healed by every test that damages it."""
    bench = Workbench(tmp_path_factory.mktemp("finished"))
    bench.batch()
    return bench


@pytest.mark.parametrize(("stage", "path"), DAMAGES)
@pytest.mark.parametrize(("keep_time", "verified"), [(False, False), (True, False), (True, True)])
def test_a_flipped_byte_is_healed_with_its_stage_and_nothing_else(
    finished: Workbench, stage: str, path: str, keep_time: bool, verified: bool
) -> None:
    before = canonical_tree(finished.output)
    records = {name: finished.record(name) for name in STAGES}
    flip_byte(finished.job_path(path), keep_time=keep_time)
    if verified:
        assert damaged(finished) == [f"photorealistic/index_0000/{path}"]
    engine = SmallEngine()
    summary = finished.batch(engine=engine)
    if keep_time and not verified:
        # Neither its size nor its time tells. A stage that reads it would find it; one that is reused reads nothing.
        assert engine.calls == []
        assert damaged(finished) == [f"photorealistic/index_0000/{path}"]
        summary = finished.batch(engine=engine)
    assert summary["success"] == 1
    assert ("train" in engine.calls) == (stage == "splat")
    for name in STAGES:
        assert (finished.record(name) == records[name]) == (name != stage)
    assert canonical_tree(finished.output) == before
    assert damaged(finished) == []
    assert finished.leftovers() == []


def test_all_is_well(finished: Workbench) -> None:
    folder = layout.job_folder(JOB)
    assert sorted(verify_all(finished.storage)) == [(f"{folder}/records/{stage}.json", []) for stage in sorted(STAGES)]


def test_nothing_is_there(tmp_path: Path) -> None:
    assert list(verify_all(Workbench(tmp_path).storage)) == []


class TestFiles:
    """With rooms that write one file each."""

    @pytest.fixture
    def bench(self, tmp_path: Path) -> Workbench:
        bench = Workbench(tmp_path)
        bench.runner(definitions=toy_rooms()).run(bench.job(), "scaffold", silent)
        return bench

    def test_a_look_hashes_only_what_is_younger_than_its_record(self, bench: Workbench) -> None:
        hashed: list[str] = []

        def watch(moment: Moment) -> None:
            if (moment.operation, moment.side) == ("sha256", "before"):
                hashed.append(moment.key)

        storage = WatchedStorage(bench.storage, watch)
        record = bench.record("scaffold")
        assert changed_files(storage, JOB, record) == []
        assert hashed == []
        flip_byte(bench.job_path("scaffold/result.txt"))
        assert changed_files(storage, JOB, record) == ["scaffold/result.txt"]
        assert len(hashed) == 1

    def test_a_touched_file_is_not_a_changed_one(self, bench: Workbench) -> None:
        path = bench.job_path("scaffold/result.txt")
        flip_byte(path)
        flip_byte(path)
        assert changed_files(bench.storage, JOB, bench.record("scaffold")) == []

    @pytest.mark.parametrize("size", [-1, 1])
    def test_another_size_is_enough(self, bench: Workbench, size: int) -> None:
        path = bench.job_path("scaffold/result.txt")
        data, facts = path.read_bytes(), path.stat()
        path.write_bytes(data + b"x" if size > 0 else data[:size])
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        assert changed_files(bench.storage, JOB, bench.record("scaffold")) == ["scaffold/result.txt"]

    def test_a_marker_counts_for_its_own_attempt_only(self, bench: Workbench) -> None:
        record = bench.record("scaffold")
        mark_damaged(bench.storage, JOB, record, ["scaffold/result.txt"])
        assert changed_files(bench.storage, JOB, record) == ["scaffold/result.txt"]
        other = record.model_copy(update={"attempt": "scaffold-another"})
        assert changed_files(bench.storage, JOB, other) == []

    @pytest.mark.parametrize("marker", [b"", b"{", b"[]", b"{}", b"null"])
    def test_a_marker_that_cannot_be_read_stands_for_everything(self, bench: Workbench, marker: bytes) -> None:
        bench.storage.write(layout.damaged_marker(JOB, "scaffold"), marker)
        assert changed_files(bench.storage, JOB, bench.record("scaffold")) == ["scaffold/result.txt"]

    def test_files_of_an_unpublished_record_are_found_where_they_are(self, bench: Workbench) -> None:
        record = bench.record("scaffold").model_copy(update={"published": False})
        (entry,) = record.files
        waiting = f"{layout.attempt_output(JOB, record.attempt, 'scaffold')}/{entry.path}"
        published = f"{layout.job_folder(JOB)}/{entry.path}"
        bench.storage.move(published, waiting)
        found = find_file(bench.storage, JOB, record, entry)
        assert found is not None
        assert found.key == waiting
        assert changed_files(bench.storage, JOB, record, full=True) == []
        bench.storage.move(waiting, published)
        found = find_file(bench.storage, JOB, record, entry)
        assert found is not None
        assert found.key == published
        bench.storage.delete(published)
        assert find_file(bench.storage, JOB, record, entry) is None

    def test_a_publish_that_moves_a_file_under_its_reader_does_no_harm(self, bench: Workbench) -> None:
        record = bench.record("scaffold").model_copy(update={"published": False})
        (entry,) = record.files
        waiting = f"{layout.attempt_output(JOB, record.attempt, 'scaffold')}/{entry.path}"
        published = f"{layout.job_folder(JOB)}/{entry.path}"

        for operation, key in (("list", waiting.rpartition("/")[0]), ("sha256", waiting)):
            for side in ("before", "after"):
                bench.storage.move(published, waiting)
                met = []

                def publish(
                    moment: Moment, wanted: tuple[str, str, str] = (operation, side, key), met: list[Moment] = met
                ) -> None:
                    if (moment.operation, moment.side, moment.key) == wanted:
                        met.append(moment)
                        bench.storage.move(waiting, published)

                storage = WatchedStorage(bench.storage, publish)
                assert changed_files(storage, JOB, record, full=True) == []
                assert len(met) == 1

    def test_a_record_that_cannot_be_read_is_named_and_the_others_are_looked_at(self, bench: Workbench) -> None:
        runner = bench.runner(definitions=toy_rooms())
        runner.run(bench.job(), "trajectory", silent)
        key = layout.record(JOB, "scaffold")
        bench.storage.write(key, b'{"half')
        flip_byte(bench.job_path("trajectory/result.txt"), keep_time=True)
        assert damaged(bench) == [key, "photorealistic/index_0000/trajectory/result.txt"]

    def test_failures_and_markers_are_no_records(self, bench: Workbench) -> None:
        bench.storage.write(layout.failed_record(JOB, "splat"), b"")
        bench.storage.write(layout.damaged_marker(JOB, "scaffold"), b'{"attempt": "x", "paths": []}')
        bench.storage.write("photorealistic/index_0000/splat/records.json", b"")
        assert len(list(verify_all(bench.storage))) == 1
