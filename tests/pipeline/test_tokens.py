"""Tokens: where they come from, what happens when they expire, and that nobody sees them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pipeline.driver import QUICK, Driver, dataset, drive, server, submit
from pipeline.fake_kfp import FakeKubeflow, Fault, Request, state

from pipelines.connection import FileToken, NoToken, connect_settings

__all__ = ["drive", "server"]


def test_a_token_file_that_is_renewed_is_read_again(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    server.script = [state("RUNNING")] * 3 + [state("SUCCEEDED")]
    server.tokens = {"first-token"}
    file = tmp_path / "token"
    file.write_text("first-token\n")
    (run_id,) = submit(drive, tmp_path, 1, "--token_file", str(file))
    looks = []

    def expire(request: Request) -> None:
        looks.append(request)
        if len(looks) == 3:
            server.tokens = {"second-token"}
            file.write_text("second-token")

    server.on_request = expire
    outcome = drive("wait", run_id, *QUICK, "--token_file", str(file), "--json")
    assert outcome.code == 0, outcome.err
    used = [one.token for one in looks]
    assert used == ["first-token"] * 3 + ["second-token"] * (len(used) - 3)
    assert "first-token" not in outcome.out + outcome.err
    assert "second-token" not in outcome.out + outcome.err


def test_a_token_that_stays_refused_is_not_tried_for_ever(
    drive: Driver, server: FakeKubeflow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KF_PIPELINES_TOKEN", "super-secret-value")
    server.tokens = {"another"}
    outcome = drive("submit", *dataset(tmp_path, 1))
    assert outcome.code == 6
    assert "the environment variable KF_PIPELINES_TOKEN" in outcome.err
    assert "super-secret-value" not in outcome.err
    assert "[redacted]" in outcome.err  # the server had repeated it
    assert len(server.requests) == 1
    server.tokens = {"super-secret-value"}
    assert drive("submit", *dataset(tmp_path, 1)).code == 0


def test_a_missing_right_is_told_from_a_wrong_token(drive: Driver, server: FakeKubeflow) -> None:
    server.faults = [Fault(".*/healthz", status=403, body='{"message": "User is not authorized: RBAC"}')]
    outcome = drive("status")
    assert outcome.code == 6
    assert "this token may not do that: User is not authorized: RBAC" in outcome.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--token_env", "NOT_SET"], "NOT_SET is not set"),
        (["--token_file", "nowhere"], "cannot be read"),
        (["--token_env", "A", "--token_file", "b"], "two tokens"),
    ],
)
def test_tokens_that_are_none(drive: Driver, words: list[str], said: str) -> None:
    outcome = drive("status", *words)
    assert outcome.code == 2
    assert said in outcome.err


def test_a_file_with_more_than_a_token(drive: Driver, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("Bearer abcdefgh12345678")
    outcome = drive("status", "--token_file", str(tmp_path / "token"))
    assert outcome.code == 2
    assert "abcdefgh12345678" not in outcome.err


def test_in_a_pod_everything_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: FakeKubeflow) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    projected = tmp_path / "token"
    monkeypatch.setattr("pipelines.connection.PROJECTED_TOKEN", projected)
    bare = connect_settings()
    assert (bare.host, bare.ui_host) == ("http://ml-pipeline.kubeflow.svc.cluster.local:8888", "")
    assert bare.token == NoToken()
    assert bare.run_url("x") == ""
    projected.write_text("a-projected-token")
    assert connect_settings().token == FileToken(projected)
    assert connect_settings(kubeflow_namespace="ml").host == "http://ml-pipeline.ml.svc.cluster.local:8888"
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "other"))
    assert connect_settings().token == FileToken(tmp_path / "other")
    monkeypatch.setenv("KF_PIPELINES_TOKEN", "from-the-environment")
    assert connect_settings().token.read() == "from-the-environment"


def test_a_server_without_tls_behind_https(drive: Driver, server: FakeKubeflow) -> None:
    outcome = drive("status", "--host", server.url.replace("http:", "https:"))
    assert outcome.code == 6
    assert "no secure connection" in outcome.err
    assert "--ca_file" in outcome.err


def test_the_environment_s_proxy_is_used_except_where_it_says_otherwise(
    drive: Driver, server: FakeKubeflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", server.url.replace("http://", "http://user:proxy-pass@"))
    words = ["status", "--patience", "0.01s"]
    assert drive(*words, "--host", "http://kubeflow.invalid").code == 0  # this server answers for it, as a proxy does
    assert server.count("GET /apis/v2beta1/healthz") == 1
    monkeypatch.setenv("no_proxy", "kubeflow.invalid")
    outcome = drive(*words, "--host", "http://kubeflow.invalid")
    assert outcome.code == 6
    assert "proxy-pass" not in outcome.err
