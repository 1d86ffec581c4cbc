"""The command is killed in every stage and run again: nothing finished is done twice, and the end is the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from builders import canonical_tree
from e2e.program import Done, Program, Running, files_below

pytestmark = pytest.mark.slow

STAGES = ("scaffold", "trajectory", "splat")
_DEATH_SECONDS = 60.0


def kill_group(running: Running) -> None:
    running.kill_group()


def kill_parent(running: Running) -> None:
    """The parent alone dies; its worker must find out and end by itself."""
    family = running.family()
    assert len(family) > 1
    running.process.kill()
    running.process.wait()
    _, alive = psutil.wait_procs(family, timeout=_DEATH_SECONDS)
    assert not alive


def attempt_files(program: Program, stage: str) -> dict[str, Path]:
    """What lies in the unfinished attempts at a stage, by path within the attempt."""
    found = {}
    for attempt in program.job(".attempts").glob(f"{stage}-*"):
        found |= {name: attempt / name for name in files_below(attempt)}
    return found


def identity(path: Path) -> tuple[int, int]:
    """Stays with a file that is moved, and with none that is written again."""
    facts = path.stat()
    return facts.st_ino, facts.st_mtime_ns


@dataclass
class Story:
    """A job that was killed once in each stage, and what was to be seen on the way."""

    program: Program
    records: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """By the stage the job was killed in: the records that were there."""
    frames: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Frames of trajectories that were marked as done when stage 2 was killed."""
    last: Done | None = None
    """The run that came to the end."""


@pytest.fixture(scope="module", params=[kill_group, kill_parent], ids=["whole group", "parent alone"])
def story(request, dataset, tmp_path_factory):
    program = Program(tmp_path_factory.mktemp("killed"))
    story = Story(program)
    words = ("--dataset_dir", dataset, "--indices", "0")

    def marks() -> list[str]:
        names = attempt_files(program, "trajectory")
        return [Path(name).stem for name in names if name.startswith("work/marks/") and name.endswith(".json")]

    def strike(stage, condition):
        running = program.start(*words)
        try:
            running.wait_for(lambda: running.has_said('"stage_progress"', f'"{stage}"') and condition())
            request.param(running)
        finally:
            if running.process.poll() is None:
                running.kill_group()
        story.records[stage] = {
            one: program.job(f"records/{one}.json").read_bytes()
            for one in STAGES
            if program.job(f"records/{one}.json").exists()
        }

    strike("scaffold", lambda: True)
    strike("trajectory", lambda: len(marks()) >= 3)
    done = set(marks())
    for name, path in attempt_files(program, "trajectory").items():
        if "/samples-rgb/" in name and path.parent.parent.name in done:
            story.frames[path.relative_to(path.parents[2]).as_posix()] = identity(path)
    strike("splat", lambda: "work/training/checkpoint.npz" in attempt_files(program, "splat"))
    story.last = program.succeed(*words)
    return story


def test_the_end_is_that_of_an_undisturbed_run(story, reference):
    folder = "photorealistic/index_0000/"
    expected = {name: what for name, what in canonical_tree(reference.output).items() if name.startswith(folder)}
    found = {name: what for name, what in canonical_tree(story.program.output).items() if name.startswith(folder)}
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []


def test_the_stages_that_were_finished_are_left_as_they_were(story):
    assert {stage: list(records) for stage, records in story.records.items()} == {
        "scaffold": [],
        "trajectory": ["scaffold"],
        "splat": ["scaffold", "trajectory"],
    }
    now = {stage: story.program.job(f"records/{stage}.json").read_bytes() for stage in STAGES}
    assert now["scaffold"] == story.records["trajectory"]["scaffold"]
    assert now["trajectory"] == story.records["splat"]["trajectory"]
    assert len({story.program.record(stage)["run_id"] for stage in STAGES}) == 3
    reused = {event["stage"]: event["reused"] for event in story.last.of_kind("stage_finished")}
    assert reused == {"scaffold": True, "trajectory": True, "splat": False}


def test_trajectories_that_were_done_are_not_made_again(story):
    assert len(story.frames) >= 3 * 4
    scene = story.program.scene()
    assert {name: identity(scene / name) for name in story.frames} == story.frames


def test_training_goes_on_from_its_checkpoint(story):
    texts = [event["text"] for event in story.last.of_kind("log")]
    assert any(text.startswith("Training goes on after iteration ") for text in texts), texts
    assert "after iteration 0" not in " ".join(texts)


def test_nothing_is_left_over(story):
    assert not story.program.job(".attempts").exists()
    names = list(files_below(story.program.output))
    assert [name for name in names if ".part" in name or name.endswith(".failed.json")] == []
    assert story.program.summary()["success"] == 1


def test_ctrl_c_leaves_a_summary_and_the_same_command_goes_on(dataset, reference, tmp_path):
    program = Program(tmp_path)
    words = ("--dataset_dir", dataset, "--indices", "0", "--only_stages", "1", "2")
    running = program.start(*words)
    running.wait_for(lambda: any(name.startswith("work/marks/") for name in attempt_files(program, "trajectory")))
    stopped = running.interrupt()
    assert stopped.code == 130
    assert "Traceback" not in stopped.errors
    summary = program.summary()
    assert (summary["interrupted"], summary["skipped"], summary["total"]) == (True, 1, 1)
    result = program.result()
    assert (result["reason"], result["stages_completed"]) == ("the run was interrupted", [1])
    record = program.job("records/scaffold.json").read_bytes()

    program.succeed(*words)
    assert program.job("records/scaffold.json").read_bytes() == record
    assert (program.summary()["interrupted"], program.summary()["success"]) == (False, 1)
    for folder in ("scaffold", "scenes"):
        names = list(files_below(program.job(folder)))
        assert names == list(files_below(reference.job(folder)))
        for name in names:
            assert (program.job(folder) / name).read_bytes() == (reference.job(folder) / name).read_bytes(), name
