"""`worldexplorer convert`: what is wrong is one line; and what a batch says of the command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from builders import Workbench
from converted_worlds import Engine, a_world, same, shown_error

from worldexplorer.cli import convert_words, main
from worldexplorer.geometry.ply import read_gaussians, write_gaussians
from worldexplorer.splat.stage import SPLAT


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
        (["--ply", "a.ply", "--out", "b.ply", "--frame", "y-up", "--renderer", "gpu"], "auto, cpu, gsplat"),
        (["--ply", "a.ply", "--out", "b.ply", "--filter_floaters", "--renderer", "cpu"], "for --max_gaussians alone"),
        (["--ply", "a.ply", "--out", "b.ply", "--frame", "y-up", "--scene", "a.ply"], "--scene is for --max_gaussians"),
        (["--ply", "a.ply", "mine.ply", "--formats", "ply", "--filter_floaters", "--scene", "a.ply"], "one --ply"),
        (["--ply", "a.ply", "--formats", "spz", "--out", ""], "--out is empty"),
        (["--ply", "", "--formats", "spz"], "--ply is empty"),
        (["--output_base", "output", "--formats", "spz", "--out", " "], "--out is empty"),
        (["--output_base", "", "--formats", "spz"], "--output_base is empty"),
        (["--ply", "a.ply", "--out", "b.ply", "--filter_floaters", "--scene", ""], "--scene is empty"),
        (["--ply", "a.ply", "--out", "b.ply", "--up", "y-down"], "made into the same PLY file (--out)"),
        (["--ply", "a.ply", "--indices", "1", "--formats", "spz"], "--indices belongs to --output_base"),
        (["--ply", "gs://b/a.ply", "--formats", "spz"], "--output_base gs://"),
        (["--output_base", "out", "--formats", "spz", "--up", "y-up"], "--up belongs to --ply"),
        (["--output_base", "nothing", "--formats", "ply", "--frame", "y-up"], "there is no run (nothing)"),
        (["--output_base", "output", "--formats", "ply", "--frame", "y-up", "--indices", "9"], "no such index: 9"),
        (["--output_base", "output", "--formats", "ply", "--frame", "y-up", "--indices", "2"], "no job has a world"),
        (["--output_base", "output", "--out", "a.ply", "--frame", "y-up"], "a batch has many worlds"),
        (["--output_base", "output", "--out", "taken", "--frame", "y-up", "--formats", "ply"], "taken is no folder"),
        (
            ["--output_base", "output", "--out", "taken/a/b", "--frame", "y-up", "--formats", "ply"],
            "taken is no folder",
        ),
        (["--output_base", "output", "--out", "gone", "--frame", "y-up", "--formats", "ply"], "gone is no folder"),
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
    monkeypatch.setattr(convert_words, "missing_for_formats", lambda formats: [])
    write_gaussians(tmp_path / "a.ply", a_world())
    (tmp_path / "sub").mkdir()
    write_gaussians(tmp_path / "sub" / "a.ply", a_world())
    (tmp_path / "mine.ply").write_text("mine")
    (tmp_path / "taken").write_text("mine")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
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


def test_a_batch_that_refuses_other_formats_names_this_command(bench: Workbench) -> None:
    def remedy(**settings: Any) -> str:
        error = bench.plan(bench.config(**settings), engine=Engine(), indices={0}).jobs[0].decisions[-1].error
        assert error is not None
        return error.remedy

    said = remedy(export_formats=("spz",), max_gaussians=4)
    assert "worldexplorer convert --output_base OUT --formats ply spz --max_gaussians 4 makes" in said
    assert "--force" in said
    assert "worldexplorer convert" not in remedy(export_formats=("spz",), seed=1)
    assert "worldexplorer convert" not in remedy(num_images_for_vggt=4)


def test_what_the_batch_says_to_convert_is_what_it_would_have_made(
    bench: Workbench, made_by_the_stage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = bench.config(max_gaussians=5, filter_floaters=True)
    error = bench.plan(refused, engine=Engine(), indices={0}).jobs[0].decisions[-1].error
    assert error is not None
    command = error.remedy[error.remedy.index("worldexplorer convert") :].partition(" makes")[0]
    assert main([*command.replace("OUT", str(bench.output)).split()[1:], "--indices", "0"]) == 0
    found = bench.job_path("splat/splat.no-floaters.5.ply")
    assert found.read_bytes() == (made_by_the_stage / "splat.ply").read_bytes()


@pytest.mark.parametrize(
    ("made", "wanted", "flags"),
    [
        ({}, {"filter_floaters": True}, "--formats ply --filter_floaters"),
        (
            {"export_formats": ["spz"]},
            {"export_formats": ["spz"], "max_gaussians": 4, "filter_floaters": True},
            "--formats ply spz --filter_floaters --max_gaussians 4",
        ),
        ({}, {"export_formats": ["spz"]}, "--formats spz"),
        ({"export_formats": ["spz"]}, {"export_formats": ["compressed-ply", "spz"]}, "--formats compressed-ply"),
        (
            {"max_gaussians": 9, "filter_floaters": True},
            {"max_gaussians": 9, "filter_floaters": True, "export_formats": ["spz"]},
            "--formats spz",
        ),
        ({"export_formats": ["spz"]}, {}, ""),  # nothing to make
        ({"export_formats": ["spz"], "max_gaussians": 9}, {"max_gaussians": 9}, ""),
        ({"max_gaussians": 9}, {"max_gaussians": 4}, ""),  # ranked among what is left
        ({"max_gaussians": 9}, {"max_gaussians": 10}, ""),
        ({"max_gaussians": 9}, {"max_gaussians": 9, "filter_floaters": True}, ""),
        ({"max_gaussians": 9}, {"export_formats": ["spz"]}, ""),
        ({"filter_floaters": True}, {"filter_floaters": True, "max_gaussians": 9}, ""),
        ({"filter_floaters": True}, {"export_formats": ["spz"]}, ""),
        ({"training": {"steps": 1}}, {"training": {"steps": 2}, "max_gaussians": 4}, ""),
    ],
)
def test_what_was_taken_out_or_trained_otherwise_cannot_be_converted(
    made: dict[str, Any], wanted: dict[str, Any], flags: str
) -> None:
    said = SPLAT.instead(made, wanted)
    assert said.partition(" makes")[0] == (f"worldexplorer convert --output_base OUT {flags}" if flags else "")
