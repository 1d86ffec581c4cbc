"""Data set and worlds in buckets: counting, splitting and judging read them where they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from gcs_emulator import gcs_emulator
from pipeline.cluster import make_worlds
from pipeline.driver import QUICK, SMALL, Driver, dataset, drive, server
from pipeline.fake_kfp import FakeKubeflow, state

from pipelines.split import count_jobs
from worldexplorer.errors import UsageError
from worldexplorer.storage import open_storage

__all__ = ["drive", "gcs_emulator", "server"]


def bucket_dataset(bucket: str, folder: Path, samples: int) -> list[str]:
    """The flags of a data set and an output folder in a bucket."""
    dataset(folder, samples)
    open_storage(f"gs://{bucket}").upload(folder / "data", "data")
    return ["--dataset_dir", f"gs://{bucket}/data", "--output_base", f"gs://{bucket}/output"]


def test_jobs_in_a_bucket_are_counted_and_split(
    drive: Driver, server: FakeKubeflow, gcs_emulator: str, tmp_path: Path
) -> None:
    words = bucket_dataset(gcs_emulator, tmp_path, 250)
    assert drive("submit", *words).code == 0
    assert [arguments["indices"] for arguments in server.arguments()] == ["0-99", "100-199", "200-249"]


def test_a_bucket_that_is_not_there_names_the_way_round(gcs_emulator: str) -> None:
    for place in ("gs://no-such-bucket/data", f"gs://{gcs_emulator}/nothing"):
        with pytest.raises(UsageError, match="--no_split"):
            count_jobs(place, "")


@pytest.mark.slow
def test_the_gate_judges_worlds_in_a_bucket(
    drive: Driver, server: FakeKubeflow, gcs_emulator: str, tmp_path: Path
) -> None:
    server.script = [state("SUCCEEDED")]
    server.on_run = make_worlds()
    words = [*bucket_dataset(gcs_emulator, tmp_path, 1), *SMALL, "--gate", *QUICK, "--log_format", "text"]
    outcome = drive("submit", *words)
    assert outcome.code == 0, outcome.err
    assert f"gs://{gcs_emulator}/output/batch_summary.json has everything" in outcome.out
