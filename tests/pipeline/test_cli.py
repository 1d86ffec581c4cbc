"""`compile`, `schedule`, help texts, and the SDK's own ways to the same API."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import kfp
import pytest
import yaml
from pipeline.driver import Driver, dataset, drive, server
from pipeline.fake_kfp import FakeKubeflow, Fault, Request, state

import pipelines.arguments
from pipelines.cli import COMMANDS, main
from pipelines.compile import compiled_path
from pipelines.exit_codes import CANCELED, FAILED, SUCCESS, worst
from pipelines.package import read_package
from pipelines.parameters import RUN_PARAMETERS
from pipelines.profiles import profile_names

pytestmark = pytest.mark.slow

__all__ = ["drive", "server"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"python -m pipelines {command}" in capsys.readouterr().out


def test_submit_has_a_flag_for_every_run_parameter_with_its_help(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "10000")  # words with hyphens are broken at the end of a line
    assert main(["submit", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for one in RUN_PARAMETERS.values():
        assert f"--{one.name} " in text
        assert " ".join(one.help.split()) in text


def test_an_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sumbit"]) == 2
    assert "perhaps submit was meant" in capsys.readouterr().err


def test_the_code_of_several_runs() -> None:
    assert worst([]) == SUCCESS
    assert worst([SUCCESS, CANCELED, SUCCESS]) == CANCELED
    assert worst([CANCELED, FAILED]) == FAILED


@pytest.mark.slow
def test_compile_one_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "mine.yaml"
    assert main(["compile", "--stages", "3", "--parallelism", "16", "--output", str(target)]) == 0
    assert capsys.readouterr().out == f"{target}\n"
    assert '"parallelismLimit": 16' in json.dumps(dict(read_package(target).specification))


def test_compile_keeps_own_settings_out_of_the_committed_packages(capsys: pytest.CaptureFixture[str]) -> None:
    before = compiled_path((1, 2, 3)).read_bytes()
    assert main(["compile", "--parallelism", "16"]) == 2
    assert "--output" in capsys.readouterr().err
    assert compiled_path((1, 2, 3)).read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("profile", profile_names())
def test_every_profile_can_be_sent(drive: Driver, server: FakeKubeflow, tmp_path: Path, profile: str) -> None:
    outcome = drive("submit", *dataset(tmp_path, 1), "--profile", profile)
    assert outcome.code == 0, outcome.err
    assert len(server.runs) == 1


def test_what_the_command_says_wins_over_the_profile(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("description: mine\nparameters: {seed: 3, cpu: '2'}\n")
    assert drive("submit", *dataset(tmp_path, 1), "--profile", str(own), "--seed", "4").code == 0
    (arguments,) = server.arguments()
    assert (arguments["seed"], arguments["cpu"]) == (4, "2")


def test_a_profile_that_is_none(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    assert drive("submit", *dataset(tmp_path, 1), "--profile", "no-such-cluster").code == 2
    assert not server.requests


# Recurring runs


def test_a_schedule_from_its_creation_to_its_end(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    words = [*dataset(tmp_path, 2), "--json"]
    made = drive("schedule", "create", "--name", "nightly", "--cron", "0 0 2 * * *", "--max_concurrency", "2", *words)
    assert made.code == 0, made.err
    (one,) = server.recurring_runs.values()
    assert one["trigger"] == {"cron_schedule": {"cron": "0 0 2 * * *"}}
    assert (one["max_concurrency"], one["no_catchup"], one["mode"]) == ("2", True, "ENABLE")
    assert one["runtime_config"]["parameters"]["dataset_dir"] == str(tmp_path / "data")
    recurring_run_id = made.event("scheduled")["recurring_run_id"]
    assert drive("schedule", "disable", recurring_run_id).code == 0
    (shown,) = json.loads(drive("schedule", "list", "--json").out)
    assert (shown["status"], shown["when"], shown["name"]) == ("DISABLED", "0 0 2 * * *", "nightly")
    assert drive("schedule", "enable", recurring_run_id).code == 0
    assert one["status"] == "ENABLED"
    assert "nightly" in drive("schedule", "list").out
    assert drive("schedule", "delete", recurring_run_id).code == 0
    assert "no recurring runs" in drive("schedule", "list").out


@pytest.mark.parametrize("action", ["disable", "enable", "delete"])
def test_a_change_tries_every_schedule(drive: Driver, server: FakeKubeflow, tmp_path: Path, action: str) -> None:
    ids = []
    for name in ("first", "second"):
        words = ["--name", name, "--every", "1d", *([] if action == "disable" else ["--disabled"])]
        made = drive("schedule", "create", *words, *dataset(tmp_path / name, 1), "--json")
        ids.append(made.event("scheduled")["recurring_run_id"])
    outcome = drive("schedule", action, "nothing", ids[0], "nowhere", ids[1], "--json")
    assert outcome.code == 2
    assert [(one["recurring_run_id"], "error" in one) for one in outcome.events()] == [
        ("nothing", True), (ids[0], False), ("nowhere", True), (ids[1], False),
    ]  # fmt: skip
    told = [line.split(":")[1] for line in outcome.err.splitlines()]
    assert told == [" recurring run nothing", " recurring run nowhere"]
    left = [one["status"] for one in server.recurring_runs.values()]
    assert left == {"disable": ["DISABLED"] * 2, "enable": ["ENABLED"] * 2, "delete": []}[action]


def test_a_schedule_by_interval_over_more_than_one_run(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    words = [*dataset(tmp_path, 3), "--max_jobs_per_run", "1", "--disabled", "--json"]
    made = drive("schedule", "create", "--name", "six-hourly", "--every", "6h", *words)
    assert made.code == 0, made.err
    assert [one["trigger"] for one in server.recurring_runs.values()] == [
        {"periodic_schedule": {"interval_second": "21600"}}
    ] * 3
    assert {one["mode"] for one in server.recurring_runs.values()} == {"DISABLE"}
    assert "samples added later are in none of them" in made.event("warning")["message"]
    listed = json.loads(drive("schedule", "list", "--json").out)  # the server turns a page after two
    assert [one["name"] for one in listed] == [f"six-hourly {number} of 3" for number in (1, 2, 3)]


def test_a_schedule_of_a_name_that_is_taken(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    words = ["schedule", "create", "--name", "nightly", "--every", "1d", *dataset(tmp_path, 1)]
    assert drive(*words).code == 0
    again = drive(*words)
    assert again.code == 2
    assert "there is a recurring run 'nightly' already" in again.err


def test_all_names_are_checked_before_the_first_schedule_is_made(
    drive: Driver, server: FakeKubeflow, tmp_path: Path
) -> None:
    taken = ["schedule", "create", "--name", "nightly 3 of 3", "--every", "1d", *dataset(tmp_path / "other", 1)]
    assert drive(*taken).code == 0
    words = ["--name", "nightly", "--every", "1d", *dataset(tmp_path, 3), "--max_jobs_per_run", "1"]
    outcome = drive("schedule", "create", *words)
    assert outcome.code == 2
    (known,) = server.recurring_runs
    assert "'nightly 3 of 3' already" in outcome.err
    assert f"schedule delete {known})" in outcome.err


def test_a_schedule_that_cannot_be_made_leaves_the_others_to_a_repetition(
    drive: Driver, server: FakeKubeflow, tmp_path: Path
) -> None:
    def refuse_the_second(request: Request) -> None:
        if (request.method, len(server.recurring_runs)) == ("POST", 1):
            server.faults = [Fault("POST /apis/v2beta1/recurringruns", status=400, body='{"message": "quota"}')]

    server.on_request = refuse_the_second
    words = [
        "schedule",
        "create",
        "--name",
        "nightly",
        "--every",
        "1d",
        *dataset(tmp_path, 3),
        "--max_jobs_per_run",
        "1",
    ]
    outcome = drive(*words)
    assert outcome.code == 1
    (first,) = server.recurring_runs
    assert f"1 of 3 schedules are there and go on: {first}. 'nightly 2 of 3' could not be made" in outcome.err
    assert "quota" in outcome.err
    server.on_request = lambda request: None
    other = drive(*words, "--seed", "4")
    assert other.code == 2  # not the same command: the first would stay as it is
    again = drive(*words, "--json")
    assert again.code == 0, again.err
    assert again.event("kept")["recurring_run_id"] == first
    assert [one["display_name"] for one in server.recurring_runs.values()] == [
        f"nightly {number} of 3" for number in (1, 2, 3)
    ]
    assert len({one["description"] for one in server.recurring_runs.values()}) == 3


def test_a_lost_answer_makes_no_second_schedule(drive: Driver, server: FakeKubeflow, tmp_path: Path) -> None:
    server.faults = [Fault("POST /apis/v2beta1/recurringruns", status=504, after=True)]
    outcome = drive("schedule", "create", "--name", "nightly", "--every", "1d", *dataset(tmp_path, 1), "--json")
    assert outcome.code == 0, outcome.err
    (made,) = server.recurring_runs
    assert outcome.event("scheduled")["recurring_run_id"] == made
    assert server.count("POST /apis/v2beta1/recurringruns") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "either --cron or --every"),
        (["--cron", "0 0 2 * * *", "--every", "1d"], "either --cron or --every"),
        (["--cron", "0 2 * * *"], 'perhaps "0 0 2 * * *" was meant'),
        (["--every", "5s"], "too often"),
        (["--every", "soon"], "not a time"),
        (["--every", "1d", "--max_concurrency", "11"], "1 to 10"),
    ],
)
def test_schedules_that_are_none(
    drive: Driver, server: FakeKubeflow, tmp_path: Path, words: list[str], said: str
) -> None:
    outcome = drive("schedule", "create", "--name", "nightly", *dataset(tmp_path, 1), *words)
    assert outcome.code == 2
    assert said in outcome.err
    assert not server.requests


# The SDK itself


def test_the_sdk_starts_the_committed_package(server: FakeKubeflow, tmp_path: Path) -> None:
    server.script = [state("SUCCEEDED")]
    with pytest.warns(FutureWarning):
        client = kfp.Client(host=server.url, namespace="alice")
    result = client.create_run_from_pipeline_package(
        str(compiled_path((1, 2, 3))),
        arguments={"dataset_dir": "gs://bucket/set", "output_base": "gs://bucket/out", "engine": "preview"},
        run_name="by the SDK",
        experiment_name="worldexplorer",
        enable_caching=False,
    )
    assert server.runs[result.run_id]["display_name"] == "by the SDK"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"output_base": "gs://b/o"}, "'dataset_dir' is missing"),
        ({"dataset_dir": "a", "output_base": "b", "sead": 1}, "unknown parameter 'sead'"),
        ({"dataset_dir": "a", "output_base": "b", "seed": "1"}, "'seed' is '1', not NUMBER_INTEGER"),
    ],
)
def test_the_server_refuses_what_the_sdk_does_not_check(
    server: FakeKubeflow, arguments: dict[str, object], said: str
) -> None:
    with pytest.warns(FutureWarning):
        client = kfp.Client(host=server.url, namespace="alice")
    with pytest.raises(Exception, match=said):
        client.create_run_from_pipeline_package(str(compiled_path((1,))), arguments=arguments)


@pytest.mark.slow
def test_the_sdk_s_command_line(server: FakeKubeflow) -> None:
    server.tokens = {"a-token"}
    words = [
        sys.executable, "-c", "from kfp.cli.__main__ import main; main()",
        "--endpoint", server.url, "--existing-token", "a-token", "--output", "json",
        "run", "create", "-e", "worldexplorer", "-r", "by kfp", "-f", str(compiled_path((2, 3))),
        "dataset_dir=gs://bucket/set", "output_base=gs://bucket/out", "seed=5", 'node_selector={"pool": "gpu"}',
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (arguments,) = server.arguments()
    assert (arguments["seed"], arguments["node_selector"]) == (5, {"pool": "gpu"})


def test_a_run_parameter_named_like_an_own_flag_keeps_its_long_form(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = pipelines.arguments.Parser(prog="x")
    parser.add_argument("--seed")
    pipelines.arguments.add_run_flags(parser, RUN_PARAMETERS)
    words = parser.parse_words(["--seed", "mine", "--param", "seed=4"])
    assert words.seed == "mine"
    assert pipelines.arguments.given_values(words, RUN_PARAMETERS) == {"seed": 4}


@pytest.mark.slow
def test_the_commands_of_the_documentation_are_understood(
    server: FakeKubeflow, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
    page = (ROOT / "docs" / "submitting.md").read_text()
    blocks = re.findall(r"```bash\n(.*?)```", page, flags=re.DOTALL)
    commands = [
        shlex.split(line)[3:]
        for block in blocks
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("python -m pipelines")
    ]
    assert len(commands) >= 3
    for words in commands:
        sending = [] if words[:2] == ["schedule", "list"] else ["--dry_run", "--no_split"]
        assert main([*words, *sending]) == 0, capsys.readouterr().err
    assert not server.runs
    assert not server.recurring_runs


def test_the_page_and_the_examples_say_what_a_cluster_needs() -> None:
    page = (ROOT / "docs" / "submitting.md").read_text()
    (token,) = re.findall(r"create token .*?\)", page, flags=re.DOTALL)
    assert "--audience=pipelines.kubeflow.org" in token
    assert "volume that every pod mounts" not in page
    blocks = re.findall(r"```bash\n(.*?)```", page, flags=re.DOTALL)
    commands = [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if "--output_base" in line]
    assert len(commands) == 2
    workflow = yaml.safe_load((ROOT / "examples" / "ci" / "worldexplorer-batch.yml").read_text())
    (job,) = workflow["jobs"].values()
    (script,) = [step["run"] for step in job["steps"] if step.get("name") == "Submit"]
    assert {"PIPELINE_ROOT", "RUNNER_ACCOUNT"} <= set(job["env"])
    for text in (*commands, script):
        words = shlex.split(text)
        assert "worldexplorer-runner" in words[words.index("--service_account") + 1]
        assert words[words.index("--pipeline_root") + 1].startswith(("gs://", "$PIPELINE_ROOT"))


def test_the_notebook_names_the_account_and_the_root_of_its_run() -> None:
    notebook = json.loads((ROOT / "examples" / "notebook" / "worldexplorer.ipynb").read_text())
    cells = {cell["id"]: "".join(cell["source"]) for cell in notebook["cells"]}
    values: dict[str, object] = {}
    exec(cells["parameters"], values)
    assert (values["SERVICE_ACCOUNT"], str(values["PIPELINE_ROOT"])[:5]) == ("worldexplorer-runner", "gs://")
    (call,) = [
        node
        for node in ast.walk(ast.parse(cells["submit"]))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "client.create_run_from_pipeline_package"
    ]
    given = {one.arg: ast.unparse(one.value) for one in call.keywords}
    assert (given["service_account"], given["pipeline_root"]) == ("SERVICE_ACCOUNT", "PIPELINE_ROOT")
    assert "volumes" not in cells["parameters"]


def test_the_remedy_for_a_refused_token_names_its_audience(
    drive: Driver, server: FakeKubeflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KF_PIPELINES_TOKEN", "a-token-of-another-audience")
    server.tokens = {"another"}
    assert "kubectl create token NAME --audience=pipelines.kubeflow.org" in drive("status").err
