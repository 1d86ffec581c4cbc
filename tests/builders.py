"""Data sets, runs and runners for tests of the framework around the engines: small, instant, in this process.

bench = Workbench(tmp_path, samples=2)
summary = bench.batch()
assert summary["success"] == 2
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_engine import TinyEngine, box_photo

from worldexplorer import layout
from worldexplorer.config import BatchConfig, RunConfig, ScaffoldConfig, SplatConfig, TrajectoryConfig
from worldexplorer.context import Outcome, StageContext, StageDefinition
from worldexplorer.dataset import Job, JobList, load_dataset, resolve_jobs
from worldexplorer.engine import Engine, StageDefaults
from worldexplorer.events import Event, JobFinished
from worldexplorer.job import run_job
from worldexplorer.layout import JobId
from worldexplorer.plan import BatchPlan, make_plan, new_run_id
from worldexplorer.records import StageRecord
from worldexplorer.stage import DEFINITIONS, StageRunner
from worldexplorer.storage import LocalStorage, Storage, open_storage
from worldexplorer.summary import write_summary

PHOTO_SIZE = (96, 72)
PROVIDED_SIZE = 64
STAGES = ("scaffold", "trajectory", "splat")
VOLATILE = frozenset(
    {"run_id", "attempt", "started_at", "finished_at", "seconds", "peak_memory_mib", "elapsed_seconds", "created_at"}
)
"""What differs between two runs that made the same thing."""


@pytest.fixture(autouse=True, scope="module")
def no_waiting_for_the_disk() -> Iterator[None]:
    """For modules that import it: nothing is forced onto the disk, where another program may be writing for seconds.

    Processes die in these tests, but machines do not lose their power.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


class SmallEngine(TinyEngine):
    """The tiny engine with as few frames as there can be."""

    defaults = StageDefaults(num_images_for_vggt=8, frames_per_trajectory=1, point_count=16, heldout_views=1)


def small_engine(_run: RunConfig) -> SmallEngine:
    """Loads the small engine; known by name to worker processes."""
    return SmallEngine()


def picture(seed: int, width: int, height: int) -> Image.Image:
    """A smooth picture, another one for each seed."""
    rows, columns = np.mgrid[0:height, 0:width] / max(width, height)
    waves = [np.sin((3 + seed) * rows + channel + 5 * columns) for channel in range(3)]
    return Image.fromarray((127 + 100 * np.stack(waves, axis=-1)).astype(np.uint8))


def photo(seed: int, width: int, height: int) -> Image.Image:
    """A photo from the middle of the tiny engine's world, another one for each seed: with different faint waves."""
    waves = (np.asarray(picture(seed, width, height), dtype=np.float64) - 127.0) / 16.0
    return Image.fromarray(np.clip(np.rint(box_photo(width, height) + waves), 0, 255).astype(np.uint8))


def write_dataset(folder: Path, samples: Iterable[Mapping[str, Any]]) -> None:
    """Write metadata.json, and a photo for every `photorealistic.path` and `stylized.path` that has none yet."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = list(samples)
    (folder / "metadata.json").write_text(json.dumps({"samples": entries}))
    for entry in entries:
        for variant in ("photorealistic", "stylized"):
            name = entry.get(variant, {}).get("path")
            if name is not None and not (folder / name).exists():
                photo(entry["index"], *PHOTO_SIZE).save(folder / name)


def photo_sample(index: int, **more: Any) -> dict[str, Any]:
    """A sample with one photo."""
    return {"index": index, "photorealistic": {"path": f"{index}.png"}, **more}


def write_views(folder: Path, count: int = 8) -> None:
    """Write a finished scaffold's views."""
    folder.mkdir(parents=True, exist_ok=True)
    for view in range(count):
        picture(view, PROVIDED_SIZE, PROVIDED_SIZE).save(folder / f"{view:03d}.png")


class Workbench:
    """One data set and one output folder.

    Args:
        folder: for both.
        samples: entries of metadata.json, or how many plain ones.
    """

    def __init__(self, folder: Path, samples: int | Sequence[Mapping[str, Any]] = 1) -> None:
        entries = [photo_sample(index) for index in range(samples)] if isinstance(samples, int) else samples
        self.data = folder / "data"
        self.output = folder / "output"
        write_dataset(self.data, entries)
        self.storage = LocalStorage(self.output)

    def config(self, **changes: Any) -> RunConfig:
        """A run's configuration; each change goes to the group that has a field of its name."""
        defaults = {
            "dataset_dir": str(self.data),
            "output_base": str(self.output),
            "engine": "preview",
            "num_seva_frames": 8,
            "trajectory_order": ("in",),
        }
        known = defaults | changes
        groups = []
        for kind in (BatchConfig, ScaffoldConfig, TrajectoryConfig, SplatConfig):
            groups.append(kind(**{name: known.pop(name) for name in kind.__dataclass_fields__ if name in known}))
        assert not known, f"no such setting: {known}"
        return RunConfig(*groups)

    def jobs(self, indices: Container[int] | None = None) -> JobList:
        found = resolve_jobs(load_dataset(self.data, confine_paths=False))
        return replace(found, jobs=tuple(job for job in found.jobs if indices is None or job.index in indices))

    def job(self, index: int = 0) -> Job:
        return next(job for job in self.jobs().jobs if job.index == index)

    def runner(
        self,
        run: RunConfig | None = None,
        *,
        storage: Storage | None = None,
        engine: Engine | None = None,
        definitions: Sequence[StageDefinition[Any]] = DEFINITIONS,
        run_id: str | None = None,
        wait: Callable[[float], None] = lambda seconds: None,
    ) -> StageRunner:
        return StageRunner(
            storage or self.storage,
            run or self.config(),
            engine or SmallEngine(),
            run_id or new_run_id(),
            definitions,
            wait,
        )

    def plan(
        self,
        run: RunConfig | None = None,
        *,
        storage: Storage | None = None,
        engine: Engine | None = None,
        definitions: Sequence[StageDefinition[Any]] = DEFINITIONS,
        indices: Container[int] | None = None,
    ) -> BatchPlan:
        return make_plan(
            storage or self.storage,
            run or self.config(),
            self.jobs(indices),
            engine or SmallEngine(),
            new_run_id(),
            definitions,
        )

    def batch(
        self,
        run: RunConfig | None = None,
        *,
        storage: Storage | None = None,
        engine: Engine | None = None,
        definitions: Sequence[StageDefinition[Any]] = DEFINITIONS,
        indices: Container[int] | None = None,
        listener: Callable[[Event], None] = lambda event: None,
    ) -> dict[str, Any]:
        """Plan, run every job here and write the summary, as a batch does."""
        run, storage, engine = run or self.config(), storage or self.storage, engine or SmallEngine()
        plan = self.plan(run, storage=storage, engine=engine, definitions=definitions, indices=indices)
        storage.create(layout.plan(plan.run_id), plan.file.to_json())
        runner = self.runner(run, storage=storage, engine=engine, definitions=definitions, run_id=plan.run_id)
        for one in plan.jobs:
            run_job(runner, storage, run, one.job, listener)
        return write_summary(storage, plan.run_id, elapsed_seconds=1.0, interrupted=False)

    def record(self, stage: str, index: int = 0, variant: str = "photorealistic") -> StageRecord:
        key = layout.record(JobId(index, variant), stage)
        return StageRecord.from_json(self.storage.read(key), where=key)

    def failure(self, stage: str, index: int = 0, variant: str = "photorealistic") -> StageRecord:
        key = layout.failed_record(JobId(index, variant), stage)
        return StageRecord.from_json(self.storage.read(key), where=key)

    def job_path(self, relative: str = "", index: int = 0) -> Path:
        return self.output / layout.job_folder(JobId(index, "photorealistic")) / relative

    def leftovers(self) -> list[str]:
        """What lies in any folder of attempts, and half-written objects."""
        return [
            str(path.relative_to(self.output))
            for path in sorted(self.output.rglob("*"))
            if ".attempts" in path.parts or path.name.startswith(".part-")
        ]


def run_jobs_here(
    run: RunConfig,
    run_id: str,
    jobs: Iterable[Job],
    listener: Callable[[Event], None],
    *,
    stop_on_failure: bool,
    load: Callable[[RunConfig], Engine],
) -> list[Job]:
    """Stands in for the worker processes: the same jobs in this one."""
    storage = open_storage(run.batch.output_base)
    runner = StageRunner(storage, run, load(run.batch), run_id, wait=lambda seconds: None)
    waiting = list(jobs)
    while waiting:
        job = waiting.pop(0)
        if run_job(runner, storage, run, job, listener) is not None and stop_on_failure:
            break
    return waiting


class RememberedRooms:
    """The three rooms, computed once each: who asks again for the same result gets copies of the files.

    Every file of the input is read through its record all the same, as a room does.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[tuple[str, str], tuple[Path, Outcome]] = {}
        self._lock = threading.Lock()
        self.produced: list[str] = []
        """The stages that ran, in order, remembered or not."""
        self.definitions = tuple(replace(one, produce=self._remembering(one)) for one in DEFINITIONS)

    def _remembering(self, definition: StageDefinition[Any]) -> Callable[[StageContext[Any]], Outcome]:
        def produce(context: StageContext[Any]) -> Outcome:
            self.produced.append(definition.name)
            content = ""
            if context.inputs is not None:
                content = context.inputs.record.content
                for entry in context.inputs.record.files:
                    context.inputs.path(entry.path)
            key = (definition.name, f"{context.job.id} {definition.basis(context.settings)} {content}")
            with self._lock:
                if key not in self._known:
                    place = self._folder / str(len(self._known))
                    apart = replace(context, out=_made(place / "out"), work=_made(place / "work"))
                    self._known[key] = place / "out", definition.produce(apart)
            made, outcome = self._known[key]
            shutil.copytree(made, context.out, dirs_exist_ok=True, copy_function=shutil.copyfile)
            return outcome

        return produce


OUTPUT_NAMES = {"scaffold": "scaffold_path", "trajectory": "scene_path", "splat": "export_path"}


def toy_room(context: StageContext[Any], stage: str) -> Outcome:
    """What a toy room does: read its whole input, write one file that says what it was made from."""
    content = ""
    if context.inputs is not None:
        content = "".join(context.inputs.path(entry.path).read_text() for entry in context.inputs.record.files)
    text = f"{stage} of {context.job.id}, {context.settings}, from: {content}"
    (context.out / stage).mkdir(exist_ok=True)
    (context.out / stage / "result.txt").write_text(text)
    return Outcome(metrics={f"{stage}_size": len(text)}, outputs={OUTPUT_NAMES[stage]: f"{stage}/result.txt"})


def toy_rooms(**produce: Callable[[StageContext[Any]], Outcome]) -> tuple[StageDefinition[Any], ...]:
    """Rooms with the settings of the real ones that write a line of text, or do what is given for them."""

    def toy(stage: str) -> Callable[[StageContext[Any]], Outcome]:
        return produce.get(stage) or (lambda context: toy_room(context, stage))

    return tuple(replace(one, produce=toy(one.name)) for one in DEFINITIONS)


def together(work: Callable[[int], Any], count: int) -> list[Any]:
    """The results, or the exceptions, of `work(0)` to `work(count - 1)`, all begun at the same moment in threads."""
    barrier = threading.Barrier(count)

    def begin(number: int) -> Any:
        barrier.wait()
        try:
            return work(number)
        except Exception as error:  # noqa: BLE001 (the result of a caller that is to be compared)
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


def canonical_tree(output: Path) -> dict[str, Any]:
    """Every file of an output folder but the plans, by path; of JSON files what stays the same from run to run."""
    found: dict[str, Any] = {}
    for path in sorted(output.rglob("*")):
        name = path.relative_to(output).as_posix()
        if path.is_file() and not name.startswith(f"{layout.RUNS}/"):
            found[name] = (
                _without_volatile(json.loads(path.read_bytes())) if path.suffix == ".json" else path.read_bytes()
            )
    return found


def flip_byte(path: Path, *, keep_time: bool = False) -> None:
    """Damage one byte of a file, with or without a trace in its time."""
    facts = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    if keep_time:
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    else:
        later = facts.st_mtime_ns + 2_000_000_000
        os.utime(path, ns=(later, later))


def failures(events: Iterable[Event]) -> list[StageRecord]:
    """The failures that jobs ended with."""
    return [event.failure for event in events if isinstance(event, JobFinished) and event.failure is not None]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _without_volatile(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_volatile(item) for key, item in value.items() if key not in VOLATILE}
    if isinstance(value, list):
        return [_without_volatile(item) for item in value]
    return value
