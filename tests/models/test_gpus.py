"""Which GPUs are used: those CUDA shows, of one kind, as many as were asked for."""

from __future__ import annotations

import logging

import pytest

from worldexplorer.errors import UsageError
from worldexplorer.models.gpus import equal_gpus, visible_gpus

torch = pytest.importorskip("torch")


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the GPUs that are there."""
    found: list[str] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(found))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: found[number])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return found


@pytest.mark.parametrize(
    ("variable", "count", "limit", "expected"),
    [
        (None, 3, None, ("0", "1", "2")),
        (None, 3, 2, ("0", "1")),
        (None, 0, None, ()),
        ("5,GPU-8932f937", 2, None, ("5", "GPU-8932f937")),
        ("5, 3", 2, 1, ("5",)),
        ("2,0,-1,1", 2, None, ("2", "0")),  # CUDA stops at the first that is none
    ],
)
def test_names_for_another_process(
    kinds: list[str],
    monkeypatch: pytest.MonkeyPatch,
    variable: str | None,
    count: int,
    limit: int | None,
    expected: tuple[str, ...],
) -> None:
    kinds.extend(["NVIDIA H200"] * count)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert visible_gpus(limit) == expected


def test_all_of_the_first_kind(kinds: list[str], caplog: pytest.LogCaptureFixture) -> None:
    kinds.extend(["NVIDIA H200", "NVIDIA L4", "NVIDIA H200"])
    with caplog.at_level(logging.WARNING):
        assert equal_gpus(None) == {"cuda:0": "NVIDIA H200", "cuda:2": "NVIDIA H200"}
    assert "left out, since other kernels would not make the same frames as those of NVIDIA H200" in caplog.text
    assert caplog.text.rstrip().endswith(": cuda:1 NVIDIA L4")
    assert equal_gpus(1) == {"cuda:0": "NVIDIA H200"}


def test_workers_share_those_of_the_first_kind(
    kinds: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kinds.extend(["NVIDIA H200", "NVIDIA L4", "NVIDIA H200"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,5,3")
    with caplog.at_level(logging.WARNING):
        assert visible_gpus(None) == ("7", "3")
    assert "of 3 GPUs only those like the first one are used: 7, 3" in caplog.text
    assert visible_gpus(1) == ("7",)


def test_more_than_there_are_is_refused(kinds: list[str]) -> None:
    with pytest.raises(UsageError, match=r"2 GPUs of one kind are asked for, and CUDA shows 0 \(none\) \(--gpus\)"):
        equal_gpus(2)
    kinds.extend(["NVIDIA H200", "NVIDIA L4"])
    with pytest.raises(
        UsageError, match=r"CUDA shows 1 \(cuda:0 NVIDIA H200, cuda:1 NVIDIA L4\).*give a number up to 1"
    ):
        equal_gpus(2)


def test_no_gpu_is_no_error(kinds: list[str]) -> None:
    assert equal_gpus(None) == {}
