"""`worldexplorer convert`: the same files as stage 3 makes, without training; and nothing else touched."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import (
    SmallEngine,
    Workbench,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
)
from remote_storage import RemoteStorage

from worldexplorer.cli import convert, main, renderers
from worldexplorer.engine import SplatScene, TrainingResult
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.geometry.ply import read_comments, read_gaussians, write_gaussians
from worldexplorer.geometry.transforms import read_transforms
from worldexplorer.progress import silent
from worldexplorer.splat.export import FRAME_COMMENTS, VIEWER_ROTATION
from worldexplorer.splat.stage import SPLAT
from worldexplorer.verify import verify_all

needs_gsply = pytest.mark.requires_part("gsply")
MIP = "SplatRenderMode: mip"


class Engine(SmallEngine):
    """Its worlds have one floater, right before the cameras, and Gaussians that touch each other."""

    def train(self, scene: SplatScene, *arguments: Any) -> TrainingResult:
        result = super().train(scene, *arguments)
        result.gaussians.means[0] = 0.01
        result.gaussians.log_scales[:] = np.log(2.0)
        return result


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Ranks Gaussians in place of both engines: the later the more they show."""
    engine = Engine()
    monkeypatch.setattr(renderers, "load_engine", lambda run: engine)
    return engine


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three jobs, of which the last has no world yet."""
    folder = tmp_path_factory.mktemp("made")
    bench = Workbench(folder, samples=3)
    bench.batch(engine=Engine(), indices={0, 1})
    bench.batch(bench.config(only_stages=(1, 2)), engine=Engine(), indices={2})
    return folder


@pytest.fixture
def bench(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    """A copy of them, with their times."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Workbench(tmp_path, samples=3)


def on_the_whole(bench: Workbench) -> None:
    """Every record is kept to."""
    found = list(verify_all(bench.storage))
    assert len(found) >= 8
    assert [changed for _, changed in found if changed] == []


def shown_error(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("error: ").rstrip("\n")


def a_world(count: int = 8, bands: int = 16) -> Gaussians:
    random = np.random.default_rng(7)
    quaternions = random.normal(size=(count, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    return Gaussians(
        means=random.normal(size=(count, 3)).astype(np.float32),
        log_scales=random.normal(-2, 0.3, size=(count, 3)).astype(np.float32),
        quaternions=quaternions.astype(np.float32),
        opacity_logits=random.normal(1, 1, size=count).astype(np.float32),
        sh=random.normal(0, 0.2, size=(count, bands, 3)).astype(np.float32),
    )


def same(found: Gaussians, expected: Gaussians) -> None:
    for name in ("means", "log_scales", "quaternions", "opacity_logits", "sh"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


# --- the same as stage 3 makes


@pytest.fixture(scope="module")
def made_by_the_stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a world that stage 3 itself made smaller."""
    bench = Workbench(tmp_path_factory.mktemp("stage"))
    run = bench.config(max_gaussians=5, filter_floaters=True)
    runner = bench.runner(run, engine=Engine())
    for stage in ("scaffold", "trajectory", "splat"):
        runner.run(bench.job(), stage, silent)
    return bench.job_path("splat")


@pytest.mark.parametrize("name", ["splat.ply", "splat_rotated.ply"])
def test_fewer_gaussians_are_those_that_stage_3_keeps(bench: Workbench, made_by_the_stage: Path, name: str) -> None:
    words = ["--ply", str(bench.job_path(f"splat/{name}")), "--out", "small.ply"]
    assert main(["convert", *words, "--max_gaussians", "5", "--filter_floaters"]) == 0
    assert Path("small.ply").read_bytes() == (made_by_the_stage / name).read_bytes()
    on_the_whole(bench)


@needs_gsply
def test_smaller_files_are_those_that_stage_3_writes(bench: Workbench, tmp_path: Path) -> None:
    other = Workbench(tmp_path / "other")
    other.batch(other.config(export_formats=("spz", "compressed-ply")), engine=Engine())
    ply = bench.job_path("splat/splat.ply")
    assert main(["convert", "--ply", str(ply), "--formats", "spz compressed-ply"]) == 0
    for name in ("splat.spz", "splat.compressed.ply"):
        assert ply.with_name(name).read_bytes() == other.job_path(f"splat/{name}").read_bytes()
    assert ply.with_name("splat.spz").read_bytes()[4:8] == bytes(4)  # no time in gzip's header
    on_the_whole(bench)


def test_the_views_that_count_are_the_training_views_at_their_size(
    bench: Workbench, tiny: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []
    plain = tiny.contributions

    def noted(*given: Any) -> Any:
        asked.append(given)
        return plain(*given)

    monkeypatch.setattr(tiny, "contributions", noted)
    ply = bench.job_path("splat/splat.ply")
    assert main(["convert", "--ply", str(ply), "--formats", "ply", "--max_gaussians", "6"]) == 0
    (cameras,) = bench.job_path("scenes").glob("*/img2trajvid/transforms.json")
    expected = read_transforms(cameras)
    np.testing.assert_array_equal(asked[0][1], expected.c2w)
    np.testing.assert_array_equal(asked[0][2], expected.intrinsics)
    assert asked[0][3] == expected.height
    same(read_gaussians(ply.with_name("splat.6.ply")), Gaussians(*_last(read_gaussians(ply), 6)))
    said = capsys.readouterr().out
    assert "the 10 least seen taken out, 6 Gaussians left" in said
    assert "renderer says which Gaussians show most" in said


def _last(world: Gaussians, count: int) -> list[Any]:
    names = ("means", "log_scales", "quaternions", "opacity_logits", "sh")
    return [getattr(world, name)[-count:] for name in names]


def test_a_file_elsewhere_wants_its_scene_named(bench: Workbench, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(bench.job_path("splat/splat.ply"), "alone.ply")
    words = ["convert", "--ply", "alone.ply", "--out", "out.ply", "--filter_floaters"]
    assert main(words) == 2
    said = shown_error(capsys)
    assert "alone.ply" in said and "--scene" in said
    (cameras,) = bench.job_path("scenes").glob("*/img2trajvid/transforms.json")
    assert main([*words, "--scene", str(cameras)]) == 0
    assert "1 floater taken out, 15 Gaussians left" in capsys.readouterr().out
    same(read_gaussians(Path("out.ply")), Gaussians(*_last(read_gaussians(Path("alone.ply")), 15)))


# --- frames and headers


def test_what_stays_in_its_frame_keeps_every_bit_and_comment(tmp_path: Path, bench: Workbench) -> None:
    (cameras,) = bench.job_path("scenes").glob("*/img2trajvid/transforms.json")
    comments = ["made elsewhere", "frame: y down, so it was said", MIP]
    write_gaussians(tmp_path / "a.ply", a_world(), comments)
    words = ["--ply", "a.ply", "--out", "b.ply", "--max_gaussians", "8", "--scene", str(cameras)]
    assert main(["convert", *words]) == 0
    assert (tmp_path / "b.ply").read_bytes() == (tmp_path / "a.ply").read_bytes()


@pytest.mark.parametrize(
    ("comments", "frame", "expected"),
    [
        (["x", FRAME_COMMENTS["y-up"], MIP], "y-down", ("x", FRAME_COMMENTS["y-down"], MIP)),
        (["x", FRAME_COMMENTS["y-down"]], "y-up", ("x", FRAME_COMMENTS["y-up"])),
        (["x", "frame: y down"], "y-up", ("x", "frame: y up")),
        ([], "y-down", ("frame: y down",)),
    ],
)
def test_another_frame_is_turned_into_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, comments: list[str], frame: str, expected: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_gaussians(tmp_path / "a.ply", a_world(), comments)
    assert main(["convert", "--ply", "a.ply", "--formats", "ply", "--frame", frame]) == 0
    found = tmp_path / f"a.{frame}.ply"
    assert read_comments(found) == expected
    same(read_gaussians(found), a_world().rotated(VIEWER_ROTATION))


def test_a_file_with_z_up_becomes_one_with_y_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_gaussians(tmp_path / "a.ply", a_world())
    words = ["convert", "--ply", "a.ply", "--out", "b.ply", "--frame", "y-up", "--up", "z-up"]
    assert main(words) == 0
    before, after = a_world().means, read_gaussians(tmp_path / "b.ply").means
    np.testing.assert_allclose(after, before[:, [0, 2, 1]] * [1, 1, -1], atol=1e-6)  # what was up, z, is y


@needs_gsply
def test_the_frames_of_the_smaller_files_do_not_depend_on_that_of_the_file_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_gaussians(tmp_path / "a.ply", a_world(bands=1), [MIP])
    write_gaussians(tmp_path / "b.ply", a_world(bands=1).rotated(VIEWER_ROTATION), [FRAME_COMMENTS["y-down"], MIP])
    assert main(["convert", "--ply", "a.ply", "b.ply", "--formats", "spz", "compressed-ply"]) == 0
    for suffix in (".spz", ".compressed.ply"):
        assert Path(f"a{suffix}").read_bytes() == Path(f"b{suffix}").read_bytes()
    assert f"comment {MIP}\n".encode() in Path("a.compressed.ply").read_bytes()
    unpacked = gzip.decompress(Path("a.spz").read_bytes())
    fixed = np.frombuffer(unpacked, np.uint8, 8 * 9, 16).reshape(8, 3, 3).astype(np.int64) @ [1, 2**8, 2**16]
    heights = ((fixed[:, 1] + 2**23) % 2**24 - 2**23) / 4096
    np.testing.assert_allclose(np.sort(heights), np.sort(a_world().means[:, 1]), atol=1e-3)


# --- a batch


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
    monkeypatch.setattr(convert, "missing_for_formats", lambda formats: [])
    before = sorted(bench.output.rglob("*"))
    words = ["--output_base", str(bench.output), "--formats", "spz", "compressed-ply"]
    assert main(["convert", *words]) == 1
    assert capsys.readouterr().out.count("the disk is full") == 2
    assert sorted(bench.output.rglob("*")) == before


# --- wrong words


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "neither --ply nor --output_base is given"),
        (["--ply", "a.ply", "--output_base", "out", "--formats", "spz"], "both --ply and --output_base are given"),
        (["--ply", "a.ply"], "nothing says what to write"),
        (["--ply", "a.ply", "--formats", "sps"], "perhaps spz was meant"),
        (["--ply", "a.ply", "--formats", "ply"], "made into the same PLY file (--formats)"),
        (["--ply", "a.ply", "--out", "b.ply"], "made into the same PLY file (--out)"),
        (["--ply", "a.ply", "--out", "b.ply", "--formats", "ply"], "leave --formats out"),
        (["--ply", "a.ply", "--out", "b.ply", "--max_gaussians", "0"], "give a number from 1 to 10000000"),
        (["--ply", "a.ply", "--out", "b.ply", "--frame", "z-up"], "choose from y-up, y-down"),
        (["--ply", "a.ply", "--out", "b.spz", "--frame", "y-up"], "an SPZ file has y up"),
        (["--ply", "a.ply", "--formats", "ply", "--frame", "y-up", "--out", "b.splat"], "name a .spz"),
        (["--ply", "a.ply", "--out", "none/b.ply", "--frame", "y-up"], "none is no folder"),
        (["--ply", "a.ply", "--out", "none/b", "--frame", "y-up", "--formats", "ply"], "none is no folder"),
        (["--ply", "a.ply", "--out", "mine.ply", "--frame", "y-up"], "mine.ply exists"),
        (["--ply", "a.ply", "--out", "a.ply", "--frame", "y-up", "--overwrite"], "a.ply is to be read and written"),
        (["--ply", "a.ply", "mine.ply", "--out", "b.ply", "--frame", "y-up"], "cannot all become b.ply"),
        (["--ply", "a.ply", "sub/a.ply", "--out", "f", "--formats", "ply", "--frame", "y-up"], "would both become"),
        (["--ply", "none.ply", "--out", "b.ply", "--frame", "y-up"], "no such file (--ply none.ply)"),
        (["--ply", "mine.ply", "--out", "b.ply", "--frame", "y-up"], "name a PLY file in the INRIA layout"),
        (["--ply", "a.ply", "--out", "b.ply", "--max_gaussians", "5", "--scene", "none.json"], "--scene none.json"),
        (["--ply", "a.ply", "--out", "b.ply", "--max_gaussians", "5", "--renderer", "gpu"], "auto, cpu, gsplat"),
        (["--ply", "a.ply", "mine.ply", "--formats", "ply", "--frame", "y-up", "--scene", "a.ply"], "one --ply"),
        (["--ply", "a.ply", "--indices", "1", "--formats", "spz"], "--indices belongs to --output_base"),
        (["--ply", "gs://b/a.ply", "--formats", "spz"], "--output_base gs://"),
        (["--output_base", "out", "--formats", "spz", "--up", "y-up"], "--up belongs to --ply"),
        (["--output_base", "nothing", "--formats", "ply", "--frame", "y-up"], "there is no run (nothing)"),
        (["--output_base", "output", "--formats", "ply", "--frame", "y-up", "--indices", "9"], "no such index: 9"),
        (["--output_base", "output", "--formats", "ply", "--frame", "y-up", "--indices", "2"], "no job has a world"),
        (["--output_base", "output", "--out", "a.ply", "--frame", "y-up"], "a batch has many worlds"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    bench: Workbench,
    tmp_path: Path,
    words: Sequence[str],
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(convert, "missing_for_formats", lambda formats: [])
    write_gaussians(tmp_path / "a.ply", a_world())
    (tmp_path / "sub").mkdir()
    write_gaussians(tmp_path / "sub" / "a.ply", a_world())
    (tmp_path / "mine.ply").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    assert main(["convert", *words]) == 2
    assert text in shown_error(capsys)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "mine.ply").read_text() == "mine"
    same(read_gaussians(tmp_path / "a.ply"), a_world())


def test_a_missing_package_is_named(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("worldexplorer.splat.formats.importlib.util.find_spec", lambda name: None)
    assert main(["convert", "--output_base", "output", "--formats", "spz"]) == 2
    assert "worldexplorer[exports]" in shown_error(capsys)


# --- the batch points here


def test_a_batch_that_refuses_other_formats_names_this_command(bench: Workbench) -> None:
    def remedy(**settings: Any) -> str:
        error = bench.plan(bench.config(**settings), engine=Engine(), indices={0}).jobs[0].decisions[-1].error
        assert error is not None
        return error.remedy

    assert "worldexplorer convert" in remedy(export_formats=("spz",), max_gaussians=4)
    assert "--force" in remedy(export_formats=("spz",), max_gaussians=4)
    assert "worldexplorer convert" not in remedy(export_formats=("spz",), seed=1)
    assert "worldexplorer convert" not in remedy(num_images_for_vggt=4)


@pytest.mark.parametrize(
    ("made", "wanted", "helps"),
    [
        ({}, {"filter_floaters": True}, True),
        ({"max_gaussians": 9}, {"max_gaussians": 4}, True),
        ({"max_gaussians": 9}, {"max_gaussians": 10}, False),
        ({"max_gaussians": 9}, {"export_formats": ["spz"]}, False),
        ({"filter_floaters": True}, {"export_formats": ["spz"]}, False),
        ({"training": {"steps": 1}}, {"training": {"steps": 2}, "max_gaussians": 4}, False),
    ],
)
def test_what_was_taken_out_or_trained_otherwise_cannot_be_converted(
    made: dict[str, Any], wanted: dict[str, Any], helps: bool
) -> None:
    assert bool(SPLAT.instead(made, wanted)) is helps
