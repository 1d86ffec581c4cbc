"""A flag that says what holds without it changes no fingerprint: what is there is reused."""

from __future__ import annotations

from typing import Any

import pytest
from builders import Workbench, photo_sample

from worldexplorer.cli.arguments import Flag, batch_flags, parse_run
from worldexplorer.decision import Action, decide_job
from worldexplorer.engines import load_engine
from worldexplorer.stage import DEFINITIONS

SAID_IN_THE_HELP = {
    "text_to_image_steps": ("100",),
    "inpaint_steps": ("50",),
    "overlap_psnr": ("20",),
    "translation_scaling_factor": ("3",),
    "trajectory_order": ("in", "left", "right", "up"),
    "num_images_for_vggt": ("40",),
    "anchors": ("13",),
    "splat_steps": ("30000",),
    "steps": ("50",),
}
"""What holds without those flags whose default is not written as one."""
WITHOUT_A_VALUE = frozenset(
    {
        "indices",
        "default_theme",
        "hfov",
        "root_dir",
        "nerf_folder",
        "max_gaussians",
        "splat_heldout_every",
        "splat_stop_psnr",
        "guidance_interval",
        "gpus",
    }
)
"""Flags that no value is the same as leaving out."""
METHODS = {
    "single_image": [],
    "scaffold_gen": ["--default_theme", "a castle", "--scaffold_mode", "automatic"],
    "single_image_hybrid": [],
}
OTHER_DEFAULTS = [
    (["--text_to_image", "flux2-klein"], ["--text_to_image_steps", "4"]),
    (["--inpaint", "flux2-klein"], ["--inpaint_steps", "4"]),
    (["--inpaint", "flux1-fill"], ["--inpaint_steps", "50"]),
    (["--splat_trainer", "nerfstudio"], ["--splat_steps", "30000"]),
    (["--splat_profile", "fast"], ["--splat_steps", "30000"]),
    (["--multistep"], ["--steps", "50"]),
    (["--num_seva_frames", "24"], ["--num_targets", "24"]),
    (["--traj_prior", "orbit"], ["--translation_scaling_factor", "3"]),
]
"""What another flag says, and what then holds by default."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    sample = photo_sample(0) | {"theme": "a castle"}
    return Workbench(tmp_path_factory.mktemp("bench"), [sample])


def fingerprints(bench: Workbench, *words: str) -> list[str]:
    """Of the three stages of the data set's job on the full engine."""
    run = parse_run(["--dataset_dir", str(bench.data), "--output_base", str(bench.output), *words])
    decisions = decide_job(bench.storage, DEFINITIONS, bench.job(), run, load_engine(run))
    assert [one.action for one in decisions] == [Action.RUN] * 3, decisions
    return [one.fingerprint for one in decisions]


def default_words(flag: Flag) -> tuple[str, ...]:
    """The default, as a person types it."""
    return SAID_IN_THE_HELP.get(flag.name) or tuple(flag.default_text.split())


def valued() -> list[Any]:
    """The flags that can be given with their defaults."""
    names = {"dataset_dir", "output_base", "scaffold_method", "scaffold_mode"} | WITHOUT_A_VALUE
    return [pytest.param(one, id=one.name) for one in batch_flags() if one.name not in names and not one.is_switch]


@pytest.mark.parametrize("flag", valued())
@pytest.mark.parametrize("method", METHODS)
def test_a_default_that_is_given_is_a_default(bench: Workbench, method: str, flag: Flag) -> None:
    words = default_words(flag)
    assert words, f"say what holds without --{flag.name}, or that no value is the same"
    start = ["--scaffold_method", method, *METHODS[method]]
    assert fingerprints(bench, *start, f"--{flag.name}", *words) == fingerprints(bench, *start)


@pytest.mark.parametrize(("other", "given"), OTHER_DEFAULTS)
def test_a_default_may_follow_from_another_flag(bench: Workbench, other: list[str], given: list[str]) -> None:
    method = "scaffold_gen" if other[0] in ("--text_to_image", "--inpaint") else "single_image"
    start = ["--scaffold_method", method, *METHODS[method], *other]
    assert fingerprints(bench, *start, *given) == fingerprints(bench, *start)


@pytest.mark.parametrize("name", ["anchors", "steps", "splat_steps", "overlap_psnr", "text_to_image_steps"])
def test_another_value_is_another_result(bench: Workbench, name: str) -> None:
    start = ["--scaffold_method", "scaffold_gen" if name == "text_to_image_steps" else "single_image"]
    other = str(int(SAID_IN_THE_HELP[name][0]) + 2)
    assert fingerprints(bench, *start, f"--{name}", other) != fingerprints(bench, *start)


def test_methods_that_are_the_default(bench: Workbench) -> None:
    assert fingerprints(bench, "--scaffold_method", "single_image") == fingerprints(bench)
    assert fingerprints(bench, "--scaffold_mode", "manual") == fingerprints(bench)


def test_nothing_is_listed_that_is_no_flag() -> None:
    by_name = {flag.name: flag for flag in batch_flags()}
    assert SAID_IN_THE_HELP.keys() | WITHOUT_A_VALUE <= by_name.keys()
    assert not [name for name in SAID_IN_THE_HELP.keys() | WITHOUT_A_VALUE if by_name[name].default_text]
