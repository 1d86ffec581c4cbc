"""The rasteriser against a plain renderer in float64, and its gradients against that renderer's finite differences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from worldexplorer.geometry.cameras import opengl_to_opencv, pose, yaw_matrix
from worldexplorer.geometry.gaussians import Gaussians
from worldexplorer.geometry.rotations import quaternion_to_matrix
from worldexplorer.geometry.spherical_harmonics import basis
from worldexplorer.preview.footprints import SIDE, block_columns, footprints_of, order_by_depth
from worldexplorer.preview.parameters import C0, COLOUR, LOG_SCALE, MEAN, OPACITY, QUATERNION, pack, unpack
from worldexplorer.preview.projection import SPLAT, Camera, X, Y, camera_of, project
from worldexplorer.preview.rasterizer import power_of_two, render
from worldexplorer.preview.rasterizer_backward import backward
from worldexplorer.preview.workers import ALONE, Workers

NEAR = 0.05


@dataclass(frozen=True)
class View:
    c2w: NDArray[np.float64]
    intrinsics: NDArray[np.float64]
    width: int
    height: int

    def camera(self) -> Camera:
        return camera_of(self.c2w, self.intrinsics, self.width, self.height, NEAR)


def a_view(width: int = 23, height: int = 18) -> View:
    """A turned, shifted camera whose principal point is not in the middle."""
    intrinsics = np.array([[0.9, 0.0, 0.47], [0.0, 1.1, 0.54], [0.0, 0.0, 1.0]])
    return View(pose(yaw_matrix(25.0), [0.3, -0.2, 0.1]), intrinsics, width, height)


def some_rows(count: int, view: View, seed: int, scale: float = 0.08) -> NDArray[np.float32]:
    """Gaussians in front of the view, some of them beyond the image's edges."""
    random = np.random.default_rng(seed)
    depth = random.uniform(0.6, 4.0, count)
    K = view.intrinsics
    u, v = random.uniform(-0.3, 1.3, (2, count))
    seen = np.stack([(u - K[0, 2]) / K[0, 0] * depth, (v - K[1, 2]) / K[1, 1] * depth, depth], axis=1)
    c2w = opengl_to_opencv(view.c2w)
    rows = np.empty((count, 14), np.float32)
    rows[:, MEAN:LOG_SCALE] = seen @ c2w[:3, :3].T + c2w[:3, 3]
    rows[:, LOG_SCALE:QUATERNION] = np.log(scale * depth)[:, None] + random.normal(0.0, 0.5, (count, 3))
    rows[:, QUATERNION:OPACITY] = random.normal(size=(count, 4))
    rows[:, OPACITY] = random.normal(0.0, 2.0, count)
    rows[:, COLOUR:] = random.normal(0.0, 1.5, (count, 3))
    return rows


@dataclass(frozen=True)
class Truth:
    image: NDArray[np.float64]
    transmittance: NDArray[np.float64]
    counts: NDArray[np.bool_]
    capped: NDArray[np.bool_]


def plain_render(rows: NDArray[np.floating], view: View, like: Truth | None = None) -> Truth:
    """The definition, Gaussian by Gaussian over the whole image in float64.

    Args:
        rows: [N, 14].
        view: of the camera.
        like: take from here which Gaussians count in which pixels and where opacity is capped, so that the image is a
            smooth function of the rows.
    """
    rows = rows.astype(np.float64)
    width, height = view.width, view.height
    w2c = np.linalg.inv(opengl_to_opencv(view.c2w))
    K = view.intrinsics * np.array([[width], [height], [1.0]])
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    down, across = np.mgrid[:height, :width] + 0.5
    image, light = np.zeros((3, height, width)), np.ones((height, width))
    counts, capped = np.zeros((2, len(rows), height, width), bool)
    done = np.zeros((height, width), bool)
    seen = rows[:, :3] @ w2c[:3, :3].T + w2c[:3, 3]
    for i in np.argsort(seen[:, 2], kind="stable"):
        x, y, z = seen[i]
        if z <= NEAR:
            continue
        held_x = np.clip(x / z, -cx / fx - 0.15 * width / fx, (width - cx) / fx + 0.15 * width / fx)
        held_y = np.clip(y / z, -cy / fy - 0.15 * height / fy, (height - cy) / fy + 0.15 * height / fy)
        J = np.array([[fx / z, 0.0, -fx * held_x / z], [0.0, fy / z, -fy * held_y / z]])
        quaternion = rows[i, QUATERNION:OPACITY]
        axes = quaternion_to_matrix(quaternion / np.linalg.norm(quaternion)) * np.exp(rows[i, LOG_SCALE:QUATERNION])
        footprint = J @ w2c[:3, :3] @ axes
        conic = np.linalg.inv(footprint @ footprint.T + 0.3 * np.eye(2))
        dx, dy = across - (fx * x / z + cx), down - (fy * y / z + cy)
        power = -0.5 * (conic[0, 0] * dx * dx + conic[1, 1] * dy * dy) - conic[0, 1] * dx * dy
        raw = np.exp(power) / (1.0 + np.exp(-rows[i, OPACITY]))
        capped[i] = raw > 0.99 if like is None else like.capped[i]
        opacity = np.where(capped[i], 0.99, raw)
        if like is None:
            counts[i] = (raw >= 1.0 / 255.0) & ~done
            done |= counts[i] & (light * (1.0 - opacity) < 1e-4)
            counts[i] &= ~done
        else:
            counts[i] = like.counts[i]
        opacity = np.where(counts[i], opacity, 0.0)
        colour = np.maximum(0.5 + C0 * rows[i, COLOUR:], 0.0)
        image += colour[:, None, None] * (light * opacity)
        light = light * (1.0 - opacity)
    return Truth(image, light, counts, capped)


@pytest.mark.parametrize(("width", "height"), [(23, 18), (64, 40), (5, 3), (1, 1)])
def test_images_are_those_of_the_definition(width: int, height: int) -> None:
    view = a_view(width, height)
    rows = some_rows(250, view, seed=1, scale=0.2)
    truth, rendering = plain_render(rows, view), render(rows, view.camera())
    # In a handful of pixels an opacity is so near to 1/255 that rounding decides whether it counts.
    image_error = np.abs(rendering.image - truth.image)
    assert image_error.max() < 2.0 / 255.0
    assert np.mean(image_error > 2e-5) < 2e-3
    assert np.mean(np.abs(rendering.transmittance - truth.transmittance) > 2e-5) < 2e-3


def test_pixels_are_finished_before_the_last_light() -> None:
    view = a_view()
    rows = some_rows(400, view, seed=2, scale=1.5)
    rows[:, OPACITY] = 6.0
    truth, rendering = plain_render(rows, view), render(rows, view.camera())
    np.testing.assert_allclose(rendering.image, truth.image, atol=2e-4)
    np.testing.assert_allclose(rendering.transmittance, truth.transmittance, atol=2e-5)
    assert rendering.transmittance.min() >= 1e-4
    assert np.median(rendering.transmittance) < 1e-2


def test_one_gaussian_has_its_closed_form() -> None:
    intrinsics = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
    camera = camera_of(np.eye(4), intrinsics, 17, 17, NEAR)
    row = np.zeros((1, 14), np.float32)
    row[0, :3] = 0.0, 0.0, -2.0
    row[0, LOG_SCALE:QUATERNION] = np.log(0.2)
    row[0, QUATERNION] = 3.0
    row[0, OPACITY] = np.log(0.6 / 0.4)
    row[0, COLOUR:] = np.array([0.5, 0.0, -0.25]) / C0
    rendering = render(row, camera)
    variance = (17 * 0.2 / 2.0) ** 2 + 0.3
    opacity = 0.6 * np.exp(-0.5 * (np.arange(17) - 8.0) ** 2 / variance)
    opacity[opacity < 1.0 / 255.0] = 0.0
    np.testing.assert_allclose(rendering.image[0, 8], opacity, atol=1e-6)
    np.testing.assert_allclose(rendering.image[:, 8, 8], [0.6, 0.3, 0.15], atol=1e-6)
    np.testing.assert_allclose(rendering.transmittance[8], 1.0 - opacity, atol=1e-6)


@pytest.mark.slow
def test_gradients_are_those_of_the_definition() -> None:
    """All fourteen parameters, against central differences in float64; the choices of which splats count held still."""
    view = a_view(26, 22)
    rows = some_rows(18, view, seed=5, scale=0.25)
    rows[::5, OPACITY] = 6.0
    random = np.random.default_rng(6)
    by_image = random.normal(size=(3, view.height, view.width)).astype(np.float32)
    by_light = random.normal(size=(view.height, view.width)).astype(np.float32)
    truth, rendering = plain_render(rows, view), render(rows, view.camera())
    found = np.zeros((len(rows), 14))
    found[rendering.seen] = backward(rows, view.camera(), rendering, by_image, by_light)

    expected = np.empty_like(found)
    step = 1e-5
    for i, column in np.ndindex(*expected.shape):
        losses = []
        for sign in (1.0, -1.0):
            moved = rows.astype(np.float64)
            moved[i, column] += sign * step
            there = plain_render(moved, view, like=truth)
            losses.append((there.image * by_image).sum() + (there.transmittance * by_light).sum())
        expected[i, column] = (losses[0] - losses[1]) / (2.0 * step)

    assert truth.capped.any(), "some opacities are at their cap"
    assert (0.5 + C0 * rows[:, COLOUR:] < 0.0).any(), "some colours are at zero"
    assert len(rendering.seen) > 12
    for column in range(14):
        error = np.linalg.norm(found[:, column] - expected[:, column]) / np.linalg.norm(expected[:, column])
        assert error < 2.5e-3, f"parameter {column}: {error}"
    per_gaussian = np.linalg.norm(found - expected, axis=1) / (np.linalg.norm(expected, axis=1) + 1e-6)
    assert np.quantile(per_gaussian, 0.9) < 2.5e-3


def test_the_number_of_threads_changes_no_bit() -> None:
    view = a_view(128, 96)
    rows = some_rows(3000, view, seed=7, scale=0.03)
    random = np.random.default_rng(8)
    by_image = random.normal(size=(3, view.height, view.width)).astype(np.float32)
    by_light = random.normal(size=(view.height, view.width)).astype(np.float32)
    results = []
    for threads in (1, 2, 3, 3):
        with Workers(threads) as workers:
            rendering = render(rows, view.camera(), workers)
            gradients = backward(rows, view.camera(), rendering, by_image, by_light, workers)
        results.append([a.tobytes() for a in (rendering.image, rendering.transmittance, rendering.seen, gradients)])
    assert all(result == results[0] for result in results)


def test_what_does_not_show_is_left_out() -> None:
    view = a_view()
    rows = some_rows(6, view, seed=9)
    rows[:, OPACITY] = 2.0
    behind, thin, nowhere = rows.copy(), rows.copy(), rows.copy()
    behind[:, :3] += view.c2w[:3, 2].astype(np.float32) * 20.0
    thin[:, OPACITY] = -6.0
    nowhere[:, 0] = np.nan
    for hidden in (behind, thin, nowhere):
        rendering = render(hidden, view.camera())
        assert not len(rendering.seen)
        assert not rendering.image.any()
        assert (rendering.transmittance == 1.0).all()
        assert backward(hidden, view.camera(), rendering, rendering.image, rendering.transmittance).shape == (0, 14)
    both = np.concatenate([behind, rows])
    np.testing.assert_array_equal(render(both, view.camera()).image, render(rows, view.camera()).image)


@pytest.mark.parametrize("count", [1, 4, 9, 16])
def test_colours_depend_on_the_direction(count: int) -> None:
    view = a_view()
    rows = some_rows(60, view, seed=10, scale=0.2)
    sh = np.random.default_rng(11).normal(0.0, 0.5, (60, count, 3)).astype(np.float32)
    flat = unpack(rows)
    gaussians = Gaussians(flat.means, flat.log_scales, flat.quaternions, flat.opacity_logits, sh)
    directions = rows[:, :3] - view.c2w[:3, 3]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    seen = rows.copy()
    seen[:, COLOUR:] = np.einsum("nk,nkc->nc", basis(directions, int(count**0.5) - 1), sh) / C0
    expected = plain_render(seen, view).image
    found = render(pack(gaussians, seen_from=view.c2w[:3, 3]), view.camera()).image
    assert np.quantile(np.abs(found - expected), 0.99) < 1e-4


def test_packing_keeps_gaussians() -> None:
    rows = some_rows(20, a_view(), seed=12)
    gaussians = unpack(rows)
    np.testing.assert_allclose(np.linalg.norm(gaussians.quaternions, axis=1), 1.0, atol=1e-6)
    again = pack(gaussians)
    np.testing.assert_array_equal(again[:, :QUATERNION], rows[:, :QUATERNION])
    np.testing.assert_array_equal(again[:, OPACITY:], rows[:, OPACITY:])
    for array in (gaussians.means, gaussians.log_scales, gaussians.quaternions, gaussians.opacity_logits, gaussians.sh):
        assert array.dtype == np.float32
        assert array.flags.c_contiguous


@given(st.lists(st.sampled_from([0.0, 0.1, 0.25, 1.0, 1.5, 1e-30, 3e7]) | st.floats(0.0, 100.0, width=32), max_size=60))
def test_depths_are_sorted_like_numpy_sorts(depths: list[float]) -> None:
    values = np.array(depths, np.float32)
    shown = np.flatnonzero(values > 0)
    expected = shown[np.argsort(values[shown], kind="stable")]
    np.testing.assert_array_equal(order_by_depth(values), expected)


@settings(max_examples=60)
@given(
    st.floats(-30.0, 60.0),
    st.floats(-30.0, 60.0),
    st.floats(-3.0, 1.5),
    st.floats(0.0, 3.5),
    st.floats(0.0, 3.2),
    st.floats(-5.0, 8.0),
)
def test_blocks_hold_every_pixel_that_counts(
    u: float, v: float, log_scale: float, stretch: float, turn: float, opacity: float
) -> None:
    """A long thin Gaussian at any angle: pixels at 1/255 and more are in the rows and blocks that are visited."""
    size = 32
    camera = camera_of(np.eye(4), np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]]), size, size, NEAR)
    row = np.zeros((1, 14), np.float32)
    row[0, :3] = u / size - 0.5, 0.5 - v / size, -1.0
    row[0, LOG_SCALE:QUATERNION] = log_scale - np.log(size) + np.array([stretch, 0.0, 0.0])
    row[0, QUATERNION], row[0, QUATERNION + 3] = np.cos(turn / 2), np.sin(turn / 2)
    row[0, OPACITY] = opacity
    view = View(np.eye(4), np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]]), size, size)
    # What counts clearly: a hair over 1/255, so that rounding does not decide.
    counts = plain_render(row, view).transmittance < 1.0 - 1.01 / 255.0
    order, footprints = footprints_of(project(row, camera, ALONE), size, size, ALONE)
    visited = np.zeros((size, size), bool)
    if len(order):
        for block_row in range(footprints.spans[0, 0], footprints.spans[0, 1] + 1):
            first, last = block_columns(footprints.splats[0], block_row, size // SIDE)
            visited[block_row * SIDE : (block_row + 1) * SIDE, first * SIDE : (last + 1) * SIDE] = True
    assert not (counts & ~visited).any()


@given(st.floats(-60.0, 60.0, width=32))
def test_powers_of_two_are_exact_to_float32(exponent: float) -> None:
    assert power_of_two(np.float32(exponent)) == pytest.approx(2.0 ** np.float64(np.float32(exponent)), rel=4e-7)


def test_a_splat_has_the_columns_it_says() -> None:
    view = a_view()
    rows = some_rows(30, view, seed=13)
    projection = project(rows, view.camera(), ALONE)
    shown = projection.depths > 0
    indices = projection.indices[shown]
    splats = projection.splats[shown]
    w2c = np.linalg.inv(opengl_to_opencv(view.c2w))
    seen = rows[:, :3] @ w2c[:3, :3].T + w2c[:3, 3]
    K = view.intrinsics * np.array([[view.width], [view.height], [1.0]])
    pixels = seen @ K.T / seen[:, 2:]
    assert splats.shape == (len(indices), SPLAT)
    assert len(indices) > 10
    np.testing.assert_allclose(projection.depths[shown], seen[indices, 2], rtol=1e-5)
    np.testing.assert_allclose(splats[:, [X, Y]], pixels[indices, :2], atol=1e-3)
