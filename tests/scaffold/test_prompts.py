"""Texts of scaffold_gen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import Workbench, photo_sample

from worldexplorer.dataset import Job
from worldexplorer.errors import UserError
from worldexplorer.scaffold.prompts import EYE_LEVEL, inpaint_prompt, require_texts, scaffold_prompts

OWN = ("a harbour", "a pier", "the open sea", "a beach")


def test_own_prompts_keep_the_camera_level() -> None:
    prompts = scaffold_prompts(OWN, "castle", has_photo=False)
    assert prompts.pictures == tuple(f"{text}, {EYE_LEVEL}" for text in OWN)
    assert prompts.subjects == OWN


@pytest.mark.parametrize("has_photo", [False, True])
def test_a_theme_has_four_rooms(has_photo: bool) -> None:
    prompts = scaffold_prompts(None, "castle", has_photo=has_photo)
    assert prompts.pictures == (
        "kitchen of a castle",
        "office of a castle",
        "bedroom of a castle",
        "living room of a castle",
    )
    first = "castle" if has_photo else "kitchen of a castle"
    assert prompts.subjects == (first, *prompts.pictures[1:])


def test_a_corner_is_judged_by_its_two_neighbours() -> None:
    prompts = scaffold_prompts(OWN, None, has_photo=True)
    assert prompts.beside(2, 0) == ("a pier", "a harbour")
    assert prompts.beside(0, 6) == ("a harbour", "a beach")


def test_models_that_read_are_told_what_is_beside() -> None:
    assert inpaint_prompt("sd2-inpainting", OWN[:2]) == "blend"
    assert inpaint_prompt("flux1-fill", OWN[:2]) == "a harbour and a pier"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Workbench(tmp_path, [photo_sample(5)]).job(5)


@pytest.mark.parametrize(("own", "theme"), [(OWN, None), (None, "castle"), (OWN, "castle")])
def test_either_will_do(job: Job, own: Any, theme: str | None) -> None:
    require_texts(job, own, theme)


def test_neither_is_refused_with_every_way_out(job: Job) -> None:
    with pytest.raises(UserError) as caught:
        require_texts(job, None, None)
    assert caught.value.what.startswith("no prompts")
    assert caught.value.where == "sample 5"
    for way in ("scaffold.prompts", "theme", "--default_theme", "--scaffold_method single_image"):
        assert way in caught.value.remedy


def test_custom_without_prompts_is_no_theme(job: Job) -> None:
    custom = replace(job, scaffold=replace(job.scaffold, custom=True))
    with pytest.raises(UserError, match=r"scaffold\.custom is true"):
        require_texts(custom, None, "castle")
