"""A process may die at any moment; the next one brings the work to the same end.

Every operation that a three-stage job does on its storage is a place to die, before it or after it. The next run of the
same command must leave the same files, records and summary as one that nothing happened to.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from builders import (
    RememberedRooms,
    Workbench,
    canonical_tree,
    flip_byte,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
)
from faulty_storage import Crash, Moment, WatchedStorage, crash_at, crash_moments, note, thinned

from worldexplorer.config import RunConfig

pytestmark = pytest.mark.slow  # every place to die takes a run


@dataclass(frozen=True)
class Scenario:
    """What a run meets and what it is told.

    Attributes:
        prepare: what happened to the output before, if anything.
        run: the configuration of the run that dies and of the one that goes on.
        everywhere: whether to die at every operation, or only around the first and last of each kind of change.
    """

    prepare: Callable[[Workbench, RememberedRooms], None]
    run: Callable[[Workbench], RunConfig]
    everywhere: bool


def _nothing(bench: Workbench, rooms: RememberedRooms) -> None:
    pass


def _other_scale(bench: Workbench, rooms: RememberedRooms) -> None:
    bench.batch(bench.config(translation_scaling_factor=3.0), definitions=rooms.definitions)


def _damage(bench: Workbench, rooms: RememberedRooms) -> None:
    bench.batch(definitions=rooms.definitions)
    flip_byte(bench.job_path("scenes/index_0000_3.0/img2trajvid/transforms.json"))


SCENARIOS = {
    "a first run": Scenario(_nothing, lambda bench: bench.config(), everywhere=True),
    "another scale, forced": Scenario(
        _other_scale,
        lambda bench: bench.config(translation_scaling_factor=10.0, force=True, only_stages=(2, 3)),
        everywhere=False,
    ),
    "healing": Scenario(_damage, lambda bench: bench.config(), everywhere=False),
}


class Rig:
    """Runs one scenario over and over, from the same beginning."""

    def __init__(self, folder: Path, scenario: Scenario, rooms: RememberedRooms) -> None:
        self.bench = Workbench(folder)
        self._rooms = rooms
        self._before = folder / "before"
        self.bench.output.mkdir()
        scenario.prepare(self.bench, rooms)
        self.bench.output.rename(self._before)
        self._run = scenario.run(self.bench)
        self._everywhere = scenario.everywhere
        self.begin()
        self.run()  # now everything is remembered, and the next run does what all others will do
        self.begin()
        self._moments: list[Moment] = []
        self.run(note(self._moments))
        self.expected = canonical_tree(self.bench.output)

    def begin(self) -> None:
        shutil.rmtree(self.bench.output, ignore_errors=True)
        shutil.copytree(self._before, self.bench.output)

    def run(self, watch: Callable[[Moment], None] = lambda moment: None) -> None:
        storage = WatchedStorage(self.bench.storage, watch)
        self.bench.batch(self._run, storage=storage, definitions=self._rooms.definitions)

    @property
    def operations(self) -> int:
        """How many an undisturbed run does."""
        return self._moments[-1].number

    def moments(self) -> list[Moment]:
        moments = crash_moments(self._moments)
        return moments if self._everywhere else thinned(moments)

    def check(self, what: str) -> None:
        found = canonical_tree(self.bench.output)
        assert found.keys() == self.expected.keys(), what
        for name, content in self.expected.items():
            assert found[name] == content, f"{what}: {name}"
        assert self.bench.leftovers() == [], what


@pytest.mark.parametrize("name", SCENARIOS)
def test_after_a_crash_at_any_operation_the_next_run_ends_the_same(
    name: str, folder: Path, rooms: RememberedRooms
) -> None:
    rig = Rig(folder, SCENARIOS[name], rooms)
    rig.check("without a crash")
    for moment in rig.moments():
        rig.begin()
        with pytest.raises(Crash):
            rig.run(crash_at(moment))
        rig.run()
        rig.check(str(moment))


@pytest.mark.parametrize("name", SCENARIOS)
def test_crashing_again_and_again(name: str, folder: Path, rooms: RememberedRooms) -> None:
    """Each run gets a few operations further than where it begins, and dies again."""
    rig = Rig(folder, SCENARIOS[name], rooms)
    generator = np.random.default_rng(1)
    for round_ in range(3):
        rig.begin()
        crashes = 0
        while crashes < 40:
            number = int(generator.integers(10, rig.operations))
            try:
                rig.run(crash_at(Moment(number, str(generator.choice(["before", "after"])), "", "")))
            except Crash:
                crashes += 1
                continue
            break
        assert crashes
        rig.run()
        rig.check(f"round {round_}, after {crashes} crashes")


@pytest.mark.parametrize("name", SCENARIOS)
def test_after_a_kill_the_next_run_ends_the_same(name: str, folder: Path, rooms: RememberedRooms) -> None:
    """As above with processes that are really gone: no `finally` runs, only the kernel lets go of their locks."""
    rig = Rig(folder, SCENARIOS[name], rooms)
    moments = rig.moments()
    for moment in moments[:: len(moments) // 5]:
        rig.begin()
        child = os.fork()
        if child == 0:

            def die(now: Moment, moment: Moment = moment) -> None:
                if (now.number, now.side) == (moment.number, moment.side):
                    os._exit(9)

            try:
                rig.run(die)
            finally:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9, str(moment)
        rig.run()
        rig.check(str(moment))
