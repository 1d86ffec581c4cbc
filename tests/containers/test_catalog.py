from __future__ import annotations

import json
from pathlib import Path

import pytest

from images.catalog import IMAGES, LOCK, NAMES, ImageLock, open_pins, project_version, repository
from worldexplorer.errors import UsageError

DIGEST = "sha256:" + "0123456789abcdef" * 4
MODEL_FIELDS = {
    *("engine", "files", "gated", "licence", "needed", "permissive", "repository", "revision", "role", "stages"),
}


def test_committed_lock_is_of_this_version_and_written_as_the_program_writes_it(tmp_path: Path) -> None:
    lock = ImageLock.read(LOCK)
    assert lock.tags == {repository(name): project_version() for name in NAMES}
    lock.write(tmp_path / "lock.json")
    assert (tmp_path / "lock.json").read_text() == LOCK.read_text()


def test_lock_keeps_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    lock = ImageLock.read(LOCK).for_version("1.2.3", "registry.example/worlds").with_digest("worldexplorer-cpu", DIGEST)
    lock.write(path)
    assert ImageLock.read(path) == lock
    assert json.loads(path.read_text())["worldexplorer-cpu"] == {"tag": "1.2.3", "digest": DIGEST}


def test_digests_belong_to_a_version_and_a_registry() -> None:
    pinned = ImageLock.read(LOCK).for_version("1.0", "one").with_digest("worldexplorer-cpu", DIGEST)
    assert pinned.for_version("1.0", "one").digests["worldexplorer-cpu"] == DIGEST
    assert pinned.for_version("1.1", "one").digests["worldexplorer-cpu"] is None
    assert pinned.for_version("1.0", "two").digests["worldexplorer-cpu"] is None


def test_base_is_named_by_digest_once_it_is_known() -> None:
    lock = ImageLock("r", "python:3.11", None, {}, {})
    assert lock.base_reference() == "python:3.11"
    assert ImageLock("r", "python:3.11", DIGEST, {}, {}).base_reference() == f"python:3.11@{DIGEST}"


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", LOCK.read_text().replace("null", '"latest"'), LOCK.read_text().replace('"tag"', '"version"')],
)
def test_damaged_lock_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lock.json"
    path.write_text(text)
    with pytest.raises(UsageError):
        ImageLock.read(path)


@pytest.mark.parametrize("name", NAMES)
def test_models_say_what_they_are(name: str) -> None:
    models = json.loads((IMAGES / name / "models.lock").read_text())["models"]
    for model in models:
        assert set(model) == MODEL_FIELDS
        assert model["repository"].count("/") == 1
        assert model["revision"] is None or len(model["revision"]) == 40
        assert model["licence"]
        assert all(len(digest or "0" * 64) == 64 for digest in (model["files"] or {}).values())
    assert len({(model["role"], model["repository"]) for model in models}) == len(models)
    assert bool(models) == (name in ("scaffold", "trajectory"))


@pytest.mark.parametrize("name", ["scaffold", "trajectory"])
def test_every_role_that_has_a_restricted_model_has_a_permissive_one_or_is_of_seva(name: str) -> None:
    models = json.loads((IMAGES / name / "models.lock").read_text())["models"]
    restricted = {model["role"] for model in models if not model["permissive"]}
    permissive = {role for model in models if model["permissive"] for role in model["role"].split(" and ")}
    without = {role for role in restricted if role not in permissive}
    assert without == {"novel views", "latents of the novel views"}


def test_open_pins_are_found_by_their_places(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "models.lock").write_text('{"models": []}')
    assert open_pins(ImageLock("r", "python:3.11", DIGEST, {}, {}), tmp_path) == []
    models = [{"revision": "1" * 40, "files": {"a": "2" * 64}}, {"revision": None, "files": {"b": None}}]
    (tmp_path / "scaffold" / "models.lock").write_text(json.dumps({"models": models}))
    assert open_pins(ImageLock("r", "python:3.11", None, {}, {}), tmp_path) == [
        "images.lock.json: base.digest",
        "scaffold/models.lock: models[1].revision",
        "scaffold/models.lock: models[1].files.b",
    ]
