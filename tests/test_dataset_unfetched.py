"""Jobs whose files a bucket does not give, and trajectories that it does, in the batch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import SmallEngine, Workbench, small_engine

from worldexplorer.batch import prepare_batch
from worldexplorer.dataset import Dataset, Job, remote
from worldexplorer.errors import UserError
from worldexplorer.records import StageRecord
from worldexplorer.scaffold.poses import scaffold_poses
from worldexplorer.stage import StageFailedError
from worldexplorer.storage import LocalStorage
from worldexplorer.trajectory import own_paths
from worldexplorer.trajectory.stage import trajectory_settings

WHY = UserError("the file cannot be read: access is refused", where="gs://sets/curated/1.png", remedy="ask for it")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    """Three photos, the second of which cannot be fetched."""

    def fetch(_: Dataset, jobs: Sequence[Job]) -> list[Job]:
        return [replace(job, unfetched=WHY) if job.index == 1 else job for job in jobs]

    monkeypatch.setattr(Dataset, "fetch", fetch)
    return Workbench(tmp_path, 3)


@pytest.mark.parametrize("finished", [False, True])
def test_the_plan_says_why(bench: Workbench, finished: bool) -> None:
    if finished:
        bench.runner(bench.config(only_stages=(1,))).run(bench.job(1), "scaffold", lambda *_: None)
    plan = prepare_batch(bench.config(only_stages=(1,)), small_engine).plan
    told = [one.problem or one.decisions[0].reason for one in plan.jobs]
    assert [str(WHY) in text for text in told] == [False, True, False]


def test_the_job_fails_with_it(bench: Workbench) -> None:
    job = prepare_batch(bench.config(only_stages=(1,)), small_engine).plan.jobs[1].job
    with pytest.raises(StageFailedError):
        bench.runner(bench.config(only_stages=(1,))).run(job, "scaffold", lambda *_: None)
    failure: StageRecord = bench.failure("scaffold", 1)
    assert failure.error is not None
    assert (failure.error.message, failure.error.where, failure.error.error_class) == (WHY.what, WHY.where, "user")


def test_trajectories_in_a_bucket_are_those_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Workbench(tmp_path / "bench")
    poses = np.concatenate([scaffold_poses(), np.tile(np.eye(4), (3, 1, 1))])
    poses[8:, 2, 3] = (0, -0.2, -0.4)
    frames = [{"file_path": f"./{k:03d}.png", "transform_matrix": one.tolist()} for k, one in enumerate(poses)]
    (tmp_path / "own" / "ahead").mkdir(parents=True)
    (tmp_path / "own" / "ahead" / "transforms.json").write_text(json.dumps({"frames": frames}))

    class Bucket(LocalStorage):
        def local_copies(self, keys: Sequence[str], scratch: Path) -> list[Path]:
            return [
                Path(shutil.copy(path, scratch / key))
                for path, key in zip(super().local_copies(keys, scratch), keys, strict=True)
            ]

    bucket = Bucket(tmp_path / "own")
    bucket.uri = "gs://sets/own"
    monkeypatch.setenv("WORLDEXPLORER_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setattr(remote, "open_storage", lambda _: bucket)
    own_paths._fetched.cache_clear()
    here, there = (
        trajectory_settings(bench.job(), bench.config(root_dir=root, trajectory_order=None), SmallEngine())
        for root in (str(tmp_path / "own"), "gs://sets/own")
    )
    own_paths._fetched.cache_clear()
    assert there.trajectory_order == ("ahead",)
    assert replace(there, root_dir=here.root_dir) == here
