"""The pods of a run one after the other, in this process, with the tiny engine.

cluster = Cluster(Workbench(tmp_path, samples=2), tmp_path)
summary = cluster.run()
assert summary["success"] == 2
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from builders import STAGES, Workbench, small_engine

from worldexplorer import layout
from worldexplorer.pod.executor import Executor
from worldexplorer.pod.parameters import flag_parameters
from worldexplorer.pod.plan import run_plan
from worldexplorer.pod.run_file import RunFile
from worldexplorer.pod.stage import ARTIFACTS, run_stage
from worldexplorer.pod.summary import run_summary
from worldexplorer.storage import Storage, open_storage
from worldexplorer.worker import EngineLoader

RUN_ID = "8b1f6c1e-run"
JOB = "photorealistic/index_0000"

OUTPUTS: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "plan": (("jobs", "pending"), ("report",)),
    "batch_summary": (("failed_indices",), ("summary", "report", "table", "metrics")),
    **{stage: ((), (ARTIFACTS[stage], "preview", "metrics")) for stage in STAGES},
}
"""The output parameters and artifacts of each task."""


def parameters_of(bench: Workbench, **changes: Any) -> dict[str, Any]:
    """The settings of a run as a pipeline passes them; the smallest worlds."""
    values = {one.name: one.default for one in flag_parameters()}
    small = {"engine": "preview", "num_seva_frames": 8, "trajectory_order": "in"}
    places = {"dataset_dir": str(bench.data), "output_base": str(bench.output)}
    assert changes.keys() <= values.keys(), changes
    return {**values, **places, **small, **changes}


@dataclass(frozen=True)
class Done:
    """How a pod ended.

    Attributes:
        code: the exit code of a stage; 0 for the others, whose errors are raised.
        folder: where its artifacts lie, each by its name.
        output: its output file, None where it wrote none.
    """

    code: int
    folder: Path
    output: dict[str, Any] | None

    @property
    def parameters(self) -> dict[str, Any]:
        assert self.output is not None
        found: dict[str, Any] = self.output["parameterValues"]
        return found

    def metadata(self, name: str) -> dict[str, Any]:
        assert self.output is not None
        found: dict[str, Any] = self.output["artifacts"][name]["artifacts"][0]["metadata"]
        return found

    def text(self, name: str) -> str:
        return (self.folder / name).read_text()


@dataclass
class Cluster:
    """Runs over one workbench."""

    bench: Workbench
    folder: Path
    run_id: str = RUN_ID
    load: EngineLoader = small_engine
    dataset_dir: str = ""
    """Elsewhere than in the workbench's data folder."""
    output_base: str = ""
    """Elsewhere than in the workbench's output folder."""
    pods: int = field(default=0, init=False)

    def executor(
        self, task: str, parameters: Mapping[str, Any], inputs: Mapping[str, Path] | None = None
    ) -> tuple[Executor, Path]:
        """What a pod is started with, and the folder of its artifacts, which is not made."""
        self.pods += 1
        folder = self.folder / "pods" / str(self.pods)
        names, artifacts = OUTPUTS[task]
        document = {
            "inputs": {
                "parameterValues": dict(parameters),
                "artifacts": {
                    name: {"artifacts": [{"name": "7", "uri": str(path)}]} for name, path in (inputs or {}).items()
                },
            },
            "outputs": {
                "parameters": {name: {"outputFile": str(folder / "parameters" / name)} for name in names},
                "artifacts": {name: {"artifacts": [{"name": name, "uri": str(folder / name)}]} for name in artifacts},
                "outputFile": str(folder / "deep" / "output.json"),
            },
        }
        return Executor.parse(json.dumps(document)), folder

    def plan(self, stages: Sequence[int] = (1, 2, 3), **settings: Any) -> Done:
        values = {"only_stages": " ".join(map(str, stages)), "run_id": self.run_id, **self._base()}
        settings = {"dataset_dir": self.dataset_dir or str(self.bench.data), **settings}
        executor, folder = self.executor("plan", parameters_of(self.bench, **settings) | values)
        run_plan(executor, self.load)
        return _done(0, executor, folder)

    def stage(self, stage: str, before: Path | None = None, job: str = JOB) -> Done:
        values = {**self._base(), "run_id": self.run_id, "job_id": job}
        inputs = {} if before is None else {ARTIFACTS[STAGES[STAGES.index(stage) - 1]]: before}
        executor, folder = self.executor(stage, values, inputs)
        return _done(run_stage(executor, stage, self.load), executor, folder)

    def job(self, planned: Mapping[str, str], stages: Sequence[int] = (1, 2, 3)) -> Done:
        """The stages of one job until one fails; the last that ran."""
        before = Path(planned["upstream_uri"]) if planned["upstream_uri"] else None
        for number in stages:
            stage = STAGES[number - 1]
            done = self.stage(stage, before, planned["job_id"])
            if done.code != 0:
                break
            before = done.folder / ARTIFACTS[stage]
        return done

    def close(self) -> Done:
        executor, folder = self.executor("batch_summary", {**self._base(), "run_id": self.run_id})
        run_summary(executor, self.load)
        return _done(0, executor, folder)

    def run(self, stages: Sequence[int] = (1, 2, 3), **settings: Any) -> dict[str, Any]:
        """A whole run; its summary."""
        for planned in self.plan(stages, **settings).parameters["jobs"]:
            self.job(planned, stages)
        self.close()
        return self.summary()

    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.storage.read(layout.SUMMARY))
        return found

    def run_file(self) -> RunFile:
        return RunFile.load(self.storage, self.run_id)

    def again(self, run_id: str) -> Cluster:
        """Another run over the same data set and output."""
        return replace(self, folder=self.folder / run_id, run_id=run_id)

    @property
    def storage(self) -> Storage:
        return open_storage(self._base()["output_base"])

    def _base(self) -> dict[str, str]:
        return {"output_base": self.output_base or str(self.bench.output)}


def statuses(summary: Mapping[str, Any]) -> list[str]:
    return [entry["status"] for entry in summary["results"]]


def _done(code: int, executor: Executor, folder: Path) -> Done:
    file = executor.output_file
    return Done(code, folder, json.loads(file.read_text()) if file.exists() else None)
