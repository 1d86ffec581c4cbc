"""An access token in a pod's environment reaches nothing that the pod leaves: records, outputs, pages, log."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import (
    SmallEngine,
    Workbench,
    no_waiting_for_the_disk,  # noqa: F401 (a fixture that is used without being named)
)
from pod.pods import Cluster, statuses

from worldexplorer.errors import UsageError
from worldexplorer.pod.log import log_lines

TOKENS = {"HF_TOKEN": "canary-4f9d0e77-of-no-known-form", "OTHER": "hf_CanaryCanary0123"}
"""One that is known by its variable's name, and one by its form."""


class Telling(SmallEngine):
    """Tells its secrets wherever it can, then fails with them."""

    def train(self, *arguments: Any) -> Any:
        for token in TOKENS.values():
            logging.getLogger("worldexplorer.test").warning("downloading with %s", token)
        try:
            raise ConnectionError(f"401 for Bearer {TOKENS['HF_TOKEN']}")
        except ConnectionError as error:
            raise ValueError(f"no weights with {TOKENS['OTHER']}") from error


def found(folder: Path) -> list[str]:
    """Files that hold a token."""
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and any(token.encode() in path.read_bytes() for token in TOKENS.values())
    ]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    for name, token in TOKENS.items():
        monkeypatch.setenv(name, token)
    return Cluster(Workbench(tmp_path), tmp_path, load=lambda batch: Telling())


def test_failing_run_keeps_its_tokens(cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with log_lines(sys.stdout):
        (planned,) = cluster.plan().parameters["jobs"]
    assert cluster.job(planned).code == 1
    with log_lines(sys.stdout):
        done = cluster.close()
    assert statuses(cluster.summary()) == ["failed"]
    log = capfd.readouterr()
    error = cluster.bench.failure("splat").error
    assert error is not None
    assert error.message == "ValueError: no weights with [redacted]"
    assert any("401 for Bearer [redacted]" in line for line in error.log_tail)
    assert "downloading with [redacted]" in log.out
    assert "[redacted]" in done.text("report")
    assert found(tmp_path) == []
    assert not any(token in log.out + log.err for token in TOKENS.values())


def test_plan_that_fails_keeps_them(cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with log_lines(sys.stdout), pytest.raises(UsageError):
        cluster.plan(dataset_dir=f"/no/{TOKENS['HF_TOKEN']}")
    with log_lines(sys.stdout):
        done = cluster.close()
    log = capfd.readouterr()
    assert "/no/[redacted]" in log.out
    assert "/no/[redacted]" in done.text("summary")
    assert found(tmp_path) == []
    assert not any(token in log.out + log.err for token in TOKENS.values())


def test_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    (tmp_path / "leak").write_text(f"token: {TOKENS['HF_TOKEN']}")
    assert found(tmp_path) == ["leak"]
