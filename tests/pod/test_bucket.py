"""Pods whose data set and results lie in a bucket."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders import Workbench
from gcs_emulator import emulator_url, gcs_client, gcs_emulator  # noqa: F401 (a fixture)
from pod.pods import JOB, RUN_ID, Cluster, statuses

from worldexplorer import layout
from worldexplorer.layout import JobId
from worldexplorer.pod.abort import aborted, raise_abort
from worldexplorer.pod.plan import RECORD_NAME

pytestmark = pytest.mark.slow

ID = JobId(0, "photorealistic")


@pytest.fixture
def cluster(
    tmp_path: Path,
    gcs_emulator: str,  # noqa: F811 (the fixture)
    monkeypatch: pytest.MonkeyPatch,
) -> Cluster:
    monkeypatch.setenv("WORLDEXPLORER_SCRATCH", str(tmp_path / "scratch"))
    bench = Workbench(tmp_path, samples=2)
    bucket = gcs_client(emulator_url()).bucket(gcs_emulator)
    for path in bench.data.iterdir():
        bucket.blob(f"set/{path.name}").upload_from_filename(str(path))
    places = {"dataset_dir": f"gs://{gcs_emulator}/set", "output_base": f"gs://{gcs_emulator}/worlds"}
    return Cluster(bench, tmp_path, **places)


def test_run_in_two_parts(cluster: Cluster) -> None:
    assert statuses(cluster.run((1,), indices="0")) == ["success"]
    second = cluster.again("second")
    (planned,) = second.plan((2, 3), indices="0").parameters["jobs"]
    folder = layout.run_input("second", ID)
    assert planned == {"job_id": JOB, "upstream_uri": f"{cluster.output_base}/{folder}"}
    record = cluster.storage.read(f"{folder}/{RECORD_NAME}")
    assert record == cluster.storage.read(layout.record(ID, "scaffold"))
    given = cluster.folder / "downloaded"  # by the launcher
    given.mkdir()
    (given / RECORD_NAME).write_bytes(record)
    done = second.job({**planned, "upstream_uri": str(given)}, (2, 3))
    assert done.code == 0
    assert done.metadata("splat")["data_uri"] == f"{cluster.output_base}/{JOB}"
    closed = second.close()
    assert statuses(second.summary()) == ["success"]
    assert json.loads(closed.text("summary")) == second.summary()
    assert closed.text("report").count("<img ") == 1
    assert not cluster.bench.output.exists()


def test_lost_and_stopped_pods(cluster: Cluster) -> None:
    cluster.plan((1,))
    cluster.stage("scaffold")
    cluster.close()
    assert statuses(cluster.summary()) == ["success", "failed"]
    assert cluster.summary()["results"][1]["error"]["message"].startswith("no_record")
    second = cluster.again("second")
    second.plan((1,))
    raise_abort(second.storage, "second", "the first")
    raise_abort(second.storage, "second", "the other")
    assert (aborted(second.storage, "second"), aborted(second.storage, RUN_ID)) == ("the first", "")
    second.close()
    assert statuses(second.summary()) == ["success", "skipped"]
