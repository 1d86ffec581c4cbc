"""Makes every lock file in images/ from its list: the pins that fit together, with hashes, for Python 3.11 on Linux.

    python -m images.lock             # resolve; pins that are locked already stay where they fit
    python -m images.lock --upgrade   # resolve anew
    python -m images.lock --check     # change nothing; exit 1 where a list and its lock do not belong together

Needs `uv` on the path or beside this Python, and an index. A lock holds no index, no host and no path: pip takes them
from its own settings. Lists are locked in the order of `LISTS`, each to the pins of those before it, so that a library
has one version in all images; what nerfstudio forces to be older is in its own lock alone.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

IMAGES = Path(__file__).parent


@dataclass(frozen=True)
class List:
    """A requirements list (`path` without ending, below images/) and how it is locked."""

    path: str
    flags: tuple[str, ...] = ("--only-binary", ":all:")
    follows: bool = True
    """Whether it keeps to the pins of the lists before it."""

    @property
    def source(self) -> Path:
        """The list."""
        return IMAGES / f"{self.path}.in"

    @property
    def lock(self) -> Path:
        """What it is locked to."""
        return IMAGES / f"{self.path}.lock"


LISTS = (
    List("builder/requirements"),
    List("cpu/requirements"),
    List("scaffold/requirements"),
    List("trajectory/requirements"),
    List("trajectory/requirements-no-deps", flags=("--no-deps", "--only-binary", "depth-anything-3")),
    List("hopper/requirements"),
    List("splat/requirements"),
    List("splat/compiler"),
    List("splat-nerfstudio/requirements", follows=False),
)


def main(arguments: list[str] | None = None) -> int:
    """Lock, or compare with what locking would give."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--upgrade", action="store_true", help="take the newest pins that fit")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where a lock is out of date")
    choice = parser.parse_args(arguments)
    stale = []
    with tempfile.TemporaryDirectory() as folder:
        made: list[Path] = []
        for number, item in enumerate(LISTS):
            target = Path(folder) / f"{number}.lock"
            if item.lock.exists() and not choice.upgrade:
                shutil.copy(item.lock, target)
            resolve(item, target, made if item.follows else [])
            made.append(target)
            if item.lock.exists() and pins(item.lock) == pins(target):
                continue
            stale.append(item)
            if not choice.check:
                shutil.copy(target, item.lock)
    for item in stale:
        what = "does not belong to its list; run python -m images.lock" if choice.check else "written"
        sys.stdout.write(f"{item.lock}: {what}\n")
    return int(choice.check and bool(stale))


def resolve(item: List, target: Path, constraints: list[Path]) -> None:
    """Write the lock of a list to `target`; the pins that `target` holds already are preferred.

    Raises:
        SystemExit: uv is missing, or finds no pins that fit together.
    """
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise SystemExit("error: uv was not found. What to do: pip install uv")
    command = [uv, "pip", "compile", str(item.source), "--output-file", str(target), "--quiet", "--no-header"]
    command += ["--generate-hashes", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
    command += ["--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28", *item.flags]
    for path in constraints:
        command += ["--constraints", str(path)]
    if subprocess.run(command, check=False).returncode != 0:
        raise SystemExit(f"error: {item.source} could not be locked; uv says why above")


def pins(lock: Path) -> dict[str, tuple[str, frozenset[str]]]:
    """Version and hashes of each name in a lock file.

    Raises:
        SystemExit: a line is neither a pin with hashes nor a comment.
    """
    found = {}
    for line in lock.read_text().replace("\\\n", " ").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        requirement, *hashes = line.split()
        name, equals, version = requirement.partition("==")
        if not equals or not hashes or not all(word.startswith("--hash=sha256:") for word in hashes):
            raise SystemExit(f"error: {lock}: not a pin with hashes: {line[:80]}")
        found[name.partition("[")[0]] = (version, frozenset(hashes))
    return found


if __name__ == "__main__":
    sys.exit(main())
