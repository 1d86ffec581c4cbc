"""Kernels of our own start where there is a C compiler, and say so where there is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worldexplorer.errors import UserError
from worldexplorer.models.compilers import keep_compiled_kernels, own_kernels_run, require_compiler


@pytest.mark.parametrize(
    ("there", "named", "runs"), [("", "", False), ("gcc", "", True), ("cc", "cc", True), ("", "cc", False)]
)
def test_kernels_start_where_there_is_a_c_compiler(
    monkeypatch: pytest.MonkeyPatch, there: str, named: str, runs: bool
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}" if name == there else None)
    monkeypatch.setenv("CC", named)
    assert own_kernels_run() is runs


def test_a_missing_compiler_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _name: None)
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(UserError, match="SEVA's kernels need a C compiler") as caught:
        require_compiler("SEVA")
    assert caught.value.remedy == "install gcc, or name a compiler in CC"


def test_compiled_kernels_stay_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    variables = ("TORCHINDUCTOR_CACHE_DIR", "QUACK_CACHE_DIR", "FLASH_ATTENTION_CUTE_DSL_CACHE_DIR")
    for variable in variables:
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    monkeypatch.setenv("TRITON_CACHE_DIR", "/scratch/triton")
    monkeypatch.setenv("WORLDEXPLORER_CACHE", str(tmp_path))
    keep_compiled_kernels()
    assert os.environ["TRITON_CACHE_DIR"] == "/scratch/triton"
    assert {str(Path(os.environ[variable]).parent) for variable in variables} == {str(tmp_path / "kernels")}
    assert len({os.environ[variable] for variable in variables}) == len(variables)
