"""The acceptance test, on views of a made-up sky that is a formula of the direction."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldexplorer.errors import DefectError
from worldexplorer.geometry.cameras import camera_rays, normalised_intrinsics, pose, yaw_matrix
from worldexplorer.scaffold.acceptance import DEFAULT_OVERLAP_DB, accept_ring, neighbour_psnr
from worldexplorer.scaffold.poses import scaffold_poses

SIZE = 96
LENS = normalised_intrinsics()
RING = scaffold_poses()


def sky(c2w: np.ndarray) -> np.ndarray:
    """What cameras see of waves on the sphere around them."""
    rays = camera_rays(LENS, SIZE, SIZE)
    waves = np.array([[9.0, 2.0, 5.0], [4.0, 7.0, -6.0], [-3.0, 5.0, 10.0]])
    views = [127.5 + 100.0 * np.sin(rays @ one[:3, :3].T @ waves + [0.0, 1.0, 2.0]) for one in c2w]
    return np.rint(np.stack(views)).astype(np.uint8)


@pytest.fixture(scope="module")
def views() -> np.ndarray:
    return sky(RING)


def bad_pairs(images: np.ndarray) -> list[int]:
    return np.flatnonzero(neighbour_psnr(images, RING, LENS) < DEFAULT_OVERLAP_DB).tolist()


def test_views_of_one_place_agree_but_for_resampling(views):
    psnr = neighbour_psnr(views, RING, LENS)
    assert psnr.shape == (8,)
    assert psnr.min() > 40.0
    found = accept_ring(views, RING, LENS, DEFAULT_OVERLAP_DB)
    assert (found.quality, found.notes) == ("ok", ())
    assert found.metrics["overlap_psnr"] == pytest.approx(psnr, abs=0.005)
    assert found.metrics["overlap_psnr_min"] == min(found.metrics["overlap_psnr"])


@settings(deadline=None, derandomize=True, max_examples=15)
@given(st.lists(st.integers(0, 7), min_size=2, max_size=2, unique=True))
def test_two_views_exchanged_are_found(pair):
    one, other = pair
    images = sky(RING)
    images[[one, other]] = images[[other, one]]
    wrong = {(view - step) % 8 for view in pair for step in (0, 1)}
    assert set(bad_pairs(images)) <= wrong
    assert len(bad_pairs(images)) >= 2


def test_a_ring_the_other_way_round_and_one_begun_elsewhere(views):
    assert bad_pairs(views[[0, 7, 6, 5, 4, 3, 2, 1]])
    assert bad_pairs(views[:, :, ::-1]), "mirrored"
    # One that begins elsewhere is a ring all the same; that 000 is the photo is not this test's matter.
    assert bad_pairs(np.roll(views, 1, axis=0)) == []
    # But the photo in its place and all others moved on by one is not.
    assert bad_pairs(np.concatenate([views[:1], np.roll(views[1:], 1, axis=0)]))


@pytest.mark.parametrize("view", range(8))
def test_a_view_that_lies_aside_spoils_both_its_pairs_and_no_other(views, view):
    images = views.copy()
    images[view] = np.roll(images[view], SIZE // 8, axis=1)
    assert bad_pairs(images) == sorted({(view - 1) % 8, view})


def test_turns_by_another_angle_than_was_told_are_found(views):
    yaws = np.arange(8) * 43.0
    assert bad_pairs(sky(pose(yaw_matrix(yaws), np.zeros(3))))


def test_psnr_is_that_of_the_difference(views):
    """A view ten steps darker than its neighbours differs from them by ten, where resampling adds next to nothing."""
    images = np.clip(views, 20, 235)
    images[4] -= 10
    psnr = neighbour_psnr(images, RING, LENS)
    assert psnr[3:5] == pytest.approx(20.0 * math.log10(255.0 / 10.0), abs=0.2)


def test_equal_pictures_have_the_most_that_rounding_allows(views):
    same = np.stack([views[0], views[0]])
    assert neighbour_psnr(same, RING[[0, 0]], LENS) == pytest.approx([10.0 * math.log10(255.0**2 * 12.0)] * 2)


def test_a_bad_pair_is_named(views):
    images = views.copy()
    images[0] = 255 - images[0]
    found = accept_ring(images, RING, LENS, DEFAULT_OVERLAP_DB)
    assert found.quality == "degraded"
    (note,) = found.notes
    assert "0-1 (" in note
    assert "7-0 (" in note
    assert "1-2" not in note
    assert accept_ring(images, RING, LENS, 0.0).quality == "ok"


def test_views_that_share_nothing_are_the_callers_mistake(views):
    with pytest.raises(DefectError, match="do not overlap"):
        neighbour_psnr(views[::2], RING[::2], LENS)
    moved = RING.copy()
    moved[3, 0, 3] = 0.1
    with pytest.raises(DefectError, match="homography"):
        neighbour_psnr(views, moved, LENS)
