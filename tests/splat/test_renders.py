from __future__ import annotations

import numpy as np
import pytest
from tiny_engine import TinyEngine, box_views

from worldexplorer.geometry.cameras import normalised_intrinsics
from worldexplorer.splat.camera_paths import turn
from worldexplorer.splat.renders import FRAMES_AT_ONCE, DepthRange, depth_pictures, depth_range, frames

COUNT = FRAMES_AT_ONCE + 3
LENSES = np.tile(normalised_intrinsics(), (COUNT, 1, 1))


class Watching(TinyEngine):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def render(self, gaussians, c2w, intrinsics, size):  # type: ignore[no-untyped-def]
        self.asked.append(len(c2w))
        return super().render(gaussians, c2w, intrinsics, size)


def test_frames_come_in_order_and_a_few_at_a_time() -> None:
    trainer, told = Watching(), []
    path = turn(COUNT)
    found = frames(trainer, None, path, LENSES, 8, progress=lambda *facts: told.append(facts))  # type: ignore[arg-type]
    first = next(found)
    assert trainer.asked == [FRAMES_AT_ONCE]
    np.testing.assert_array_equal([first, *found], box_views(path, LENSES, 8))
    assert trainer.asked == [FRAMES_AT_ONCE, 3]
    assert told == [(FRAMES_AT_ONCE, COUNT, "frames"), (COUNT, COUNT, "frames")]


def test_depths_are_asked_for_where_a_range_is_given() -> None:
    path = turn(COUNT)
    limits = DepthRange(1.0, 4.0)
    depths = TinyEngine().render_depth(None, path, LENSES, 8)  # type: ignore[arg-type]
    found = list(frames(TinyEngine(), None, path, LENSES, 8, limits))  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, depth_pictures(depths, limits))


def test_grey_falls_with_the_logarithm_of_the_depth() -> None:
    depths = np.array([[[1.0, 2.0], [16.0, np.inf]], [[0.1, 1000.0], [np.inf, 2.0]]], dtype=np.float32)
    pictures = depth_pictures(depths, DepthRange(1.0, 16.0))
    assert pictures.dtype == np.uint8
    assert pictures[..., 0].tolist() == [[[255, 199], [32, 0]], [[255, 32], [0, 199]]]
    assert (pictures == pictures[..., :1]).all()


def test_the_range_leaves_the_outermost_hundredths_out() -> None:
    depths = np.concatenate([np.linspace(2.0, 12.0, 1001), [np.inf] * 500]).astype(np.float32)
    limits = depth_range(depths)
    assert (limits.near, limits.far) == pytest.approx((2.1, 11.9), abs=1e-3)


@pytest.mark.parametrize("depths", [np.full(5, np.inf, np.float32), np.full(5, 3.0, np.float32)])
def test_nothing_to_tell_apart_is_no_error(depths: np.ndarray) -> None:
    picture = depth_pictures(depths.reshape(1, 1, 5), depth_range(depths))
    assert set(np.unique(picture)) <= {0, 255}
