"""The compiled pipelines in hardened containers of the cpu image, with data set and results in a bucket."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from builders import photo_sample, write_dataset
from containers.engine import Engine
from gcs_emulator import emulator_url, gcs_client
from kfp.local import importer_handler
from kfp_local import HARDENED, Session, docker_session

from pipelines.compile import compile_pipeline
from pipelines.settings import BuildSettings
from worldexplorer import layout
from worldexplorer.layout import JobId
from worldexplorer.records import StageRecord

pytestmark = [pytest.mark.slow, pytest.mark.requires_part("docker"), pytest.mark.requires_part("mmdebstrap")]

BUCKET = "docker-runs"
SAMPLES = 3
CUT_SHORT = 3
"""The one sample more, whose photo has a header and half of its pixels."""
_IMAGE = re.compile(r"(?<=image: )'\{\{.*image_.*\}\}'")


class Cloud:
    """A bucket with a data set, and a session of containers that know nothing else of this machine."""

    def __init__(self, folder: Path, session: Session, image: str) -> None:
        self.folder = folder
        self.session = session
        self.image = image
        self.bucket = gcs_client(emulator_url()).bucket(BUCKET)
        self.runs = 0

    def put_dataset(self) -> None:
        local = self.folder / "data"
        write_dataset(local, [photo_sample(index) for index in range(SAMPLES + 1)])
        photo = local / f"{CUT_SHORT}.png"
        photo.write_bytes(photo.read_bytes()[: photo.stat().st_size // 2])
        for path in local.iterdir():
            self.bucket.blob(f"sets/photos/{path.name}").upload_from_filename(str(path))

    def run(self, stages: Sequence[int], output: str, **parameters: Any) -> dict[str, Any]:
        """Run the pipeline of these stages; the summary as the bucket holds it."""
        self.runs += 1
        package = self.folder / f"package-{self.runs}.yaml"
        compile_pipeline(stages, package, BuildSettings(retries=0, parallelism=2))
        # kfp.local takes an image's name as it stands, where a cluster fills in the run's parameter.
        text, count = _IMAGE.subn(self.image, package.read_text())
        assert count == 2 + len(stages)
        package.write_text(text)
        self.session.run(
            package,
            dataset_dir=f"gs://{BUCKET}/sets/photos",
            output_base=f"gs://{BUCKET}/{output}",
            engine="preview",
            preset="smoke",
            trajectory_order="in",
            **parameters,
        )
        found: dict[str, Any] = json.loads(self.read(output, layout.SUMMARY))
        return found

    def read(self, output: str, key: str) -> bytes:
        content: bytes = self.bucket.blob(f"{output}/{key}").download_as_bytes()
        return content

    def record(self, output: str, stage: str, index: int) -> StageRecord:
        key = layout.record(JobId(index, "photorealistic"), stage)
        return StageRecord.from_json(self.read(output, key), where=key)

    def sizes(self, output: str) -> dict[str, int]:
        prefix = f"{output}/"
        return {blob.name.removeprefix(prefix): blob.size for blob in self.bucket.list_blobs(prefix=prefix)}

    def bring(self, *arguments: Any, **options: Any) -> Any:
        """Import an artifact and bring it here, as a cluster's launcher does and kfp.local does not."""
        outputs, status = _run_importer(*arguments, **options)
        artifact = outputs["artifact"]
        key = artifact.uri.removeprefix(f"gs://{BUCKET}/")
        assert key != artifact.uri
        place = self.session.pipeline_root / "imported" / key
        for blob in self.bucket.list_blobs(prefix=f"{key}/"):
            path = place / blob.name.removeprefix(f"{key}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            blob.download_to_filename(str(path))
        artifact.uri = str(place)
        return outputs, status


_run_importer = importer_handler.run_importer


@pytest.fixture(scope="module")
def cloud(
    tmp_path_factory: pytest.TempPathFactory,
    docker_engine: Engine,
    cpu_image: str,
) -> Iterator[Cloud]:
    folder = tmp_path_factory.mktemp("docker")
    gcs_client(emulator_url()).create_bucket(BUCKET)
    environment = {"STORAGE_EMULATOR_HOST": emulator_url()}
    with docker_session(folder / "root", docker_engine.host, environment, **HARDENED) as session:
        made = Cloud(folder, session, cpu_image)
        made.put_dataset()
        with mock.patch.object(importer_handler, "run_importer", made.bring):
            yield made


@pytest.fixture(scope="module")
def first(cloud: Cloud) -> dict[str, Any]:
    """Stage 1 of every good sample."""
    return cloud.run((1,), "worlds", indices=f"0-{SAMPLES - 1}")


def statuses(summary: dict[str, Any]) -> list[str]:
    return [entry["status"] for entry in summary["results"]]


def test_every_job_is_good(cloud: Cloud, first: dict[str, Any]) -> None:
    assert statuses(first) == ["success"] * SAMPLES
    assert (first["failed_indices"], first["engine_label"]) == ("", "synthesised preview")
    assert first["output_base"] == f"gs://{BUCKET}/worlds"
    for index in range(SAMPLES):
        assert cloud.record("worlds", "scaffold", index).run_id == first["run_id"]


def test_bucket_holds_what_the_records_name_and_nothing_half_done(cloud: Cloud, first: dict[str, Any]) -> None:
    sizes = cloud.sizes("worlds")
    for entry in first["results"]:
        record = cloud.record("worlds", "scaffold", entry["index"])
        folder = layout.job_folder(JobId(entry["index"], "photorealistic"))
        assert record.published and record.files
        assert all(sizes[f"{folder}/{file.path}"] == file.size for file in record.files)
        assert sizes[f"{folder}/contact_sheet.png"] > 0
    assert not [name for name in sizes if "/.attempts/" in name]


def test_nothing_but_records_and_pages_passed_through_the_pipeline(cloud: Cloud, first: dict[str, Any]) -> None:
    assert first["success"] == SAMPLES
    files = [path for path in cloud.session.pipeline_root.rglob("*") if path.is_file()]
    assert len([path for path in files if path.name == "record.json"]) >= 1
    assert not [path for path in files if path.suffix in (".png", ".ply")]


def test_later_stages_go_on_from_the_run_before(cloud: Cloud, first: dict[str, Any]) -> None:
    second = cloud.run((2, 3), "worlds", indices="0")
    entry = second["results"][0]
    assert (entry["status"], entry["stages_completed"]) == ("success", [1, 2, 3])
    assert cloud.record("worlds", "scaffold", 0).run_id == first["run_id"]
    assert cloud.record("worlds", "splat", 0).run_id == second["run_id"]
    assert cloud.sizes("worlds")[entry["export_path"]] > 0
    imported = layout.run_input(second["run_id"], JobId(0, "photorealistic"))
    assert cloud.read("worlds", f"{imported}/record.json") == cloud.read(
        "worlds", layout.record(JobId(0, "photorealistic"), "scaffold")
    )


def test_one_hard_failure_leaves_the_others_alone(cloud: Cloud) -> None:
    summary = cloud.run((1,), "trouble", indices=f"0 {CUT_SHORT}", continue_on_error=True)
    assert statuses(summary) == ["success", "failed"]
    assert summary["failed_indices"] == str(CUT_SHORT)
    error = summary["results"][1]["error"]
    assert (error["stage"], error["class"]) == ("scaffold", "user")
    assert f"{CUT_SHORT}.png" in error["where"] + error["message"]
    failure = layout.failed_record(JobId(CUT_SHORT, "photorealistic"), "scaffold")
    assert StageRecord.from_json(cloud.read("trouble", failure), where=failure).run_id == summary["run_id"]
