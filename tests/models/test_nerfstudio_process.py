"""A program is watched, and nothing of it is left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from worldexplorer.errors import Cancelled, InfrastructureError, UserError
from worldexplorer.models.nerfstudio.process import watch


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until_gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while runs(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not runs(pid)


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def test_output_and_exit_code(tmp_path: Path) -> None:
    heard: list[str] = []
    text = "import os, sys; print(os.environ['WORD']); sys.stderr.write('and that\\n'); sys.exit(3)"
    (tmp_path / "log").write_text("before\n")
    assert watch(program(text), {"WORD": "this; echo not a shell"}, tmp_path / "log", heard.extend) == 3
    assert sorted(heard) == ["and that", "this; echo not a shell"]
    assert (tmp_path / "log").read_text().startswith("before\n")


def test_a_signal_is_a_negative_exit_code(tmp_path: Path) -> None:
    assert watch(program("import os; os.kill(os.getpid(), 9)"), os.environ, tmp_path / "log", lambda _: None) == -9


def test_what_the_listener_raises_ends_the_program_and_its_children(tmp_path: Path) -> None:
    text = "import os, time; print(os.getpid(), os.fork(), flush=True); time.sleep(600)"
    pids: list[int] = []

    def listen(lines: list[str]) -> None:
        pids.extend(int(word) for line in lines for word in line.split())
        if len(pids) >= 4:  # the parent's line and the child's
            raise Cancelled

    with pytest.raises(Cancelled):
        watch(program(text), os.environ, tmp_path / "log", listen)
    assert len(set(pids) - {0}) == 2
    assert all(until_gone(pid) for pid in set(pids) - {0})


def test_children_that_outlive_the_program_are_ended(tmp_path: Path) -> None:
    text = "import os, time; child = os.fork(); print(child, flush=True) if child else time.sleep(600)"
    heard: list[str] = []
    assert watch(program(text), os.environ, tmp_path / "log", heard.extend) == 0
    assert until_gone(int(heard[0]))


def test_silence(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="said nothing"):
        watch(program("import time; time.sleep(600)"), os.environ, tmp_path / "log", lambda _: None, silence_limit=0.3)


def test_no_such_program(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="WORLDEXPLORER_NERFSTUDIO_PYTHON"):
        watch([str(tmp_path / "python")], os.environ, tmp_path / "log", lambda _: None)


def test_the_launcher_ends_when_the_one_who_started_it_is_killed(tmp_path: Path) -> None:
    launcher = (
        "import os, time; from worldexplorer.models.nerfstudio import launch; launch.end_with_parent();"
        "print(os.getpid(), flush=True); time.sleep(600)"
    )
    text = (
        "import os, sys; from pathlib import Path; from worldexplorer.models.nerfstudio.process import watch;"
        f"watch([sys.executable, '-c', {launcher!r}], os.environ, Path(sys.argv[1]), lambda _: None)"
    )
    log = tmp_path / "log"
    owner = subprocess.Popen([sys.executable, "-c", text, str(log)])
    try:
        deadline = time.monotonic() + 20
        while not (log.exists() and log.read_text().endswith("\n")) and time.monotonic() < deadline:
            time.sleep(0.02)
        pid = int(log.read_text())
        assert runs(pid)
    finally:
        owner.kill()
        owner.wait()
    assert until_gone(pid)
