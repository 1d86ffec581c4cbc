from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from cli_plans import a_failure, a_record, a_result, a_summary

from worldexplorer import __version__, layout
from worldexplorer.cli import doctor, main
from worldexplorer.cli.doctor import Fact
from worldexplorer.errors import ErrorClass
from worldexplorer.layout import JobId
from worldexplorer.plan import PlanFile, PlannedJob
from worldexplorer.records import ErrorEntry, FileEntry
from worldexplorer.storage import LocalStorage

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def shown_error(capsys) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("error: ").rstrip("\n")


# --- the program


def test_without_a_command_the_commands_are_listed(capsys):
    assert main([]) == 0
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in ("batch", "summary", "verify", "render", "convert", "weights", "doctor"):
        assert shown.count(f"  {name:10}") == 2


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"worldexplorer {__version__}\n"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["sumary"],
            (
                "unknown command 'sumary'. What to do: perhaps summary was meant; choose from batch, summary, "
                "verify, render, convert, weights, doctor"
            ),
        ),
        (
            ["run"],
            "unknown command 'run'. What to do: choose from batch, summary, verify, render, convert, weights, doctor",
        ),
        (["summary"], "OUTPUT_BASE is missing. What to do: give it as worldexplorer summary output/batch"),
        (["verify"], "OUTPUT_BASE is missing. What to do: give it as worldexplorer verify output/batch"),
        (
            ["summary", "x", "--rebiuld"],
            ("unknown flag --rebiuld. What to do: perhaps --rebuild was meant; --help lists every flag"),
        ),
        (["verify", "a", "b"], "unexpected argument 'b'. What to do: --help lists what the command takes"),
        (
            ["doctor", "--engine", "prevew"],
            ("engine is 'prevew' (--engine). What to do: choose from full, preview; perhaps preview was meant"),
        ),
        (["doctor", "--engine"], "--engine needs a value. What to do: give it as --engine {full,preview}"),
        (
            ["summary", "s3://bucket/x"],
            (
                "output_base s3://bucket/x is neither a local folder nor a bucket (--output_base). What to do: "
                "give a folder, or gs://BUCKET/FOLDER"
            ),
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_is_one_line_and_exit_code_2(words, text, capsys):
    assert main(words) == 2
    assert shown_error(capsys) == text


@pytest.mark.parametrize("name", ["batch", "summary", "verify", "render", "convert", "weights", "doctor"])
def test_every_command_has_help(name, capsys):
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: worldexplorer {name} ")


# --- summary


def test_the_summary_of_the_last_run_is_printed(tmp_path, capsys):
    (tmp_path / layout.SUMMARY).write_text(json.dumps(a_summary([a_result(0), a_failure(2)])))
    assert main(["summary", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "2 jobs: 1 success, 1 failed  [synthesised preview]" in shown


@pytest.mark.parametrize("text", ["", "{", "[]", '{"total": 3}'])
def test_a_damaged_summary_says_how_to_write_it_again(tmp_path, capsys, text):
    (tmp_path / layout.SUMMARY).write_text(text)
    assert main(["summary", str(tmp_path)]) == 2
    assert shown_error(capsys) == (
        f"the summary cannot be read ({tmp_path}/batch_summary.json). What to do: write it again with: worldexplorer "
        f"summary {tmp_path} --rebuild"
    )


def test_a_folder_without_a_run_says_so(tmp_path, capsys):
    assert main(["summary", str(tmp_path / "nothing")]) == 2
    assert "there is no summary" in shown_error(capsys)
    assert main(["summary", str(tmp_path / "nothing"), "--rebuild"]) == 2
    assert "there is no run" in shown_error(capsys)
    assert not (tmp_path / "nothing").exists()


def test_a_killed_run_is_told_to_rebuild(tmp_path, capsys):
    a_run(LocalStorage(tmp_path), "run-1")
    assert main(["summary", str(tmp_path)]) == 2
    assert shown_error(capsys).endswith(f"worldexplorer summary {tmp_path} --rebuild")


def a_run(storage: LocalStorage, run_id: str, *, began: datetime = BEGAN, indices=(0,)) -> None:
    plan = PlanFile(
        run_id=run_id,
        created_at=began.isoformat(),
        dataset_dir="data",
        engine="preview",
        engine_label="synthesised preview",
        only_stages=(1,),
        scaffold_method="single_image",
        jobs=tuple(PlannedJob(index=index, variant="photorealistic", stages=("scaffold",)) for index in indices),
    )
    storage.create(layout.plan(run_id), plan.to_json())


def commit(storage: LocalStorage, index: int, run_id: str, at: datetime, **facts) -> None:
    record = a_record(index, "scaffold", run_id=run_id, finished_at=at.isoformat(), **facts)
    key = layout.record if record.status == "committed" else layout.failed_record
    storage.write(key(JobId(index, "photorealistic"), "scaffold"), record.to_json())


def rebuilt(tmp_path) -> dict:
    assert main(["summary", str(tmp_path), "--rebuild"]) == 0
    return json.loads((tmp_path / layout.SUMMARY).read_text())


def test_a_rebuild_takes_the_time_from_the_plan_to_the_last_record(tmp_path, capsys):
    storage = LocalStorage(tmp_path)
    a_run(storage, "run-1", indices=(0, 1))
    commit(storage, 0, "run-1", BEGAN + timedelta(seconds=30))
    error = ErrorEntry(error_class=ErrorClass.USER, message="black")
    commit(storage, 1, "run-1", BEGAN + timedelta(seconds=42), status="failed", error=error)
    summary = rebuilt(tmp_path)
    assert (summary["run_id"], summary["elapsed_seconds"], summary["interrupted"]) == ("run-1", 42.0, False)
    assert (summary["success"], summary["failed"], summary["failed_indices"]) == (1, 1, "1")
    assert "2 jobs: 1 success, 1 failed" in capsys.readouterr().out


def test_a_rebuild_of_a_killed_run_says_that_it_was_interrupted(tmp_path):
    storage = LocalStorage(tmp_path)
    a_run(storage, "run-1", indices=(0, 1))
    commit(storage, 0, "run-1", BEGAN + timedelta(seconds=30))
    summary = rebuilt(tmp_path)
    assert (summary["elapsed_seconds"], summary["interrupted"]) == (30.0, True)


def test_a_rebuild_is_of_the_newest_run_and_counts_every_job(tmp_path):
    storage = LocalStorage(tmp_path)
    a_run(storage, "z-run", indices=(0,))
    commit(storage, 0, "z-run", BEGAN + timedelta(hours=1))
    a_run(storage, "a-run", began=BEGAN + timedelta(days=1), indices=(1,))
    commit(storage, 1, "a-run", BEGAN + timedelta(days=1, seconds=5))
    summary = rebuilt(tmp_path)
    assert (summary["run_id"], summary["total"], summary["elapsed_seconds"]) == ("a-run", 2, 5.0)


def test_a_rebuild_keeps_what_the_run_itself_measured(tmp_path):
    storage = LocalStorage(tmp_path)
    a_run(storage, "run-1")
    commit(storage, 0, "run-1", BEGAN + timedelta(seconds=30))
    (tmp_path / layout.SUMMARY).write_text(json.dumps(a_summary([], elapsed_seconds=99.5, interrupted=True)))
    summary = rebuilt(tmp_path)
    assert (summary["elapsed_seconds"], summary["interrupted"]) == (99.5, True)
    assert summary["total"] == 1


def test_a_rebuild_survives_a_record_that_cannot_be_read(tmp_path):
    storage = LocalStorage(tmp_path)
    a_run(storage, "run-1", indices=(0, 1))
    commit(storage, 0, "run-1", BEGAN + timedelta(seconds=30))
    storage.write(layout.record(JobId(1, "photorealistic"), "scaffold"), b"{")
    summary = rebuilt(tmp_path)
    assert (summary["success"], summary["failed"], summary["elapsed_seconds"]) == (1, 1, 30.0)


# --- verify


def with_a_file(tmp_path, content: bytes) -> None:
    storage = LocalStorage(tmp_path)
    storage.write("photorealistic/index_0000/scaffold/final/000.png", b"picture")
    checksum = storage.sha256("photorealistic/index_0000/scaffold/final/000.png")
    entry = FileEntry(path="scaffold/final/000.png", size=7, sha256=checksum)
    commit(storage, 0, "run-1", datetime.now(UTC) + timedelta(days=1), files=[entry])
    storage.write("photorealistic/index_0000/scaffold/final/000.png", content)


def test_whole_files_are_verified(tmp_path, capsys):
    with_a_file(tmp_path, b"picture")
    assert main(["verify", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "1 record, every file as recorded\n"


def test_one_flipped_byte_is_named_and_a_rerun_is_advised(tmp_path, capsys):
    with_a_file(tmp_path, b"piCture")
    assert main(["verify", str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"damaged: {tmp_path}/photorealistic/index_0000/scaffold/final/000.png",
        "1 record, 1 damaged file; run the same batch command again: it heals them",
    ]


def test_a_record_that_cannot_be_read_is_damage_too(tmp_path, capsys):
    with_a_file(tmp_path, b"picture")
    LocalStorage(tmp_path).write("photorealistic/index_0001/records/scaffold.json", b"{")
    assert main(["verify", str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines()[0] == (
        f"damaged: {tmp_path}/photorealistic/index_0001/records/scaffold.json"
    )


def test_a_folder_without_records_is_a_wrong_command(tmp_path, capsys):
    assert main(["verify", str(tmp_path)]) == 2
    assert shown_error(capsys) == (
        f"there is no record of a stage ({tmp_path}). What to do: name the --output_base of a run"
    )


# --- doctor


def test_the_doctor_names_machine_packages_and_engines(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "engine_facts", lambda name: [Fact(f"engine {name}", "can run here", name != "full")])
    assert main(["doctor"]) == 0, "one of the engines can run"
    lines = capsys.readouterr().out.splitlines()
    names = [line[8:32].strip() for line in lines]
    assert names[:6] == ["python", "system", "cores", "memory", "free disk", "gpu"]
    assert {"numpy", "rich", "numba"} <= set(names)
    assert "pytest" not in names, "what only the tests need is not listed"
    assert lines[-2].split()[:3] == ["missing", "engine", "full"]
    assert lines[-1].split()[:3] == ["ok", "engine", "preview"]


def test_an_engine_that_was_asked_for_and_cannot_run_is_exit_code_1(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "engine_facts", lambda name: [Fact(f"engine {name}", "can run here", name != "full")])
    assert main(["doctor", "--engine", "full"]) == 1
    assert main(["doctor", "--engine", "preview"]) == 0


def test_what_an_engine_lacks_is_said_with_its_remedy_and_its_licence():
    facts = doctor.engine_facts("full")
    assert facts[-1].text.startswith("licence: ")
    missing = [fact.text for fact in facts if fact.good is False]
    assert missing
    assert all(text.startswith("cannot run here: ") for text in missing)
    assert "--engine preview" in facts[-2].text


def test_what_several_stages_lack_is_said_once(monkeypatch):
    class Lacking:
        name, label, licence, remedy = "full", "full engine", "none", "take another"

        def check(self, stages, scaffold_method, traj_prior):
            return [f"stages {' and '.join(map(str, stages))} lack a GPU"]

    monkeypatch.setattr(doctor, "load_engine", lambda run: Lacking())
    missing = [fact.text for fact in doctor.engine_facts("full") if fact.good is False]
    assert missing == ["cannot run here: stages 1 and 2 and 3 lack a GPU"]


def test_a_package_that_is_not_installed_is_named_with_how_to_get_it(monkeypatch):
    requirements = ["numpy>=2.2", 'no-such-package>=1; extra == "preview"', 'pytest>=8; extra == "test"']
    monkeypatch.setattr("importlib.metadata.requires", lambda name: requirements)
    first, second = doctor.package_facts()
    assert (first.name, first.good) == ("numpy", True)
    assert second == Fact(
        "no-such-package", "not installed (for --engine preview): python -m pip install 'no-such-package'", False
    )


def test_a_checkout_that_is_not_installed_knows_its_packages_too(monkeypatch):
    from importlib import metadata

    def nothing(name):
        raise metadata.PackageNotFoundError(name)

    installed = {fact.name for fact in doctor.package_facts()}
    monkeypatch.setattr(metadata, "requires", nothing)
    assert {fact.name for fact in doctor.package_facts()} == installed


def test_gpus_come_from_nvidia_smi(monkeypatch, tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100, 81559 MiB, 580.65.06'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert {fact.name: fact.text for fact in doctor.machine_facts()}["gpu"] == "NVIDIA H100, 81559 MiB, 580.65.06"
    program.write_text("#!/bin/sh\nexit 9\n")
    assert "does not answer" in {fact.name: fact.text for fact in doctor.machine_facts()}["gpu"]
    program.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert {fact.name: fact.text for fact in doctor.machine_facts()}["gpu"] == "none found (nvidia-smi names none)"
