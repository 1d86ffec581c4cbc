"""Steps and failures, from what nerfstudio prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from worldexplorer.errors import DefectError, InfrastructureError, OutOfMemoryError, UserError, WorldExplorerError
from worldexplorer.models.nerfstudio.output import LogReader, failure, step_of

PRINTED = """\
[12:04:10] Auto image downscale factor of 1                                                 nerfstudio_dataparser.py:484
Step (% Done)       Train Iter (time)    ETA (time)           Train Rays / Sec
-----------------------------------------------------------------------------------
0 (0.00%)           78.019 ms            39 m, 0 s, 681.134 ms
10 (0.03%)          14.823 ms            7 m, 22 s, 911.3 ms  22.38 M
20 (0.07%)          \x1b[30;42m14.5 ms   \x1b[0m
1 (of two) and 5 (3%) and 12 (4.00%)
29999 (100.00%)
    steps_per_save=2000,
"""


def test_the_steps_of_lines() -> None:
    assert [step_of(line) for line in PRINTED.splitlines()] == [None, None, None, 0, 10, 20, None, 29999, None]


def test_lines_are_read_as_they_come(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("of a run before\n10 (1.00%) \n")
    reader = LogReader(log)
    assert reader.lines() == []
    with log.open("ab") as file:
        for piece, expected in (
            (b"20 (2.", []),
            (b"00%)  \x1b[1A\r\n30 (3.00%) \r40", ["20 (2.00%)", "30 (3.00%)"]),
            (b"\xff\xfe?\n", ["40\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}?"]),
        ):
            file.write(piece)
            file.flush()
            assert reader.lines() == expected
    assert reader.lines() == []


@pytest.mark.parametrize(
    ("printed", "exit_code", "kind", "says"),
    [
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
            1,
            OutOfMemoryError,
            "--splat_trainer gsplat",
        ),
        ("RuntimeError: CUDA error: out of memory\ncudaErrorMemoryAllocation", 1, OutOfMemoryError, "memory"),
        (
            "RuntimeError: CUDA error: out of memory\nCUDA kernel errors might be late",
            1,
            OutOfMemoryError,
            "GPU memory",
        ),
        ("terminate called after throwing an instance of 'std::bad_alloc'", -6, OutOfMemoryError, "memory"),
        ("OSError: [Errno 28] No space left on device", 1, InfrastructureError, "disk is full"),
        ("OSError: CUDA_HOME environment variable is not set.", 1, UserError, "CUDA_HOME"),
        ("RuntimeError: Error building extension 'gsplat_cuda'", 1, UserError, "worldexplorer-splat-nerfstudio"),
        (
            "No CUDA runtime is found, using CUDA_HOME='/usr/local/cuda'\nRuntimeError: Found no NVIDIA driver",
            1,
            UserError,
            "no CUDA GPU",
        ),
        ("RuntimeError: Cannot find the CUDA version file in CUDA_HOME.", 1, UserError, "not built"),
        ("RuntimeError: Specified device type 'cuda' is not available.", 1, UserError, "no CUDA GPU"),
        ("ModuleNotFoundError: No module named 'nerfstudio'", 1, UserError, "No module named 'nerfstudio'"),
        ("│ Unrecognized options: --pipeline.model.strategy │", 2, UserError, "50e0e3c"),
        ("RuntimeError: CUDA error: an illegal memory access was encountered", 1, InfrastructureError, "GPU failed"),
        ("20 (2.00%)", -9, InfrastructureError, "signal 9"),
        (
            "   ~~^^^^\nValueError: something else\n\n",
            1,
            DefectError,
            "exit code 1: before | ValueError: something else",
        ),
        ("", 3, DefectError, "exit code 3: before"),
    ],
)
def test_failures(tmp_path: Path, printed: str, exit_code: int, kind: type[WorldExplorerError], says: str) -> None:
    log = tmp_path / "nerfstudio.log"
    earlier = "CUDA out of memory, in a call before this one\n"
    log.write_text(f"{earlier}before\n{printed}\n")
    error = failure(exit_code, log, start=len(earlier))
    assert type(error) is kind
    assert says in str(error)
    assert error.where == str(log)


def test_a_failure_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    assert "exit code 3: no output" in str(failure(3, tmp_path / "log"))
