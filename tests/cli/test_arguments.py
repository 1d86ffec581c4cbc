from __future__ import annotations

import re
from dataclasses import MISSING, fields

import pytest

from worldexplorer.cli.arguments import batch_flags, batch_parser, parse_run
from worldexplorer.config import CONFIG_CLASSES, RunConfig, help_texts
from worldexplorer.errors import UsageError

DATA = ["--dataset_dir", "data"]

GUIDE_FLAGS = {
    "dataset_dir": ["data/curated_set"],
    "output_base": ["output/batch"],
    "indices": ["0-9", "20", "30:32"],
    "only_stages": ["1", "2"],
    "scaffold_method": ["scaffold_gen"],
    "scaffold_mode": ["fast"],
    "default_theme": ["a castle"],
    "traj_prior": ["orbit"],
    "num_targets": ["80"],
    "cfg": ["4.0,2.0"],
    "output_all_seva_frames": [],
    "num_seva_frames": ["80"],
    "translation_scaling_factor": ["10.0"],
    "trajectory_order": ["in", "left", "right", "up"],
    "num_images_for_vggt": ["40"],
    "root_dir": ["paths"],
    "nerf_folder": ["./nerfstudio_output"],
    "continue_on_error": [],
    "check_checkpoints": [],
}
"""Every flag of the guide with a value of it."""


def actions_by_name():
    return {action.dest: action for action in batch_parser()._actions if action.dest != "help"}


def test_every_field_is_one_flag_with_its_name_help_and_choices():
    actions = actions_by_name()
    synonyms = set()
    for config_class in CONFIG_CLASSES:
        for field in fields(config_class):
            action = actions[field.name]
            assert action.option_strings == [f"--{field.name}"]
            assert help_texts(config_class)[field.name] in action.help.replace("%%", "%")
            if not field.metadata["metavar"] and field.default is not False:
                assert action.metavar == "{" + ",".join(map(str, field.metadata["choices"])) + "}"
            if field.metadata["synonym"]:
                synonyms.add(field.metadata["synonym"])
    names = {field.name for config_class in CONFIG_CLASSES for field in fields(config_class)}
    assert set(actions) == names | synonyms


def test_a_command_without_flags_has_every_default_of_the_dataclasses():
    run = parse_run(DATA)
    parts = (run.batch, run.scaffold, run.trajectory, run.splat, run.full)
    for config_class, part in zip(CONFIG_CLASSES, parts, strict=True):
        assert type(part) is config_class
        for field in fields(config_class):
            assert field.default is not MISSING
            if field.name != "dataset_dir":
                assert getattr(part, field.name) == field.default


def test_help_breaks_no_number_and_no_name_in_two():
    shown = batch_parser().format_help()
    assert not re.search(r"[0-9.]\n +[0-9]", shown.split("--corner_guidances", 1)[1].split("--corner_seeds", 1)[0])
    assert re.search(r"7\.0,7\.5,.*13\.0\)", "".join(shown.split()))
    assert not re.search(r"[a-z]-\n", shown)


def test_help_shows_each_default_once_and_as_it_would_be_typed():
    for flag in batch_flags():
        shown = actions_by_name()[flag.name].help
        assert shown.count("(default: ") == (1 if flag.default_text else 0)
        if flag.default_text and not flag.is_switch:
            words = flag.default_text.split() if flag.several else [flag.default_text]
            assert getattr(_config_with(flag, parse_run([*DATA, f"--{flag.name}", *words])), flag.name) == flag.default
    assert "(default: 4.0,2.0)" in actions_by_name()["cfg"].help
    assert "(default: 1 2 3)" in actions_by_name()["only_stages"].help
    assert "(default: 0)" in actions_by_name()["seed"].help
    assert "default:" not in actions_by_name()["force"].help
    assert "default:" not in actions_by_name()["hfov"].help


def _config_with(flag, run: RunConfig):
    parts = {type(part): part for part in (run.batch, run.scaffold, run.trajectory, run.splat, run.full)}
    return parts[flag.config_class]


def test_help_is_grouped_and_general_flags_come_last(capsys):
    with pytest.raises(SystemExit) as ending:
        parse_run(["--help"])
    assert ending.value.code == 0
    text = capsys.readouterr().out
    groups = ["Required:", "Output and filtering:", "Stage 1: scaffold:", "Stage 2: trajectory + point cloud:"]
    groups += ["Stage 3: Gaussian splats:", "Full engine:", "General:"]
    places = [text.index(f"\n{group}\n") for group in groups]
    assert places == sorted(places)


@pytest.mark.parametrize("spelling", ["underscores", "hyphens", "hyphens and equals sign"])
@pytest.mark.parametrize("name", GUIDE_FLAGS)
def test_every_flag_of_the_guide_exists_in_both_spellings(name, spelling):
    values = GUIDE_FLAGS[name]
    flag = f"--{name}" if spelling == "underscores" else "--" + name.replace("_", "-")
    words = [f"{flag}={values[0]}", *values[1:]] if spelling.endswith("sign") and len(values) == 1 else [flag, *values]
    run = parse_run(words if name == "dataset_dir" else [*DATA, *words])
    said = parse_run([*([] if name == "dataset_dir" else DATA), f"--{name}", *values])
    assert run == said


def test_values_have_the_types_of_the_fields():
    words = ["--indices", "0-9", "20", "--num_seva_frames", "16", "--cfg", "3,1.5", "--hfov", "75", "--force"]
    more = ["--trajectory_order", "left", "in", "--translation_scaling_factor", "2.5", "--workers", "2"]
    run = parse_run([*DATA, *words, *more])
    assert run.batch.indices == ("0-9", "20")
    assert (run.batch.workers, run.batch.force, run.batch.dry_run) == (2, True, False)
    assert (run.scaffold.num_seva_frames, run.scaffold.cfg, run.scaffold.hfov) == (16, (3.0, 1.5), 75.0)
    assert run.trajectory.trajectory_order == ("left", "in")
    assert run.trajectory.translation_scaling_factor == 2.5


def test_corner_variants():
    scaffold = parse_run([*DATA, "--corner_guidances", "7,2.5", "--corner_seeds", "3"]).scaffold
    assert (scaffold.corner_guidances, scaffold.corner_seeds) == ((7.0, 2.5), 3)
    plain = parse_run(DATA).scaffold
    assert len(plain.corner_guidances) * plain.corner_seeds == 88


@pytest.mark.parametrize(
    ("flag", "value", "problem"),
    [
        ("corner_guidances", "7,0", "corner_guidances is 7,0"),
        ("corner_guidances", "-1", "corner_guidances is -1"),
        ("corner_guidances", "nan", "corner_guidances is nan"),
        ("corner_guidances", "7,7.0", "names a scale twice: 7,7"),
        ("corner_guidances", ",".join(map(str, range(1, 34))), "1 to 32 positive numbers"),
        ("corner_guidances", "seven", "is 'seven'"),
        ("corner_seeds", "0", "corner_seeds is 0"),
        ("corner_seeds", "65", "corner_seeds is 65"),
        ("text_to_image", "flux9", "choose from flux1-dev, flux2-klein"),
        ("inpaint", "flux1-fil", "perhaps flux1-fill was meant"),
    ],
)
def test_corner_variants_that_cannot_be(flag, value, problem):
    with pytest.raises(UsageError) as caught:
        parse_run([*DATA, f"--{flag}={value}"])
    assert problem in str(caught.value)
    assert f"--{flag}" in caught.value.where


def test_the_settings_of_seva():
    words = ["--steps", "25", "--multistep", "--guidance_interval", "0.3,20", "--precision", "bfloat16", "--no_compile"]
    full = parse_run([*DATA, *words, "--shorter_chunks"]).full
    assert (full.steps, full.multistep, full.guidance_interval) == (25, True, (0.3, 20.0))
    assert (full.precision, full.no_compile, full.shorter_chunks) == ("bfloat16", True, True)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--steps", "0"], "steps is 0 (--steps). What to do: give a number from 1 to 1000"),
        (["--steps", "1", "--multistep"], "there is one step in all (--multistep). What to do: give more --steps"),
        (["--guidance_interval", "5"], "guidance_interval is 5 (--guidance_interval)"),
        (["--guidance_interval", "20,0.3"], "give two numbers from 0, the lower one first"),
        (["--guidance_interval", "0.3,inf"], "guidance_interval is 0.3,inf"),
        (["--guidance_interval=-1,5"], "guidance_interval is -1,5"),
        (["--guidance_interval", "low"], "'low', not numbers separated by commas (--guidance_interval)"),
        (["--guidance_interval", "low"], "such as LOW,HIGH"),
        (["--precision", "float8"], "choose from float16, bfloat16, float32"),
        (["--fp8", "--precision", "float32"], "(--fp8). What to do: leave out --fp8 or --precision float32"),
    ],
)
def test_settings_of_seva_that_cannot_be(words, problem):
    with pytest.raises(UsageError) as caught:
        parse_run([*DATA, *words])
    assert problem in str(caught.value)


def test_stages_are_sorted_and_named_once():
    assert parse_run([*DATA, "--only_stages", "3", "1", "3"]).batch.only_stages == (1, 3)


def test_a_flag_given_again_adds_to_a_list():
    assert parse_run([*DATA, "--indices", "0", "--indices", "5", "7"]).batch.indices == ("0", "5", "7")


def test_a_list_may_be_one_quoted_word():
    assert parse_run([*DATA, "--trajectory_order", "in left"]).trajectory.trajectory_order == ("in", "left")


def test_the_two_names_of_the_frame_count_are_one_setting():
    assert parse_run([*DATA, "--num_targets", "40"]).scaffold.num_seva_frames == 40
    assert parse_run([*DATA, "--num-targets=040", "--num_seva_frames", "40"]).scaffold.num_seva_frames == 40


WRONG = [
    (["--dataset_dir"], "--dataset_dir needs a value. What to do: give it as --dataset_dir FOLDER"),
    ([], "--dataset_dir is missing. What to do: add --dataset_dir FOLDER"),
    (["--dataset_dir", ""], "dataset_dir is empty (--dataset_dir). What to do: give it as --dataset_dir FOLDER"),
    (
        [*DATA, "--output_base", " "],
        "output_base is empty (--output_base). What to do: give it as --output_base output/batch",
    ),
    (
        [*DATA, "--num-seva-frame", "40"],
        "unknown flag --num-seva-frame. What to do: perhaps --num_seva_frames was meant; --help lists every flag",
    ),
    ([*DATA, "--turbo"], "unknown flag --turbo. What to do: --help lists every flag"),
    (
        [*DATA, "--num_seva", "40"],
        "unknown flag --num_seva. What to do: perhaps --num_seva_frames was meant; --help lists every flag",
    ),
    ([*DATA, "data2"], "unexpected argument 'data2'. What to do: --help lists what the command takes"),
    (
        [*DATA, "--engine", "preveiw"],
        "engine is 'preveiw' (--engine). What to do: choose from full, preview; perhaps preview was meant",
    ),
    ([*DATA, "--force=yes"], "--force takes no value. What to do: write --force alone"),
    (
        [*DATA, "--only_stages", "1,2"],
        (
            "only_stages is '1,2', not a whole number (--only_stages). What to do: give numbers separated by spaces, "
            "such as --only_stages 1 2 3"
        ),
    ),
    ([*DATA, "--only_stages", "4"], "only_stages is '4' (--only_stages). What to do: choose from 1, 2, 3"),
    ([*DATA, "--only_stages"], "--only_stages needs at least one value. What to do: give it as --only_stages STAGE"),
    (
        [*DATA, "--workers", "two"],
        "workers is 'two', not a whole number (--workers). What to do: give a whole number, such as --workers 1",
    ),
    (
        [*DATA, "--workers", "1.5"],
        "workers is '1.5', not a whole number (--workers). What to do: give a whole number, such as --workers 1",
    ),
    ([*DATA, "--workers", "0"], "workers is 0 (--workers). What to do: give a number from 1"),
    ([*DATA, "--gpus", "0"], "gpus is 0 (--gpus). What to do: give a number from 1"),
    ([*DATA, "--hfov", "wide"], "hfov is 'wide', not a number (--hfov). What to do: give a number"),
    ([*DATA, "--hfov", "nan"], "hfov is nan (--hfov). What to do: give degrees from 10 to 150"),
    (
        [*DATA, "--cfg", "4;2"],
        (
            "cfg is '4;2', not 2 numbers separated by commas (--cfg). What to do: give numbers separated by commas, "
            "such as 4.0,2.0"
        ),
    ),
    (
        [*DATA, "--cfg", "4"],
        (
            "cfg is 4, not two positive numbers (--cfg). What to do: give two numbers separated by a comma, such as "
            "4.0,2.0"
        ),
    ),
    (
        [*DATA, "--cfg", "4,-2"],
        (
            "cfg is 4,-2, not two positive numbers (--cfg). What to do: give two numbers separated by a comma, such as "
            "4.0,2.0"
        ),
    ),
    (
        [*DATA, "--num_targets", "40", "--num_seva_frames", "80"],
        (
            "--num_seva_frames is 80 and --num_targets is 40, and both are names of one setting. What to do: give "
            "--num_seva_frames alone"
        ),
    ),
    (
        [*DATA, "--num_targets", "81"],
        "num_seva_frames is 81, not a multiple of 8 from 8 to 360 (--num_seva_frames). What to do: use 80 or 88",
    ),
    (
        [*DATA, "--translation_scaling_factor", "inf"],
        (
            "translation_scaling_factor is inf (--translation_scaling_factor). What to do: give a number above 0, such "
            "as 3.0 indoors or 10.0 outdoors"
        ),
    ),
]


@pytest.mark.parametrize(("words", "text"), WRONG, ids=[" ".join(words) or "nothing" for words, _ in WRONG])
def test_what_is_wrong_is_said_in_one_line(words, text):
    with pytest.raises(UsageError) as error:
        parse_run(words)
    assert str(error.value) == text
    assert "\n" not in text


def test_a_long_value_is_shortened_in_the_message():
    with pytest.raises(UsageError) as error:
        parse_run([*DATA, "--seed", "x" * 10_000])
    assert len(str(error.value)) < 200


def test_a_percent_sign_in_a_help_text_is_shown_as_it_is(monkeypatch, capsys):
    from worldexplorer.cli import arguments

    flag = batch_flags()[0]
    changed = type(flag)(**{**vars(flag), "help": "100 % of %(prog)s"})
    monkeypatch.setattr(arguments, "batch_flags", lambda: (changed,))
    with pytest.raises(SystemExit):
        batch_parser().parse_words(["--help"])
    assert "100 % of %(prog)s (required)" in capsys.readouterr().out
