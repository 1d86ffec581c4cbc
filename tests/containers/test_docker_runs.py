"""The compiled pipelines in hardened containers of the cpu image, with data set and results in a bucket.

What is asserted are records and counts as the bucket holds them: kfp.local can skip a task without a word. The runs are
shared: one in which every job is good, one with a photo that cannot be read and a container that is killed, one that
goes on from it with stages 2 and 3, and one that stops at its first failure.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import docker
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
from worldexplorer.summary import STATUSES

pytestmark = [pytest.mark.slow, pytest.mark.requires_part("docker"), pytest.mark.requires_part("mmdebstrap")]

STAGES = ("scaffold", "trajectory", "splat")
BUCKET = "docker-runs"
SAMPLES = 6
GOOD = (0, 1, 2)
CUT_SHORT, KILLED, SIBLING = 3, 4, 5
"""A photo with a header and half of its pixels; one whose container gets killed; a good one that comes after both."""
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
        write_dataset(local, [photo_sample(index) for index in range(SAMPLES)])
        photo = local / f"{CUT_SHORT}.png"
        photo.write_bytes(photo.read_bytes()[: photo.stat().st_size // 2])
        for path in local.iterdir():
            self.bucket.blob(f"sets/photos/{path.name}").upload_from_filename(str(path))

    def run(self, stages: Sequence[int], output: str, parallelism: int = 2, **parameters: Any) -> dict[str, Any]:
        """Run the pipeline of these stages; the summary as the bucket holds it."""
        self.runs += 1
        package = self.folder / f"package-{self.runs}.yaml"
        compile_pipeline(stages, package, BuildSettings(retries=0, parallelism=parallelism))
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

    def record(
        self, output: str, stage: str, index: int, place: Callable[[JobId, str], str] = layout.record
    ) -> StageRecord:
        key = place(job(index), stage)
        return StageRecord.from_json(self.read(output, key), where=key)

    def record_keys(self, output: str) -> set[str]:
        """The keys of everything that was put on record of any job."""
        return {key for key in self.sizes(output) if "/records/" in key}

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


@dataclass(frozen=True)
class Killed:
    """A container that was killed while it worked."""

    exit_code: int
    config: dict[str, Any]
    host_config: dict[str, Any]


@contextmanager
def killing(host: str, stage: str, index: int) -> Iterator[Future[Killed]]:
    """Kill the container of one stage of one job when it has begun to work, as a lost node or a full memory would."""
    client = docker.DockerClient(base_url=host)
    filters = {"type": "container", "event": ["start", "die"]}
    events = client.events(decode=True, since=int(time.time()), filters=filters)

    def is_it(command: Sequence[str]) -> bool:
        return stage in command and any(f'"{job(index)}"' in word for word in command)

    def kill() -> Killed:
        found: dict[str, Any] = {}
        for event in events:
            if found and event["Action"] == "die" and event["Actor"]["ID"] == found["Id"]:
                code = int(event["Actor"]["Attributes"]["exitCode"])
                return Killed(code, found["Config"], found["HostConfig"])
            if not found and event["Action"] == "start":
                container = client.containers.get(event["Actor"]["ID"])
                if is_it([*(container.attrs["Config"]["Entrypoint"] or ()), *container.attrs["Config"]["Cmd"]]):
                    found = container.attrs
                    next(iter(container.logs(stream=True, follow=True)))  # its first word: the stage begins
                    container.kill()
        raise AssertionError(f"no container ran {stage} of {job(index)}")

    try:
        with ThreadPoolExecutor(1) as threads:
            killed = threads.submit(kill)
            try:
                yield killed
            finally:
                events.close()
    finally:
        client.close()


def job(index: int) -> JobId:
    return JobId(index, "photorealistic")


def statuses(summary: dict[str, Any]) -> list[str]:
    return [entry["status"] for entry in summary["results"]]


def counts(summary: dict[str, Any]) -> dict[str, int]:
    """How many jobs there are, and how many of each status that occurs."""
    return {name: summary[name] for name in ("total", *STATUSES) if summary[name]}


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


class TestGoodRun:
    @pytest.fixture(scope="class")
    @staticmethod
    def good(cloud: Cloud) -> dict[str, Any]:
        """All stages of the good samples."""
        return cloud.run((1, 2, 3), "good", indices="0-2")

    def test_every_job_is_good(self, cloud: Cloud, good: dict[str, Any]) -> None:
        assert statuses(good) == ["success"] * 3
        assert counts(good) == {"total": 3, "success": 3}
        assert [entry["stages_completed"] for entry in good["results"]] == [[1, 2, 3]] * 3
        assert (good["failed_indices"], good["engine_label"]) == ("", "synthesised preview")
        assert good["output_base"] == f"gs://{BUCKET}/good"
        assert cloud.record_keys("good") == {layout.record(job(index), stage) for index in GOOD for stage in STAGES}
        for index in GOOD:
            records = [cloud.record("good", stage, index) for stage in STAGES]
            assert {record.run_id for record in records} == {good["run_id"]}
            assert {record.engine for record in records} == {"preview"}
            for record, before in zip(records[1:], records, strict=False):
                assert record.input is not None
                assert (record.input.stage, record.input.content) == (before.stage, before.content)

    def test_bucket_holds_what_the_records_name_and_nothing_half_done(self, cloud: Cloud, good: dict[str, Any]) -> None:
        sizes = cloud.sizes("good")
        for entry in good["results"]:
            folder = layout.job_folder(job(entry["index"]))
            for stage in STAGES:
                record = cloud.record("good", stage, entry["index"])
                assert record.published and record.files
                assert all(sizes[f"{folder}/{file.path}"] == file.size for file in record.files)
            assert sizes[f"{folder}/{layout.CONTACT_SHEET}"] > 0
            splat = record.file(layout.SPLAT_PLY)
            assert splat is not None
            assert entry["export_path"] == f"{folder}/{layout.SPLAT_PLY}"
            assert hashlib.sha256(cloud.read("good", entry["export_path"])).hexdigest() == splat.sha256
        assert not [key for key in sizes if "/.attempts/" in key]

    def test_nothing_but_records_and_pages_passed_through_the_pipeline(
        self, cloud: Cloud, good: dict[str, Any]
    ) -> None:
        files = [path for path in cloud.session.pipeline_root.rglob("*") if path.is_file()]
        given_on = [path.read_bytes() for path in files if path.name == "record.json"]
        assert {cloud.read("good", key) for key in cloud.record_keys("good")} <= set(given_on)
        assert max(path.stat().st_size for path in files) < 4_000_000
        assert not [path for path in files if path.suffix in (".png", ".ply")]


class TestTrouble:
    """One job has a photo cut short, the container of another is killed in stage 2, and a third comes after both."""

    @dataclass(frozen=True)
    class Runs:
        """What is left of the first run once the second went on from it."""

        first: dict[str, Any]
        killed: Killed
        record_keys: set[str]
        failures: dict[str, StageRecord]
        second: dict[str, Any]

    @pytest.fixture(scope="class")
    @staticmethod
    def runs(cloud: Cloud, docker_engine: Engine) -> Runs:
        with killing(docker_engine.host, "trajectory", KILLED) as killed:
            first = cloud.run((1, 2), "trouble", indices="3-5", continue_on_error=True)
        lost = killed.result()
        failures = {
            stage: cloud.record("trouble", stage, index, layout.failed_record)
            for index, stage in ((CUT_SHORT, "scaffold"), (KILLED, "trajectory"))
        }
        keys = cloud.record_keys("trouble")
        second = cloud.run((2, 3), "trouble", indices="4-5")
        return TestTrouble.Runs(first, lost, keys, failures, second)

    def test_hard_failure_leaves_the_others_alone(self, cloud: Cloud, runs: Runs) -> None:
        summary = runs.first
        assert statuses(summary) == ["failed", "failed", "success"]
        assert counts(summary) == {"total": 3, "success": 1, "failed": 2}
        assert summary["failed_indices"] == "3-4"
        assert [entry["stages_completed"] for entry in summary["results"]] == [[], [1], [1, 2]]
        error = summary["results"][0]["error"]
        assert (error["stage"], error["class"]) == ("scaffold", "user")
        assert f"{CUT_SHORT}.png" in error["where"] + error["message"]
        assert summary["results"][2]["error"] is None
        assert cloud.record("trouble", "trajectory", SIBLING).run_id == summary["run_id"]

    def test_killed_container_is_told_of_as_no_record(self, runs: Runs) -> None:
        assert runs.killed.exit_code == 128 + 9
        error = runs.first["results"][1]["error"]
        assert (error["stage"], error["class"]) == ("trajectory", "infrastructure")
        assert error["message"].startswith("no_record")

    def test_failure_was_recorded_by_the_pod_and_the_loss_by_the_summary(self, runs: Runs) -> None:
        assert runs.record_keys == {
            layout.failed_record(job(CUT_SHORT), "scaffold"),
            layout.record(job(KILLED), "scaffold"),
            layout.failed_record(job(KILLED), "trajectory"),
            layout.record(job(SIBLING), "scaffold"),
            layout.record(job(SIBLING), "trajectory"),
        }
        failed, lost = runs.failures["scaffold"], runs.failures["trajectory"]
        assert failed.error is not None and failed.seconds > 0
        assert lost.error is not None and lost.seconds == 0
        assert failed.run_id == lost.run_id == runs.first["run_id"]

    def test_containers_were_hardened(self, runs: Runs) -> None:
        assert runs.killed.config["User"] == "10001:10001"
        given = runs.killed.host_config
        assert given["ReadonlyRootfs"] and not given["Privileged"]
        assert given["CapDrop"] == ["ALL"]
        assert given["SecurityOpt"] == ["no-new-privileges"]

    def test_later_stages_go_on_from_the_run_before(self, cloud: Cloud, runs: Runs) -> None:
        first, second = runs.first["run_id"], runs.second["run_id"]
        assert first != second
        assert runs.second["only_stages"] == [2, 3]
        entries = {entry["index"]: entry for entry in runs.second["results"]}
        for index, makers in ((KILLED, [first, second, second]), (SIBLING, [first, first, second])):
            assert (entries[index]["status"], entries[index]["stages_completed"]) == ("success", [1, 2, 3])
            assert [cloud.record("trouble", stage, index).run_id for stage in STAGES] == makers
            assert cloud.sizes("trouble")[entries[index]["export_path"]] > 0
            imported = f"{layout.run_input(second, job(index))}/record.json"
            assert cloud.read("trouble", imported) == cloud.read("trouble", layout.record(job(index), "scaffold"))


class TestStop:
    @pytest.fixture(scope="class")
    @staticmethod
    def stopped(cloud: Cloud) -> dict[str, Any]:
        """The same jobs one after the other, and no going on."""
        return cloud.run((1, 2, 3), "stop", parallelism=1, indices="3-5", continue_on_error=False)

    def test_first_failure_stops_the_rest(self, cloud: Cloud, stopped: dict[str, Any]) -> None:
        assert statuses(stopped) == ["failed", "skipped", "skipped"]
        assert counts(stopped) == {"total": 3, "failed": 1, "skipped": 2}
        assert stopped["failed_indices"] == "3"
        reason = "photorealistic/index_0003 failed in scaffold, and continue_on_error is not set"
        assert [entry["reason"] for entry in stopped["results"][1:]] == [reason] * 2
        assert cloud.read("stop", layout.abort_marker(stopped["run_id"])).decode() == reason

    def test_stopped_jobs_left_nothing(self, cloud: Cloud, stopped: dict[str, Any]) -> None:
        failure = layout.failed_record(job(CUT_SHORT), "scaffold")
        assert cloud.record_keys("stop") == {failure}
        assert cloud.record("stop", "scaffold", CUT_SHORT, layout.failed_record).run_id == stopped["run_id"]
        for index in (KILLED, SIBLING):
            assert not [key for key in cloud.sizes("stop") if key.startswith(f"{layout.job_folder(job(index))}/")]
