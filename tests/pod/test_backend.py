"""Every task as a backend starts it: artifacts in a bucket, numbers as floating-point ones, the launcher around it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from builders import Workbench
from kfp.dsl.base_component import BaseComponent
from launcher import ContainerTask, Done, Launcher
from pod.pods import JOB, RUN_ID, parameters_of

from components.batch_summary.component import batch_summary
from components.plan.component import plan
from components.scaffold.component import scaffold
from components.splat.component import splat
from components.trajectory.component import trajectory
from worldexplorer.pod.plan import RECORD_NAME
from worldexplorer.records import StageRecord

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
STAGES: Mapping[str, BaseComponent] = {"scaffold": scaffold, "trajectory": trajectory, "splat": splat}


class Backend:
    """One data set and one backend."""

    def __init__(self, folder: Path, samples: int) -> None:
        self.bench = Workbench(folder, samples)
        self.launcher = Launcher(folder / "backend", environment={"PYTHONPATH": str(ROOT)})
        self.places = {"output_base": str(self.bench.output), "run_id": RUN_ID}

    def run(
        self,
        component: BaseComponent,
        parameters: Mapping[str, Any],
        artifacts: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Done:
        passed = {name: float(value) if type(value) is int else value for name, value in parameters.items()}
        return self.launcher.run(ContainerTask.of_component(component), passed, artifacts)

    def plan(self, **settings: Any) -> Done:
        values = parameters_of(self.bench, preset="smoke", **settings)
        return self.run(plan, values | {"only_stages": "1 2 3", "run_id": RUN_ID})

    def content(self, done: Done, name: str) -> bytes:
        return self.launcher.object_path(done.artifacts[name]["uri"]).read_bytes()


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Backend:
    return Backend(tmp_path_factory.mktemp("backend"), samples=2)


@pytest.fixture(scope="module")
def done(backend: Backend) -> Mapping[str, Done]:
    """Every task of a run whose second job's pod never started."""
    results = {"plan": backend.plan(continue_on_error=True)}
    artifacts: dict[str, Mapping[str, Any]] = {}
    for name, component in STAGES.items():
        results[name] = backend.run(component, {**backend.places, "job_id": JOB}, artifacts)
        assert results[name].failure == "", results[name].log
        artifacts = {key: one for key, one in results[name].artifacts.items() if key not in ("preview", "metrics")}
    results["batch_summary"] = backend.run(batch_summary, backend.places)
    return results


def test_plan_publishes_its_jobs(done: Mapping[str, Done]) -> None:
    assert done["plan"].failure == ""
    assert done["plan"].parameters == {
        "jobs": [{"job_id": f"photorealistic/index_{index:04d}", "upstream_uri": ""} for index in range(2)],
        "pending": "yes",
    }
    assert done["plan"].artifacts["report"]["metadata"]["scheduled"] == 2


@pytest.mark.parametrize(("stage", "artifact"), [("scaffold", "scaffold"), ("trajectory", "scene"), ("splat", "splat")])
def test_stage_publishes_its_record(backend: Backend, done: Mapping[str, Done], stage: str, artifact: str) -> None:
    published = done[stage].artifacts[artifact]
    lies = backend.launcher.object_path(published["uri"])
    assert [path.name for path in lies.iterdir()] == [RECORD_NAME]
    record = StageRecord.from_json((lies / RECORD_NAME).read_bytes(), where=stage)
    assert record == backend.bench.record(stage)
    assert published["metadata"]["fingerprint"] == record.fingerprint
    assert published["metadata"]["data_uri"] == f"{backend.bench.output}/{JOB}"
    assert published["metadata"]["engine_label"] == "synthesised preview"
    assert done[stage].artifacts["metrics"]["metadata"]["seconds"] == record.seconds
    assert b"synthesised preview" in backend.content(done[stage], "preview")


def test_log_of_a_stage_is_json(done: Mapping[str, Done]) -> None:
    events = [json.loads(line)["event"] for line in done["splat"].log.splitlines() if line.startswith("{")]
    assert (events[0], events[-1]) == ("job_started", "job_finished")


def test_summary_is_published(backend: Backend, done: Mapping[str, Done]) -> None:
    ending = done["batch_summary"]
    assert ending.failure == ""
    assert ending.parameters == {"failed_indices": "1"}
    summary = json.loads(backend.content(ending, "summary"))
    assert [entry["status"] for entry in summary["results"]] == ["success", "failed"]
    assert summary["results"][1]["error"]["message"].startswith("no_record")
    assert ending.artifacts["metrics"]["metadata"]["success"] == 1
    assert JOB.encode() in backend.content(ending, "report")


def test_failed_stage_publishes_nothing(backend: Backend, done: Mapping[str, Done]) -> None:
    given = {"scaffold": done["trajectory"].artifacts["scene"]}  # the record of another stage
    failed = backend.run(trajectory, {**backend.places, "job_id": JOB}, given)
    assert (failed.failure, failed.artifacts) == ("exit code 1", {})
    assert "another run replaced the scaffold" in failed.log


def test_failed_plan_publishes_nothing(tmp_path: Path) -> None:
    backend = Backend(tmp_path, samples=1)
    failed = backend.plan(indices="7")
    assert (failed.failure, failed.parameters) == ("exit code 2", {})
    assert "no such index: 7" in failed.log


def test_imported_artifact_without_bytes(backend: Backend, done: Mapping[str, Done]) -> None:
    nothing = {"scaffold": backend.launcher.import_artifact("gs://elsewhere/nothing")}
    failed = backend.run(trajectory, {**backend.places, "job_id": JOB}, nothing)
    assert failed.failure == "exit code 1"
    assert "the artifact scaffold has no record" in failed.log
