"""Parameters of a run and flags of the command: the same names, defaults and help, and the same meaning."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from worldexplorer.cli.arguments import batch_flags, parse_run
from worldexplorer.config import CONFIG_CLASSES, PUBLISHED_TRAJECTORIES, BatchConfig, help_texts
from worldexplorer.errors import UsageError
from worldexplorer.pod.parameters import (
    DECIDED_BY_THE_POD,
    REQUIRED_IN_A_CLUSTER,
    flag_parameters,
    read_run,
    words_of,
)

FIELDS = {one.name: (kind, one) for kind in CONFIG_CLASSES for one in dataclasses.fields(kind)}
PARAMETERS = {one.name: one for one in flag_parameters()}
DEFAULTS = {name: one.default for name, one in PARAMETERS.items()}
PLACES = {"dataset_dir": "gs://sets/one", "output_base": "gs://worlds/one"}
ALWAYS = ["--confine_paths", "--log_format", "json"]


def as_typed(values: Mapping[str, Any]) -> list[str]:
    """The command that a person would type; written without the module under test."""
    words: list[str] = []
    for name, value in values.items():
        if value is True:
            words.append(f"--{name}")
        elif value not in (False, ""):
            several = FIELDS[name][1].metadata["several"]
            words += [f"--{name}", *str(value).split()] if several else [f"--{name}={value}"]
    return words


class TestParity:
    def test_every_field_is_a_parameter_or_decided_by_the_pod(self) -> None:
        assert PARAMETERS.keys() | DECIDED_BY_THE_POD.keys() == FIELDS.keys()
        assert not PARAMETERS.keys() & DECIDED_BY_THE_POD.keys()
        assert all(DECIDED_BY_THE_POD.values())

    @pytest.mark.parametrize("name", PARAMETERS)
    def test_help_and_group_are_the_fields(self, name: str) -> None:
        kind, one = FIELDS[name]
        assert PARAMETERS[name].help == help_texts(kind)[name]
        assert PARAMETERS[name].group == one.metadata["group"]

    @pytest.mark.parametrize("name", PARAMETERS)
    def test_default_says_what_the_field_says(self, name: str) -> None:
        parameter, default = PARAMETERS[name], FIELDS[name][1].default
        if name in REQUIRED_IN_A_CLUSTER:
            assert parameter.default is None
        elif isinstance(default, (bool, int)):
            assert parameter.default is default or parameter.default == default
            assert parameter.kind == ("bool" if isinstance(default, bool) else "int")
        elif default is None or default == ():
            assert (parameter.kind, parameter.default) == ("string", "")
        elif isinstance(default, tuple):
            separator = None if FIELDS[name][1].metadata["several"] else ","
            kind = FIELDS[name][1].metadata["kind"] if separator is None else float
            assert tuple(kind(word) for word in parameter.default.split(separator)) == default
        else:
            assert (parameter.kind, parameter.default) == ("string", default)

    def test_what_a_cluster_requires_are_its_only_parameters_without_a_default(self) -> None:
        assert tuple(name for name, one in PARAMETERS.items() if one.default is None) == REQUIRED_IN_A_CLUSTER

    def test_order_is_that_of_the_commands_help(self) -> None:
        assert list(PARAMETERS) == [flag.name for flag in batch_flags() if flag.name in PARAMETERS]


class TestReading:
    def test_defaults_are_the_commands(self) -> None:
        run = read_run(DEFAULTS | PLACES, (1, 2, 3))
        assert run == parse_run([*as_typed(PLACES), *ALWAYS])

    def test_pods_stages_and_confinement_are_set(self) -> None:
        batch = read_run(DEFAULTS | PLACES, (2, 3)).batch
        assert (batch.only_stages, batch.confine_paths, batch.log_format) == ((2, 3), True, "json")

    def test_example(self) -> None:
        values = {"dataset_dir": "gs://sets/one", "seed": 7, "force": True, "hfov": "", "keep_training": False}
        assert words_of(values, (1, 2)) == [
            "--dataset_dir=gs://sets/one",
            "--seed=7",
            "--force",
            "--only_stages",
            "1",
            "2",
        ]

    def test_numbers_that_the_pipeline_made_floating(self) -> None:
        run = read_run(DEFAULTS | PLACES | {"seed": 4294967295.0, "num_seva_frames": 16.0}, (1,))
        assert (run.batch.seed, run.scaffold.num_seva_frames) == (4294967295, 16)
        assert isinstance(run.batch.seed, int)

    def test_lists_are_words(self) -> None:
        given = {"indices": " 0-9 20\n30:32 ", "trajectory_order": "up in", "cfg": "3,1.5", "hfov": " 81.8 "}
        run = read_run(DEFAULTS | PLACES | given, (1, 2))
        assert run.batch.indices == ("0-9", "20", "30:32")
        assert run.trajectory.trajectory_order == ("up", "in")
        assert (run.scaffold.cfg, run.scaffold.hfov) == ((3.0, 1.5), 81.8)

    @pytest.mark.parametrize("text", ["-dark and stormy", "--force", "a=b", "two words", "- - -"])
    def test_text_may_look_like_a_flag(self, text: str) -> None:
        run = read_run(DEFAULTS | PLACES | {"default_theme": text}, (1,))
        assert run.scaffold.default_theme == text
        assert run.batch.force is False

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"seed": 7.5}, "seed is '7.5', not a whole number"),
            ({"seed": float("nan")}, "seed is 'nan', not a whole number"),
            ({"seed": -1}, "seed is -1"),
            ({"num_seva_frames": 12}, "num_seva_frames is 12"),
            ({"num_images_for_vggt": "many"}, "num_images_for_vggt is 'many'"),
            ({"hfov": "wide"}, "hfov is 'wide'"),
            ({"engine": "preveiw"}, "perhaps preview was meant"),
            ({"dataset_dir": " "}, "--dataset_dir is missing"),
            ({"cfg": "4"}, "cfg is"),
        ],
    )
    def test_complaints_are_the_commands(self, values: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError) as caught:
            read_run(DEFAULTS | PLACES | values, (1,))
        assert message in str(caught.value)

    def test_unknown_parameters_are_refused(self) -> None:
        with pytest.raises(UsageError, match=r"unknown parameters sede, workers.*compile the pipeline again"):
            read_run(DEFAULTS | PLACES | {"sede": 7, "workers": 2}, (1,))

    @pytest.mark.parametrize("name", DECIDED_BY_THE_POD)
    def test_what_the_pod_decides_cannot_be_passed(self, name: str) -> None:
        with pytest.raises(UsageError, match=f"unknown parameters {name}"):
            words_of({name: "x"}, (1,))


words = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8)
settings = st.fixed_dictionaries(
    {"dataset_dir": words, "output_base": words},
    optional={
        "indices": st.lists(st.integers(0, 99).map(str), min_size=1, max_size=3).map(" ".join),
        "engine": st.sampled_from(("full", "preview")),
        "preset": st.sampled_from(("smoke", "quick")),
        "seed": st.integers(0, 2**32 - 1),
        "continue_on_error": st.booleans(),
        "force": st.booleans(),
        "default_theme": st.lists(words, min_size=1, max_size=3).map(" ".join),
        "num_seva_frames": st.integers(1, 45).map(lambda count: 8 * count),
        "cfg": st.tuples(st.floats(0.1, 20), st.floats(0.1, 20)).map(lambda pair: f"{pair[0]},{pair[1]}"),
        "hfov": st.floats(10, 150).map(str),
        "translation_scaling_factor": st.floats(0.1, 20).map(str),
        "trajectory_order": st.permutations(PUBLISHED_TRAJECTORIES).map(" ".join),
        "num_images_for_vggt": st.integers(1, 400).map(str),
        "keep_training": st.booleans(),
        "export_formats": st.sampled_from(("ply", "spz", "spz compressed-ply")),
        "max_gaussians": st.integers(1, 10_000_000).map(str),
        "filter_floaters": st.booleans(),
    },
)


@limits(deadline=None)
@given(values=settings, stages=st.sampled_from([(1, 2, 3), (2, 3), (3,)]), floating=st.booleans())
def test_parameters_mean_what_the_command_means(
    values: dict[str, Any], stages: tuple[int, ...], floating: bool
) -> None:
    typed = [*as_typed(values), *ALWAYS, "--only_stages", *map(str, stages)]
    passed = {
        name: float(value) if floating and type(value) is int else value for name, value in (DEFAULTS | values).items()
    }
    assert read_run(passed, stages) == parse_run(typed)
    assert isinstance(read_run(passed, stages).batch, BatchConfig)


@pytest.mark.parametrize("text", ["0 --workers 7", "-1", "0 --check_checkpoints"])
def test_a_list_holds_no_flags(text: str) -> None:
    with pytest.raises(UsageError, match="indices"):
        words_of({"indices": text}, (1,))
