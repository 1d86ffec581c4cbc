"""The loss against its definition in float64, and its gradient against that definition's finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from worldexplorer.preview.losses import ImageLoss

Doubles = NDArray[np.float64]


def window_means(images: Doubles) -> Doubles:
    weights = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weights /= weights.sum()
    across = correlate1d(images, weights, axis=-1, mode="constant")
    return correlate1d(across, weights, axis=-2, mode="constant")


def similarity(x: Doubles, y: Doubles) -> Doubles:
    mean_x, mean_y = window_means(x), window_means(y)
    variances = window_means(x * x) - mean_x**2 + window_means(y * y) - mean_y**2
    covariance = window_means(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    return ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))


def definition(x: Doubles, y: Doubles, transmittance: Doubles, weight: float) -> float:
    colours = (1 - weight) * np.abs(x - y).mean() + weight * (1 - similarity(x, y).mean())
    return float(colours + 0.1 * transmittance.mean())


def pictures(height: int, width: int) -> tuple[NDArray[np.float32], ...]:
    random = np.random.default_rng(3)
    target = random.random((3, height, width)).astype(np.float32)
    image = np.clip(target + random.normal(0.0, 0.2, target.shape), 0.0, 1.1).astype(np.float32)
    return image, target, random.random((height, width)).astype(np.float32)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("height", "width"), [(24, 31), (5, 40), (1, 1)])
def test_the_value_is_that_of_the_definition(height: int, width: int, weight: float) -> None:
    image, target, transmittance = pictures(height, width)
    loss = ImageLoss(height, width, weight)(image, target, transmittance)
    x, y, light = (array.astype(np.float64) for array in (image, target, transmittance))
    assert loss.value == pytest.approx(definition(x, y, light, weight), rel=2e-5)
    assert loss.mean_squared_error == pytest.approx(((x - y) ** 2).mean(), rel=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_gradient_is_that_of_the_definition(weight: float) -> None:
    height, width = 17, 23
    image, target, transmittance = pictures(height, width)
    loss = ImageLoss(height, width, weight)(image, target, transmittance)
    x, y, light = (array.astype(np.float64) for array in (image, target, transmittance))
    random = np.random.default_rng(4)
    step = 1e-6
    places = [random.integers(0, size, 60) for size in image.shape]
    for place in zip(*places, strict=True):
        values = []
        for sign in (1.0, -1.0):
            moved = x.copy()
            moved[place] += sign * step
            values.append(definition(moved, y, light, weight))
        expected = (values[0] - values[1]) / (2 * step)
        assert loss.by_image[place] == pytest.approx(expected, rel=1e-3, abs=2e-7)
    np.testing.assert_allclose(loss.by_transmittance, 0.1 / light.size, rtol=1e-6)


def test_equal_images_have_no_loss() -> None:
    _, target, _ = pictures(20, 20)
    loss = ImageLoss(20, 20, 0.3)(target, target, np.zeros((20, 20), np.float32))
    assert loss.value == pytest.approx(0.0, abs=1e-6)
    assert np.abs(loss.by_image).max() < 1e-6


def test_memory_kept_between_calls_changes_nothing() -> None:
    image, target, transmittance = pictures(16, 16)
    kept = ImageLoss(16, 16, 0.3)
    first = kept(image, target, transmittance)
    before = first.by_image.copy()
    kept(target, image, transmittance)
    again = kept(image, target, transmittance)
    assert again.value == first.value
    np.testing.assert_array_equal(again.by_image, before)
    np.testing.assert_array_equal(first.by_image, before)
