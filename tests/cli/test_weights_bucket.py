"""Mirroring weights to a bucket, and using them from there; against a real emulator."""

from __future__ import annotations

from pathlib import Path

import pytest
from gcs_emulator import gcs_emulator  # noqa: F401 (a fixture)

from worldexplorer.cli import main
from worldexplorer.models.weights import all_files, local_folder, weight_sets
from worldexplorer.storage import open_storage

FILES = {
    "model_index.json": b'{"_class_name": "FluxPipeline"}',
    "transformer/config.json": b"{}",
    "transformer/part-1.safetensors": bytes(range(256)) * 999,
    "extra/notes.txt": b"not part of the model",
}
WANTED = set(FILES) - {"extra/notes.txt"}


@pytest.mark.slow
def test_a_mirror_in_a_bucket_is_filled_once_and_used(
    gcs_emulator: str,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mirror = f"gs://{gcs_emulator}/weights"
    for name, data in FILES.items():
        path = tmp_path / "source" / "flux1-dev" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    monkeypatch.setenv("WORLDEXPLORER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WORLDEXPLORER_WEIGHTS", str(tmp_path / "source"))
    assert main(["weights", "mirror", "flux1-dev", "--to", mirror]) == 0
    there = {one.key: one for one in open_storage(mirror).list("flux1-dev")}
    assert set(there) == {f"flux1-dev/{name}" for name in WANTED}
    assert f"WORLDEXPLORER_WEIGHTS={mirror}" in capsys.readouterr().out
    before = {key: open_storage(mirror).read_versioned(key)[1] for key in there}
    assert main(["weights", "mirror", "flux1-dev", "--to", mirror]) == 0
    assert {key: open_storage(mirror).read_versioned(key)[1] for key in there} == before, "nothing is sent twice"

    monkeypatch.setenv("WORLDEXPLORER_WEIGHTS", mirror)
    found = all_files(weight_sets()["flux1-dev"])
    assert {name: path.read_bytes() for name, path in found.items()} == {name: FILES[name] for name in WANTED}
    assert local_folder(weight_sets()["flux1-dev"]) == tmp_path / "cache" / "weights" / "flux1-dev"
    assert main(["weights", "verify", "flux1-dev"]) == 0
