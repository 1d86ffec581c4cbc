"""The checkpoint file: replaced as a whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from worldexplorer.preview.checkpoint import FILE_NAME, load_checkpoint, save_checkpoint

STATE = {"rows": np.arange(12, dtype=np.float32).reshape(3, 4), "steps": np.array([1, 2, 3], np.int32)}


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    save_checkpoint(folder, "a", 40, STATE)
    found = load_checkpoint(folder, "a", STATE)
    assert found is not None
    assert found[0] == 40
    for name, array in STATE.items():
        np.testing.assert_array_equal(found[1][name], array)
        assert found[1][name].dtype == array.dtype
    assert [entry.name for entry in folder.iterdir()] == [FILE_NAME]


def test_without_a_checkpoint_there_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, "a", STATE) is None
    assert load_checkpoint(tmp_path / "missing", "a", STATE) is None


def test_a_write_that_fails_keeps_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, "a", 1, STATE)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            save_checkpoint(tmp_path, "a", 2, STATE)
    found = load_checkpoint(tmp_path, "a", STATE)
    assert found is not None
    assert found[0] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == [FILE_NAME], "what the failed write left is gone"


@pytest.mark.parametrize(
    "like",
    [
        {"rows": np.zeros((4, 4), np.float32), "steps": STATE["steps"]},
        {"rows": STATE["rows"].astype(np.float64), "steps": STATE["steps"]},
        STATE | {"more": np.zeros(1)},
    ],
)
def test_another_state_is_not_loaded(
    tmp_path: Path, like: dict[str, np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    save_checkpoint(tmp_path, "a", 1, STATE)
    assert load_checkpoint(tmp_path, "a", like) is None
    assert "damaged" in caplog.text


def test_pickled_objects_are_not_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file with an object array in it, which only unpickling could read."""
    bomb = np.array([print], dtype=object)
    np.savez(tmp_path / "bomb.npz", iteration=np.array(1), fingerprint=np.array("a"), state_rows=bomb, state_steps=bomb)
    (tmp_path / "bomb.npz").replace(tmp_path / FILE_NAME)
    assert load_checkpoint(tmp_path, "a", STATE) is None
    assert "damaged" in caplog.text


def test_the_same_state_has_the_same_bytes(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "1", "a", 7, STATE)
    save_checkpoint(tmp_path / "2", "a", 7, STATE)
    assert (tmp_path / "1" / FILE_NAME).read_bytes() == (tmp_path / "2" / FILE_NAME).read_bytes()
