"""Worlds of photos and of scaffolds: faithful to what they were made of, and made of anything."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import skimage.data
from preview.scenes import photo_of_court

from worldexplorer.engine import Views
from worldexplorer.errors import Cancelled, UserError
from worldexplorer.preview.equirectangular import azimuths, project_photo, view_of_panorama
from worldexplorer.preview.panorama import build_world, panorama_truth_psnr, stitch_world
from worldexplorer.preview.world import World

pytestmark = pytest.mark.slow  # whole worlds of several pictures

FOCAL = 0.8645833134651184


def whole_fov(photo: np.ndarray) -> float:
    height, width = photo.shape[:2]
    return math.degrees(2 * math.atan(0.5 / FOCAL * width / min(height, width)))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2)))


def assert_whole(world: World, height: int) -> None:
    for image, ranges in ((world.panorama, world.range_m), (world.backdrop, world.backdrop_range_m)):
        assert image.shape == (height, 2 * height, 3)
        assert image.dtype == np.uint8
        assert ranges.shape == (height, 2 * height)
        assert ranges.dtype == np.float32
        assert np.isfinite(ranges).all()
        assert ranges.min() > 0.5
    assert (world.backdrop_range_m >= world.range_m).all()


def test_the_photo_is_in_the_panorama_pixel_by_pixel() -> None:
    photo = skimage.data.coffee()
    for pitch in (0.0, -25.0):
        world = build_world(photo, 80.0, "indoor", pixels_per_degree=2, pitch_deg=pitch)
        colours, known = project_photo(photo, 80.0, pitch, 360)
        np.testing.assert_array_equal(world.panorama[known], colours[known])
        assert_whole(world, 360)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["coffee", "astronaut", "chelsea"])
def test_the_square_crop_is_seen_again_at_256_pixels(name: str) -> None:
    photo = getattr(skimage.data, name)()
    view = view_of_panorama(build_world(photo, whole_fov(photo)).panorama, np.eye(3), FOCAL, 256)
    side = min(photo.shape[:2])
    crop = cv2.getRectSubPix(photo, (side, side), ((photo.shape[1] - 1) / 2, (photo.shape[0] - 1) / 2))
    assert psnr(view, cv2.resize(crop, (256, 256), interpolation=cv2.INTER_AREA)) >= 35


def test_a_known_court_has_its_true_distances_and_stays_a_court() -> None:
    world = build_world(photo_of_court(wall=5.0), 75.0, "outdoor", pixels_per_degree=3)
    horizon = world.range_m[271]
    azimuth = azimuths(1080)
    ahead = np.abs(azimuth) < math.radians(30)
    np.testing.assert_allclose(horizon[ahead], 5 / np.cos(azimuth[ahead]), rtol=0.06)
    assert horizon.min() > 3.5  # the walls all around are those of the photo, a little nearer or farther
    assert horizon.max() < 8.5
    zenith, nadir = world.panorama[:90].reshape(-1, 3), world.panorama[-90:].reshape(-1, 3)
    assert zenith[:, 2].mean() > zenith[:, 0].mean() + 20  # blue above
    assert np.ptp(nadir.mean(axis=0)) < 30  # gravel below
    assert nadir.std() > 8


@pytest.mark.parametrize(
    ("photo", "hfov_deg", "pitch"),
    [
        pytest.param(np.zeros((20, 30, 3), np.uint8), 75.0, 0.0, id="black"),
        pytest.param(np.full((20, 30, 3), 255, np.uint8), 75.0, 0.0, id="white"),
        pytest.param(np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8), 75.0, 0.0, id="noise"),
        pytest.param(np.full((30, 20, 3), (130, 170, 230), np.uint8), 60.0, 0.0, id="sky"),
        pytest.param(skimage.data.coffee()[:, 150:330], 60.0, 0.0, id="portrait"),
        pytest.param(skimage.data.coffee(), 150.0, 0.0, id="wide"),
        pytest.param(skimage.data.coffee()[150:250], 130.0, 0.0, id="strip"),
        pytest.param(skimage.data.coffee(), 20.0, 0.0, id="narrow"),
        pytest.param(skimage.data.coffee(), 10.0, 0.0, id="narrowest"),
        pytest.param(cv2.resize(skimage.data.coffee(), (64, 43)), 75.0, 0.0, id="tiny"),
        pytest.param(skimage.data.coffee()[:2, :2], 60.0, 0.0, id="2 px"),
        pytest.param(np.repeat(skimage.data.camera()[::2, ::2, None], 3, axis=2), 60.0, 0.0, id="monochrome"),
        pytest.param(skimage.data.rocket() // 6, 80.0, 0.0, id="night"),
        pytest.param(skimage.data.coffee(), 60.0, -60.0, id="down"),
        pytest.param(skimage.data.rocket(), 60.0, 60.0, id="up"),
    ],
)
@pytest.mark.slow
@pytest.mark.parametrize("scene_type", ["indoor", "outdoor"])
@pytest.mark.filterwarnings("error")
def test_any_photo_becomes_a_world(photo: np.ndarray, hfov_deg: float, pitch: float, scene_type: str) -> None:
    world = build_world(photo, hfov_deg, scene_type, seed=1, pixels_per_degree=1, pitch_deg=pitch)
    assert_whole(world, 180)


@pytest.mark.parametrize(
    ("photo", "hfov_deg", "pitch", "message"),
    [
        (np.zeros((20, 30), np.uint8), 75.0, 0.0, "photo is"),
        (np.zeros((20, 30, 4), np.uint8), 75.0, 0.0, "photo is"),
        (np.zeros((20, 30, 3), np.float32), 75.0, 0.0, "photo is"),
        (np.zeros((1, 30, 3), np.uint8), 75.0, 0.0, "photo is"),
        (np.zeros((20, 30, 3), np.uint8), 5.0, 0.0, "5 degrees wide"),
        (np.zeros((20, 30, 3), np.uint8), 175.0, 0.0, "175 degrees wide"),
        (np.zeros((20, 30, 3), np.uint8), math.nan, 0.0, "nan degrees wide"),
        (np.zeros((2, 300, 3), np.uint8), 75.0, 0.0, "0.6 degrees tall"),
        (np.zeros((20, 30, 3), np.uint8), 75.0, 80.0, "pitch of 80"),
    ],
)
def test_what_is_no_photo_is_refused(photo: np.ndarray, hfov_deg: float, pitch: float, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build_world(photo, hfov_deg, pitch_deg=pitch)
    assert caught.value.remedy


def test_progress_is_reported_and_can_cancel() -> None:
    reports: list[tuple[int, int, str]] = []

    def listen(done: int, total: int, what: str) -> None:
        reports.append((done, total, what))
        if what == "ring":
            raise Cancelled

    with pytest.raises(Cancelled):
        build_world(skimage.data.coffee(), 75.0, pixels_per_degree=2, progress=listen)
    assert [done for done, _, _ in reports] == [1, 2, 3]
    assert {total for _, total, _ in reports} == {6}


@pytest.mark.slow
def test_the_seed_decides_and_nothing_else() -> None:
    photo = skimage.data.coffee()
    first, again, other = (build_world(photo, 75.0, "indoor", seed, 2) for seed in (5, 5, 6))
    for name in ("panorama", "range_m", "backdrop", "backdrop_range_m"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert (first.panorama != other.panorama).any()


@pytest.mark.slow
def test_the_number_of_threads_does_not_matter() -> None:
    program = (
        "import hashlib, sys, skimage.data, cv2\n"
        "from worldexplorer.preview.panorama import build_world\n"
        "cv2.setNumThreads(int(sys.argv[1]))\n"
        "world = build_world(skimage.data.coffee(), 75.0, seed=3)\n"
        "data = b''.join(part.tobytes() for part in (world.panorama, world.backdrop, world.range_m))\n"
        "print(hashlib.sha256(data).hexdigest())\n"
    )
    digests = set()
    for threads in ("1", "2"):
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        command = [sys.executable, "-c", program, threads]
        digests.add(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
    assert len(digests) == 1
    assert len(digests.pop().strip()) == hashlib.sha256().digest_size * 2


def ring_of_views(panorama: np.ndarray, count: int = 8, size: int = 160) -> Views:
    poses = np.tile(np.eye(4), (count, 1, 1))
    for pose, yaw in zip(poses, np.arange(count) * np.pi / 4, strict=True):
        pose[:3, :3] = [[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]]
    images = np.stack([view_of_panorama(panorama, pose[:3, :3], FOCAL, size) for pose in poses])
    intrinsics = np.tile(np.array([[FOCAL, 0, 0.5], [0, FOCAL, 0.5], [0, 0, 1]]), (count, 1, 1))
    return Views(images, poses, intrinsics)


def test_a_scaffold_is_stitched_into_the_panorama_it_shows() -> None:
    random = np.random.default_rng(0)
    panorama = cv2.GaussianBlur(random.integers(0, 256, (360, 720, 3), dtype=np.uint8), (0, 0), 6)
    panorama = cv2.normalize(panorama, None, 0, 255, cv2.NORM_MINMAX)
    views = ring_of_views(panorama)
    world = stitch_world(views, "indoor", pixels_per_degree=2)
    assert_whole(world, 360)
    ring = np.s_[180 - 40 : 180 + 40, 4:-4]  # the random picture does not close at its back
    assert psnr(world.panorama[ring], panorama[ring]) > 38


def test_a_scaffold_with_a_gap_is_refused() -> None:
    views = ring_of_views(np.zeros((90, 180, 3), np.uint8), count=6)
    with pytest.raises(UserError, match="gap") as caught:
        stitch_world(views, "indoor", pixels_per_degree=2)
    assert "eight views" in caught.value.remedy


def test_truth_is_compared_inside_and_outside_the_photo() -> None:
    photo = skimage.data.coffee()
    world = build_world(photo, 75.0, "indoor", pixels_per_degree=2)
    aspect = photo.shape[1] / photo.shape[0]
    assert set(panorama_truth_psnr(world, world.panorama, 75.0, aspect).values()) == {math.inf}
    _, known = project_photo(photo, 75.0, 0.0, 360)
    shifted = world.panorama.astype(int)
    shifted[known] += np.where(shifted[known] < 128, 10, -10)
    shifted[~known] += np.where(shifted[~known] < 128, 40, -40)
    found = panorama_truth_psnr(replace(world, panorama=shifted.astype(np.uint8)), world.panorama, 75.0, aspect)
    # The mask is that of a coarse picture of the same field of view: a pixel along the border may go either way.
    assert found["inside"] == pytest.approx(10 * math.log10(255**2 / 100), abs=0.6)
    assert found["outside"] == pytest.approx(10 * math.log10(255**2 / 1600), abs=0.05)
    assert found["outside_band"] == pytest.approx(10 * math.log10(255**2 / 1600), abs=0.05)
    small = cv2.resize(world.panorama, (180, 90), interpolation=cv2.INTER_AREA)
    assert set(panorama_truth_psnr(world, small, 75.0, aspect).values()) == {math.inf}
