"""Seams: where they run, what levels they bridge, and mirrors that show no crease."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from worldexplorer.preview.seams import go_on_smoothly, level_difference, seam_share


def whole(rows: int, columns: int) -> np.ndarray:
    return np.ones((rows, columns), dtype=bool)


def test_a_level_difference_is_found() -> None:
    random = np.random.default_rng(0)
    left = random.uniform(80, 120, size=(120, 30, 3)).astype(np.float32)
    right = left + np.array([8, -4, 2], dtype=np.float32)
    offset = level_difference(left, right, whole(120, 30), whole(120, 30), rows_per_degree=2.0)
    np.testing.assert_allclose(offset, np.broadcast_to([8, -4, 2], (120, 3)), atol=0.2)


def test_an_object_on_one_side_is_no_level_difference() -> None:
    left = np.full((120, 30, 3), 200, dtype=np.float32)
    right = left.copy()
    right[40:80] = 40
    offset = level_difference(left, right, whole(120, 30), whole(120, 30), rows_per_degree=2.0)
    assert np.abs(offset).max() < 1


def test_the_share_leads_from_left_to_right() -> None:
    random = np.random.default_rng(1)
    left, right = random.uniform(0, 255, size=(2, 50, 21, 3)).astype(np.float32)
    share = seam_share(left, right, whole(50, 21), whole(50, 21))
    assert (share[:, 0] == 0).all()
    assert share[:, -1] == pytest.approx(1)
    assert (np.diff(share, axis=1) >= 0).all()


def test_the_cut_follows_the_columns_that_agree() -> None:
    left = np.zeros((40, 25, 3), dtype=np.float32)
    right = np.full((40, 25, 3), 200, dtype=np.float32)
    path = 8 + (np.arange(40) // 5)
    for row, column in enumerate(path):
        right[row, column - 2 : column + 3] = 0
    share = seam_share(left, right, whole(40, 25), whole(40, 25))
    cut = (share < 0.5).sum(axis=1)
    assert np.abs(cut - path).max() <= 2


def test_the_cut_is_the_cheapest_of_all() -> None:
    """Against every cut there is: the difference it crosses, blurred as the module does, plus steps."""
    random = np.random.default_rng(2)
    for _ in range(5):
        left, right = random.uniform(0, 60, size=(2, 5, 5, 3)).astype(np.float32)
        share = seam_share(left, right, whole(5, 5), whole(5, 5))
        cost = cv2.blur(np.linalg.norm(left - right, axis=-1), (3, 3)) + 1.0
        cost = cost * (1 + 0.3 * np.abs(np.arange(5) - 2) / 5)
        prices = {
            cut: sum(cost[row, column] for row, column in enumerate(cut)) + 0.3 * np.abs(np.diff(cut)).sum()
            for cut in itertools.product(range(5), repeat=5)
            if np.abs(np.diff(cut)).max() <= 1
        }
        best = min(prices, key=prices.__getitem__)
        raw = 1 / (1 + np.exp(-(np.arange(5)[None] - np.array(best)[:, None]) / 2.0))
        raw = (raw - raw[:, :1]) / (raw[:, -1:] - raw[:, :1])
        np.testing.assert_allclose(share, raw, atol=1e-4)


def test_a_mirrored_gradient_goes_on_without_a_crease() -> None:
    across = np.arange(120, dtype=np.float32)
    before = 150 + 0.1 * across  # a sky that grows brighter to the right, then its mirror image
    strip = np.repeat(np.repeat(before[::-1][None, :, None], 40, axis=0), 3, axis=2).copy()
    go_on_smoothly(strip, whole(40, 120), degree=6.0)
    row = strip[20, :, 0]
    assert row[0] == pytest.approx(before[-1], abs=0.3)
    assert row[6] - row[0] > 0.2  # still growing, where the mirror image falls by 0.6
    assert np.abs(np.diff(row)).max() < 0.3
    np.testing.assert_allclose(row[100:], before[::-1][100:], atol=1e-3)


def test_textures_are_left_alone() -> None:
    random = np.random.default_rng(3)
    strip = random.uniform(0, 255, size=(40, 120, 3)).astype(np.float32)
    changed = strip.copy()
    go_on_smoothly(changed, whole(40, 120), degree=6.0)
    assert np.abs(changed - strip).max() < 1
