"""What a command says reaches the engine, its records and fingerprints; what an engine has not is refused."""

from __future__ import annotations

import dataclasses

import pytest

from worldexplorer.cli.arguments import parse_run
from worldexplorer.config import BatchConfig, FullEngineConfig, RunConfig
from worldexplorer.engines import load_engine
from worldexplorer.errors import UsageError
from worldexplorer.models.engine import FullEngine

CHANGED = {
    "precision": ["--precision", "bfloat16"],
    "no_compile": ["--no_compile"],
    "steps": ["--steps", "25"],
    "multistep": ["--multistep"],
    "guidance_interval": ["--guidance_interval", "0.3,20"],
    "shorter_chunks": ["--shorter_chunks"],
    "fp8": ["--fp8"],
}


def loaded(*words: str, engine: str = "full"):
    return load_engine(parse_run(["--dataset_dir", "set", "--engine", engine, *words]))


def test_every_setting_of_the_full_engine_is_here() -> None:
    assert set(CHANGED) == {one.name for one in dataclasses.fields(FullEngineConfig)}


@pytest.mark.parametrize("name", CHANGED)
def test_the_preview_engine_refuses_settings_of_seva(name: str) -> None:
    with pytest.raises(UsageError, match=rf"--{name} is about SEVA.*--engine preview.*take --engine full"):
        loaded(*CHANGED[name], engine="preview")
    assert loaded(engine="preview").name == "preview"


@pytest.mark.parametrize(
    "words",
    [
        ("--gpus", "1"),
        ("--text_to_image_steps", "8"),
        ("--inpaint_steps", "8"),
        ("--anchors", "9"),
        ("--geometry_model", "depth-anything-3"),
    ],
)
def test_the_preview_engine_refuses_what_it_would_not_look_at(words: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match=rf"{words[0]} is for the full engine.*--engine preview.*take --engine full"):
        loaded(*words, engine="preview")
    assert loaded(*words).name == "full"


def test_the_full_engine_refuses_a_preset() -> None:
    with pytest.raises(UsageError, match=r"--preset is for the preview engine.*--engine full.*take --engine preview"):
        loaded("--preset", "smoke")
    assert loaded("--preset", "smoke", engine="preview").name == "preview"


@pytest.mark.parametrize("name", sorted(set(CHANGED) - {"precision", "no_compile"}))
def test_shortcuts_are_recorded(name: str) -> None:
    engine, plain = loaded(*CHANGED[name]), loaded()
    shortcuts = engine.describe()["shortcuts"]
    assert list(shortcuts) == [name]
    assert "shortcuts" not in plain.describe()
    assert {**engine.describe(), "shortcuts": None} == {**plain.describe(), "shortcuts": None}


def test_the_precision_is_recorded_and_compiling_is_not() -> None:
    assert loaded("--precision", "bfloat16").describe() == {**loaded().describe(), "precision": "bfloat16"}
    assert loaded("--no_compile").describe() == loaded().describe()


def test_settings_reach_seva() -> None:
    engine = loaded(*[word for words in CHANGED.values() for word in words])
    assert isinstance(engine, FullEngine)
    seva = engine._seva
    assert (seva.precision, seva.compile, seva.steps, seva.multistep) == ("bfloat16", False, 25, True)
    assert (seva.guidance_interval, seva.shorter_chunks, seva.fp8) == ((0.3, 20.0), True, True)


@pytest.mark.parametrize(
    ("words", "frames"),
    [
        ((), 24),
        (("--num_seva_frames", "24"), 24),
        (("--num_seva_frames", "16"), 21),
        (("--scaffold_method", "single_image_hybrid"), 24),
        (("--scaffold_method", "scaffold_gen"), 21),
        (("--only_stages", "2", "3"), 21),
    ],
)
def test_seva_is_placed_for_what_the_run_samples(words: tuple[str, ...], frames: int) -> None:
    engine = loaded(*words)
    assert isinstance(engine, FullEngine)
    assert engine._seva.most_frames == frames


def test_the_published_way_is_the_default() -> None:
    engine = load_engine(RunConfig(BatchConfig(dataset_dir="set")))
    assert isinstance(engine, FullEngine)
    assert engine._seva.shortcuts() == {}


def test_the_published_steps_are_no_shortcut() -> None:
    def shortcuts(steps: int) -> object:
        run = RunConfig(BatchConfig(dataset_dir="set"), full=FullEngineConfig(steps=steps))
        return load_engine(run).describe().get("shortcuts")

    assert (shortcuts(50), shortcuts(25)) == (None, {"steps": 25})
