from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # each test runs pytest in a process of its own

HERE = Path(__file__).parent


@pytest.fixture
def suite(tmp_path):
    """A test suite of three tests, two of which need parts, under this project's conftest and settings."""
    shutil.copy(HERE / "conftest.py", tmp_path)
    shutil.copy(HERE.parent / "pyproject.toml", tmp_path)
    (tmp_path / "test_parts.py").write_text(
        "import pytest\n"
        '@pytest.mark.requires_part("docker")\n'
        "def test_docker(): pass\n"
        '@pytest.mark.requires_part("npm")\n'
        "def test_npm(): pass\n"
        "def test_plain(): pass\n"
        '@pytest.mark.skip(reason="something else")\n'
        "def test_skipped(): pass\n"
    )
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "npm").write_text("#!/bin/sh\n")
    (programs / "npm").chmod(0o755)

    def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if name not in ("REQUIRE_ALL", "PYTEST_ADDOPTS")}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_parts.py", *words],
            cwd=tmp_path,
            env={**inherited, "PATH": str(programs), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), pytest.param(("-n", "1"), marks=pytest.mark.slow)], ids=["alone", "workers"])
def test_a_part_that_is_missing_is_listed_as_not_run(suite, words):
    done = suite(*words)
    assert done.returncode == 0, done.stdout
    after = done.stdout.split(" NOT RUN ")[1].splitlines()
    assert after[1] == "docker (dockerd): 1 test"
    assert "npm" not in after[2]
    assert "2 passed, 2 skipped" in done.stdout.splitlines()[-1]


def test_where_everything_is_required_a_missing_part_fails(suite):
    done = suite(REQUIRE_ALL="1")
    assert done.returncode == 1
    assert "part not found: docker (dockerd)" in done.stdout
    assert "2 passed, 1 skipped, 1 error" in done.stdout.splitlines()[-1]
    assert "NOT RUN" not in done.stdout


def test_where_every_part_is_there_nothing_is_listed(suite):
    done = suite("-k", "npm or plain")
    assert done.returncode == 0
    assert "NOT RUN" not in done.stdout


def test_what_only_a_person_can_bring_is_listed_and_never_required(suite, tmp_path):
    (tmp_path / "test_parts.py").write_text(
        'import pytest\n@pytest.mark.requires_part("vggt")\ndef test_package(): import vggt\n'
    )
    done = suite(REQUIRE_ALL="1")
    assert done.returncode == 0, done.stdout
    if "1 skipped" in done.stdout.splitlines()[-1]:
        assert done.stdout.split(" NOT RUN ")[1].splitlines()[1] == "vggt (vggt): 1 test"
