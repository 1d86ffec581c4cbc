"""The models of depth and points by name, and how frames are shared among passes. Needs no torch."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldexplorer.cli.arguments import parse_run
from worldexplorer.config import TrajectoryConfig
from worldexplorer.errors import UsageError, UserError
from worldexplorer.models.geometry_models import (
    DEPTH,
    GEOMETRY,
    SHARED_FRAMES,
    depth_model,
    fewer_together,
    frames_together,
    geometry_model,
    plan_passes,
    require_room,
)
from worldexplorer.models.picture_models import TextSettings, needed_weights, text_settings
from worldexplorer.models.weights import weight_sets
from worldexplorer.units import GIB

VGGT = GEOMETRY["vggt"]


def test_the_command_offers_exactly_the_models_there_are() -> None:
    assert TrajectoryConfig.__dataclass_fields__["geometry_model"].metadata["choices"] == tuple(GEOMETRY)
    assert text_settings(parse_run(["--dataset_dir", "x"])).geometry_model == "vggt"
    asked = text_settings(parse_run(["--dataset_dir", "x", "--geometry_model", "depth-anything-3"]))
    assert needed_weights((2,), "single_image", asked)[-1] == "da3-base"
    with pytest.raises(UsageError, match="choose from vggt, depth-anything-3"):
        geometry_model("vggt2")


def test_stage_2_needs_depth_of_both_kinds_of_place_and_points() -> None:
    names = needed_weights((2,), "single_image", TextSettings())
    assert names[-3:] == ("depth-indoor-small", "depth-outdoor-small", "vggt")
    for name in names[-3:]:
        assert weight_sets()[name].stages == (2,)


@pytest.mark.parametrize(
    ("scene_type", "name"), [("indoor", "indoor"), ("outdoor", "outdoor"), (None, "indoor"), ("cave", "indoor")]
)
def test_the_kind_of_place_decides_over_depth(scene_type: str | None, name: str) -> None:
    assert depth_model(scene_type) is DEPTH[name]


def test_all_frames_are_looked_at_together_where_there_is_room() -> None:
    enough = VGGT.work_gib + 48 * VGGT.frame_gib + 0.01
    assert frames_together(VGGT, 48, int(enough * GIB)) == 48
    assert frames_together(VGGT, 48, int((enough - 2 * VGGT.frame_gib) * GIB)) == 46
    assert frames_together(VGGT, 48, 80 * GIB) == 48


def test_too_little_memory_is_said_with_what_is_needed() -> None:
    least = VGGT.work_gib + 12 * VGGT.frame_gib
    assert frames_together(VGGT, 48, int((least + 0.01) * GIB)) == 12
    with pytest.raises(UserError, match=f"{least:.1f} GiB are needed"):
        frames_together(VGGT, 48, int((least - 0.1) * GIB))
    assert frames_together(VGGT, 10, int((VGGT.work_gib + 10.1 * VGGT.frame_gib) * GIB)) == 10
    require_room(VGGT, int((VGGT.least_gib + 0.01) * GIB))
    with pytest.raises(UserError, match="too little GPU memory for VGGT"):
        require_room(VGGT, int((VGGT.least_gib - 0.1) * GIB))


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 408), st.integers(12, 408))
def test_passes_share_the_first_frames_and_every_other_is_in_one(frames: int, together: int) -> None:
    passes = plan_passes(frames, together)
    if frames <= together:
        assert passes == [list(range(frames))]
        return
    for one in passes:
        assert one[:SHARED_FRAMES] == list(range(SHARED_FRAMES))
        assert one == sorted(one)
        assert len(one) <= together
    own = sorted(frame for one in passes for frame in one[SHARED_FRAMES:])
    assert own == list(range(SHARED_FRAMES, frames))
    sizes = [len(one) for one in passes]
    assert max(sizes) - min(sizes) <= 1, "as even as can be, or the last pass could not tell its scale"
    assert len(passes) == -(-(frames - SHARED_FRAMES) // (together - SHARED_FRAMES))


def test_after_memory_ran_out_fewer_are_tried_down_to_twelve() -> None:
    seen, together = [], 48
    while (fewer := fewer_together(48, together)) is not None:
        seen.append(fewer)
        together = fewer
    assert seen == [28, 18, 13, 12]
    assert fewer_together(12, 48) is None
    assert fewer_together(9, 9) is None
