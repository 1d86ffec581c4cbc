"""`submit`: what goes out, what is refused before, and what happens when the API does not do its part."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from pipeline.driver import SMALL, Driver, dataset, drive, server
from pipeline.fake_kfp import FakeKubeflow, Fault, Request, state
from pipeline.strictness import RefusalError, check_pipeline

from pipelines.cli import main
from pipelines.compile import compiled_path
from pipelines.package import read_package
from pipelines.parameters import RUN_PARAMETERS
from worldexplorer.errors import TransientError, UsageError
from worldexplorer.selection import parse_indices

pytestmark = pytest.mark.slow

__all__ = ["drive", "server"]


def test_one_run_with_every_parameter_named(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    words = dataset(tmp_path, 3)
    outcome = drive(
        "submit", *words, *SMALL, "--json", "--seed", "7", "--continue_on_error", "--hfov=65", "--param", "gpu_count=0",
        "--node_selector", '{"pool": "cpu"}', "--run_name", "nightly", "--pipeline_root", "gs://bucket/root",
        "--service_account", "worldexplorer-runner", "--experiment", "tests",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    (run,) = server.runs.values()
    arguments = run["runtime_config"]["parameters"]
    assert set(arguments) == set(RUN_PARAMETERS)
    assert (arguments["seed"], arguments["continue_on_error"], arguments["hfov"]) == (7, True, "65")
    assert (arguments["gpu_count"], arguments["node_selector"]) == ("0", {"pool": "cpu"})
    assert (arguments["indices"], arguments["trajectory_order"]) == ("", "in")
    assert run["display_name"] == "nightly"
    assert run["runtime_config"]["pipeline_root"] == "gs://bucket/root"
    assert run["service_account"] == "worldexplorer-runner"
    (experiment,) = server.experiments.values()
    assert (experiment["display_name"], experiment["experiment_id"]) == ("tests", run["experiment_id"])
    sent = outcome.event("submission")["runs"]
    assert [one["run_id"] for one in sent] == [run["run_id"]]
    assert sent[0]["jobs"] == 3
    assert sent[0]["url"] == f"{server.url}/#/runs/details/{run['run_id']}"


def test_what_goes_out_is_the_committed_package(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    assert drive("submit", *dataset(tmp_path, 1), "--stages", "2", "3").code == 0
    (run,) = server.runs.values()
    package = read_package(compiled_path((2, 3)))
    assert check_pipeline(run["pipeline_spec"]) == check_pipeline(dict(package.specification))
    assert run["pipeline_spec"]["platform_spec"] == package.platform


@pytest.mark.slow
def test_other_build_settings_are_compiled_for_the_run(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    assert drive("submit", *dataset(tmp_path, 1), "--parallelism", "9").code == 0
    (run,) = server.runs.values()
    text = json.dumps(run["pipeline_spec"])
    assert '"parallelismLimit": 9' in text
    assert '"parallelismLimit": 9' not in json.dumps(dict(read_package(compiled_path((1, 2, 3))).specification))


def test_250_jobs_become_three_runs_that_cover_each_sample_once(
    drive: Driver, server: FakeKubeflow, tmp_path: Path
) -> None:
    outcome = drive("submit", *dataset(tmp_path, 250), "--json", "--run_name", "big")
    assert outcome.code == 0, outcome.err
    ranges = [arguments["indices"] for arguments in server.arguments()]
    assert ranges == ["0-99", "100-199", "200-249"]
    covered = [index for text in ranges for index in parse_indices([text])]
    assert covered == list(range(250))
    assert len({arguments["output_base"] for arguments in server.arguments()}) == 1
    assert [run["display_name"] for run in server.runs.values()] == ["big 1 of 3", "big 2 of 3", "big 3 of 3"]
    assert [one["jobs"] for one in outcome.event("submission")["runs"]] == [100, 100, 50]


def test_no_split_sends_one_run_without_reading_the_data_set(drive: Driver, server: FakeKubeflow) -> None:
    place = ["--dataset_dir", "/mnt/nowhere/set", "--output_base", "gs://bucket/out"]
    refused = drive("submit", *place)
    assert refused.code == 2
    assert "--no_split" in refused.err
    assert not server.requests
    assert drive("submit", *place, "--no_split", "--indices", "0-9", "12").code == 0
    assert server.arguments()[0]["indices"] == "0-9 12"


def test_dry_run_prints_and_sends_nothing(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    words = dataset(tmp_path, 5)
    document = drive("submit", *words, "--dry_run", "--json", "--max_jobs_per_run", "2").event("dry_run")
    assert [run["indices"] for run in document["runs"]] == ["0-1", "2-3", "4"]
    assert document["runs"][0]["arguments"]["output_base"] == str(tmp_path / "output")
    text = drive("submit", *words, "--dry_run", "--log_format", "text").out
    assert "nothing was sent" in text
    assert "all samples, 5 jobs" in text
    assert not server.requests


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--param", "sead=1"], "perhaps seed was meant"),
        (["--sead", "1"], "perhaps --seed was meant"),
        (["--param", "seed=one"], "seed is 'one', not a whole number"),
        (["--param", "seed"], "NAME=VALUE"),
        (["--seed", "1", "--param", "seed=2"], "say it once"),
        (["--force", "maybe"], "not true or false"),
        (["--tolerations", "{}"], "not a JSON list"),
        (["--node_selector", "{pool: cpu"], "not a JSON object"),
        (["--scaffold_method", "magic"], "choose from single_image, scaffold_gen"),
        (["--num_seva_frames", "81"], "use 80 or 88"),
        (["--engine", "preview", "--steps", "20"], "--steps is about SEVA, which the preview engine has not"),
        (["--engine", "preview", "--anchors", "9"], "--anchors is for the full engine"),
        (["--stages", "1", "3"], "send --stages 1, and when it has ended --stages 3"),
        (["--stages", "4"], "without a gap"),
        (["--parallelism", "0"], "not a whole number from 1"),
        (["--max_jobs_per_run", "101"], "from 1 to 100"),
        (["--indices", "7"], "no such index"),
        (["--pipeline_root", "bucket/root"], "gs://"),
        (["--package", "nowhere.yaml"], "cannot be read"),
        (["--output_base", "output/batch"], "no pod sees"),
        (["--package", str(compiled_path((3,))), "--stages", "3"], "leave out --stages"),
        (["--package", str(compiled_path((3,))), "--only_stages", "1", "2"], "leave out --stages"),
        (["--watch", "--timeout", "foo"], "'foo' is not a time (--timeout)"),
        (["--gate", "--poll", "abc"], "'abc' is not a time (--poll)"),
        (["--watch", "--patience", "soon"], "'soon' is not a time (--patience)"),
        (["--gate", "--output_base", "s3://bucket/out"], "neither a local folder nor a bucket"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(
    drive: Driver, server: FakeKubeflow, tmp_path: Path, words: list[str], said: str
) -> None:
    outcome = drive("submit", *dataset(tmp_path, 2), *words)
    assert outcome.code == 2
    assert said in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not server.requests


@pytest.mark.parametrize("name", ["dataset_dir", "output_base"])
def test_what_is_required_is_asked_for(drive: Driver, tmp_path: Path, name: str) -> None:
    words = dataset(tmp_path, 1)
    place = words.index(f"--{name}")
    outcome = drive("submit", *words[:place], *words[place + 2 :])
    assert outcome.code == 2
    assert f"--{name} is missing" in outcome.err


def test_ids_that_cannot_be_written_down_stop_it_before_anything_is_sent(
    drive: Driver, server: FakeKubeflow, tmp_path: Path
) -> None:
    outcome = drive("submit", *dataset(tmp_path, 1), "--ids_file", str(tmp_path / "nowhere" / "ids"))
    assert outcome.code == 1
    assert not server.runs


def test_an_own_package_gets_what_it_knows_and_refuses_the_rest(
    drive: Driver, server: FakeKubeflow, tmp_path: Path
) -> None:
    older = tmp_path / "older.yaml"
    documents = list(yaml.safe_load_all(compiled_path((1,)).read_text()))
    del documents[0]["root"]["inputDefinitions"]["parameters"]["hfov"]
    older.write_text(yaml.safe_dump_all(documents))
    words = ["submit", *dataset(tmp_path, 1), "--package", str(older)]
    assert drive(*words).code == 0
    assert "hfov" not in server.arguments()[0]
    refused = drive(*words, "--hfov", "60")
    assert refused.code == 2
    assert "the package has no parameter 'hfov'" in refused.err


def test_a_file_that_is_no_package(drive: Driver, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("root: {dag: {}}\ndeploymentSpec: {}\nsurprise: 1\n")
    outcome = drive("submit", *dataset(tmp_path, 1), "--package", str(wrong))
    assert outcome.code == 2
    assert "surprise" in outcome.err


# When the API does not do its part


@pytest.mark.parametrize("patience", ["60s", "0.001s"])
def test_a_lost_answer_starts_no_second_run(drive: Driver, server: FakeKubeflow, tmp_path: Path, patience: str) -> None:
    server.faults = [Fault("POST /apis/v2beta1/runs", status=0, after=True)]
    outcome = drive("submit", *dataset(tmp_path, 1), "--json", "--patience", patience)
    assert outcome.code == 0, outcome.err
    (run_id,) = server.runs
    assert outcome.event("submission")["runs"][0]["run_id"] == run_id
    assert server.count("POST /apis/v2beta1/runs") == 1


def test_a_request_that_is_carried_out_late_is_waited_for(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    server.faults = [Fault("POST /apis/v2beta1/runs", status=504, late=3)]
    outcome = drive("submit", *dataset(tmp_path, 1), "--json")
    assert outcome.code == 0, outcome.err
    (run_id,) = server.runs
    assert outcome.event("submission")["runs"][0]["run_id"] == run_id
    assert server.count("POST /apis/v2beta1/runs") == 1
    assert server.count("GET /apis/v2beta1/runs") == 3


@pytest.mark.parametrize("look_fails", [False, True])
def test_a_run_that_was_started_twice_after_all_is_told_with_both_ids(
    drive: Driver, server: FakeKubeflow, tmp_path: Path, look_fails: bool
) -> None:
    looks = "GET /apis/v2beta1/runs"
    server.faults = [Fault("POST /apis/v2beta1/runs", status=504, late=5)]  # four looks, then the repetition

    def break_the_last_look(request: Request) -> None:
        if look_fails and len(server.runs) == 2:
            server.faults = [Fault(looks)] * 1000

    server.on_request = break_the_last_look
    outcome = drive("submit", *dataset(tmp_path, 1), "--json", "--patience", "2s")
    assert outcome.code == 0, outcome.err
    late, kept = server.runs
    assert outcome.event("submission")["runs"][0]["run_id"] == kept
    troubles = [one["message"] for one in outcome.events() if one["event"] == "trouble"]
    if look_fails:
        assert "could not be seen whether there is a second run" in troubles[-1]
    else:
        assert server.count(looks) == 5
        assert f"{kept} goes on here, and there is {late};" in troubles[-1]
        assert troubles[-1].endswith(f"cancel {late}")


def test_a_request_that_was_not_carried_out_is_sent_again(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    server.faults = [Fault("POST /apis/v2beta1/runs"), Fault("GET /apis/v2beta1/healthz", status=502)]
    outcome = drive("submit", *dataset(tmp_path, 1), "--json")
    assert outcome.code == 0
    assert len(server.runs) == 1
    assert [one["event"] for one in outcome.events()] == ["trouble", "trouble", "submitted", "submission"]


def test_a_run_that_was_never_started_is_said_to_be_none(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    server.faults = [Fault("POST /apis/v2beta1/runs")]
    outcome = drive("submit", *dataset(tmp_path, 1), "--patience", "0.001s")
    assert outcome.code == 6
    assert "the run could not be started" in outcome.err
    assert not server.runs


def test_an_experiment_that_somebody_else_makes_meanwhile(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    server.faults = [Fault("POST /apis/v2beta1/experiments", status=0, after=True)]
    assert drive("submit", *dataset(tmp_path, 1)).code == 0
    assert len(server.experiments) == 1


def test_a_failure_in_the_middle_says_what_went_out_and_how_to_go_on(
    drive: Driver, server: FakeKubeflow, tmp_path: Path
) -> None:
    def refuse_the_second(run: dict[str, object]) -> None:
        if len(server.runs) == 2:
            server.runs.pop(str(run["run_id"]))
            raise RefusalError(400, "quota of runs is used up")

    server.on_run = refuse_the_second
    words = dataset(tmp_path, 5)
    ids_file = tmp_path / "ids"
    outcome = drive("submit", *words, "--max_jobs_per_run", "2", "--json", "--ids_file", str(ids_file))
    assert outcome.code == 1
    (first,) = server.runs
    assert f"1 of 3 runs went out and go on: {first} (samples 0-1)" in outcome.err
    assert "quota of runs is used up" in outcome.err
    assert ids_file.read_text() == f"{first}\n"
    assert outcome.err.rstrip().endswith("--indices 2-3 4")
    assert outcome.event("submitted")["run_id"] == first
    server.on_run = lambda run: None
    assert drive("submit", *words, "--max_jobs_per_run", "2", "--indices", "2-3", "4").code == 0
    covered = [index for arguments in server.arguments() for index in parse_indices([arguments["indices"]])]
    assert covered == [0, 1, 2, 3, 4]


def test_a_server_that_is_not_there(capsys: pytest.CaptureFixture[str], server: FakeKubeflow, tmp_path: Path) -> None:
    words = ["submit", *dataset(tmp_path, 1), "--host", "http://127.0.0.1:9", "--patience", "0.01s"]
    assert main(words) == 6
    assert "cannot be reached" in capsys.readouterr().err


def test_a_login_page_is_no_answer(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    html = (("Content-Type", "text/html; charset=utf-8"),)
    server.faults = [Fault(".* /apis/v2beta1/healthz", status=200, headers=html, body="<html>log in</html>")]
    outcome = drive("submit", *dataset(tmp_path, 1))
    assert outcome.code == 6
    assert "login page" in outcome.err
    server.faults = [Fault(".* /apis/v2beta1/healthz", status=302, headers=(("Location", "/dex"),), body="")]
    outcome = drive("submit", *dataset(tmp_path, 1))
    assert outcome.code == 6
    assert "login page" in outcome.err


def test_another_server_s_json_is_no_run(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    server.faults = [Fault("POST /apis/v2beta1/runs", status=200, body="{}")]
    outcome = drive("submit", *dataset(tmp_path, 1))
    assert outcome.code == 1
    assert "the answer holds no run" in outcome.err


def test_where_the_api_is(
    server: FakeKubeflow, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["submit", *dataset(tmp_path, 1), "--json"]
    assert main(words) == 2
    assert "KF_PIPELINES_ENDPOINT" in capsys.readouterr().err
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
    monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", "https://ui.example.com/pipeline/")
    assert main(words) == 0
    event = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert event["runs"][0]["url"].startswith("https://ui.example.com/pipeline/#/runs/details/")
    assert main([*words, "--host", "https://user:secret@example.com"]) == 2
    assert "secret" not in capsys.readouterr().err


def test_profiles_need_a_namespace(
    drive: Driver, server: FakeKubeflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.multi_user = True
    words = ["submit", *dataset(tmp_path, 1)]
    refused = drive(*words)
    assert refused.code == 2
    assert "--namespace" in refused.err
    assert drive(*words, "--namespace", "alice").code == 0
    monkeypatch.setattr("pipelines.client.POD_NAMESPACE", tmp_path / "namespace")
    (tmp_path / "namespace").write_text("bob\n")
    assert drive(*words, "--experiment", "other").code == 0
    assert [one["namespace"] for one in server.experiments.values()] == ["alice", "bob"]


@pytest.mark.parametrize(
    ("error", "code"),
    [(UsageError("there are no Google Cloud credentials"), 2), (TransientError("the bucket does not answer"), 6)],
)
def test_results_that_a_gate_cannot_read_are_told_before_anything_is_sent(
    drive: Driver, server: FakeKubeflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    opened = []

    def refuse(uri: str) -> None:
        opened.append(uri)
        raise error

    monkeypatch.setattr("pipelines.commands.waiting.open_storage", refuse)
    words = dataset(tmp_path, 1)
    outcome = drive("submit", *words, "--gate")
    assert outcome.code == code
    assert str(error) in outcome.err
    assert not server.requests
    assert opened == [words[3]]
    assert drive("submit", *words).code == 0  # without a gate nobody reads them here
    (run_id,) = server.runs
    outcome = drive("wait", run_id, "--gate", "--output_base", words[3])
    assert outcome.code == code
    assert server.count(f"GET /apis/v2beta1/runs/{run_id}") == 0
    server.script = [state("RUNNING")]
    assert drive("wait", run_id, "--gate", "--timeout", "20s").code == code  # where the run says that they are
    assert server.count(f"GET /apis/v2beta1/runs/{run_id}") == 1


def test_submit_and_watch(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    server.script = [state("PENDING"), state("RUNNING", {"plan": "SUCCEEDED", "jobs": "RUNNING"}), state("SUCCEEDED")]
    outcome = drive("submit", *dataset(tmp_path, 1), "--watch", "--poll", "0.01s", "--json")
    assert outcome.code == 0
    states = [(one["state"], one["tasks_done"]) for one in outcome.events() if one["event"] == "run"]
    assert states == [("PENDING", None), ("RUNNING", 1), ("SUCCEEDED", 1)]
