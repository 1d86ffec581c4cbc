from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from worldexplorer.errors import DefectError
from worldexplorer.splat.metrics import compare, halved, psnr


def pictures(count: int = 2, size: int = 24) -> np.ndarray:
    noise = np.random.default_rng(0).uniform(0, 255, (count, size, size, 3))
    return gaussian_filter(noise, (0, 1, 1, 0)).clip(0, 255).astype(np.uint8)


def test_equal_pictures() -> None:
    assert psnr(pictures(), pictures()) == 99.0
    assert compare(pictures(), pictures()) == pytest.approx({"psnr": 99.0, "ssim": 1.0, "gradient_energy": 1.0})


@pytest.mark.parametrize(("step", "expected"), [(1, 48.1308), (10, 28.1308), (255, 0.0)])
def test_a_constant_difference(step: int, expected: float) -> None:
    first = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    assert psnr(first, first + np.uint8(step)) == pytest.approx(expected, abs=1e-4)
    assert psnr(first + np.uint8(step), first) == psnr(first, first + np.uint8(step))


def test_one_different_value_among_many() -> None:
    first = np.zeros((10, 10, 3), dtype=np.uint8)
    second = first.copy()
    second[4, 5, 1] = 51
    assert psnr(first, second) == pytest.approx(10 * np.log10(255**2 * 300 / 51**2))


def test_psnr_is_the_mean_over_the_pairs() -> None:
    truths = pictures(2)
    renders = truths.copy()
    renders[1] = np.where(renders[1] > 127, renders[1] - 10, renders[1] + 10)
    assert compare(renders, truths)["psnr"] == pytest.approx((99.0 + psnr(renders[1], truths[1])) / 2)


def ssim_by_definition(first: np.ndarray, second: np.ndarray) -> float:
    """Wang et al. 2004: an 11 x 11 Gaussian window of 1.5 pixels, over every window that lies inside."""
    offsets = np.arange(11) - 5
    line = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for channel in range(3):
        x, y = first[..., channel].astype(float), second[..., channel].astype(float)
        for row in range(x.shape[0] - 10):
            for column in range(x.shape[1] - 10):
                a, b = x[row : row + 11, column : column + 11], y[row : row + 11, column : column + 11]
                ma, mb = (window * a).sum(), (window * b).sum()
                va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
                cov = (window * (a - ma) * (b - mb)).sum()
                values.append((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return float(np.mean(values))


def test_ssim_is_that_of_its_definition() -> None:
    truth = pictures(1)[0]
    render = gaussian_filter(truth.astype(float), (1.0, 1.0, 0)).astype(np.uint8)
    found = compare(render[None], truth[None])["ssim"]
    assert found == pytest.approx(ssim_by_definition(render, truth), abs=1e-6)
    assert found < 0.99


def test_blur_shows_in_the_gradient_energy() -> None:
    truths = pictures(1)
    blurred = gaussian_filter(truths.astype(float), (0, 2, 2, 0)).astype(np.uint8)
    sharp, soft = truths[0].astype(float).mean(-1), blurred[0].astype(float).mean(-1)
    expected = sum((np.diff(soft, axis=axis) ** 2).mean() for axis in (0, 1)) / sum(
        (np.diff(sharp, axis=axis) ** 2).mean() for axis in (0, 1)
    )
    found = compare(blurred, truths)["gradient_energy"]
    assert found == pytest.approx(expected)
    assert found < 0.6


def test_flat_truths_do_not_divide_by_zero() -> None:
    flat = np.full((1, 16, 16, 3), 100, dtype=np.uint8)
    assert np.isfinite(list(compare(flat, flat).values())).all()


def test_pictures_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DefectError, match="shapes"):
        psnr(pictures(1), pictures(2))
    with pytest.raises(DefectError, match="shapes"):
        compare(pictures(2)[:, :20], pictures(2))
    with pytest.raises(DefectError, match="shapes"):
        compare(pictures(2)[:0], pictures(2)[:0])


def test_halved_pictures_are_means_of_four_pixels() -> None:
    images = np.random.default_rng(1).integers(0, 256, (2, 6, 8, 3), dtype=np.uint8)
    found = halved(images)
    assert (found.shape, found.dtype) == ((2, 3, 4, 3), np.uint8)
    for row in range(3):
        for column in range(4):
            block = images[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].astype(float)
            np.testing.assert_allclose(found[:, row, column], block.mean(axis=(1, 2)), atol=0.5)
    assert halved(images[:, :5, :7]).shape == (2, 2, 3, 3)
