"""Several models in processes of their own: real processes, killed, failing, stopped and orphaned."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from fleet_models import blank_request, load_on_one_thread, toys
from tiny_seva import request, save_tiny_weights

from worldexplorer.engine import NovelViewModel
from worldexplorer.errors import (
    Cancelled,
    DefectError,
    InfrastructureError,
    OutOfMemoryError,
    UserError,
)
from worldexplorer.models.residents import Residents
from worldexplorer.models.seva import fleet as module
from worldexplorer.models.seva.fleet import Fleet
from worldexplorer.models.seva.model import SevaModel
from worldexplorer.models.seva.settings import SevaSettings
from worldexplorer.progress import silent

pytestmark = pytest.mark.slow  # real processes take seconds to start

SHORT = SevaSettings(precision="float32", shorter_chunks=True)
Answer = TypeVar("Answer")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("orders")


@pytest.fixture(scope="module")
def shared(folder: Path) -> Iterator[Fleet]:
    with Fleet(toys(folder)) as fleet:
        yield fleet


@pytest.fixture
def fleet(shared: Fleet, folder: Path) -> Iterator[Fleet]:
    """Two toys, used by one test after the other: what one does to them the next one gets over."""
    yield shared
    for pattern in ("wait", "order-*", "at-*", "made-*"):
        for path in folder.glob(pattern):
            path.unlink()


def requests(count: int) -> list[Any]:
    return [blank_request(seed) for seed in range(count)]


def require_seeds(results: list[Any]) -> None:
    """Every result is its request's."""
    for seed, frames in enumerate(results):
        assert (frames[0] == 200).all()
        assert (frames[1:] == seed).all()


def when(ask: Callable[[], Answer]) -> Answer:
    """The answer, as soon as there is one."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if answer := ask():
            return answer
        time.sleep(0.01)
    raise AssertionError("nothing happened for a minute")


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # A process that nobody waits for stays in the table as a zombie.
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def process_of(name: str, folder: Path) -> int:
    return int((folder / f"pid-{name}").read_text())


def both_at_work(folder: Path) -> bool:
    return all((folder / f"at-{name}").exists() for name in ("one", "two"))


def test_the_frames_are_those_of_one_model(tmp_path: Path) -> None:
    files = save_tiny_weights(tmp_path)
    asked = [request(seed=seed, frames=5 + seed % 2, given=1 + seed % 3) for seed in range(5)]
    expected = SevaModel(files, SHORT, torch.device("cpu")).sample(asked, silent)
    loader = partial(load_on_one_thread, files, SHORT)
    with Fleet({"first": loader, "second": loader}) as fleet:
        for found in (fleet.sample(asked, silent), fleet.sample(asked[::-1], silent)[::-1]):
            for one, other in zip(found, expected, strict=True):
                assert np.array_equal(one, other)
        with pytest.raises(UserError, match="multiples of 64 pixels, not 72 x 72"):
            fleet.sample([request(size=72)], silent)


def test_all_members_work_at_once(fleet: NovelViewModel, folder: Path) -> None:
    (folder / "wait").touch()
    threading.Thread(target=lambda: when(lambda: both_at_work(folder)) and (folder / "wait").unlink()).start()
    require_seeds(fleet.sample(requests(5), silent))


def test_results_come_as_they_are_done(fleet: Fleet, folder: Path) -> None:
    """The members go on while the caller deals with a result, which is its to change."""
    seen = {}
    with closing(fleet.sample_each(requests(6), silent)) as results:
        for number, frames in results:
            if not seen:
                when(lambda: len(list(folder.glob("made-*"))) == 4)
            seen[number] = frames
    assert sorted(seen) == list(range(6))
    require_seeds([seen[number] for number in range(6)])
    seen[0][:] = 0  # it can be written to


def test_requests_are_looked_up_when_their_turn_comes(fleet: Fleet) -> None:
    class Lazy(list[Any]):
        def __getitem__(self, number: Any) -> Any:
            looked_up.append((number, threading.current_thread()))
            return super().__getitem__(number)

    looked_up: list[tuple[int, threading.Thread]] = []
    asked = Lazy(requests(9))
    with closing(fleet.sample_each(asked, silent)) as results:
        next(results)
        assert [number for number, _ in looked_up] == [0, 1, 2, 3]  # one at work and one waiting, twice
        assert len(list(results)) == 8
    assert [number for number, _ in looked_up] == list(range(9))
    assert {thread for _, thread in looked_up} == {threading.current_thread()}


def test_a_lookup_that_fails_ends_the_call(fleet: Fleet) -> None:
    class Broken(list[Any]):
        def __getitem__(self, number: Any) -> Any:
            if number == 1:
                raise OSError("the frames are gone")
            return super().__getitem__(number)

    with pytest.raises(OSError, match="the frames are gone"):
        fleet.sample(Broken(requests(3)), silent)
    require_seeds(fleet.sample(requests(2), silent))


def test_progress_counts_over_all(fleet: Fleet) -> None:
    told = []
    fleet.sample(requests(4), lambda done, total, what: told.append((done / total, what)))
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) == 16
    assert {what for _, what in told} == {"sampling"}


def test_nothing_asked_is_nothing_made(fleet: Fleet) -> None:
    assert fleet.sample([], silent) == []


def test_two_threads_may_ask_at_once(fleet: Fleet) -> None:
    found: dict[int, list[Any]] = {}
    threads = [
        threading.Thread(target=lambda key=key: found.update({key: fleet.sample(requests(3), silent)}))
        for key in (1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    require_seeds(found[1])
    require_seeds(found[2])


def test_cancelling_stops_all_and_leaves_them_ready(fleet: Fleet, folder: Path) -> None:
    (folder / "wait").touch()
    before = [process_of(name, folder) for name in ("one", "two")]

    def stop_when_all_work(done: int, total: int, what: str) -> None:
        if both_at_work(folder):
            raise Cancelled

    with pytest.raises(Cancelled):
        fleet.sample(requests(6), stop_when_all_work)
    for name in ("one", "two"):
        (folder / f"at-{name}").unlink()
    (folder / "wait").unlink()
    time.sleep(0.1)
    assert not (folder / "at-one").exists()  # nobody goes on with what was given up
    assert not (folder / "at-two").exists()
    require_seeds(fleet.sample(requests(3), silent))
    assert [process_of(name, folder) for name in ("one", "two")] == before


def test_who_stops_taking_results_stops_the_work(fleet: Fleet, folder: Path) -> None:
    results = fleet.sample_each(requests(9), silent)
    next(results)
    results.close()
    assert all(member._call is None for member in fleet._members)
    require_seeds(fleet.sample(requests(2), silent))


def test_who_does_not_stop_is_ended(fleet: Fleet, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STOP_SECONDS", 0.2)
    (folder / "order-one").write_text("hang")
    hung = process_of("one", folder)

    def stop(done: int, total: int, what: str) -> None:
        if (folder / "at-one").exists() and not (folder / "order-one").exists():
            raise Cancelled

    with pytest.raises(Cancelled):
        fleet.sample(requests(50), stop)
    assert not alive(hung)
    require_seeds(fleet.sample(requests(8), silent))
    when(lambda: process_of("one", folder) != hung)


@pytest.mark.parametrize(("order", "cause"), [("die", "signal SIGKILL"), ("crash", "signal SIGSEGV")])
def test_a_process_that_dies_is_the_machines_failure(fleet: Fleet, folder: Path, order: str, cause: str) -> None:
    (folder / "order-two").write_text(order)
    (folder / "wait").touch()  # so that each gets a request
    threading.Thread(target=lambda: when(lambda: both_at_work(folder)) and (folder / "wait").unlink()).start()
    dead = process_of("two", folder)
    with pytest.raises(InfrastructureError, match=f"SEVA's process died \\({cause}\\) \\(two\\).*run the same command"):
        fleet.sample(requests(6), silent)
    assert not alive(dead)
    require_seeds(fleet.sample(requests(6), silent))  # the stage's next try


def test_a_process_killed_while_it_waits_is_started_again(fleet: Fleet, folder: Path) -> None:
    for name in ("one", "two"):
        os.kill(process_of(name, folder), signal.SIGKILL)
    for member in fleet._members:
        assert member._process is not None
        member._process.join(60)
    require_seeds(fleet.sample(requests(4), silent))


def test_an_error_comes_as_itself(fleet: Fleet, folder: Path) -> None:
    before = process_of("one", folder)
    for name in ("one", "two"):
        (folder / f"order-{name}").write_text("run out")
    with pytest.raises(OutOfMemoryError) as caught:
        fleet.sample(requests(4), silent)
    assert (caught.value.what, caught.value.where) == ("the GPU's memory ran out", "cuda:1")
    assert caught.value.remedy == "end other programs"
    assert "fleet_models.py" in str(caught.value.__cause__)  # where it arose is in the log of the failure
    for path in folder.glob("order-*"):
        path.unlink()
    require_seeds(fleet.sample(requests(4), silent))
    assert process_of("one", folder) == before


@pytest.mark.parametrize(
    ("order", "kind", "words"),
    [
        ("fail", DefectError, "ValueError: seed"),
        ("lose the GPU", InfrastructureError, "CUDA error: an illegal memory access"),
    ],
)
def test_other_errors_get_a_class_and_a_new_process(
    fleet: Fleet, folder: Path, order: str, kind: type[Exception], words: str
) -> None:
    before = [process_of(name, folder) for name in ("one", "two")]
    for name in ("one", "two"):
        (folder / f"order-{name}").write_text(order)
    (folder / "wait").touch()
    threading.Thread(target=lambda: when(lambda: both_at_work(folder)) and (folder / "wait").unlink()).start()
    with pytest.raises(kind, match=words) as caught:
        fleet.sample(requests(4), silent)
    assert str(caught.value.where).startswith(("one", "two"))
    for name in ("one", "two"):
        (folder / f"order-{name}").unlink(missing_ok=True)
    require_seeds(fleet.sample(requests(4), silent))
    assert any(process_of(name, folder) != old for name, old in zip(("one", "two"), before, strict=True))


def test_a_model_that_cannot_be_loaded_is_named_and_ends_the_others(tmp_path: Path) -> None:
    (tmp_path / "refuse-two").touch()
    with pytest.raises(UserError) as caught:
        Fleet(toys(tmp_path))
    assert (caught.value.what, caught.value.where) == ("too little memory", "two: 21 frames")
    assert not (tmp_path / "pid-one").exists() or not alive(process_of("one", tmp_path))


def test_who_forgets_a_fleet_ends_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As the residents of a GPU do where another model needs the room."""
    residents = Residents()
    with caplog.at_level(logging.INFO, logger="worldexplorer"):
        fleet = residents.get("seva", 0, lambda: Fleet(toys(tmp_path, ["one"])))
    assert "one: loaded" in caplog.text
    require_seeds(fleet.sample(requests(2), silent))
    del fleet
    residents.drop("seva")
    assert not alive(process_of("one", tmp_path))


def test_a_closed_fleet_says_so(tmp_path: Path) -> None:
    with Fleet(toys(tmp_path, ["one"])) as fleet:
        pass
    with pytest.raises(DefectError, match="after it was closed"):
        fleet.sample(requests(1), silent)


def test_a_fleet_that_is_closed_while_its_results_are_taken_says_so(tmp_path: Path) -> None:
    fleet = Fleet(toys(tmp_path, ["one"]))
    results = fleet.sample_each(requests(9), silent)
    next(results)
    fleet.close()
    caught: list[BaseException] = []

    def take_the_rest() -> None:
        try:
            list(results)
        except (DefectError, InfrastructureError) as error:
            caught.append(error)

    taker = threading.Thread(target=take_the_rest, daemon=True)  # so that a wait without end fails the test alone
    taker.start()
    taker.join(60)
    assert len(caught) == 1


PARENT = """
import sys
from pathlib import Path
from fleet_models import blank_request, toys
from worldexplorer.models.seva.fleet import Fleet
from worldexplorer.progress import silent
if __name__ == "__main__":
    fleet = Fleet(toys(Path(sys.argv[1])))
    fleet.sample([blank_request(seed) for seed in range(4)], silent)
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_its_parent(tmp_path: Path, end: signal.Signals) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    (tmp_path / "wait").touch()
    if end == signal.SIGKILL:  # nor where it says nothing and hears nothing
        (tmp_path / "order-two").write_text("hang")
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": f"{here.parents[1]}{os.pathsep}{here}"}
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py"), str(tmp_path)],
        env=environment,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as parent:
        when(lambda: both_at_work(tmp_path))
        members = [process_of(name, tmp_path) for name in ("one", "two")]
        if end == signal.SIGINT:
            os.killpg(parent.pid, end)  # as a terminal does
        else:
            parent.send_signal(end)
        parent.wait(60)
    when(lambda: not any(alive(member) for member in members))
