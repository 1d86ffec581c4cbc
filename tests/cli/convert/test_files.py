"""`worldexplorer convert --ply`: the same files as stage 3 makes, without training; frames and headers."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import Workbench
from converted_worlds import MIP, Engine, a_world, needs_gsply, on_the_whole, same, shown_error

from worldexplorer.cli import main
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.geometry.ply import read_comments, read_gaussians, write_gaussians
from worldexplorer.geometry.transforms import read_transforms
from worldexplorer.splat.export import FRAME_COMMENTS, VIEWER_ROTATION


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


@pytest.mark.parametrize("link", [False, True])
def test_a_damaged_world_of_a_job_is_refused_by_name_too(
    bench: Workbench, link: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    ply = bench.job_path("splat/splat.ply")
    ply.write_bytes(ply.read_bytes()[:-1] + b"x")
    if link:
        Path("link.ply").symlink_to(ply)
    named = "link.ply" if link else str(ply)
    words = ["convert", "--ply", named, "--out", "out.ply", "--frame", "y-down"]
    assert main(words) == 2
    said = shown_error(capsys)
    assert "is not what the record of its job says" in said and "splat.json" in said and "heals" in said
    assert not Path("out.ply").exists()
    shutil.copy(ply, "copy.ply")
    assert main(["convert", "--ply", "copy.ply", "--out", "out.ply", "--frame", "y-down"]) == 0


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


@pytest.mark.parametrize(
    ("asked", "name"), [(["--out", "b.ply"], "b.ply"), (["--formats", "ply"], "a.y-up.ply")], ids=["named", "not named"]
)
def test_to_say_that_z_is_up_is_to_have_it_turned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_gaussians(tmp_path / "a.ply", a_world())
    assert main(["convert", "--ply", "a.ply", "--up", "z-up", *asked]) == 0
    before, after = a_world().means, read_gaussians(tmp_path / name).means
    np.testing.assert_allclose(after, before[:, [0, 2, 1]] * [1, 1, -1], atol=1e-6)
    assert read_comments(tmp_path / name) == ("frame: y up",)


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
