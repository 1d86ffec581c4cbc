from __future__ import annotations

import io
import os
import subprocess
import sys

from rich.table import Table

from worldexplorer.cli.output import LineWriter, PlainConsole, one_line, plain


class Closed(io.StringIO):
    """A pipe whose reader went away."""

    def __init__(self) -> None:
        super().__init__()
        self.tries = 0
        self.read, self.written = os.pipe()

    def write(self, text: str) -> int:
        self.tries += 1
        raise BrokenPipeError

    def fileno(self) -> int:
        return self.written


def test_a_reader_that_goes_away_ends_the_output_and_not_the_run(capsys):
    stream = Closed()
    lines = LineWriter(stream)
    lines.write("one")
    lines.write("two")
    assert stream.tries == 1
    assert capsys.readouterr().err == "nobody reads the progress any more: the run goes on without it\n"


def test_a_console_without_a_reader_falls_silent():
    stream = Closed()
    console = PlainConsole(stream)
    console.print("one")
    tries = stream.tries
    console.print("two")
    assert stream.tries == tries


def test_long_texts_are_not_broken_and_tables_fit_the_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    stream = io.StringIO()
    table = Table()
    table.add_column("a", overflow="fold")
    table.add_row("y" * 100)
    PlainConsole(stream).show([plain("x" * 100), table])
    lines = stream.getvalue().splitlines()
    assert lines[0] == "x" * 100
    assert max(len(line) for line in lines[1:]) == 40


def test_control_codes_become_spaces():
    assert one_line("a\n\tb\x1b]0;title\x07 ") == "a b ]0;title"


def test_exclusive_stdout_keeps_everything_else_out():
    program = """
import os, subprocess, sys
from worldexplorer.cli.output import exclusive_stdout
print("before")
with exclusive_stdout() as stream:
    print("python")
    sys.stdout.flush()
    os.write(1, b"native\\n")
    subprocess.run(["echo", "child"])
    stream.write("ours\\n")
print("after")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["before", "ours", "after"]
    assert sorted(done.stderr.split()) == ["child", "native", "python"]
