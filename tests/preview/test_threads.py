"""How numba is set up, and work over several threads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from worldexplorer.errors import InfrastructureError
from worldexplorer.preview import threads
from worldexplorer.processors import usable_processors
from worldexplorer.progress import silent

SETTINGS = ("NUMBA_NUM_THREADS", "NUMBA_CACHE_DIR")


def in_fresh_process(code: str, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_processors_are_used_and_the_environment_stays() -> None:
    code = (
        "import os; before = dict(os.environ);"
        "from worldexplorer.preview import threads;"
        "print(threads.thread_count(), dict(os.environ) == before)"
    )
    assert in_fresh_process(code) == f"{usable_processors()} True"


def test_what_the_environment_says_wins(tmp_path: Path) -> None:
    code = (
        "from worldexplorer.preview import threads; import numba;print(threads.thread_count(), numba.config.CACHE_DIR)"
    )
    assert in_fresh_process(code, NUMBA_NUM_THREADS="3", NUMBA_CACHE_DIR=str(tmp_path)) == f"3 {tmp_path}"


KERNEL = "import numba\n"


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "kernel.py").write_text(KERNEL)
    (folder / "plain.py").write_text("")
    return folder


@pytest.fixture
def read_only(sources: Path) -> Path:
    """Sources beside which nothing can be made, not even by root: a file stands where the cache would go."""
    (sources / "__pycache__").write_text("")
    return sources


def test_compiled_code_lies_beside_the_sources(sources: Path) -> None:
    folder = threads.cache_folder(sources)
    assert folder.parent == sources / "__pycache__"
    assert folder.is_dir()


def test_any_change_of_compiled_sources_starts_afresh(sources: Path) -> None:
    before = threads.cache_folder(sources)
    (sources / "plain.py").write_text("x = 1\n")
    assert threads.cache_folder(sources) == before
    (sources / "kernel.py").write_text(KERNEL + "x = 1\n")
    changed = threads.cache_folder(sources)
    assert changed != before
    (sources / "second.py").write_text("from numba import njit\n")
    assert threads.cache_folder(sources) not in {before, changed}


@pytest.mark.slow
def test_a_change_in_another_file_reaches_its_callers(tmp_path: Path) -> None:
    """numba alone would go on with the old code: `outer`'s own file is the same."""
    package = tmp_path / "kernels"
    package.mkdir()
    (package / "__init__.py").write_text("")
    source = Path(threads.__file__).read_text(encoding="utf-8")
    (package / "threads.py").write_text(source)
    inner = "from kernels import threads\nimport numba\n@numba.njit(cache=True)\ndef inner():\n    return {}\n"
    outer = (
        "from kernels import threads\nimport numba\nfrom kernels.inside import inner\n"
        "@numba.njit(cache=True)\ndef outer():\n    return inner()\n"
    )
    (package / "outside.py").write_text(outer)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from kernels.outside import outer; print(outer())"
    for value in ("1", "22"):
        (package / "inside.py").write_text(inner.format(value))
        assert in_fresh_process(code) == value


def test_read_only_sources_use_the_users_cache(
    read_only: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert threads.cache_folder(read_only).parent == tmp_path / "cache" / "worldexplorer"


@pytest.fixture
def private(read_only: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that is used without a home, not made yet."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(threads.tempfile, "tempdir", str(tmp_path))
    folder = threads.cache_folder(read_only)
    assert folder.parent == tmp_path
    folder.rmdir()
    return folder


def test_without_a_home_the_folder_is_the_users_alone(read_only: Path, private: Path) -> None:
    assert threads.cache_folder(read_only) == private
    assert private.stat().st_mode & 0o777 == 0o700
    assert threads.cache_folder(read_only) == private


def test_a_folder_others_can_write_is_refused(read_only: Path, private: Path) -> None:
    private.mkdir()
    private.chmod(0o777)
    with pytest.raises(InfrastructureError, match=r"written by others.*NUMBA_CACHE_DIR"):
        threads.cache_folder(read_only)


def test_a_link_to_elsewhere_is_refused(read_only: Path, private: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    private.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InfrastructureError, match="written by others"):
        threads.cache_folder(read_only)


def test_a_file_in_the_way_is_an_error_that_says_what_to_do(read_only: Path, private: Path) -> None:
    private.write_text("")
    with pytest.raises(InfrastructureError, match="NUMBA_CACHE_DIR"):
        threads.cache_folder(read_only)


def test_every_item_is_worked_on_once_and_several_at_a_time() -> None:
    met = threading.Barrier(2, timeout=10)
    done: list[int] = []

    def work(item: int) -> None:
        if item < 2:
            met.wait()  # passes only when two items are at work together
        done.append(item)

    threads.for_each(work, 7, 2, silent, "items")
    assert sorted(done) == list(range(7))


def test_an_items_error_ends_the_rest() -> None:
    started: list[int] = []

    def work(item: int) -> None:
        started.append(item)
        raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match="item 0"):
        threads.for_each(work, 1000, 1, silent, "items")
    assert len(started) < 1000
