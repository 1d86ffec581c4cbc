"""`worldexplorer convert --output_base`: every world of a batch, and nothing else touched."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
from builders import Workbench
from converted_worlds import Engine, needs_gsply, on_the_whole, same, shown_error
from remote_storage import RemoteStorage

from worldexplorer.cli import convert, convert_words, main
from worldexplorer.engine import SplatScene, TrainingResult
from worldexplorer.geometry.ply import read_gaussians


def test_every_world_of_a_batch_and_once_more(bench: Workbench, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["convert", "--output_base", str(bench.output), "--formats", "ply", "--max_gaussians", "4"]
    assert main(words) == 0
    paths = [bench.job_path("splat/splat.4.ply", index) for index in (0, 1)]
    assert [read_gaussians(path).count for path in paths] == [4, 4]
    said = capsys.readouterr().out
    assert "photorealistic/index_0001 (the 12 least seen taken out, 4 Gaussians left): splat.4.ply" in said
    assert "2 worlds: 2 converted; 1 job without a world yet" in said
    on_the_whole(bench)
    before = [path.stat().st_mtime_ns for path in paths]
    paths[1].unlink()
    assert main(words) == 0
    assert "2 worlds: 1 converted, 1 there already; 1 job" in capsys.readouterr().out
    assert paths[0].stat().st_mtime_ns == before[0]
    assert paths[1].exists()
    assert main([*words, "--overwrite"]) == 0
    assert paths[0].stat().st_mtime_ns != before[0]


def test_some_jobs_in_another_place(bench: Workbench) -> None:
    words = ["--output_base", str(bench.output), "--formats", "ply", "--frame", "y-down", "--indices", "1"]
    before = sorted(bench.output.rglob("*"))
    assert main(["convert", *words, "--out", "elsewhere"]) == 0
    assert [str(path) for path in Path("elsewhere").rglob("*") if path.is_file()] == [
        "elsewhere/photorealistic/index_0001/splat.y-down.ply"
    ]
    assert sorted(bench.output.rglob("*")) == before


def test_the_others_go_on_when_one_is_damaged(bench: Workbench, capsys: pytest.CaptureFixture[str]) -> None:
    ply = bench.job_path("splat/splat.ply", 0)
    ply.write_bytes(ply.read_bytes()[:-1] + b"x")
    words = ["convert", "--output_base", str(bench.output), "--formats", "ply", "--max_gaussians", "4"]
    assert main(words) == 1
    said = capsys.readouterr().out
    assert "index_0000: failed: a file of splat is missing or was changed" in said
    assert "run the command of its batch again" in said
    assert "2 worlds: 1 converted, 1 failed" in said
    assert not ply.with_name("splat.4.ply").exists()
    assert bench.job_path("splat/splat.4.ply", 1).exists()


def test_what_is_older_than_its_world_is_no_file_of_it(bench: Workbench, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["convert", "--output_base", str(bench.output), "--formats", "ply", "--frame", "y-down", "--indices", "0"]
    old = bench.job_path("splat/splat.y-down.ply")
    old.write_text("of another training")
    os.utime(old, (1e9, 1e9))
    assert main(words) == 1
    said = capsys.readouterr().out
    assert "older than its world" in said and "--overwrite" in said
    assert old.read_text() == "of another training"
    assert main([*words, "--overwrite"]) == 0
    assert read_gaussians(old).count == 16


@needs_gsply
def test_a_file_of_a_record_is_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Workbench(tmp_path)
    bench.batch(bench.config(export_formats=("spz",)), engine=Engine())
    spz, ply = bench.job_path("splat/splat.spz"), bench.job_path("splat/splat.ply")
    before = spz.stat().st_mtime_ns
    words = ["--overwrite", "--formats", "spz"]
    assert main(["convert", "--output_base", str(bench.output), *words]) == 0
    assert "there already: splat.spz" in capsys.readouterr().out
    assert main(["convert", "--ply", str(ply), *words]) == 2
    assert "is a file of a finished job" in shown_error(capsys)
    (tmp_path / "way").symlink_to(ply.parent)
    assert main(["convert", "--ply", str(ply), "--overwrite", "--out", str(tmp_path / "way" / "splat.spz")]) == 2
    assert "is a file of a finished job" in shown_error(capsys)
    assert spz.stat().st_mtime_ns == before


def test_a_scene_that_was_made_again_does_not_say_what_is_seen(
    bench: Workbench, capsys: pytest.CaptureFixture[str]
) -> None:
    run = bench.config(only_stages=(2,), force=True, num_images_for_vggt=4)
    bench.batch(run, engine=Engine(), indices={0})
    words = ["convert", "--output_base", str(bench.output), "--formats", "ply", "--indices", "0"]
    assert main([*words, "--max_gaussians", "4"]) == 1
    assert "trained on another scene than the one that is there now" in capsys.readouterr().out
    assert main([*words, "--frame", "y-down"]) == 0


def test_a_bucket_and_nothing_left_on_this_machine(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = Path("scratch")
    scratch.mkdir()
    monkeypatch.setenv("WORLDEXPLORER_SCRATCH", str(scratch.absolute()))
    monkeypatch.setattr(convert, "open_storage", lambda uri: RemoteStorage(bench.output))
    words = ["--output_base", "gs://bucket/output", "--formats", "ply", "--max_gaussians", "4", "--filter_floaters"]
    assert main(["convert", *words]) == 0
    for index in (0, 1):
        assert read_gaussians(bench.job_path("splat/splat.no-floaters.4.ply", index)).count == 4
    assert list(scratch.iterdir()) == []
    on_the_whole(bench)


def test_all_files_of_a_world_or_none(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, kind: str, *arguments: Any) -> dict[str, int]:
        if kind == "compressed-ply":
            raise OSError(28, "No space left on device", str(path))
        path.write_bytes(b"half")
        return {"gaussians": 1, "bytes": 4, "clipped": 0}

    monkeypatch.setattr(convert, "write_world", full)
    monkeypatch.setattr(convert_words, "missing_for_formats", lambda formats: [])
    before = sorted(bench.output.rglob("*"))
    words = ["--output_base", str(bench.output), "--formats", "spz", "compressed-ply"]
    assert main(["convert", *words]) == 1
    assert capsys.readouterr().out.count("the disk is full") == 2
    assert sorted(bench.output.rglob("*")) == before


def test_a_world_that_is_trained_again_meanwhile_is_not_mixed_with_the_old_one(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def meanwhile(*given: Any) -> dict[str, int]:
        if not trained:
            trained.append(bench.batch(bench.config(only_stages=(3,), force=True), engine=Other(), indices={0}))
        return write(*given)

    trained: list[Any] = []
    write = convert.write_world
    monkeypatch.setattr(convert, "write_world", meanwhile)
    words = ["convert", "--output_base", str(bench.output), "--formats", "ply", "--frame", "y-down"]
    assert main(words) == 1
    said = capsys.readouterr().out
    assert "index_0000: failed: the world was trained again meanwhile" in said and "run it again" in said
    assert "2 worlds: 1 converted, 1 failed" in said
    found = bench.job_path("splat/splat.y-down.ply")
    assert not found.exists()
    assert main(words) == 0
    same(read_gaussians(found), read_gaussians(bench.job_path("splat/splat_rotated.ply")))


class Other(Engine):
    """Its worlds are others than those of the same seed by Engine."""

    def train(self, scene: SplatScene, *arguments: Any) -> TrainingResult:
        result = super().train(scene, *arguments)
        result.gaussians.means[1:] *= 0.5
        return result


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_a_folder_in_a_files_place_is_called_one(
    bench: Workbench, overwrite: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = bench.job_path("splat/splat.y-down.ply", 0)
    folder.mkdir()
    words = ["convert", "--output_base", str(bench.output), "--formats", "ply", "--frame", "y-down", *overwrite]
    assert main(words) == 1
    said = capsys.readouterr().out
    assert f"index_0000: failed: a folder lies where the file is to go ({folder})" in said
    assert "2 worlds: 1 converted, 1 failed" in said


def test_a_file_in_a_job_folders_place_is_met_before_anything_is_ranked(
    bench: Workbench, tiny: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tiny, "contributions", None)
    Path("elsewhere").mkdir()
    Path("elsewhere/photorealistic").write_text("mine")
    words = ["--output_base", str(bench.output), "--formats", "ply", "--max_gaussians", "4", "--out", "elsewhere"]
    assert main(["convert", *words]) == 1
    assert capsys.readouterr().out.count("a file lies where a folder is to go") == 2
    assert Path("elsewhere/photorealistic").read_text() == "mine"


def test_no_renderer_is_chosen_where_nothing_is_ranked(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["convert", "--output_base", str(bench.output), "--formats", "ply", "--max_gaussians", "4"]
    assert main(words) == 0
    assert capsys.readouterr().out.count("says which Gaussians show most") == 1
    monkeypatch.setattr(convert, "choose_renderer", None)
    assert main(words) == 0
    assert "2 there already" in capsys.readouterr().out
    assert main([*words, "--max_gaussians", "16"]) == 0  # as many as there are
    said = capsys.readouterr().out
    assert "nothing taken out, 16 Gaussians left" in said
    assert "says which Gaussians show most" not in said


def test_a_renderer_that_cannot_run_is_no_failure_of_each_world(
    bench: Workbench, tiny: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tiny, "check", lambda *asked: ["no CUDA GPU is found"])
    words = ["convert", "--output_base", str(bench.output), "--formats", "ply", "--max_gaussians", "4"]
    assert main([*words, "--renderer", "gsplat"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "the gsplat renderer cannot run here: no CUDA GPU is found" in captured.err


def test_what_nobody_expected_is_one_line_with_its_traceback_in_the_log(
    bench: Workbench,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: Any) -> dict[str, int]:
        raise ZeroDivisionError("of a defect")

    monkeypatch.setattr(convert, "write_world", broken)
    words = ["--output_base", str(bench.output), "--formats", "ply", "--frame", "y-down", "--indices", "0"]
    with caplog.at_level(logging.DEBUG, logger="worldexplorer"):
        assert main(["convert", *words]) == 1
    assert "index_0000: failed: ZeroDivisionError: of a defect" in capsys.readouterr().out
    assert "in broken" in caplog.text and "Traceback" in caplog.text
