"""The gate: what runs have really made decides, not the state of the runs and not an old summary."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pipeline.cluster import make_worlds
from pipeline.driver import QUICK, SMALL, Driver, dataset, drive, server, submit
from pipeline.fake_kfp import FakeKubeflow, state

from worldexplorer.errors import TransientError, UserError
from worldexplorer.storage import LocalStorage

pytestmark = pytest.mark.slow

__all__ = ["drive", "server"]


@pytest.mark.slow
def test_the_gate_opens_when_every_job_succeeded(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    server.on_run = make_worlds()
    words = [*dataset(tmp_path, 2), *SMALL, "--max_jobs_per_run", "1", "--gate", *QUICK]
    outcome = drive("submit", *words, "--json")
    assert outcome.code == 0, outcome.err
    summary = outcome.event("summary")
    assert (summary["total"], summary["success"]) == (2, 2)
    stored = json.loads((tmp_path / "output" / "batch_summary.json").read_text())
    assert summary["results"] == stored["results"]
    text = drive("wait", *server.runs, "--gate", *QUICK, "--log_format", "text")
    assert text.code == 0
    assert "photorealistic/index_0001" in text.out
    assert "look at" in text.out


def test_the_gate_stays_closed_for_a_failed_job_of_a_run_that_succeeded(
    drive: Driver, server: FakeKubeflow, tmp_path: Path
) -> None:
    server.on_run = make_worlds(fails={1})
    outcome = drive("wait", *submit(drive, tmp_path, 2), "--gate", *QUICK, "--json")
    assert outcome.code == 1
    assert outcome.event("summary")["failed_indices"] == "1"


def test_the_gate_opens_for_a_failed_run_whose_jobs_all_succeeded(
    drive: Driver, server: FakeKubeflow, tmp_path: Path
) -> None:
    server.on_run = make_worlds()
    server.script = [state("FAILED")]
    outcome = drive("wait", *submit(drive, tmp_path), "--gate", *QUICK, "--json")
    assert outcome.code == 0
    assert "every job succeeded, though not every run did (FAILED)" in outcome.event("note")["message"]


def test_an_old_summary_opens_no_gate(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    server.on_run = make_worlds()
    submit(drive, tmp_path, 1)
    before = (tmp_path / "output" / "batch_summary.json").read_bytes()
    server.on_run = make_worlds(leaves={1}, writes_summary=False)
    outcome = drive("wait", *submit(drive, tmp_path, 2), "--gate", *QUICK, "--json")
    assert outcome.code == 1
    assert outcome.event("summary")["skipped"] == 1
    assert "is older than the runs" in outcome.event("note")["message"]
    assert (tmp_path / "output" / "batch_summary.json").read_bytes() == before  # the gate writes nothing


def test_results_from_before_a_run_that_was_to_replace_them_open_no_gate(
    drive: Driver, server: FakeKubeflow, tmp_path: Path
) -> None:
    server.on_run = make_worlds()
    submit(drive, tmp_path, 1)
    server.on_run = make_worlds(leaves={0}, writes_summary=False)
    outcome = drive("wait", *submit(drive, tmp_path, 1, "--force", "--seed", "3"), "--gate", *QUICK, "--json")
    assert outcome.code == 1
    assert any("was to make scaffold again" in one.get("message", "") for one in outcome.events())


def test_a_run_without_a_plan_opens_no_gate(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    server.on_run = make_worlds()
    submit(drive, tmp_path, 1)
    server.on_run = lambda run: None
    (run_id,) = submit(drive, tmp_path, 1)
    folder = tmp_path / "output" / "runs" / run_id
    outcome = drive("wait", run_id, "--gate", *QUICK, "--json")
    assert outcome.code == 1
    assert f"run {run_id} left no plan" in outcome.event("note")["message"]
    folder.mkdir(parents=True)
    (folder / "plan.failed.json").write_text('{"error": "metadata.json is not JSON"}')
    outcome = drive("wait", run_id, "--gate", *QUICK, "--json")
    assert "metadata.json is not JSON" in outcome.event("note")["message"]


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (TransientError("the bucket does not answer", remedy="run it again"), "What to do: judge them again: "),
        (UserError("access is refused", remedy="sign in"), "What to do: sign in; then judge them again: "),
    ],
)
def test_results_that_cannot_be_read_at_the_end_are_no_failed_job(
    drive: Driver,
    server: FakeKubeflow,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    advice: str,
) -> None:
    class Silent(LocalStorage):
        def read(self, key: str) -> bytes:
            raise error

    (run_id,) = submit(drive, tmp_path)
    monkeypatch.setattr("pipelines.commands.waiting.open_storage", lambda uri: Silent(Path(uri)))
    outcome = drive("wait", run_id, "--gate", *QUICK, "--json")
    assert outcome.code == 6
    assert advice in outcome.err
    assert outcome.err.rstrip().endswith(f"wait {run_id} --gate")


def test_a_cancelled_run_closes_the_gate_with_its_own_code(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    server.on_run = make_worlds(leaves={1}, writes_summary=False)
    server.script = [state("CANCELED")]
    assert drive("wait", *submit(drive, tmp_path, 2), "--gate", *QUICK).code == 4


def test_one_of_several_runs_without_a_plan_keeps_it_closed(
    drive: Driver, server: FakeKubeflow, tmp_path: Path
) -> None:
    server.on_run = make_worlds()
    run_ids = submit(drive, tmp_path, 1)
    server.on_run = lambda run: None
    run_ids += submit(drive, tmp_path, 1)
    outcome = drive("wait", *run_ids, "--gate", *QUICK, "--json")
    assert outcome.code == 1
    assert outcome.event("summary")["success"] == 1
    assert drive("wait", run_ids[0], "--gate", *QUICK).code == 0
