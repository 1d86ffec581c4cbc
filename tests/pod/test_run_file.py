"""`run.json`: every setting survives, and what another version wrote is refused."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from builders import Workbench, write_views

from worldexplorer import __version__, layout
from worldexplorer.config import (
    BatchConfig,
    FullEngineConfig,
    RunConfig,
    ScaffoldConfig,
    SplatConfig,
    TrajectoryConfig,
)
from worldexplorer.dataset import load_dataset, resolve_jobs
from worldexplorer.dataset.handover import describe_job
from worldexplorer.errors import DefectError, UsageError
from worldexplorer.pod.run_file import RUN_SCHEMA_VERSION, RunFile
from worldexplorer.storage import LocalStorage

OTHER = RunConfig(
    BatchConfig(
        dataset_dir="gs://sets/one",
        output_base="gs://worlds/one",
        indices=("0-9", "20"),
        only_stages=(2, 3),
        engine="preview",
        preset="quick",
        seed=4294967295,
        workers=3,
        gpus=2,
        continue_on_error=True,
        check_checkpoints=True,
        dry_run=True,
        force=True,
        confine_paths=True,
        commercial=True,
        log_format="json",
    ),
    ScaffoldConfig(
        scaffold_method="scaffold_gen",
        scaffold_mode="fast",
        default_theme="an attic\nüber dem Meer",
        text_to_image="flux2-klein",
        text_to_image_steps=7,
        inpaint_steps=9,
        inpaint="flux1-fill",
        corner_guidances=(7.5, 0.1),
        corner_seeds=3,
        traj_prior="orbit",
        num_seva_frames=16,
        cfg=(0.1, 1e-3),
        output_all_seva_frames=True,
        hfov=81.80000000000001,
        pan_growth="two-step",
        overlap_psnr=25.5,
    ),
    TrajectoryConfig(
        translation_scaling_factor=0.1,
        trajectory_order=("up", "in"),
        num_images_for_vggt=8,
        collision_rule="legacy",
        geometry_model="depth-anything-3",
        anchors=9,
        root_dir="/paths",
    ),
    SplatConfig(
        nerf_folder="/runs",
        keep_training=True,
        export_formats=("compressed-ply", "ply", "spz"),
        max_gaussians=123,
        filter_floaters=True,
        splat_trainer="nerfstudio",
        splat_profile="fast",
        splat_steps=7000,
        splat_heldout_every=8,
        splat_stop_psnr=34.5,
    ),
    FullEngineConfig(
        precision="bfloat16",
        no_compile=True,
        steps=25,
        multistep=True,
        guidance_interval=(0.1, 19.999999999999996),
        shorter_chunks=True,
        fp8=True,
    ),
)


def run_file(**changes: Any) -> RunFile:
    facts: dict[str, Any] = {
        "run_id": "one",
        "began_at": "2026-01-01T00:00:00+00:00",
        "config": OTHER,
        "jobs": {},
        "to_run": {"photorealistic/index_0000": ("splat",)},
    }
    return RunFile(**(facts | changes))


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "output")


def stored(storage: LocalStorage, **changes: Any) -> None:
    document = json.loads(run_file().to_json()) | changes
    storage.write(layout.run_file("one"), json.dumps(document).encode())


def test_no_setting_of_this_test_is_its_default() -> None:
    for part in (OTHER.batch, OTHER.scaffold, OTHER.trajectory, OTHER.splat, OTHER.full):
        for one in dataclasses.fields(part):
            assert getattr(part, one.name) != one.default, one.name


def test_every_setting_survives(storage: LocalStorage) -> None:
    storage.write(layout.run_file("one"), run_file().to_json())
    loaded = RunFile.load(storage, "one")
    assert loaded.config == OTHER
    assert loaded == run_file()
    assert loaded.code_version == __version__


def test_jobs_survive(tmp_path: Path, storage: LocalStorage) -> None:
    samples = [
        {
            "index": 4,
            "photorealistic": {"path": "4.png", "scaffold_path": "views"},
            "stylized": {"path": "4s.png"},
            "scene_type": "outdoor",
            "category": "square",
            "expansion": {
                "translation_scaling_factor": 2.5,
                "trajectory_order": ["in", "up"],
                "num_images_for_vggt": 9,
            },
        }
    ]
    bench = Workbench(tmp_path, samples)
    write_views(bench.data / "views")
    dataset = load_dataset(bench.data, confine_paths=True)
    jobs = resolve_jobs(dataset).jobs
    assert len(jobs) == 2
    described = {str(job.id): describe_job(job, dataset) for job in jobs}
    config = dataclasses.replace(OTHER, batch=dataclasses.replace(OTHER.batch, dataset_dir=str(bench.data)))
    storage.write(layout.run_file("one"), run_file(jobs=described, config=config).to_json())
    loaded = RunFile.load(storage, "one")
    assert [loaded.job(str(job.id)) for job in jobs] == list(jobs)
    assert [loaded.job_id(str(job.id)) for job in jobs] == [job.id for job in jobs]


def test_job_of_another_run_is_refused() -> None:
    with pytest.raises(UsageError, match=r"the run has no job photorealistic/index_0000.*runs/one/run.json"):
        run_file().job("photorealistic/index_0000")


def test_run_without_a_plan(storage: LocalStorage) -> None:
    with pytest.raises(UsageError, match=r"the run has no plan.*look at the log of the run's plan step"):
        RunFile.load(storage, "one")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"run_id": "one"}', b"\xff"])
def test_damaged_file_is_refused(storage: LocalStorage, data: bytes) -> None:
    storage.write(layout.run_file("one"), data)
    with pytest.raises(DefectError, match=r"the run's file cannot be read.*take images of one version"):
        RunFile.load(storage, "one")


def test_unknown_field_is_refused(storage: LocalStorage) -> None:
    stored(storage, colour="red")
    with pytest.raises(DefectError, match="colour"):
        RunFile.load(storage, "one")


def test_other_schema_is_refused(storage: LocalStorage) -> None:
    stored(storage, schema_version=RUN_SCHEMA_VERSION + 1)
    with pytest.raises(DefectError, match=r"has schema 2, this version reads 1.*take images of one version"):
        RunFile.load(storage, "one")


def test_other_version_of_the_code_is_told_of(storage: LocalStorage, caplog: pytest.LogCaptureFixture) -> None:
    stored(storage, code_version="0.0.9")
    with caplog.at_level(logging.WARNING):
        assert RunFile.load(storage, "one").config == OTHER
    assert f"the run was planned by version 0.0.9, this image has {__version__}" in caplog.text
