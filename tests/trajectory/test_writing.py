"""Work beside the sampling: in order, bounded, and no error is lost."""

from __future__ import annotations

import logging
import threading
from contextvars import ContextVar

import pytest

from worldexplorer.trajectory.writing import BackgroundWriter

_CURRENT: ContextVar[str] = ContextVar("current", default="nothing")


def test_pieces_are_done_in_order_and_by_the_end() -> None:
    done: list[int] = []
    with BackgroundWriter() as writer:
        futures = [writer.submit(lambda number=number: done.append(number)) for number in range(20)]
    assert done == list(range(20))
    assert all(future.done() for future in futures)


def test_who_brings_too_much_waits() -> None:
    gate = threading.Event()
    brought: list[int] = []

    def bring() -> None:
        with BackgroundWriter(most_waiting=2) as writer:
            for number in range(4):
                writer.submit(gate.wait)
                brought.append(number)

    thread = threading.Thread(target=bring)
    thread.start()
    thread.join(0.3)
    assert thread.is_alive()
    assert brought == [0, 1]
    gate.set()
    thread.join(10)
    assert brought == [0, 1, 2, 3]


def test_an_error_comes_back_at_the_next_piece_and_nothing_else_is_done() -> None:
    done: list[str] = []

    def fail() -> None:
        raise OSError("the disk is full")

    gate = threading.Event()
    with pytest.raises(OSError, match="the disk is full"), BackgroundWriter() as writer:
        writer.submit(gate.wait)
        future = writer.submit(fail)
        gate.set()
        with pytest.raises(OSError, match="the disk is full"):
            future.result()
        for piece in ("next", "after it"):
            with pytest.raises(OSError, match="the disk is full"):
                writer.submit(lambda piece=piece: done.append(piece))
    assert done == []


def test_what_waits_behind_a_piece_that_fails_is_not_done() -> None:
    done: list[str] = []
    gate = threading.Event()

    def fail() -> None:
        gate.wait(10)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"), BackgroundWriter() as writer:
        writer.submit(fail)
        waiting = writer.submit(lambda: done.append("after it"))
        gate.set()
        with pytest.raises(OSError, match="the disk is full"):
            waiting.result(10)
    assert done == []


def test_an_error_at_the_very_end_comes_back_too() -> None:
    def fail() -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"), BackgroundWriter() as writer:
        writer.submit(fail)


def test_what_was_brought_is_done_even_where_the_bringer_fails() -> None:
    done: list[str] = []
    gate = threading.Event()

    def write() -> None:
        gate.wait(0.2)
        done.append(f"written, ends early: {writer.ends_early}")

    with pytest.raises(KeyboardInterrupt), BackgroundWriter() as writer:
        writer.submit(write)
        raise KeyboardInterrupt
    assert done == ["written, ends early: True"]


def test_the_bringers_own_error_comes_first(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise OSError("the disk is full")

    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(ValueError, match="of the bringer"),
        BackgroundWriter() as writer,
    ):
        writer.submit(fail)
        raise ValueError("of the bringer")
    assert "the disk is full" in caplog.text


def test_waiting_is_for_all_that_was_brought() -> None:
    done: list[int] = []
    with BackgroundWriter() as writer:
        for number in range(5):
            writer.submit(lambda number=number: done.append(number))
        writer.wait()
        assert done == list(range(5))


def test_a_piece_runs_in_the_context_of_who_brought_it() -> None:
    seen: list[str] = []
    with BackgroundWriter() as writer:
        _CURRENT.set("job 3")
        writer.submit(lambda: seen.append(_CURRENT.get()))
    assert seen == ["job 3"]
