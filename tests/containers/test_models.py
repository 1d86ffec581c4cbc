"""The images' models.lock follow from the one list of weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from images import models
from images.catalog import NAMES
from worldexplorer.models.weights import weight_sets


def test_every_lock_is_what_the_list_says() -> None:
    assert models.stale() == [], "run python -m images.models"
    assert set(models.STAGES) == set(NAMES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).mkdir()
        shutil.copyfile(models.IMAGES / name / "models.lock", tmp_path / name / "models.lock")
    return tmp_path


def test_pinning_the_list_reaches_every_image_that_uses_it(folder: Path, monkeypatch, capsys) -> None:
    pinned = {
        name: replace(one, revision="a" * 40, files=dict.fromkeys([*one.files, "more.json"], "b" * 64))
        for name, one in weight_sets().items()
    }
    monkeypatch.setattr(models, "weight_sets", lambda: pinned)
    assert models.main(["--check", "--images", str(folder)]) == 1
    assert "trajectory/models.lock: not what weights.json says" in capsys.readouterr().err
    assert models.main(["--images", str(folder)]) == 0
    assert models.main(["--check", "--images", str(folder)]) == 0
    for name, stage in (("scaffold", 1), ("trajectory", 2)):
        entries = json.loads((folder / name / "models.lock").read_text())["models"]
        assert [entry["repository"] for entry in entries] == [
            one.repository for one in pinned.values() if stage in one.stages
        ]
        assert all(entry["revision"] == "a" * 40 and "more.json" in entry["files"] for entry in entries)


def test_a_list_of_files_that_nobody_looked_up_is_null() -> None:
    entries = {entry["repository"]: entry for entry in json.loads(models.models_lock("scaffold"))["models"]}
    assert entries["black-forest-labs/FLUX.1-dev"]["files"] is None or weight_sets()["flux1-dev"].revision
    assert "modelv1.1.safetensors" in entries["stabilityai/stable-virtual-camera"]["files"]
