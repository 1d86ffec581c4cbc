"""Kernels of our own start where there is a C compiler, and say so where there is none."""

from __future__ import annotations

import pytest

from worldexplorer.errors import UserError
from worldexplorer.models.compilers import own_kernels_run, require_compiler


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
