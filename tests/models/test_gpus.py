"""Which GPUs are used: those CUDA shows, of one kind, as many as were asked for."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from worldexplorer.errors import UsageError, UserError
from worldexplorer.models import gpus as module
from worldexplorer.models.engine import FullEngine
from worldexplorer.models.gpus import Sight, equal_gpus, look_at_gpus, visible_gpus

torch = pytest.importorskip("torch")

TORCH = """
__version__ = "9.9"

class cuda:
    is_available = staticmethod(lambda: True)
    device_count = staticmethod(lambda: 2)
    get_device_name = staticmethod(lambda number: ("NVIDIA H200", "NVIDIA L4")[number])
    get_device_capability = staticmethod(lambda number: (9, 0))
    mem_get_info = staticmethod(lambda number: (7 * 2**30, 8 * 2**30))
    get_device_properties = staticmethod(lambda number: type("Card", (), {"total_memory": 8 * 2**30}))
"""
"""Stands for torch in a process that looks at GPUs."""


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the GPUs that are there."""
    found: list[str] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(found))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: found[number])
    monkeypatch.setattr(module, "look_at_gpus", lambda: Sight("9.9", tuple(found), (9, 0), 2**30))
    monkeypatch.setattr(module, "_seen", {})
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


@pytest.fixture
def other_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A torch that other processes load; this one may ask its own for no GPU."""
    file = tmp_path / "torch.py"
    file.write_text(TORCH)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "_seen", {})
    for name in ("gpus", "engine"):  # tests look once, this one each time
        monkeypatch.setattr(f"worldexplorer.models.{name}.look_at_gpus", look_at_gpus)
    for name in ("is_available", "device_count", "mem_get_info", "get_device_name", "get_device_capability"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: pytest.fail("this process would hold a context"))
    return file


def test_whoever_only_looks_gets_no_context(other_torch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the process does that plans a run, checks it and shares the GPUs among workers."""
    assert look_at_gpus() == Sight("9.9", ("NVIDIA H200", "NVIDIA L4"), (9, 0), 7 * 2**30, 8 * 2**30)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,2")
    assert visible_gpus(None) == ("4",)
    missing = FullEngine(gpus=2).check([2], "single_image", "pan-in-place")
    assert any("7.0 GiB are free" in line for line in missing)
    assert any("CUDA shows 1 (cuda:0 NVIDIA H200, cuda:1 NVIDIA L4)" in line for line in missing)


def test_an_engine_looks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    monkeypatch.setattr("worldexplorer.models.engine.look_at_gpus", lambda: looks.append(1) or Sight("9.9"))
    engine = FullEngine()
    for stage in (1, 2, 3):
        assert "torch 9.9 finds none here" in " ".join(engine.check([stage], "single_image", "pan-in-place"))
    assert looks == [1]


def test_a_torch_that_cannot_look_is_a_missing_thing(other_torch: Path) -> None:
    other_torch.write_text("raise OSError('libcudart.so.13 is not there')")
    with pytest.raises(UserError, match=r"libcudart.so.13 is not there .*a build of torch that fits the driver"):
        look_at_gpus()
    (line,) = [line for line in FullEngine().check([3], "single_image", "orbit") if "GPU" in line]
    assert f"libcudart.so.13 is not there ({sys.executable}): end other programs" in line


def test_the_reason_comes_before_what_cuda_always_adds(other_torch: Path) -> None:
    reason = "CUDA error: all CUDA-capable devices are busy or unavailable"
    lines = f"{reason}\\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions."
    other_torch.write_text(TORCH + f"\n    def mem_get_info(number):\n        raise RuntimeError('{lines}')\n")
    with pytest.raises(UserError, match=f"GPUs: RuntimeError: {reason} "):
        look_at_gpus()


def test_a_process_that_says_nothing_is_no_answer(other_torch: Path) -> None:
    other_torch.write_text("import os; os._exit(0)")
    with pytest.raises(UserError, match="cannot look at this machine's GPUs: exit code 0"):
        look_at_gpus()


def test_which_gpus_there_are_is_looked_up_once(other_torch: Path) -> None:
    look_at_gpus()
    other_torch.write_text("raise OSError('looked again')")
    assert visible_gpus(None) == ("0",)


def test_what_the_driver_says_is_passed_on(other_torch: Path, caplog: pytest.LogCaptureFixture) -> None:
    warning = "import warnings; warnings.warn('The NVIDIA driver on your system is too old')"
    other_torch.write_text(TORCH.replace("lambda: True", "lambda: False") + warning)
    with caplog.at_level(logging.WARNING):
        assert look_at_gpus().names == ()
    assert "driver on your system is too old" in caplog.text
