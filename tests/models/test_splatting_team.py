"""Training on several GPUs is training on one: the sums of a step, with members that are threads or processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_splats import IMAGES, recipe, scene, training
from tiny_team import PLACES, Misbehaving, train
from torch import Tensor

from worldexplorer.config import SplatConfig
from worldexplorer.engine import SplatScene
from worldexplorer.errors import Cancelled, DefectError, InfrastructureError, OutOfMemoryError
from worldexplorer.models.splat_trainers import make_trainer
from worldexplorer.models.splatting import trainer as trainer_module
from worldexplorer.models.splatting.checkpoint import FILE_NAME, load_checkpoint
from worldexplorer.models.splatting.plain_rasterizer import rasterization
from worldexplorer.models.splatting.recipe import Recipe, named_recipe
from worldexplorer.models.splatting.settings import SplatTraining
from worldexplorer.models.splatting.state import NAMES, GaussianState
from worldexplorer.models.splatting.team import Alone, Together, useful_members
from worldexplorer.models.splatting.team_process import Place, Task
from worldexplorer.models.splatting.together import pictures_kept
from worldexplorer.models.splatting.trainer import GsplatTrainer
from worldexplorer.models.splatting.training import Training
from worldexplorer.progress import silent

CHANGES: dict[str, dict[str, Any]] = {
    "mcmc": {},
    "default": {
        "strategy": "default",
        "growth_gradient": 1e-2,
        "reset_interval": 1000,
        "remove_scale": 100.0,
        "radius_until": 0,
    },
    "radii": {  # Gaussians are split by their size in a picture alone
        "strategy": "default",
        "growth_gradient": 1e9,
        "reset_interval": 1000,
        "remove_scale": 100.0,
        "radius_until": 60,
        "split_radius": 0.5,
    },
}


class Threads:
    """Members in threads of this process: sums in the order of their ranks."""

    def __init__(self, size: int) -> None:
        self.size, self.barrier = size, threading.Barrier(size, timeout=60)
        self.said: list[Any] = [None] * size

    def hear(self, rank: int, word: Any) -> list[Any]:
        """What all members say at this point."""
        self.said[rank] = word
        self.barrier.wait()
        heard = list(self.said)
        self.barrier.wait()
        return heard


class ThreadMember:
    """One of them, as a training sees it."""

    def __init__(self, threads: Threads, rank: int) -> None:
        self.first = rank == 0
        self._threads, self._rank = threads, rank

    def own(self, pictures: int) -> range:
        return Together(self._rank, self._threads.size).own(pictures)

    def add(self, arrays: Iterable[Tensor]) -> None:
        for array in arrays:
            array.copy_(sum(self._threads.hear(self._rank, array.clone())))

    def largest(self, array: Tensor) -> None:
        array.copy_(torch.stack(self._threads.hear(self._rank, array.clone())).amax(dim=0))

    def level(self, state: GaussianState) -> None:
        assert len(set(self._threads.hear(self._rank, state.count))) == 1
        for array in state.arrays().values():
            array.copy_(self._threads.hear(self._rank, array.clone())[0])

    def decided(self, decision: bool) -> bool:
        return self._threads.hear(self._rank, decision)[0]


def doubled(now: Training) -> Training:
    """In float64, where another order of sums shows in the last digits alone."""
    for arrays in (now.state.values, now.state.first, now.state.second):
        for name in NAMES:
            arrays[name] = arrays[name].double()
    now._cameras = now._cameras.double()
    now._lenses = {factor: lens.double() for factor, lens in now._lenses.items()}
    return now


def trained_by_threads(
    size: int, of: SplatScene, how: Recipe, folder: Path, drift: float = 0.0, until: int | None = None
) -> list[Training]:
    """Members that begin with states that differ by `drift`, after so many images."""
    threads = Threads(size)
    members = [doubled(training(how, of, team=ThreadMember(threads, rank))) for rank in range(size)]
    for rank, member in enumerate(members):
        member.state.values["sh"] += drift * rank
    errors: list[BaseException] = []

    def run(member: Training) -> None:
        try:
            member.run(folder, silent, until=until)
        except BaseException as error:  # noqa: BLE001 (raised below, in the test's own thread)
            errors.append(error)
            threads.barrier.abort()

    running = [threading.Thread(target=run, args=(member,)) for member in members]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if errors:
        raise errors[0]
    return members


def apart(one: GaussianState, other: GaussianState) -> float:
    """The largest difference of two states."""
    assert one.count == other.count
    pairs = zip(one.arrays().values(), other.arrays().values(), strict=True)
    return max(float((first - second).abs().max()) for first, second in pairs)


@pytest.mark.parametrize(("strategy", "size"), [("mcmc", 2), ("mcmc", 3), ("default", 2), ("default", 3), ("radii", 2)])
def test_several_members_train_as_one_does(tmp_path: Path, strategy, size) -> None:
    # Round Gaussians have no derivative by their turn but what rounding leaves, of which the published epsilon would
    # have Adam make steps.
    of, how = scene(8, 16, 60), recipe(batch=4, epsilon=1e-8, **CHANGES[strategy])
    alone = doubled(training(how, of))
    before = alone.state.count
    alone.run(tmp_path / "alone", silent)
    assert alone.state.count != before
    members = trained_by_threads(size, of, how, tmp_path / "together")
    for member in members:
        assert apart(member.state, alone.state) < 1e-6
        assert member.image == alone.image
        torch.testing.assert_close(member._losses, alone._losses, atol=1e-6, rtol=0)
    assert apart(members[0].state, members[1].state) == 0
    assert [path.name for path in (tmp_path / "together").iterdir()] == ["checkpoint.safetensors", "writing"]


def test_members_that_drift_are_level_again_when_refinement_is_due(tmp_path: Path) -> None:
    of = scene(8, 16, 60)
    members = trained_by_threads(2, of, recipe(batch=4), tmp_path, drift=1e-4, until=8)
    assert apart(members[0].state, members[1].state) == 0
    late = recipe(batch=4, refine_until=0)
    members = trained_by_threads(2, of, late, tmp_path, drift=1e-4, until=8)
    assert apart(members[0].state, members[1].state) > 1e-5


def test_the_first_member_decides_when_it_is_good_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    class Contrary(ThreadMember):
        def decided(self, decision: bool) -> bool:
            asked.append(decision)
            return super().decided(self.first)

    monkeypatch.setattr("worldexplorer.models.splatting.training.QUALITY_INTERVAL", 10)
    threads = Threads(2)
    members = [
        training(recipe(batch=4), scene(8, 16), heldout_every=4, stop_psnr=99.0, team=Contrary(threads, rank))
        for rank in range(2)
    ]
    running = [threading.Thread(target=member.run, args=(tmp_path, silent)) for member in members]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert asked == [False, False]
    assert all(member.stopped_early and member.is_over for member in members)
    assert members[0].image == members[1].image < IMAGES


def test_pictures_are_shared_evenly() -> None:
    for size in (1, 2, 3, 4):
        shares = [list(Together(rank, size).own(4)) for rank in range(size)]
        assert [number for share in shares for number in share] == [0, 1, 2, 3]
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert list(Alone().own(4)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("batch", "gpus", "useful"), [(1, 8, 1), (4, 1, 1), (4, 2, 2), (4, 3, 2), (4, 4, 4), (4, 8, 4)]
)
def test_no_gpu_is_taken_that_makes_no_step_shorter(batch, gpus, useful) -> None:
    assert useful_members(batch, gpus) == useful


class Tiny(SplatTraining):
    def recipe(self) -> Recipe:
        return recipe(batch=4 if self.profile == "fast" else 1)


def test_the_trainer_takes_the_gpus_that_its_steps_can_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The team trains in this process here; that a training is left over would be noticed."""
    tasks: list[Task] = []
    of = scene(8, 16)

    def alone(task: Task, progress: Any) -> None:
        tasks.append(task)
        np.testing.assert_array_equal(np.load(task.images), of.train.images)
        training(task.recipe, of, cap=task.cap, seed=task.seed).run(
            task.folder, progress, until=None if len(tasks) == 1 else 8
        )

    monkeypatch.setattr(trainer_module, "train_together", alone)
    places = [Place("cuda:0", "a"), Place("cuda:1", "b"), Place("cuda:2", "c")]
    fast = GsplatTrainer(Tiny("fast"), device="cpu", rasterizer=lambda: rasterization, places=lambda: places)
    log = fast.train(of, 5, tmp_path / "fast", silent).log
    assert (log["gpus"], log["images"]) == (2, IMAGES)
    assert tasks[0].places == tuple(places[:2])
    assert (tasks[0].seed, tasks[0].cap, len(tasks[0].scene.train.images)) == (5, 2000, 0)
    with pytest.raises(InfrastructureError, match="cannot be read back"):
        fast.train(of, 5, tmp_path / "half", silent)

    def unasked() -> list[Place]:
        raise AssertionError("one picture a step needs one GPU")

    published = GsplatTrainer(Tiny(), device="cpu", rasterizer=lambda: rasterization, places=unasked)
    assert published.train(of, 5, tmp_path / "published", silent).log["gpus"] == 1
    assert len(tasks) == 2


def fingerprint(of: SplatScene, how: Recipe) -> str:
    return training(how, of)._fingerprint


@pytest.mark.slow  # processes take seconds to start
@pytest.mark.parametrize("strategy", ["mcmc", "default"])
def test_two_processes_go_on_from_one_and_one_from_two(tmp_path: Path, strategy) -> None:
    """From a third of the way, where Gaussians are round no more."""
    of, how = scene(8, 16, 60), recipe(batch=4, **CHANGES[strategy])
    alone = training(how, of)
    alone.run(tmp_path / "alone", silent)
    training(how, of).run(tmp_path / "together", silent, until=20)
    path = tmp_path / "together" / FILE_NAME
    begun, told = path.stat().st_mtime_ns, set()

    def cancel_after_the_next_checkpoint(done: int, total: int, what: str) -> None:
        told.add((done, total, what))
        if path.stat().st_mtime_ns != begun:
            raise Cancelled

    with pytest.raises(Cancelled):  # the seventh step begins after 44 images
        train(of, path.parent, cancel_after_the_next_checkpoint, how, Misbehaving(tmp_path, "wait", step=7))
    assert told <= {(0, IMAGES, "starting the GPUs"), (40, IMAGES, "training")}
    found = load_checkpoint(path.parent, fingerprint(of, how))
    assert found is not None
    assert found.image == 40
    resumed = training(how, of)
    resumed.resume(tmp_path / "together")
    resumed.run(tmp_path / "resumed", silent)
    train(of, tmp_path / "together", silent, how)
    whole = training(how, of)
    whole.resume(tmp_path / "together")
    assert whole.is_over
    for other in (resumed, whole):
        assert other.image == alone.image
        assert apart(other.state, alone.state) < 2e-3
        torch.testing.assert_close(other._losses, alone._losses, atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "rank", "error", "text"),
    [
        ("die", 1, InfrastructureError, r"died \(signal SIGKILL\) \(second\)"),
        ("die", 0, InfrastructureError, r"died \(signal SIGKILL\) \(first\)"),
        ("fill", 1, OutOfMemoryError, r"too little memory to train up to 10,000 Gaussians.*\(second: stage 3\)"),
        ("break", 1, InfrastructureError, r"illegal memory access.*\(second\).*GPU may be faulty"),
        ("spoil", 1, DefectError, r"the loss is not a number in step 3"),
    ],
)
def test_a_member_that_fails_ends_all_and_is_named(tmp_path: Path, what, rank, error, text) -> None:
    with pytest.raises(error, match=text):
        train(scene(8, 16), tmp_path / "run", silent, rasterizer=Misbehaving(tmp_path, what, rank))
    for number in range(2):
        assert not alive(int((tmp_path / f"pid-{number}").read_text()))


@pytest.mark.slow
def test_a_member_that_hangs_is_not_waited_for_without_end(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match=r"said nothing for 25|cannot be reached.*second"):
        train(scene(8, 16), tmp_path / "run", silent, rasterizer=Misbehaving(tmp_path, "wait"), patience=25.0)
    for number in range(2):
        assert not alive(int((tmp_path / f"pid-{number}").read_text()))


PARENT = """
import sys
from pathlib import Path
from tiny_splats import scene
from tiny_team import Misbehaving, train
from worldexplorer.progress import silent

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    train(scene(8, 16), folder / "run", silent, rasterizer=Misbehaving(folder, "wait"))
"""


@pytest.mark.slow
def test_no_member_outlives_its_parent(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": f"{here.parents[1]}{os.pathsep}{here}"}
    with subprocess.Popen([sys.executable, str(tmp_path / "parent.py"), str(tmp_path)], env=environment) as parent:
        pids = [written(tmp_path / f"pid-{rank}") for rank in range(2)]
        parent.send_signal(signal.SIGKILL)
        parent.wait(60)
    deadline = time.monotonic() + 60
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def written(path: Path) -> int:
    """The number in a file that another process writes."""
    deadline = time.monotonic() + 120
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return int(path.read_text())


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_members_that_came_apart_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    team = Together(0, 2)

    def most(both: Tensor, op: object) -> None:
        both.copy_(torch.maximum(both, torch.tensor([210, -210])))

    monkeypatch.setattr(torch.distributed, "all_reduce", most)
    team.require_equal(210, "Gaussians")
    with pytest.raises(DefectError, match="one has 200 Gaussians, another 210"):
        team.require_equal(200, "Gaussians")
    assert PLACES[0].name != PLACES[1].name


@pytest.mark.parametrize("decision", [True, False])
def test_a_decision_is_the_first_members(monkeypatch: pytest.MonkeyPatch, decision) -> None:
    def broadcast(array: Tensor, src: int) -> None:
        assert src == 0
        array.fill_(decision)

    monkeypatch.setattr(torch.distributed, "broadcast", broadcast)
    assert Together(1, 2).decided(not decision) is decision


def test_a_scene_without_its_pictures_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLDEXPLORER_SCRATCH", str(tmp_path / "scratch"))
    of = replace(scene(8, 16), folder=tmp_path)
    with pictures_kept(of) as (without, path):
        assert path.is_relative_to(tmp_path / "scratch")
        np.testing.assert_array_equal(np.load(path), of.train.images)
        assert len(without.train.images) == 0
        np.testing.assert_array_equal(without.train.c2w, of.train.c2w)
    assert not path.exists()


@pytest.mark.parametrize(("gpus", "taken"), [(None, 1), (1, 1), (2, 2), (3, 2)])
def test_a_training_takes_one_gpu_unless_more_are_asked_for(monkeypatch: pytest.MonkeyPatch, gpus, taken) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _number: "H200")
    trainer = make_trainer(SplatConfig(splat_profile="fast"), gpus)
    assert isinstance(trainer, GsplatTrainer)
    places = list(trainer._useful_places(named_recipe("fast", None)))
    if taken > 1:
        assert places == [Place(f"cuda:{number}", f"cuda:{number} (H200)") for number in range(taken)]
    else:
        assert len(places) <= 1


@pytest.mark.slow  # processes take seconds to start
def test_members_meet_in_a_file_of_the_scratch_folder_and_no_port_is_listened_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listening(*_arguments: Any, **_named: Any) -> Any:
        raise AssertionError("a store that others can reach")

    monkeypatch.setattr(torch.distributed, "TCPStore", listening)
    monkeypatch.setenv("WORLDEXPLORER_SCRATCH", str(tmp_path / "scratch"))
    met: set[str] = set()

    def look(_done: int, _total: int, _what: str) -> None:
        met.update(path.name for path in (tmp_path / "scratch").rglob("*") if path.is_file())

    train(scene(8, 16), tmp_path / "run", look)
    assert met == {"images.npy", "rendezvous"}
    assert list((tmp_path / "scratch").iterdir()) == []
