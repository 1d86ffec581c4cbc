"""`worldexplorer weights` against a hub on the loopback interface, through the hub's own client."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_hub import TOKEN, LoopbackHub

from worldexplorer.cli import main
from worldexplorer.models import weights as module
from worldexplorer.models.picture_models import needed_weights
from worldexplorer.models.weights import WEIGHTS_LIST, all_files, local_folder, read_list, weight_sets

pytestmark = [pytest.mark.slow, pytest.mark.requires_part("torch")]  # the hub's client comes with it

LARGE = bytes(range(256)) * 4000
ONE = {
    "model_index.json": b'{"_class_name": "FluxPipeline"}',
    "vae/config.json": b"{}",
    "vae/model.safetensors": LARGE,
    "tokenizer/vocab.json": b"[]",
    "extra/huge.bin": b"not wanted",
    "README.md": b"# words",
}
CLIP = {
    "config.json": b"{1}",
    "model.safetensors": b"safe",
    "pytorch_model.bin": b"pickled",
    "vocab.json": b"{}",
    "tf_model.h5": b"other",
}
LIST = {
    "one": {
        "role": "views from text",
        "repository": "owner/one",
        "revision": None,
        "licence": "research",
        "gated": True,
        "permissive": False,
        "instead": "--text_to_image flux2-klein",
        "stages": [1],
        "needed": "always",
        "patterns": ["model_index.json", "vae/*.json", "vae/*.safetensors", "tokenizer/*"],
        "files": {"model_index.json": None},
        "sizes": {},
    },
    "clip": {
        "role": "scores",
        "repository": "owner/clip",
        "revision": None,
        "licence": "MIT",
        "gated": False,
        "permissive": True,
        "stages": [1],
        "needed": "always",
        "patterns": ["config.json", "*.safetensors", "*.bin", "vocab.json"],
        "files": {"config.json": None},
        "sizes": {},
    },
}
WANTED = {"model_index.json", "vae/config.json", "vae/model.safetensors", "tokenizer/vocab.json"}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """The hub with two models, nothing of them here, and the list in a file of this test."""
    from huggingface_hub import constants

    models = {"owner/one": dict(ONE), "owner/clip": dict(CLIP)}
    stand_in = LoopbackHub(models, large={"vae/model.safetensors", "model.safetensors"}, gated={"owner/one"})
    template = f"{stand_in.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "ENDPOINT", stand_in.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("WORLDEXPLORER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("WORLDEXPLORER_WEIGHTS", raising=False)
    path = tmp_path / "weights.json"
    path.write_text(json.dumps(LIST))
    monkeypatch.setattr("worldexplorer.cli.weights.WEIGHTS_LIST", path)
    monkeypatch.setattr(module, "WEIGHTS_LIST", path)
    monkeypatch.setattr("worldexplorer.cli.weights.needed_weights", lambda *settings: ("one", "clip"))
    weight_sets.cache_clear()
    with stand_in:
        yield stand_in
    weight_sets.cache_clear()


@pytest.fixture
def pinned(hub: LoopbackHub, capsys: pytest.CaptureFixture[str]) -> LoopbackHub:
    assert main(["weights", "lock"]) == 0
    weight_sets.cache_clear()
    hub.requests.clear()
    capsys.readouterr()
    return hub


class TestLock:
    def test_it_fills_revision_files_sizes_and_checksums(self, hub: LoopbackHub, tmp_path: Path, capsys) -> None:
        assert main(["weights", "lock"]) == 0
        locked = read_list(tmp_path / "weights.json")
        one, clip = locked["one"], locked["clip"]
        assert one.revision == hub.commit("owner/one")
        assert dict(one.files) == {name: sha256(ONE[name]) for name in WANTED}
        assert dict(one.sizes) == {name: len(ONE[name]) for name in WANTED}
        assert set(clip.files) == {"config.json", "model.safetensors", "vocab.json"}, "no pickled copy of the same"
        assert (one.repository, one.patterns, one.instead, one.stages) == (
            "owner/one",
            tuple(LIST["one"]["patterns"]),
            "--text_to_image flux2-klein",
            (1,),
        )
        assert f"{one.revision}  4 files" in capsys.readouterr().out

    def test_large_files_are_not_downloaded_for_it(self, hub: LoopbackHub) -> None:
        main(["weights", "lock"])
        assert "model.safetensors" not in hub.fetched()
        assert "vocab.json" in hub.fetched()

    def test_a_second_time_changes_nothing(self, pinned: LoopbackHub, tmp_path: Path) -> None:
        before = (tmp_path / "weights.json").read_bytes()
        assert main(["weights", "lock"]) == 0
        assert (tmp_path / "weights.json").read_bytes() == before

    def test_only_newest_leaves_a_revision(self, pinned: LoopbackHub, tmp_path: Path, capsys) -> None:
        before = read_list(tmp_path / "weights.json")["clip"]
        pinned.repositories["owner/clip"]["vocab.json"] = b"[1]"
        assert main(["weights", "lock", "clip"]) == 1, "the stand-in has the newest commit alone"
        assert "no such weights" in capsys.readouterr().err
        assert main(["weights", "lock", "clip", "--newest"]) == 0
        after = read_list(tmp_path / "weights.json")["clip"]
        assert after.revision != before.revision
        assert after.files["vocab.json"] == sha256(b"[1]")

    def test_a_checksum_that_changes_under_a_revision_is_told(
        self, pinned: LoopbackHub, tmp_path: Path, capsys
    ) -> None:
        path = tmp_path / "weights.json"
        sets = json.loads(path.read_text())
        sets["clip"]["files"]["model.safetensors"] = "1" * 64
        path.write_text(json.dumps(sets))
        assert main(["weights", "lock", "clip"]) == 1
        assert f"{'1' * 64} is pinned for the same revision" in capsys.readouterr().err
        assert json.loads(path.read_text()) == sets

    def test_what_is_pinned_stays_when_the_next_fails(self, hub: LoopbackHub, tmp_path: Path, capsys) -> None:
        del hub.repositories["owner/clip"]
        assert main(["weights", "lock"]) == 1
        assert "no such weights" in capsys.readouterr().err
        locked = read_list(tmp_path / "weights.json")
        assert locked["one"].revision
        assert locked["clip"].revision is None

    def test_a_missing_file_is_named(self, hub: LoopbackHub, capsys) -> None:
        del hub.repositories["owner/clip"]["config.json"]
        assert main(["weights", "lock", "clip"]) == 1
        assert "the repository has no config.json" in capsys.readouterr().err

    def test_offline_it_refuses(self, hub: LoopbackHub, monkeypatch, capsys) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert main(["weights", "lock"]) == 1
        assert "HF_HUB_OFFLINE is set" in capsys.readouterr().err
        assert hub.requests == []

    def test_another_list_can_be_named(self, hub: LoopbackHub, tmp_path: Path) -> None:
        other = tmp_path / "other.json"
        other.write_text(json.dumps({"clip": LIST["clip"]}))
        assert main(["weights", "lock", "--list", str(other)]) == 0
        assert read_list(other)["clip"].revision == hub.commit("owner/clip")
        assert read_list(tmp_path / "weights.json")["clip"].revision is None
        assert main(["weights", "lock", "--list", str(tmp_path / "none.json")]) == 2

    def test_a_hub_that_is_away_is_no_defect(self, hub: LoopbackHub, monkeypatch, capsys) -> None:
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        assert main(["weights", "lock", "clip"]) == 1
        assert "the hub cannot be reached" in capsys.readouterr().err


class TestPull:
    @pytest.mark.parametrize("is_pinned", [False, True])
    def test_it_brings_what_belongs_to_the_models(self, is_pinned: bool, hub: LoopbackHub, capsys) -> None:
        if is_pinned:
            main(["weights", "lock"])
            weight_sets.cache_clear()
        assert main(["weights", "pull"]) == 0
        folder = local_folder(weight_sets()["one"])
        below = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert below == WANTED
        assert (folder / "vae/model.safetensors").read_bytes() == LARGE
        hub.requests.clear()
        assert main(["weights", "pull", "one", "clip"]) == 0
        assert hub.fetched() == [], "all is here"

    def test_without_a_token_the_gate_is_told(self, pinned: LoopbackHub, monkeypatch, capsys) -> None:
        monkeypatch.delenv("HF_TOKEN")
        from huggingface_hub import constants

        Path(constants.HF_TOKEN_PATH).parent.mkdir(parents=True, exist_ok=True)
        assert main(["weights", "pull", "one"]) == 1
        shown = capsys.readouterr().err
        assert "only to those who accepted their licence" in shown
        assert "https://huggingface.co/owner/one" in shown
        assert "set HF_TOKEN" in shown

    def test_a_token_that_a_file_keeps_is_not_used(self, pinned: LoopbackHub, tmp_path, monkeypatch, capsys) -> None:
        from huggingface_hub import constants

        monkeypatch.delenv("HF_TOKEN")
        (tmp_path / "token").write_text(TOKEN)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        assert main(["weights", "pull", "one"]) == 1
        assert "accepted their licence" in capsys.readouterr().err

    def test_the_token_is_never_shown(self, pinned: LoopbackHub, caplog, capsys) -> None:
        caplog.set_level(logging.DEBUG)
        pinned.cut["model.safetensors"] = 100
        main(["weights", "pull"])
        main(["weights", "list"])
        main(["weights", "verify"])
        shown = capsys.readouterr()
        assert TOKEN not in shown.out + shown.err + caplog.text

    def test_a_damaged_download_is_refused(self, pinned: LoopbackHub, tmp_path, capsys) -> None:
        path = tmp_path / "weights.json"
        path.write_text(path.read_text().replace(sha256(b"safe"), "2" * 64))
        weight_sets.cache_clear()
        assert main(["weights", "pull", "clip"]) == 1
        assert f"has sha256 {sha256(b'safe')}, not {'2' * 64}" in capsys.readouterr().err

    def test_a_download_that_breaks_off_goes_on_where_it_stopped(self, pinned: LoopbackHub, monkeypatch) -> None:
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)
        pinned.cut["vae/model.safetensors"] = 500_000
        assert main(["weights", "pull", "one"]) == 0
        ranges = [asked for method, path, asked in pinned.requests if method == "GET" and "safetensors" in path]
        assert ranges == ["", "bytes=500000-"]
        assert all_files(weight_sets()["one"])["vae/model.safetensors"].read_bytes() == LARGE

    def test_a_full_disk_is_told_before(self, pinned: LoopbackHub, monkeypatch, capsys) -> None:
        import shutil
        from collections import namedtuple

        usage = namedtuple("usage", "total used free")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1000))
        assert main(["weights", "pull"]) == 1
        assert "are to be downloaded" in capsys.readouterr().err
        assert pinned.requests == []

    def test_the_licence_gate_holds(self, hub: LoopbackHub, capsys) -> None:
        assert main(["weights", "pull", "--commercial"]) == 2
        shown = capsys.readouterr().err
        assert "--commercial does not allow owner/one" in shown
        assert "take --text_to_image flux2-klein" in shown
        assert main(["weights", "pull", "clip", "--commercial"]) == 0

    def test_offline_what_is_here_is_enough(self, pinned: LoopbackHub, monkeypatch, capsys) -> None:
        from huggingface_hub import constants

        assert main(["weights", "pull", "clip"]) == 0
        pinned.requests.clear()
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert main(["weights", "pull", "clip"]) == 0
        assert main(["weights", "pull", "one"]) == 1
        assert "unset HF_HUB_OFFLINE" in capsys.readouterr().err
        assert pinned.requests == []


class TestVerify:
    def test_whole_damaged_and_missing_files(self, pinned: LoopbackHub, capsys) -> None:
        assert main(["weights", "verify"]) == 0
        assert capsys.readouterr().out.count("not here") == 2
        main(["weights", "pull"])
        capsys.readouterr()
        assert main(["weights", "verify"]) == 0
        assert capsys.readouterr().out.count("as pinned") == 2
        files = all_files(weight_sets()["one"])
        damaged = files["vae/model.safetensors"].resolve()
        damaged.write_bytes(b"x" + LARGE[1:])
        files["tokenizer/vocab.json"].unlink()
        assert main(["weights", "verify"]) == 1
        shown = capsys.readouterr().out
        assert "damaged: " in shown
        assert "vae/model.safetensors" in shown
        assert "missing: https://huggingface.co/owner/one tokenizer/vocab.json" in shown
        assert main(["weights", "verify", "clip"]) == 0

    def test_what_is_not_pinned_is_said(self, hub: LoopbackHub, capsys) -> None:
        main(["weights", "pull", "clip"])
        assert main(["weights", "verify"]) == 0
        assert "without a pinned checksum" in capsys.readouterr().out


class TestMirror:
    def test_models_are_found_in_a_mirror(self, pinned: LoopbackHub, tmp_path, monkeypatch, capsys) -> None:
        mirror = tmp_path / "mirror"
        assert main(["weights", "mirror", "--to", str(mirror)]) == 0
        assert f"WORLDEXPLORER_WEIGHTS={mirror}" in capsys.readouterr().out
        below = {path.relative_to(mirror).as_posix() for path in mirror.rglob("*") if path.is_file()}
        assert {f"one/{name}" for name in WANTED} | {f"clip/{name}" for name in weight_sets()["clip"].files} == below
        assert not any(path.is_symlink() for path in mirror.rglob("*"))
        pinned.requests.clear()
        monkeypatch.setenv("WORLDEXPLORER_WEIGHTS", str(mirror))
        assert local_folder(weight_sets()["one"]) == mirror / "one"
        assert main(["weights", "verify"]) == 0
        assert pinned.requests == []

    def test_a_second_time_copies_only_what_differs(self, pinned: LoopbackHub, tmp_path) -> None:
        mirror = tmp_path / "mirror"
        main(["weights", "mirror", "--to", str(mirror)])
        kept, torn = mirror / "one" / "model_index.json", mirror / "one" / "vae" / "model.safetensors"
        before = kept.stat().st_ino
        torn.write_bytes(LARGE[:-1])
        assert main(["weights", "mirror", "--to", str(mirror)]) == 0
        assert torn.read_bytes() == LARGE
        assert kept.stat().st_ino == before

    def test_sets_that_are_not_pinned_are_mirrored_whole(self, hub: LoopbackHub, tmp_path, monkeypatch) -> None:
        mirror = tmp_path / "mirror"
        assert main(["weights", "mirror", "one", "--to", str(mirror)]) == 0
        monkeypatch.setenv("WORLDEXPLORER_WEIGHTS", str(mirror))
        assert set(all_files(weight_sets()["one"])) == WANTED

    def test_where_to_is_needed_and_elsewhere_refused(self, hub: LoopbackHub, tmp_path, capsys) -> None:
        assert main(["weights", "mirror"]) == 2
        assert "--to is missing" in capsys.readouterr().err
        assert main(["weights", "pull", "--to", str(tmp_path)]) == 2
        assert main(["weights", "mirror", "--to", "s3://bucket/x"]) == 2


def test_the_list_says_what_is_where(pinned: LoopbackHub, capsys) -> None:
    main(["weights", "pull", "clip"])
    capsys.readouterr()
    assert main(["weights", "list"]) == 0
    one, clip = capsys.readouterr().out.splitlines()
    commit = pinned.commit("owner/one")[:12]
    assert one.startswith(f"one                  owner/one, revision {commit}, 1.0 MiB, research, gated, not here")
    assert "MIT, open, here" in clip


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "no action"),
        (["pul"], "perhaps pull was meant"),
        (["pull", "on"], "perhaps one was meant"),
        (["pull", "--stages", "4"], "choose from 1 2 3"),
        (["pull", "--inpaint", "sd9"], "choose from sd2-inpainting, flux2-klein, flux1-fill"),
        (["list", "--newest"], "list takes no --newest"),
        (["pull", "--list", "mine.json"], "pull takes no --list"),
        (["lock", "--stages", "1"], "lock takes no --stages"),
        (["lock", "--commercial"], "lock takes no --commercial"),
        (["pull", "one", "--stages", "1"], "models are named, and --stages chooses others"),
    ],
)
def test_wrong_words_are_one_line(words: list[str], text: str, hub: LoopbackHub, capsys) -> None:
    assert main(["weights", *words]) == 2
    assert text in capsys.readouterr().err
    assert hub.requests == []


@pytest.mark.parametrize("action", ["list", "pull", "verify"])
def test_stages_without_weights_are_told(action: str, hub: LoopbackHub, monkeypatch, capsys) -> None:
    monkeypatch.setattr("worldexplorer.cli.weights.needed_weights", lambda *settings: ())
    assert main(["weights", action, "--stages", "3"]) == 0
    assert capsys.readouterr().out == "these stages need no weights\n"
    assert hub.requests == []


def test_the_list_can_be_that_of_some_stages(hub: LoopbackHub, monkeypatch, capsys) -> None:
    for_stage_1 = {(1,): ("one",)}
    monkeypatch.setattr("worldexplorer.cli.weights.needed_weights", lambda stages, *more: for_stage_1[stages])
    assert main(["weights", "list", "--stages", "1"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["one"]


def test_the_stages_say_what_is_pulled(hub: LoopbackHub, monkeypatch, tmp_path) -> None:
    asked = []
    monkeypatch.setattr("worldexplorer.cli.weights.needed_weights", lambda *given: asked.append(given) or ("clip",))
    main(["weights", "pull", "--stages", "2", "1", "--scaffold_method=scaffold_gen", "--text_to_image=flux2-klein"])
    stages, method, text = asked[0]
    assert (stages, method) == ((1, 2), "scaffold_gen")
    assert (text.text_to_image, text.inpaint) == ("flux2-klein", "sd2-inpainting")
    sets = read_list(WEIGHTS_LIST)
    assert all(name in sets for name in needed_weights(stages, method, text))
