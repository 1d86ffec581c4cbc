"""What `doctor` and `--check_checkpoints` say of weights, disk and memory; nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders import photo_sample, write_dataset

from worldexplorer.cli import doctor, main
from worldexplorer.models.picture_models import TextSettings, needed_weights
from worldexplorer.models.weights import weight_sets


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of weights with one model in it, and half of another."""
    root = tmp_path / "weights"
    for name, files in (("prompt-score", ("config.json", "model.safetensors")), ("seva-vae", ("vae/config.json",))):
        for file in files:
            (root / name / file).parent.mkdir(parents=True, exist_ok=True)
            (root / name / file).write_bytes(b"x" * 2**20)
    monkeypatch.setenv("WORLDEXPLORER_WEIGHTS", str(root))
    monkeypatch.setenv("WORLDEXPLORER_CACHE", str(tmp_path / "cache"))
    return root


def test_the_doctor_names_every_repository_with_licence_gate_and_place(source: Path) -> None:
    facts = {fact.name: fact for fact in doctor.weight_facts()}
    for name, one in weight_sets().items():
        text = facts[f"weights {name}"].text
        for part in (one.repository, one.licence, "gated" if one.gated else "open"):
            assert part in text
    assert facts["weights prompt-score"].good is True
    assert "2.0 MiB" in facts["weights prompt-score"].text
    assert facts["weights seva-vae"].text.endswith("partly here")
    assert facts["weights seva"].text.endswith("not here")
    assert facts["weights from"].text == f"{source} (WORLDEXPLORER_WEIGHTS)"


def test_the_doctor_says_where_downloads_go_and_what_is_free(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("WORLDEXPLORER_WEIGHTS", raising=False)
    monkeypatch.setenv("WORLDEXPLORER_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    *_, last = doctor.weight_facts()
    assert last.text.startswith("the hub, into ")
    assert "GiB free" in last.text
    assert last.text.endswith("HF_HUB_OFFLINE is set, nothing is downloaded")


def test_only_the_engine_with_weights_lists_them(monkeypatch, capsys) -> None:
    monkeypatch.setattr(doctor, "engine_facts", lambda name: [])
    main(["doctor", "--engine", "preview"])
    assert "weights " not in capsys.readouterr().out
    main(["doctor", "--engine", "full"])
    assert capsys.readouterr().out.count("weights ") > len(weight_sets())


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_check_checkpoints_lists_what_the_run_needs(log_format: str, source: Path, tmp_path: Path, capsys) -> None:
    write_dataset(tmp_path / "data", [photo_sample(0, scaffold={"prompts": ["a", "b", "c", "d"]})])
    words = ["--dataset_dir", str(tmp_path / "data"), "--output_base", str(tmp_path / "out"), "--only_stages", "1"]
    words += ["--scaffold_method", "scaffold_gen", "--text_to_image", "flux2-klein", "--check_checkpoints"]
    assert main(["batch", *words, "--log_format", log_format]) == 2
    needed = needed_weights((1,), "scaffold_gen", TextSettings(text_to_image="flux2-klein"))
    lines = capsys.readouterr().out.splitlines()
    if log_format == "text":
        listed = [line.split()[1].rstrip(":") for line in lines if line.startswith("weights  ")]
        assert listed == list(needed)
        assert any(line.startswith("disk     ") and "free in" in line for line in lines)
    else:
        events = [event for event in map(json.loads, lines) if event["event"] == "weights"]
        assert [event["name"] for event in events] == list(needed)
        assert {event["repository"] for event in events} >= {"black-forest-labs/FLUX.2-klein-4B"}
        assert [event["here"] for event in events] == [False, False, True]
    assert not (tmp_path / "out").exists()


def test_the_licence_gate_refuses_before_anything_is_written(source: Path, tmp_path: Path, capsys) -> None:
    write_dataset(tmp_path / "data", [photo_sample(0, scaffold={"prompts": ["a", "b", "c", "d"]})])
    words = ["--dataset_dir", str(tmp_path / "data"), "--output_base", str(tmp_path / "out"), "--only_stages", "1"]
    assert main(["batch", *words, "--scaffold_method", "scaffold_gen", "--commercial"]) == 2
    shown = capsys.readouterr().err
    assert "--commercial does not allow black-forest-labs/FLUX.1-dev" in shown
    assert "take --text_to_image flux2-klein" in shown
    assert not (tmp_path / "out").exists()
