"""Data sets in an emulated bucket, by the real client."""

from __future__ import annotations

import json

import pytest
from builders import picture, small_engine
from gcs_emulator import (
    emulator_url,
    gcs_client,
    gcs_emulator,  # noqa: F401 (a fixture)
)

from worldexplorer.batch import prepare_batch
from worldexplorer.config import BatchConfig, RunConfig
from worldexplorer.dataset import load_dataset, remote, resolve_jobs
from worldexplorer.dataset.handover import describe_job, fetch_job, restore_job
from worldexplorer.errors import UsageError, UserError
from worldexplorer.storage import open_storage


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLDEXPLORER_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setattr(remote, "_mirrors", {})


@pytest.fixture(params=["", "/sets/curated"], ids=["whole bucket", "folder"])
def uri(request, gcs_emulator, tmp_path):  # noqa: F811
    """A data set with two photos, one that is missing, one of no picture and a scaffold."""
    uri = f"gs://{gcs_emulator}{request.param}"
    folder = tmp_path / "set"
    for name in ("photos/0.png", "images/4.PNG", *(f"made/final/00{view}.png" for view in range(8))):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(len(name), 96, 72).save(folder / name)
    (folder / "photos/2.png").write_bytes(b"no picture")
    samples = [
        {"index": 0, "photorealistic": {"path": "photos/0.png"}},
        {"index": 1, "photorealistic": {"path": "photos/1.png"}},
        {"index": 2, "photorealistic": {"path": "photos/2.png"}},
        {"index": 3, "stylized": {"scaffold_path": "made"}},
        {"index": 4},
    ]
    (folder / "metadata.json").write_text(json.dumps({"samples": samples}))
    storage = open_storage(uri)
    for path in folder.rglob("*"):
        if path.is_file():
            storage.write(path.relative_to(folder).as_posix(), path.read_bytes())
    return uri


def test_a_batch_is_planned(uri, tmp_path):
    run = RunConfig(BatchConfig(dataset_dir=uri, output_base=str(tmp_path / "out"), engine="preview"))
    plan = prepare_batch(run, small_engine).plan
    assert [(one.job.index, one.job.variant, bool(one.problem)) for one in plan.jobs] == [
        (0, "photorealistic", False),
        (2, "photorealistic", True),
        (3, "stylized", False),
        (4, "default", False),
    ]
    assert [(one.index, one.reason) for one in plan.file.skipped] == [(1, 'path "photos/1.png": it does not exist')]
    assert plan.jobs[0].job.image.read_bytes() == (tmp_path / "set/photos/0.png").read_bytes()
    assert sorted(path.name for path in (plan.jobs[2].job.scaffold_path / "final").iterdir())[7] == "007.png"


def test_a_job_is_supplied_on_its_own(uri):
    dataset = load_dataset(uri, confine_paths=True)
    job = resolve_jobs(dataset).jobs[0]
    restored = restore_job(describe_job(job, dataset), uri)
    assert restored == job
    fetch_job(uri, restored)
    assert restored.image.stat().st_size == open_storage(uri).stat("photos/0.png").size


def test_an_object_removed_after_the_plan(uri):
    dataset = load_dataset(uri, confine_paths=True)
    jobs = resolve_jobs(dataset).jobs
    open_storage(uri).delete("photos/0.png")
    fetched = dataset.fetch(jobs)
    assert [job.unfetched.where if job.unfetched else None for job in fetched] == [
        f"{uri}/photos/0.png",
        None,
        None,
        None,
    ]
    assert fetched[3].image.is_file()
    with pytest.raises(UserError, match=r"not in the data set any more"):
        fetch_job(uri, jobs[0])


def test_names_that_only_a_bucket_can_have(gcs_emulator):  # noqa: F811
    """Other programs write them; none of them is a file of the data set, and none leads out of the mirror."""
    bucket = gcs_client(emulator_url()).bucket(gcs_emulator)
    names = [
        "made/",
        "made/final/",
        "made//000.png",
        "made/../../000.png",
        "made/000.png",
        "images/../1.png",
        "images//0.png",
    ]
    for name in names:
        bucket.blob(f"set/{name}").upload_from_string(b"x")
    samples = [{"index": 0, "scaffold": {"scaffold_path": "made"}}, {"index": 1}]
    bucket.blob("set/metadata.json").upload_from_string(json.dumps({"samples": samples}))
    dataset = load_dataset(f"gs://{gcs_emulator}/set", confine_paths=False)
    (job,) = dataset.fetch(resolve_jobs(dataset).jobs)
    assert (job.index, job.unfetched) == (0, None)
    assert [path.name for path in job.scaffold_path.iterdir()] == ["000.png"]


def test_no_such_bucket(gcs_emulator):  # noqa: F811
    with pytest.raises(UsageError) as caught:
        load_dataset("gs://no-such-bucket/set", confine_paths=False)
    assert str(caught.value) == (
        "Dataset directory not found: there is no bucket no-such-bucket (gs://no-such-bucket/set). "
        "What to do: correct its name, or create the bucket"
    )


@pytest.mark.parametrize("folder", ["", "/", "/a//b", "/../b", "/./b"])
def test_what_names_no_folder_of_a_bucket(gcs_emulator, folder):  # noqa: F811
    with pytest.raises(UsageError, match="Dataset directory not found: "):
        load_dataset(f"gs://{'' if folder == '' else gcs_emulator}{folder}", confine_paths=False)
