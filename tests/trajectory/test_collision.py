"""Cuts against depth maps made by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worldexplorer.errors import DefectError
from worldexplorer.trajectory.collision import (
    LEGACY_THRESHOLD,
    CollisionVerdict,
    central_region,
    clearance_cut,
    clearance_threshold,
    legacy_cut,
)
from worldexplorer.trajectory.paths import anchor_parameters, published_trajectories, target_parameters

steady = settings(deadline=None, derandomize=True)

SIZE = 64
LEFT = target_parameters(published_trajectories()["left"], None)
ANCHORS = anchor_parameters(LEFT)


def walls(distances, size=SIZE):
    """Depth maps [N, size, size] of flat walls."""
    return np.repeat(np.asarray(distances, dtype=np.float32)[:, None, None], size, 1).repeat(size, 2)


@pytest.mark.parametrize(("size", "middle"), [(576, slice(238, 338)), (288, slice(119, 169)), (3, slice(1, 2))])
def test_the_middle_scales_with_the_image(size, middle):
    depth = np.arange(1, 1 + size * size, dtype=np.float32).reshape(1, size, size)
    np.testing.assert_array_equal(central_region(depth), depth[:, middle, middle])


@pytest.mark.parametrize(("room", "threshold"), [(1.0, 0.4), (2.0, 0.4), (5.0, 1.0), (20.0, 4.0)])
def test_the_threshold_grows_with_the_place(room, threshold):
    assert clearance_threshold(walls([room] * 8)) == pytest.approx(threshold)


def test_the_threshold_is_the_median_of_the_middles_together():
    depth = walls([10.0] * 8)
    depth[:, 0] = 1000.0  # outside of the middle
    depth[0] = 500.0  # one far view of eight
    assert clearance_threshold(depth) == pytest.approx(2.0)


def test_nothing_near_keeps_everything():
    verdict = clearance_cut(walls([3.0] * 13), ANCHORS, LEFT, 0.4)
    assert verdict.kept_anchors == 13
    assert not verdict.collided
    assert verdict.kept_targets == tuple(range(135))  # the last frame too


def test_it_is_cut_before_the_first_near_anchor_and_keeps_the_anchor_before():
    verdict = clearance_cut(walls([3.0] * 5 + [0.39] + [3.0] * 7), ANCHORS, LEFT, 0.4)
    assert verdict.kept_anchors == 5
    assert verdict.collided
    assert ANCHORS[4] == 45
    assert verdict.kept_targets == tuple(range(46))


def test_the_first_anchor_never_collides():
    assert clearance_cut(walls([0.1] + [3.0] * 12), ANCHORS, LEFT, 0.4).kept_anchors == 13


def test_a_trajectory_cut_at_once_yields_no_frames():
    verdict = clearance_cut(walls([3.0, 0.1] + [3.0] * 11), ANCHORS, LEFT, 0.4)
    assert (verdict.kept_anchors, verdict.kept_targets, verdict.collided) == (0, (), True)


def test_equal_to_the_threshold_is_no_collision():
    assert clearance_cut(walls([3.0, 0.5, 3.0]), np.arange(3.0), np.arange(3.0), 0.5).kept_anchors == 3


def test_a_tenth_of_the_middle_decides():
    """Middle of 11 x 11 pixels: a post of one column is 9.1 % of it, one of two columns 18 %."""
    depth = walls([4.0, 4.0, 4.0])
    assert central_region(depth).shape[1:] == (11, 11)
    depth[1, :, 32] = 0.2
    assert clearance_cut(depth, np.arange(3.0), np.arange(3.0), 0.4).kept_anchors == 3
    depth[1, :, 33] = 0.2
    assert clearance_cut(depth, np.arange(3.0), np.arange(3.0), 0.4).kept_anchors == 0
    depth[1] = 0.2
    depth[1, 20:44, 20:44] = 4.0  # near things only around the middle
    assert clearance_cut(depth, np.arange(3.0), np.arange(3.0), 0.4).kept_anchors == 3


def test_scores_are_the_percentile_of_the_middle():
    depth = np.random.default_rng(0).uniform(0.5, 9, (4, SIZE, SIZE)).astype(np.float32)
    verdict = clearance_cut(depth, np.arange(4.0), np.arange(4.0), 0.4)
    for score, one in zip(verdict.scores, central_region(depth), strict=True):
        values = sorted(one.ravel().tolist())  # 121 values: the tenth percentile is the 13th of them
        assert score == pytest.approx(values[12])


def test_shortened_trajectories_keep_the_frames_up_to_the_cut():
    targets = target_parameters(published_trajectories()["in"], 4)
    anchors = anchor_parameters(targets)
    verdict = clearance_cut(walls([3, 3, 3, 0.1, 3]), anchors, targets, 0.4)
    assert verdict.kept_targets == (11.0, 22.0)
    assert clearance_cut(walls([3] * 5), anchors, targets, 0.4).kept_targets == tuple(targets)


@steady
@given(st.lists(st.floats(0.05, 5), min_size=13, max_size=13), st.floats(0.1, 4))
def test_cuts_equal_a_plain_loop(distances, threshold):
    verdict = clearance_cut(walls(distances, 8), ANCHORS, LEFT, threshold)
    kept = 0
    for index, distance in enumerate(distances):
        if index >= 1 and float(np.float32(distance)) < threshold:
            break
        kept += 1
    kept = kept if kept >= 2 else 0
    assert verdict.kept_anchors == kept
    assert verdict.kept_targets == tuple(k for k in LEFT if kept and k <= ANCHORS[kept - 1])


def test_legacy_normalises_over_the_whole_clip():
    """Inverse depths 0.1 .. 1: the middle of anchor 2 lies at (0.5 - 0.1) / 0.9 = 113/255, of anchor 3 at 141/255."""
    depth = walls([10.0, 10.0, 2.0, 1 / 0.6, 10.0])
    depth[4, 0, 0] = 1.0  # one near pixel in a corner stretches the range
    verdict = legacy_cut(depth, np.arange(5.0), np.arange(5.0))
    assert verdict.scores == pytest.approx((0, 0, 4 / 9, 5 / 9, 0), abs=1e-6)
    assert verdict.threshold == LEGACY_THRESHOLD == 120 / 255
    assert (verdict.kept_anchors, verdict.kept_targets) == (3, (0.0, 1.0, 2.0))


def test_legacy_counts_the_far_things_at_the_border_too():
    """Without them the range would begin at 1/10, and the middle of anchor 1 would score 2/3 instead of 0.7."""
    depth = walls([10.0, 1 / 0.7])
    depth[0, 0, 0], depth[1, 0, 0] = 1e6, 1.0
    assert legacy_cut(depth, np.arange(2.0), np.arange(2.0)).scores == pytest.approx((0.1, 0.7), abs=1e-5)


def test_legacy_may_cut_at_the_first_anchor():
    assert legacy_cut(walls([1.0, 10.0, 10.0]), np.arange(3.0), np.arange(3.0)).kept_anchors == 0
    assert legacy_cut(walls([10.0, 1.0, 10.0]), np.arange(3.0), np.arange(3.0)).kept_anchors == 0


def test_legacy_finds_no_collision_where_all_is_equally_far():
    verdict = legacy_cut(walls([0.2] * 4), np.arange(4.0), np.arange(4.0))
    assert (verdict.scores, verdict.kept_anchors) == ((0.0,) * 4, 4)


@pytest.mark.parametrize("flaw", [math.nan, math.inf, 0.0, -1.0])
@pytest.mark.parametrize("cut", [legacy_cut, lambda d, a, t: clearance_cut(d, a, t, 0.4)])
def test_failed_depth_is_an_error_not_a_collision(flaw, cut):
    depth = walls([3.0] * 4)
    depth[2, 5, 7] = flaw  # not even in the middle
    with pytest.raises(DefectError, match="depth map 2, row 5, column 7"):
        cut(depth, np.arange(4.0), np.arange(4.0))
    with pytest.raises(DefectError):
        clearance_threshold(depth)


def test_missing_depth_is_an_error():
    with pytest.raises(DefectError, match="3 depth maps for 4 anchors"):
        clearance_cut(walls([3.0] * 3), np.arange(4.0), np.arange(4.0), 0.4)
    for shape in ((0, 8, 8), (8, 8), (3, 0, 8)):
        with pytest.raises(DefectError, match="shape"):
            clearance_cut(np.ones(shape), np.arange(3.0), np.arange(3.0), 0.4)


def test_verdicts_are_json():
    verdict = clearance_cut(walls([3.0, 3.0, 0.1]), np.arange(3.0), np.arange(3.0), 0.4)
    assert CollisionVerdict.from_json(json.loads(json.dumps(verdict.to_json(), allow_nan=False))) == verdict
