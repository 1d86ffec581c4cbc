"""What is made for people to look at: once, again when it is stale, and never at a job's cost."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
from builders import (
    Workbench,
    canonical_tree,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
    photo_sample,
    toy_rooms,
    write_views,
)
from PIL import Image

from worldexplorer import extras, layout
from worldexplorer.extras import write_extras
from worldexplorer.layout import JobId

JOB = JobId(0, "photorealistic")
SHEET = f"photorealistic/index_0000/{layout.CONTACT_SHEET}"
FRAMES = layout.ALL_SEVA_FRAMES


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    bench = Workbench(tmp_path_factory.mktemp("finished"))
    bench.batch()
    return bench


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many stages each sheet showed that was drawn."""
    draw, counts = extras._draw_sheet, []

    def counting(job: Any, stages: Any) -> bytes:
        counts.append(len(stages))
        return draw(job, stages)

    monkeypatch.setattr(extras, "_draw_sheet", counting)
    return counts


def set_time(path: Path, seconds: int) -> None:
    os.utime(path, (seconds, seconds))


def test_a_sheet_is_a_picture_and_is_made_once(finished: Workbench, drawn: list[int]) -> None:
    with Image.open(io.BytesIO(finished.storage.read(SHEET))) as image:
        assert image.width > 500
        assert len(image.getcolors(1 << 24) or []) > 100
    write_extras(finished.storage, finished.job(), all_frames=False)
    assert drawn == []


def test_a_lost_sheet_is_made_again_and_is_the_same(finished: Workbench, drawn: list[int]) -> None:
    before = finished.storage.read(SHEET)
    finished.storage.delete(SHEET)
    write_extras(finished.storage, finished.job(), all_frames=False)
    assert drawn == [3]
    assert finished.storage.read(SHEET) == before


@pytest.mark.parametrize("stage", ["scaffold", "trajectory", "splat"])
def test_a_sheet_older_than_a_record_is_made_again(finished: Workbench, drawn: list[int], stage: str) -> None:
    for other in ("scaffold", "trajectory", "splat"):
        set_time(finished.job_path(f"records/{other}.json"), 1_000_000_002 if other == stage else 1_000_000_000)
    set_time(finished.output / SHEET, 1_000_000_001)
    write_extras(finished.storage, finished.job(), all_frames=False)
    assert drawn == [3]
    write_extras(finished.storage, finished.job(), all_frames=False)
    assert drawn == [3]


def test_a_sheet_grows_with_the_stages(tmp_path: Path, drawn: list[int]) -> None:
    bench = Workbench(tmp_path)
    for stage in (1, 2):
        bench.batch(bench.config(only_stages=(stage,)))
    bench.batch()
    assert drawn == [1, 2, 3]


def test_a_provided_scaffold_has_a_sheet_without_a_photo(tmp_path: Path, drawn: list[int]) -> None:
    bench = Workbench(tmp_path, [{"index": 0, "scaffold": {"scaffold_path": "views"}}])
    write_views(bench.data / "views")
    bench.batch(bench.config(only_stages=(1,)))
    assert drawn == [1]
    assert bench.storage.stat(f"default/index_0000/{layout.CONTACT_SHEET}") is not None


def test_frames_are_copied_on_request_and_kept_up_to_date(tmp_path: Path) -> None:
    bench = Workbench(tmp_path)
    folder = bench.job_path(FRAMES)
    generated = bench.job_path(layout.GENERATED_VIEWS)
    bench.batch(bench.config(only_stages=(1,)))
    assert not folder.exists()

    def check(count: int) -> None:
        assert [path.name for path in sorted(folder.iterdir())] == [f"{frame:03d}.png" for frame in range(count)]
        for path in folder.iterdir():
            assert path.read_bytes() == (generated / path.name).read_bytes()

    bench.batch(bench.config(only_stages=(1,), num_seva_frames=16, force=True, output_all_seva_frames=True))
    check(16)
    bench.batch(bench.config(only_stages=(1,), num_seva_frames=8, force=True, output_all_seva_frames=True))
    check(8)
    times = [path.stat().st_mtime_ns for path in folder.iterdir()]
    bench.batch(bench.config(only_stages=(1,), num_seva_frames=8, output_all_seva_frames=True))
    assert [path.stat().st_mtime_ns for path in folder.iterdir()] == times


@pytest.mark.parametrize("error", [OSError("disk"), ValueError("font"), MemoryError(), RuntimeError("anything")])
def test_what_goes_wrong_here_is_told_and_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def broken(*arguments: object) -> bytes:
        raise error

    bench = Workbench(tmp_path)
    monkeypatch.setattr(extras, "_draw_sheet", broken)
    summary = bench.batch(definitions=toy_rooms())
    assert summary["success"] == 1
    assert summary["results"][0]["contact_sheet"] is None
    assert "contact sheet" in caplog.text
    assert "photorealistic/index_0000" in caplog.text


def test_a_job_without_a_scaffold_has_nothing_to_show(tmp_path: Path) -> None:
    bench = Workbench(tmp_path, [photo_sample(0)])
    write_extras(bench.storage, bench.job(), all_frames=True)
    assert not bench.output.exists()


def test_extras_are_part_of_no_record(finished: Workbench) -> None:
    before = canonical_tree(finished.output)
    for stage in ("scaffold", "trajectory", "splat"):
        assert not any("contact_sheet" in entry.path for entry in finished.record(stage).files)
    assert SHEET in before
