"""Weights from a folder, a bucket's storage and the hub; every way they can be missing or wrong."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from worldexplorer.errors import DamagedInputError, TransientError, UserError
from worldexplorer.models import weights as module
from worldexplorer.models.weights import WeightSet, local_files, weight_sets, what_is_missing

ONE = WeightSet(
    name="seva",
    role="novel views",
    repository="owner/model",
    revision="abc",
    licence="research",
    gated=True,
    files={"part/a.bin": None},
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLDEXPLORER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("WORLDEXPLORER_WEIGHTS", raising=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "source" / "seva" / "part" / "a.bin"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"numbers")
    monkeypatch.setenv("WORLDEXPLORER_WEIGHTS", str(tmp_path / "source"))
    return tmp_path / "source"


def test_the_list_names_every_set() -> None:
    sets = weight_sets()
    assert {"seva", "seva-vae", "seva-clip"} <= sets.keys()
    assert sets["seva"].gated
    assert "modelv1.1.safetensors" in sets["seva"].files
    json.dumps({name: dict(one.files) for name, one in sets.items()})


def test_a_folder_is_read_where_it_lies(folder: Path) -> None:
    assert local_files(ONE) == {"part/a.bin": folder / "seva" / "part" / "a.bin"}
    assert what_is_missing(ONE) is None


def test_a_missing_file_of_a_folder_is_named(folder: Path) -> None:
    (folder / "seva" / "part" / "a.bin").unlink()
    with pytest.raises(UserError, match=r"weight file is missing \(.*seva/part/a.bin\).*owner/model"):
        local_files(ONE)
    assert "lacks part/a.bin" in (what_is_missing(ONE) or "")


def test_a_pinned_checksum_is_compared(folder: Path) -> None:
    right = hashlib.sha256(b"numbers").hexdigest()
    assert local_files(replace(ONE, files={"part/a.bin": right}))
    with pytest.raises(DamagedInputError, match=rf"has sha256 {right}, not {'0' * 64}.*a\.bin"):
        local_files(replace(ONE, files={"part/a.bin": "0" * 64}))


def test_a_file_is_hashed_once_while_it_stays_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = replace(ONE, files={"part/a.bin": hashlib.sha256(b"numbers").hexdigest()})
    local_files(pinned)
    monkeypatch.setattr(module, "file_sha256", lambda path: "never the same")
    local_files(pinned)
    (folder / "seva" / "part" / "a.bin").write_bytes(b"NUMBERS")
    with pytest.raises(DamagedInputError):
        local_files(pinned)


class BucketStandIn:
    """A bucket's storage: copies its objects to the scratch folder, and counts."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = objects
        self.copied: list[str] = []

    def local_copies(self, keys: list[str], scratch: Path) -> list[Path]:
        for key in keys:
            if key not in self.objects:
                raise module.NotFoundError("no such object", where=f"gs://bucket/{key}")
            (scratch / key).parent.mkdir(parents=True, exist_ok=True)
            (scratch / key).write_bytes(self.objects[key])
            self.copied.append(key)
        return [scratch / key for key in keys]


def test_a_bucket_is_copied_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = BucketStandIn({"seva/part/a.bin": b"numbers"})
    monkeypatch.setenv("WORLDEXPLORER_WEIGHTS", "gs://bucket/weights")
    monkeypatch.setattr(module, "open_storage", lambda uri: bucket)
    for _ in range(2):
        assert local_files(ONE)["part/a.bin"].read_bytes() == b"numbers"
    assert bucket.copied == ["seva/part/a.bin"]


def test_a_missing_object_of_a_bucket_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLDEXPLORER_WEIGHTS", "gs://bucket/weights")
    monkeypatch.setattr(module, "open_storage", lambda uri: BucketStandIn({}))
    with pytest.raises(UserError, match=r"missing in the bucket \(gs://bucket/seva/part/a.bin\)"):
        local_files(ONE)


@pytest.mark.requires_part("torch")
class TestHub:
    """The hub's errors; nothing is downloaded."""

    @pytest.fixture(autouse=True)
    def _offline_hub(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import huggingface_hub
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *args, **named: None)

    @pytest.mark.parametrize(
        ("error", "kind", "words"),
        [
            ("GatedRepoError", UserError, r"accepted their licence.*owner/model.*set HF_TOKEN"),
            ("RepositoryNotFoundError", UserError, "no such weights"),
            ("RevisionNotFoundError", UserError, r"no such weights.*at abc"),
            ("RemoteEntryNotFoundError", UserError, "no such weights"),
            ("LocalEntryNotFoundError", TransientError, "could not be downloaded"),
            ("HfHubHTTPError", TransientError, "does not answer"),
        ],
    )
    def test_its_errors_say_what_to_do(self, error, kind, words, monkeypatch) -> None:
        import huggingface_hub
        from huggingface_hub import errors

        def fail(*args, **named):
            family = getattr(errors, error)
            raise family.__new__(family)

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
        with pytest.raises(kind, match=words):
            local_files(ONE)

    def test_the_pinned_revision_is_asked_for(self, tmp_path, monkeypatch) -> None:
        import huggingface_hub

        asked = []
        monkeypatch.setattr(
            huggingface_hub, "hf_hub_download", lambda *args, **named: asked.append((args, named)) or tmp_path / "file"
        )
        assert local_files(ONE) == {"part/a.bin": tmp_path / "file"}
        ((where, how),) = asked
        assert where == ("owner/model", "part/a.bin")
        assert how["revision"] == "abc"

    def test_gated_weights_without_a_token_are_missing(self, monkeypatch) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        assert "accept their licence at https://huggingface.co/owner/model and set HF_TOKEN" in (
            what_is_missing(ONE) or ""
        )
        assert what_is_missing(replace(ONE, gated=False)) is None  # can be downloaded

    def test_offline_weights_that_are_not_here_are_missing(self, monkeypatch) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert "HF_HUB_OFFLINE" in (what_is_missing(replace(ONE, gated=False)) or "")
