"""What nerfstudio prints, read while it is written: steps for the progress, and the words of a failure.

With plain output nerfstudio prints a line every ten steps that begins with the step and its share of all:

    120 (0.40%)         14.823 ms            7 m, 22 s, 911.3 ms  22.38 M

Example:
    >>> step_of("120 (0.40%)         14.823 ms            7 m, 22 s")
    120
"""

from __future__ import annotations

import re
from pathlib import Path

from worldexplorer.errors import (
    DefectError,
    InfrastructureError,
    OutOfMemoryError,
    UserError,
    WorldExplorerError,
)
from worldexplorer.models.nerfstudio.command import COMMIT

_STEP = re.compile(r"(\d{1,9}) \(\d{1,3}\.\d\d%\)(?: |$)")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LONGEST_TAIL = 64 * 1024
_TAIL_LINES = 6
_LONGEST_LINE = 300


class LogReader:
    """The lines that a program adds to its log file, without control characters."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0
        self._rest = b""

    def lines(self) -> list[str]:
        """Whole lines since the last call."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        self._offset += len(data)
        *whole, self._rest = re.split(rb"[\r\n]+", self._rest + data)
        return [_plain(line) for line in whole]


def step_of(line: str) -> int | None:
    """The step that a line says is done; None for any other line."""
    found = _STEP.match(line)
    return int(found.group(1)) if found else None


def last_lines(log: Path, start: int = 0) -> list[str]:
    """The last lines of a log that say something, from byte `start` on."""
    with log.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(start, end - _LONGEST_TAIL))
        lines = [_plain(line) for line in re.split(rb"[\r\n]+", file.read())]
    return [line for line in lines if line.strip()]


def failure(exit_code: int, log: Path, start: int = 0) -> WorldExplorerError:
    """The error of a training that ended badly.

    Args:
        exit_code: of the program; negative for a signal.
        log: what it printed.
        start: the byte of the log where this call of the program begins.
    """
    lines = last_lines(log, start)
    text = "\n".join(lines)
    for pattern, kind, what, remedy in _FAILURES:
        if found := re.search(pattern, text, re.MULTILINE):
            return kind(what.format(*found.groups()), where=str(log), remedy=remedy)
    if exit_code < 0:
        return InfrastructureError(
            f"nerfstudio's training was killed by signal {-exit_code}",
            where=str(log),
            remedy="run it again; signal 9 mostly means that the machine's memory ran out",
        )
    said = [line.strip()[:_LONGEST_LINE] for line in lines if line.strip(" ^~")]  # not the marks below Python's source
    tail = " | ".join(said[-_TAIL_LINES:])
    return DefectError(f"nerfstudio's training ended with exit code {exit_code}: {tail or 'no output'}", where=str(log))


_FAILURES: tuple[tuple[str, type[WorldExplorerError], str, str], ...] = (
    (
        r"CUDA out of memory|CUDA error: out of memory|^torch\S*\.OutOfMemoryError|cudaErrorMemoryAllocation",
        OutOfMemoryError,
        "nerfstudio's training ran out of GPU memory",
        "see that nothing else uses the GPU, or take --splat_trainer gsplat, which needs less",
    ),
    (r"^MemoryError|std::bad_alloc", OutOfMemoryError, "nerfstudio's training ran out of memory", ""),
    (
        r"No space left on device|Disk quota exceeded",
        InfrastructureError,
        "the disk is full",
        "free some space and run it again; each checkpoint takes up to 1 GB",
    ),
    (
        r"CUDA_HOME environment|in CUDA_HOME|nvcc not found|extension 'gsplat|No CUDA toolkit found|Ninja is required",
        UserError,
        "gsplat's CUDA extension is not built and cannot be built here",
        "use the image worldexplorer-splat-nerfstudio, or install torch's CUDA toolkit and g++, and set CUDA_HOME",
    ),
    (
        r"Specified device type 'cuda' is not available|No CUDA GPUs are available|Found no NVIDIA driver",
        UserError,
        "nerfstudio finds no CUDA GPU",
        "run stage 3 where there is one, or take --engine preview",
    ),
    (
        r"^(?:ModuleNotFoundError|ImportError): (.*)$",
        UserError,
        "nerfstudio's environment is not complete: {0}",
        "use the image worldexplorer-splat-nerfstudio, or install what is missing beside nerfstudio",
    ),
    (
        r"Unrecognized options|Unrecognized arguments|invalid choice|Parsing error",
        UserError,
        "this version of nerfstudio does not know the MCMC strategy or another flag of the recipe",
        f"install nerfstudio's commit {COMMIT}",
    ),
    (
        r"^torch\S*\.AcceleratorError: (.*)$|^RuntimeError: (?=CUDA error)(.*)$",
        InfrastructureError,
        "the GPU failed under nerfstudio's training",
        "run it again; if it fails again at the same step, look at the log",
    ),
)
"""Words of a failure, its class, what is said and what to do; the first that fits counts."""


def _plain(line: bytes) -> str:
    return _CONTROL.sub("", line.decode("utf-8", errors="replace")).rstrip()
