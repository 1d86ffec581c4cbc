"""Every flag of the guide changes what it says it changes."""

from __future__ import annotations

import importlib.util
import json
import shutil

import numpy as np
import pytest
from e2e.program import Program, files_below, photo_dataset, read_json, save_landscape, write_dataset
from PIL import Image

from worldexplorer.cli import main
from worldexplorer.cli.arguments import parse_run
from worldexplorer.dataset import load_dataset, resolve_jobs
from worldexplorer.engines import load_engine
from worldexplorer.scaffold.stage import SCAFFOLD
from worldexplorer.trajectory.stage import TRAJECTORY

QUICK = ("--engine", "preview", "--preset", "smoke", "--num_seva_frames", "8")


class Planner:
    """Dry runs in this process."""

    def __init__(self, capsys):
        self._capsys = capsys
        self.errors = ""

    def __call__(self, *words, code=0):
        """The events of a dry run."""
        assert main(["batch", "--dry_run", "--log_format", "json", *map(str, words)]) == code
        shown = self._capsys.readouterr()
        self.errors = shown.err
        return [json.loads(line) for line in shown.out.splitlines()]

    def jobs(self, *words):
        """The planned jobs with, by stage, what happens and why."""
        return {
            event["job"]: {one["stage"]: (one["action"], one["reason"]) for one in event["stages"]}
            for event in self(*words)
            if event["event"] == "planned_job"
        }


@pytest.fixture
def plan(capsys):
    return Planner(capsys)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """A data set of many samples to plan with."""
    return photo_dataset(tmp_path_factory.mktemp("many") / "data", 7)


@pytest.fixture
def words(samples, tmp_path):
    return ("--dataset_dir", samples, "--output_base", tmp_path / "out", *QUICK)


def indices_of(jobs):
    return [int(name[-4:]) for name in jobs]


def everything(folder):
    """Every path below a folder with its time."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def scaffold_basis(*words, data):
    """What the fingerprint of stage 1 holds of the settings, for every job, without running anything."""
    run = parse_run(["--dataset_dir", str(data), *words])
    engine = load_engine(run)
    jobs = resolve_jobs(load_dataset(data, confine_paths=False)).jobs
    return [SCAFFOLD.basis(SCAFFOLD.settings(job, run, engine)) for job in jobs]


# ------------------------------------------------------------ the data set and the output


def test_dataset_dir_is_where_the_samples_come_from(plan, tmp_path):
    few = photo_dataset(tmp_path / "few", 2)
    out = ("--output_base", tmp_path / "out")
    assert indices_of(plan.jobs("--dataset_dir", few, *out, *QUICK)) == [0, 1]
    more = photo_dataset(tmp_path / "more", 4)
    assert indices_of(plan.jobs("--dataset_dir", more, *out, *QUICK)) == [0, 1, 2, 3]


@pytest.mark.slow
def test_output_base_is_where_results_go_and_are_found_again(plan, reference, dataset, tmp_path):
    command = ("--dataset_dir", dataset, "--indices", "0", *QUICK)
    there = plan.jobs(*command, "--output_base", reference.output)
    assert {action for action, _ in there["photorealistic/index_0000"].values()} == {"reuse"}
    elsewhere = plan.jobs(*command, "--output_base", tmp_path / "new")
    assert {action for action, _ in elsewhere["photorealistic/index_0000"].values()} <= {"run", "reuse"}
    assert elsewhere["photorealistic/index_0000"]["scaffold"] == ("run", "no result yet")
    assert parse_run(["--dataset_dir", "x"]).batch.output_base == "output/batch"


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (["2"], [2]),
        (["0-2"], [0, 1, 2]),
        (["4:6"], [4, 5, 6]),
        (["0-1", "3", "5:6"], [0, 1, 3, 5, 6]),
        (["5", "1", "1-2"], [1, 2, 5]),
    ],
)
def test_indices_select_samples(plan, words, given, taken):
    assert indices_of(plan.jobs(*words, "--indices", *given)) == taken


def test_indices_split_a_data_set_into_parts(plan, words):
    first, second = (plan.jobs(*words, "--indices", part) for part in ("0-3", "4-6"))
    assert not first.keys() & second.keys()
    assert first | second == plan.jobs(*words)


# ------------------------------------------------------------ stages, one command each


@pytest.fixture(scope="module")
def staged(tmp_path_factory, dataset):
    """Samples 2 and 3 stage by stage, with a flag of every stage; the summary after each."""
    program = Program(tmp_path_factory.mktemp("staged"))
    first = ("--num_seva_frames", "16", "--cfg", "3.5,1.5")
    second = ("--translation_scaling_factor", "6", "--trajectory_order", "up", "in", "--num_images_for_vggt", "5")
    program.summaries = []
    program.runs = []
    for words in (
        ("--indices", "2-3", "--only_stages", "1", *first, "--output_all_seva_frames"),
        ("--indices", "2-3", "--only_stages", "2", *first, *second),
        ("--indices", "2", "--only_stages", "3", *first, *second, "--nerf_folder", "nerf", "--keep_training"),
    ):
        program.runs.append(program.succeed("--dataset_dir", dataset, *words))
        program.summaries.append(program.summary())
    return program


@pytest.mark.slow
def test_only_stages_runs_those_and_the_next_command_goes_on(staged):
    done = [[one["stages_completed"] for one in summary["results"]] for summary in staged.summaries]
    assert done == [[[1], [1]], [[1, 2], [1, 2]], [[1, 2, 3], [1, 2]]]
    ran = [[(one["job"][-1], one["stage"]) for one in run.of_kind("stage_finished")] for run in staged.runs]
    assert ran == [
        [("2", "scaffold"), ("3", "scaffold")],
        [("2", "trajectory"), ("3", "trajectory")],
        [("2", "splat")],
    ]
    assert [summary["only_stages"] for summary in staged.summaries] == [[1], [2], [3]]
    run_ids = [staged.record(stage, 2)["run_id"] for stage in ("scaffold", "trajectory", "splat")]
    assert run_ids == [summary["run_id"] for summary in staged.summaries]


@pytest.mark.slow
def test_stage_2_after_stage_1_and_not_without(plan, words, staged, dataset):
    for stage, before in ((2, "scaffold"), (3, "scaffold")):
        jobs = plan.jobs(*words, "--only_stages", stage, "--indices", "0")
        ((action, reason),) = jobs["photorealistic/index_0000"].values()
        assert action == "refuse"
        assert "requires stage 1" in reason
        assert before in reason
    jobs = plan.jobs(
        "--dataset_dir", dataset, "--output_base", staged.output, "--engine", "preview", "--preset", "smoke",
        "--indices", "3", "--only_stages", "3",
    )  # fmt: skip
    assert jobs["photorealistic/index_0003"] == {"splat": ("run", "no result yet")}


@pytest.mark.slow
def test_stages_1_and_3_leave_stage_2_alone(plan, reference, staged, dataset):
    command = ("--dataset_dir", dataset, "--only_stages", "1", "3", *QUICK)
    jobs = plan.jobs(*command, "--output_base", reference.output, "--indices", "0")
    assert {stage: action for stage, (action, _) in jobs["photorealistic/index_0000"].items()} == {
        "scaffold": "reuse",
        "splat": "reuse",
    }
    only_a_scaffold = plan.jobs(*command, "--output_base", reference.folder / "new", "--indices", "0")
    stages = only_a_scaffold["photorealistic/index_0000"]
    assert stages["scaffold"] == ("run", "no result yet")
    assert "stage 3 requires stage 2" in stages["trajectory"][1]


@pytest.mark.slow
def test_num_seva_frames_and_the_copies_of_them_all(staged, reference):
    for index in (2, 3):
        made = sorted(staged.job("scaffold/generated_views", index).iterdir())
        copies = sorted(staged.job("all_seva_frames", index).iterdir())
        assert [path.name for path in made] == [path.name for path in copies] == [f"{n:03d}.png" for n in range(16)]
        assert [path.read_bytes() for path in made] == [path.read_bytes() for path in copies]
        for view in range(8):  # the eight views are frames i * N / 8
            final = staged.job(f"scaffold/final/{view:03d}.png", index)
            assert final.read_bytes() == made[2 * view].read_bytes()
    assert len(list(reference.job("scaffold/generated_views").iterdir())) == 8
    assert not reference.job("all_seva_frames").exists()


def test_num_targets_is_the_other_name_of_num_seva_frames(samples):
    (one, *_), (other, *_), (default, *_) = (
        scaffold_basis(*flags, data=samples) for flags in (("--num_targets", "40"), ("--num_seva_frames", "40"), ())
    )
    assert one == other
    assert (one["num_frames"], default["num_frames"]) == (40, 80)


@pytest.mark.slow
def test_the_sample_wins_over_translation_scaling_factor(staged):
    assert [path.name for path in staged.job("scenes", 2).iterdir()] == ["index_0002_6.0"]
    assert [path.name for path in staged.job("scenes", 3).iterdir()] == ["index_0003_4.5"]
    assert staged.result(2)["scene_path"].endswith("scenes/index_0002_6.0/img2trajvid")


@pytest.mark.slow
def test_without_the_flag_the_scene_type_decides_how_far(reference, tmp_path):
    assert reference.scene(0, scale=10.0).is_dir()  # outdoor
    data = photo_dataset(tmp_path / "indoor", 1, scene_type="indoor")
    run = parse_run(["--dataset_dir", str(data), "--engine", "preview"])
    (job,) = resolve_jobs(load_dataset(data, confine_paths=False)).jobs
    assert TRAJECTORY.settings(job, run, load_engine(run)).translation_scaling_factor == 3.0


@pytest.mark.slow
def test_trajectory_order_names_the_trajectories_and_their_order(staged):
    scene = staged.scene(2, 6.0)
    moves = {path.name for path in scene.iterdir() if path.name[:3].isdigit()}
    assert moves == {f"{view:03d}_{name}" for view in range(8) for name in ("up", "in")}
    frames = [frame["file_path"].split("/")[0] for frame in read_json(scene / "transforms.json")["frames"]]
    order = [name for name in dict.fromkeys(frames) if name[:3].isdigit()]
    assert order[:4] == ["000_up", "000_in", "001_up", "001_in"]


@pytest.mark.slow
def test_num_images_for_vggt_is_how_many_frames_feed_the_points(staged, reference):
    # The eight scaffold views and the twelve caps are looked at besides; the preset smoke says 12.
    assert staged.record("trajectory", 2)["metrics"]["point_views"] == 8 + 5 + 12
    assert reference.record("trajectory")["metrics"]["point_views"] == 8 + 12 + 12


@pytest.mark.slow
def test_nerf_folder_holds_the_run_data_and_keep_training_keeps_them(staged, reference):
    (run_data,) = (staged.folder / "nerf/photorealistic").iterdir()
    assert run_data.name.startswith("0002-splat-")
    kept = staged.job("splat/training", 2)
    assert list(files_below(kept)) == list(files_below(run_data)) != []
    named = {entry["path"] for entry in staged.record("splat", 2)["files"]}
    assert {f"splat/training/{name}" for name in files_below(kept)} <= named
    assert not reference.job("splat/training").exists()
    assert "nerf_folder" not in json.dumps(staged.record("splat", 2)["basis"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "stage", "named"),
    [
        (("--cfg", "5.0,2.5"), "scaffold", "cfg"),
        (("--num_seva_frames", "24"), "scaffold", "num_frames"),
        (("--hfov", "70"), "scaffold", "hfov"),
        (("--traj_prior", "orbit"), "scaffold", "traj_prior"),
        (("--seed", "1"), "scaffold", "seed"),
        (("--preset", "quick"), "scaffold", "preset"),
        (("--translation_scaling_factor", "7"), "trajectory", "translation_scaling_factor"),
        (("--trajectory_order", "up"), "trajectory", "trajectory_order"),
        (("--num_images_for_vggt", "9"), "trajectory", "num_images_for_vggt"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_a_result_made_with_another_value_is_refused_and_force_replaces_it(
    plan, reference, dataset, flags, stage, named
):
    command = ("--dataset_dir", dataset, "--output_base", reference.output, "--indices", "0", *QUICK)
    action, reason = plan.jobs(*command, *flags)["photorealistic/index_0000"][stage]
    assert action == "refuse"
    assert named in reason
    assert "--force" in reason
    forced = plan.jobs(*command, *flags, "--force")["photorealistic/index_0000"]
    assert {action for action, _ in forced.values()} == {"run"}


# ------------------------------------------------------------ stage 1


def test_scaffold_gen_needs_an_engine_that_reads(plan, words, samples, tmp_path, capsys):
    assert main(["batch", *map(str, words), "--scaffold_method", "scaffold_gen"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--engine full" in error
    assert not (tmp_path / "out").exists()
    events = plan(
        "--dataset_dir", samples, "--output_base", tmp_path / "out", "--engine", "full", "--indices", "0",
        "--scaffold_method", "scaffold_gen", "--default_theme", "a castle",
    )  # fmt: skip
    assert [event["event"] for event in events] == ["planned_job", "dry_run"]
    assert (events[-1]["jobs_to_run"], events[-1]["engine_label"]) == (1, "full engine")
    told = " ".join(events[-1]["missing"])
    assert ("FLUX.1-dev" if importlib.util.find_spec("torch") else "the package torch is not installed") in told


def test_scaffold_mode_and_default_theme_are_part_of_what_text_makes(tmp_path):
    save_landscape(tmp_path / "0.png", 0)
    photo = {"photorealistic": {"path": "0.png"}}
    data = write_dataset(
        tmp_path,
        [
            {"index": 0, **photo},
            {"index": 1, **photo, "theme": "a harbour", "scaffold": {"mode": "automatic"}},
            {"index": 2, **photo, "scaffold": {"prompts": ["n", "w", "s", "e"]}},
        ],
    )
    text = ("--engine", "full", "--scaffold_method", "scaffold_gen")
    plain = scaffold_basis(*text, data=data)
    said = scaffold_basis(*text, "--scaffold_mode", "fast", "--default_theme", "a castle", data=data)
    assert [one["mode"] for one in plain] == ["manual", "automatic", "manual"]
    assert [one["mode"] for one in said] == ["fast", "automatic", "fast"]
    assert [one.get("theme") for one in plain] == [None, "a harbour", None]
    assert [one.get("theme") for one in said] == ["a castle", "a harbour", None]  # own prompts win
    assert said[2]["prompts"] == ("n", "w", "s", "e")
    # For one image neither counts.
    photo_only = scaffold_basis("--engine", "full", data=data)
    assert photo_only == scaffold_basis("--engine", "full", "--default_theme", "a castle", data=data)


@pytest.fixture(scope="module")
def orbit(tmp_path_factory, dataset):
    program = Program(tmp_path_factory.mktemp("orbit"))
    program.succeed("--dataset_dir", dataset, "--indices", "0", "--only_stages", "1", "--traj_prior", "orbit")
    program.first_result = program.result()
    return program


@pytest.mark.slow
def test_orbit_is_taken_at_its_word_and_warned_about(orbit, reference):
    record = orbit.record("scaffold")
    assert record["quality"] == "degraded" == orbit.first_result["quality"]
    assert "'orbit' does not make a scaffold that looks around" in record["notes"][0]
    poses = np.array([view["c2w"] for view in read_json(orbit.job("scaffold/scaffold.json"))["views"]])
    np.testing.assert_allclose(poses[0], np.eye(4), atol=1e-9)
    centres, towards = poses[:, :3, 3], -poses[:, :3, 2]
    assert np.linalg.norm(centres, axis=1).max() > 0.05
    # All eight lines of sight meet in one point ahead of the photo's camera.
    across = np.eye(3) - towards[:, :, None] * towards[:, None, :]
    meeting = np.linalg.solve(across.sum(axis=0), np.einsum("nij,nj->i", across, centres))
    misses = np.linalg.norm(np.einsum("nij,nj->ni", across, meeting - centres), axis=1)
    assert misses.max() < 1e-3 * np.linalg.norm(meeting)
    assert meeting[2] < 0
    assert abs(meeting[0]) < 1e-3

    ring = np.array([view["c2w"] for view in read_json(reference.job("scaffold/scaffold.json"))["views"]])
    assert np.abs(ring[:, :3, 3]).max() == 0
    assert reference.record("scaffold")["quality"] == "ok"
    assert reference.record("scaffold")["notes"] == []


@pytest.mark.slow
def test_a_run_over_later_stages_does_not_hide_that_the_scaffold_is_degraded(orbit, dataset):
    done = orbit.run("--dataset_dir", dataset, "--indices", "0", "--only_stages", "3")
    assert done.code == 1
    result = orbit.result()
    assert "stage 3 requires stage 2" in result["error"]["message"]
    assert result["quality"] == "degraded"


@pytest.fixture(scope="module")
def narrow(tmp_path_factory, dataset, reference):
    """Sample 0's scaffold replaced by one of a photo that is said to see 40 degrees."""
    program = Program(tmp_path_factory.mktemp("narrow"))
    shutil.copytree(reference.job("scaffold"), program.job("scaffold"))
    program.job("records").mkdir()
    shutil.copy2(reference.job("records/scaffold.json"), program.job("records"))
    words = ("--dataset_dir", dataset, "--indices", "0", "--only_stages", "1", "--hfov", "40")
    program.refused = program.run(*words)
    program.before = program.job("records/scaffold.json").read_bytes()
    program.succeed(*words, "--force")
    return program


@pytest.mark.slow
def test_hfov_resamples_view_000_and_says_what_was_made_up(narrow, reference, dataset):
    first = read_json(narrow.job("scaffold/scaffold.json"))["views"][0]
    assert first["source"] == "input+generated"
    metrics = narrow.record("scaffold")["metrics"]
    assert metrics["photo_hfov_deg"] == pytest.approx(40.0)
    # The photo covers tan(20)/tan(30.04) of the view's width and, at 3:2, two thirds of that of its height.
    assert metrics["photo_coverage"] == pytest.approx((np.tan(np.radians(20)) * 2 * 0.86458) ** 2 / 1.5, abs=0.02)
    whole = read_json(reference.job("scaffold/scaffold.json"))["views"][0]
    assert whole["source"] == "input"
    # The photo is in the middle of the view, scaled by the ratio of the angles.
    size = 128
    wide = round(size * np.tan(np.radians(20)) * 2 * 0.86458)
    photo = Image.open(dataset / "photorealistic/0.png").resize((wide, round(wide * 80 / 120)), Image.Resampling.BOX)
    view = Image.open(narrow.job("scaffold/final/000.png"))
    left, top = (size - photo.width) // 2, (size - photo.height) // 2
    seen = view.crop((left, top, left + photo.width, top + photo.height))
    error = np.asarray(seen, dtype=float)[3:-3, 3:-3] - np.asarray(photo, dtype=float)[3:-3, 3:-3]
    assert np.sqrt(np.mean(error**2)) < 15.0


@pytest.mark.slow
def test_force_replaces_what_is_refused_without_it(narrow, reference):
    assert narrow.refused.code == 1
    (ended,) = narrow.refused.of_kind("job_finished")
    assert "--force" in ended["error"]["remedy"]
    assert narrow.before == reference.job("records/scaffold.json").read_bytes()
    assert narrow.record("scaffold")["run_id"] == narrow.summary()["run_id"]
    assert narrow.record("scaffold")["basis"]["settings"]["hfov"] == 40.0
    assert not narrow.job("records/scaffold.failed.json").exists()
    for entry in narrow.record("scaffold")["files"]:
        assert narrow.job(entry["path"]).stat().st_size == entry["size"]


# ------------------------------------------------------------ stage 2 with own trajectories


def write_own_trajectory(root, name, steps):
    """Eight views on the spot, then a walk to the right of view 0."""
    frames = []
    for number in range(8 + steps):
        pose = np.eye(4)
        if number < 8:
            c, s = np.cos(np.pi / 4 * number), np.sin(np.pi / 4 * number)
            pose[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
        else:
            pose[0, 3] = 0.02 * (number - 8)
        frames.append({"file_path": f"./{number:03d}.png", "transform_matrix": pose.tolist()})
    (root / name).mkdir(parents=True)
    (root / name / "transforms.json").write_text(json.dumps({"frames": frames}))


@pytest.mark.slow
def test_root_dir_brings_own_trajectories(reference, dataset, tmp_path):
    program = Program(tmp_path / "own")
    shutil.copytree(reference.job("scaffold"), program.job("scaffold"))
    program.job("records").mkdir()
    shutil.copy2(reference.job("records/scaffold.json"), program.job("records"))
    write_own_trajectory(tmp_path / "paths", "sidestep", 10)
    command = ("--dataset_dir", dataset, "--indices", "0", "--only_stages", "2")
    program.succeed(*command, "--root_dir", tmp_path / "paths")
    moves = {path.name for path in program.scene().iterdir() if path.name[:3].isdigit()}
    assert moves == {f"{view:03d}_sidestep" for view in range(8)}
    poses = {
        frame["file_path"]: np.array(frame["transform_matrix"])
        for frame in read_json(program.scene() / "transforms.json")["frames"]
    }
    last = max(name for name in poses if name.startswith("000_sidestep/"))
    np.testing.assert_allclose(poses[last], [[1, 0, 0, 0.18], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], atol=1e-9)
    # View 002 looks to the left, so its step to the right goes forward.
    sideways = poses[last.replace("000_sidestep", "002_sidestep")][:3, 3]
    np.testing.assert_allclose(sideways, [0, 0, -0.18], atol=1e-9)
    settings = program.record("trajectory")["basis"]["settings"]
    assert list(settings["own_trajectories"]) == ["sidestep"]
    assert "root_dir" not in settings


# ------------------------------------------------------------ general


def test_check_checkpoints_says_what_is_there_and_what_is_missing(plan, words, samples, tmp_path):
    events = plan(*words, "--indices", "0", "--check_checkpoints")
    checks = [event for event in events if event["event"] == "check"]
    assert [(one["stage"], one["missing"]) for one in checks] == [
        ("stage 1 scaffold", ""),
        ("stage 2 trajectory", ""),
        ("stage 3 splat", ""),
    ]
    full = ("--dataset_dir", samples, "--output_base", tmp_path / "out", "--engine", "full", "--check_checkpoints")
    missing = plan(*full, "--only_stages", "1", code=2)
    checks = [event for event in missing if event["event"] == "check"]
    assert all(one["stage"] == "stage 1 scaffold" and one["missing"] and one["remedy"] for one in checks)
    weights = [event for event in missing if event["event"] == "weights"]
    assert [one["name"] for one in weights] == ["seva", "seva-vae", "seva-clip"]
    assert len(checks) + len(weights) == len(missing)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_engine_is_what_it_runs_on_and_the_result_says_so(reference, samples, tmp_path, capsys):
    assert {reference.record(stage)["engine"] for stage in ("scaffold", "trajectory", "splat")} == {"preview"}
    assert reference.summary()["engine_label"] == "synthesised preview"
    assert main(["batch", "--dataset_dir", str(samples), "--output_base", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "--engine preview" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_dry_run_writes_nothing_at_all(plan, words, tmp_path, reference, dataset):
    before = everything(reference.folder), everything(dataset)
    plan("--dataset_dir", dataset, "--output_base", reference.output, *QUICK)
    plan("--dataset_dir", dataset, "--output_base", reference.output, *QUICK, "--force")
    assert (everything(reference.folder), everything(dataset)) == before
    events = plan(*words)
    assert (events[-1]["jobs"], events[-1]["jobs_to_run"]) == (7, 7)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_preset_sets_the_sizes(reference):
    with Image.open(reference.job("scaffold/final/001.png")) as view:
        assert view.size == (128, 128)
    sizes = {}
    for preset in ("smoke", "quick", "default", "quality"):
        engine = load_engine(parse_run(["--dataset_dir", "x", "--engine", "preview", "--preset", preset]))
        sizes[preset] = (engine.image_size, engine.defaults.point_count)
    assert list(sizes.values()) == sorted(sizes.values())
    assert len(set(sizes.values())) == 4
    assert reference.record("splat")["basis"]["engine"]["preset"]["name"] == "smoke"
    assert reference.record("splat")["metrics"]["gaussians"] <= sizes["smoke"][1]


def test_confine_paths_refuses_what_leads_out_of_the_data_set(plan, tmp_path):
    save_landscape(tmp_path / "outside.png", 0)
    data = write_dataset(tmp_path / "data", [{"index": 0, "photorealistic": {"path": "../outside.png"}}])
    command = ("--dataset_dir", data, "--output_base", tmp_path / "out", *QUICK)
    assert indices_of(plan.jobs(*command)) == [0]
    assert plan(*command, "--confine_paths", code=2) == []
    assert plan.errors.count("\n") == 1
    assert "samples[0].photorealistic.path" in plan.errors
    assert "../outside.png" in plan.errors


@pytest.mark.slow
def test_log_format_json_is_one_object_a_line_and_the_summary_last(staged):
    for done in staged.runs:
        events = done.events
        assert all({"time", "event"} <= event.keys() for event in events)
        assert events[0]["event"] == "batch_started"
        assert events[-1]["event"] == "summary"
        percents = [event["batch_percent"] for event in done.of_kind("stage_progress")]
        assert percents == sorted(percents)


def test_log_format_text_is_for_people(words, capsys):
    assert main(["batch", *map(str, words), "--dry_run", "--log_format", "text"]) == 0
    shown = capsys.readouterr().out
    assert "7 jobs: 7 to run" in shown
    assert not any(line.startswith("{") for line in shown.splitlines())
